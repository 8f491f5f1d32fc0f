"""Log by every way with the corners of the window of releases, each in an environment of its own.

Run as `make matrix`. Each environment is made by pip, with what the releases themselves ask for.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import releases
import tables
from wandb_server import WandbServer

ROOT = Path(__file__).parents[1]


class Corner(NamedTuple):
    """A combination of releases; empty for the newest."""

    ray: str
    wandb: str
    python: str = "3.11"

    @property
    def name(self) -> str:
        """What its folder is called."""
        return f"ray-{self.ray or 'newest'}-wandb-{self.wandb or 'newest'}-python-{self.python}"


OLDEST_RAY, OLDEST_WANDB = "2.41.0", "0.22.0"
CORNERS = (
    Corner("", ""),
    Corner(OLDEST_RAY, OLDEST_WANDB),
    Corner(OLDEST_RAY, ""),
    Corner("", OLDEST_WANDB),
    Corner("", "", "3.12"),
    Corner("", "", "3.13"),
    Corner("", "", "3.14"),
)
WANDBS = ("0.24.0", "0.26.0", "0.28.0", "0.30.0")
RAYS = ("2.44.0", "2.49.0", "2.53.0", "2.57.0")
ALL = (*CORNERS, *(Corner("", one) for one in WANDBS), *(Corner(one, "") for one in RAYS))


#: The ways that are tried with a server as well: one trial each.
ONLINE = tuple(releases.EACH_ITS_OWN)


class NoPythonError(Exception):
    """This machine has no such Python."""


def environment(corner, folder):
    """The interpreter of an environment with these releases; it is made if it is not there."""
    python = shutil.which(f"python{corner.python}")
    if python is None:
        raise NoPythonError(corner.python)
    made = folder / corner.name
    if not (made / "ready").exists():
        shutil.rmtree(made, ignore_errors=True)
        subprocess.run([python, "-m", "venv", made], check=True)
        ray = f"ray[tune]=={corner.ray}" if corner.ray else "ray[tune]"
        wandb = f"wandb=={corner.wandb}" if corner.wandb else "wandb"
        install = [made / "bin/python", "-m", "pip", "install", "--quiet", ray, wandb, "-e", ROOT]
        subprocess.run(install, check=True)
        (made / "ready").touch()
    return made / "bin/python"


def released(python):
    """What an environment has: Ray, wandb, wrapt, Python."""
    program = (
        "import platform; from importlib.metadata import version as v;"
        "print(v('ray'), v('wandb'), v('wrapt'), platform.python_version())"
    )
    return subprocess.run(
        [python, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()


def both(python):
    """What arrives offline by every way, and at a server by three."""
    path = [str(ROOT)]
    offline = releases.run_program(python, path=path)
    with WandbServer() as server:
        how = releases.EACH_ITS_OWN
        return offline, releases.run_program(python, ONLINE, path, how, server)


def main():
    """Print the table, and fail if a row or an exit code is missing anywhere."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="the file whose table is replaced")
    parser.add_argument("--folder", type=Path, default=ROOT / ".venv" / "matrix")
    parser.add_argument("--all", action="store_true", help="releases between the corners, too")
    parser.add_argument("--only", nargs="*", default=[], help="corners whose names contain these")
    options = parser.parse_args()
    if options.write and options.only:
        parser.error("--only has a part of the table, which is not to replace the whole")
    options.folder.mkdir(parents=True, exist_ok=True)
    rows, wrong = [], []
    for corner in ALL if options.all else CORNERS:
        if options.only and not any(one in corner.name for one in options.only):
            continue
        try:
            python = environment(corner, options.folder)
        except (NoPythonError, subprocess.CalledProcessError) as error:
            print(f"{corner.name} is left out: {error!r}", flush=True)
            wrong += [f"WRONG: {corner.name} is left out"] if "CI" in os.environ else []
            continue
        offline, online = both(str(python))
        cells = [*(offline.cell(way) for way in releases.WAYS), online.cell(*ONLINE)]
        rows.append([*released(python), *cells])
        print(" | ".join(rows[-1]), flush=True)
        for found, lost in (
            (offline, offline.lost(releases.WAYS)),
            (online, [f"online, {one}" for one in online.lost(ONLINE)]),
        ):
            wrong += [f"WRONG: {corner.name}: {one}" for one in lost]
            if lost:
                print(found.output[-3000:], file=sys.stderr)
    table = tables.markdown(["Ray", "wandb", "wrapt", "Python", *releases.WAYS, "online"], rows)
    if options.write:
        tables.write(table, options.write, "matrix")
    print(*wrong, sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
