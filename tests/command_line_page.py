"""The outputs in docs/command-line.md: made, and held against what is there.

Run as a program, it writes them anew: `python tests/command_line_page.py`. Each block that begins
with `$ wbtune` is run, from the top, in one folder that has `exp` (of Ray 2.60: three trials
returned, one raised) and `crashed` (its driver was killed). The server is the stand-in, shown as
W&B's.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from wandb_server import TEST_KEY, WandbServer

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "docs" / "command-line.md",)
RECORDED = Path(__file__).with_name("tune_folders")
#: Variables of whoever runs this, which `wbtune doctor` would show.
SETTINGS = ("WANDB_", "RAY_", "TUNE_")
#: What a slow machine needs, and the pages leave out.
MORE = {"doctor": ("--timeout", "100")}
BLOCK = re.compile(r"```console\n(\$ wbtune .*?)```", re.DOTALL)


def prepare(folder: Path) -> None:
    """Put the experiments into a folder."""
    for name, recorded in (("exp", "ray-2.60.0-done"), ("crashed", "ray-2.60.0-killed")):
        shutil.copytree(RECORDED / recorded, folder / name)


def run(block: str, folder: Path, server: WandbServer) -> str:
    """Run a block's commands, and return the block with what they print."""
    shown = []
    env = {name: text for name, text in os.environ.items() if not name.startswith(SETTINGS)}
    env |= server.env(folder, TEST_KEY) | {"HOME": str(folder), "COLUMNS": "100"}
    del env["WANDB_MODE"]
    for line in block.splitlines():
        if not line.startswith("$ wbtune "):
            continue
        done = subprocess.run(
            [sys.executable, "-m", *shlex.split(line[2:]), *MORE.get(line.split()[2], ())],
            cwd=folder,
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
            check=False,
        )
        text = done.stdout.replace(server.url, "https://wandb.ai")
        shown += [line, *text.replace(str(folder), "/home/user").splitlines()]
    return "\n".join(shown) + "\n"


def written(page: str, folder: Path, server: WandbServer) -> str:
    """Return a page with the outputs of its blocks."""
    return BLOCK.sub(lambda found: f"```console\n{run(found[1], folder, server)}```", page)


def same(text: str) -> str:
    """Return a text without what differs from run to run, and from machine to machine."""
    ids = r"\b[0-9a-f]{5,}(_\d+)?\b|(?<=_)[0-9a-f]{5}_\d{5}\b"
    return re.sub(r"\d[\d.,]*", "N", re.sub(ids, "N", text))


def main() -> None:
    """Write the outputs into the pages."""
    for path in PAGES:
        with tempfile.TemporaryDirectory() as folder, WandbServer(keys={TEST_KEY}) as server:
            prepare(Path(folder))
            text = written(path.read_text(encoding="utf-8"), Path(folder).resolve(), server)
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
