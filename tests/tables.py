"""Tables in the documentation that a program writes."""

from __future__ import annotations

import datetime as dt
import os
import platform
from importlib.metadata import version
from pathlib import Path


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table, and on what it was measured."""
    lines = [head, ["---"] * len(head), *rows]
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{text}\n\n{measured_on()}"


def measured_on() -> str:
    """The day, the releases and the machine."""
    about = f"Ray {version('ray')}, wandb {version('wandb')}, Python {platform.python_version()}"
    return f"{dt.datetime.now(tz=dt.UTC):%Y-%m-%d}, {about}, {os.cpu_count()} cores."


def write(text: str, file: Path, mark: str) -> None:
    """Put a text between its markers in a file."""
    before, _, rest = file.read_text(encoding="utf-8").partition(f"<!-- {mark} -->\n")
    _, end, after = rest.partition(f"<!-- /{mark} -->")
    file.write_text(f"{before}<!-- {mark} -->\n{text}\n{end}{after}", encoding="utf-8")
