"""Seconds, less those for which somebody had stopped this process (:mod:`lanes`)."""

from __future__ import annotations

import mmap
import time
from pathlib import Path

#: Seconds of one process for which it was stopped, in a file that the process that stops it writes.
_stopped = memoryview(bytearray(8)).cast("d")


def stopped_s(file: Path) -> memoryview:
    """The one number in a file, for reading and writing by several processes."""
    file.touch()
    with file.open("r+b") as opened:
        opened.truncate(8)
        return memoryview(mmap.mmap(opened.fileno(), 8)).cast("d")


def follow(file: Path) -> None:
    """From now on, take off what this file says."""
    global _stopped  # noqa: PLW0603 - there is one such clock in a process
    _stopped = stopped_s(file)


def now() -> float:
    """Seconds since some moment."""
    while True:
        before = _stopped[0]
        at = time.perf_counter()
        if _stopped[0] == before:  # else it was stopped between the two
            return at - before
