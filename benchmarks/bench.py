"""What logging costs: wbtune beside no logging, Ray's own callback and bare wandb.

    python benchmarks/bench.py [--quick] [--only PART ...] [--write README.md]

Offline, but for the part that uploads. Every part is measured once, and then again in turns, for
as long as another round of one is likely to end in time: a faster machine measures more often.
Within a round the ways of logging take turns too, whole sweeps by the second (:mod:`lanes`), so
that what else the machine does meets them all. A ratio is that of such neighbours: the median,
the least and the greatest of them. Every measurement reads its runs back from disk (or asks the
server for them), and a missing row ends the benchmark, unless Ray's own lost it: that is counted.
Ends non-zero when a bound of the table is missed.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import datetime as dt
import io
import itertools
import os
import platform
import shutil
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Ray makes sockets in it, which need short paths.
FOLDER = Path(tempfile.mkdtemp(prefix="wb-", dir="/tmp"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
# Before anything imports Ray or wandb: workers inherit it, and wandb reads it once.
for _name in [name for name in os.environ if name.startswith("WANDB_")]:
    del os.environ[_name]
os.environ |= {
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    "WANDB_ERROR_REPORTING": "false",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
# Modules are compiled once, as pip leaves them when it installs a wheel.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ |= {f"WANDB_{name}_DIR": str(FOLDER / name) for name in ("CONFIG", "DATA", "CACHE")}

import picture
import ray
import report
import stand_in
import sweeps
from figures import Bound
from lanes import Lanes
from parts import AGAIN, PARTS, Measured, Part, Place


def main() -> int:
    """Measure, say what was measured, and whether it is within the bounds."""
    began = time.monotonic()
    arguments = parse()
    until = began + (0 if arguments.quick else 60 * arguments.minutes)
    about = machine()
    print("\n".join(f"{name}: {value}" for name, value in about.items()), flush=True)
    with stand_in.listening() as server, contextlib.closing(Lanes(FOLDER)) as lanes:
        os.environ |= {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": stand_in.KEY}
        try:
            place = Place(FOLDER, lanes, server, arguments.quick)
            parts = {name: PARTS[name](place) for name in arguments.only or PARTS}
            measure(parts, until)
        finally:
            ray.shutdown()
    about["minutes"] = round((time.monotonic() - began) / 60, 1)
    measured, bounds = said(parts)
    print(f"\n{report.table(bounds)}\n")
    if arguments.json:
        arguments.json.write_text(report.as_json(about, measured, bounds), encoding="utf-8")
    if arguments.picture:
        picture.draw(measured, about, arguments.picture)
    if arguments.write:
        report.write(report.section(about, measured, bounds), arguments.write)
    missed = [bound.name for bound in bounds if not bound.is_met]
    print(f"missed: {'; '.join(missed)}" if missed else "all bounds are met")
    return 1 if missed else 0


def measure(parts: dict[str, Part], until: float) -> None:
    """Each part once, then again in turns while the next round is likely to end in time."""
    took = {}
    for name, part in parts.items():
        took[name] = one_round(name, part)
    again = [name for name in AGAIN if name in parts]
    for name in itertools.cycle(again):
        if time.monotonic() + min(took[name] for name in again) > until:
            break
        if time.monotonic() + took[name] < until:
            took[name] = one_round(name, parts[name])


def one_round(name: str, part: Part) -> float:
    """Another round of a part, and the seconds that it took."""
    with contextlib.redirect_stdout(io.StringIO()):  # Tune's tables
        if not part.needs_ray:
            ray.shutdown()
        elif not ray.is_initialized():
            part.place.lanes.close()
            sweeps.start_ray(FOLDER)
        if not part.rounds:
            part.once()
        began = time.monotonic()
        part.measure()
    part.rounds += 1
    seconds = time.monotonic() - began
    print(f"{name}, round {part.rounds}: {seconds:.0f} s", flush=True)
    return seconds


def said(parts: dict[str, Part]) -> tuple[Measured, list[Bound]]:
    """Print what was found of each part."""
    measured: Measured = {}
    bounds: list[Bound] = []
    for name, part in parts.items():
        measured[name], found = part.found()
        bounds += found
        print(f"\n{name}: {part.rounds} rounds", flush=True)
        print("\n".join(f"  {line}" for line in report.lines(measured[name])), flush=True)
    return measured, bounds


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run: less of everything")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=" ".join(PARTS))
    parser.add_argument(
        "--minutes", type=float, default=9.4, help="begin no second round that would end later"
    )
    parser.add_argument("--json", type=Path, help="write everything into this file")
    parser.add_argument("--picture", type=Path, help="draw into this file")
    parser.add_argument("--write", type=Path, help="the file whose section is replaced")
    arguments = parser.parse_args()
    if arguments.write and (arguments.quick or arguments.only):
        parser.error("--write is for a whole run")
    return arguments


def machine() -> dict[str, Any]:
    """When, where and with what."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.machine()}",
        "Python": platform.python_version(),
        **{name: version(name) for name in ("ray", "wandb", "wbtune")},
        "load before": round(os.getloadavg()[0], 2),
    }


if __name__ == "__main__":
    sys.exit(main())
