"""A clock that does not count the time for which this process was stopped (:mod:`lanes`)."""

from __future__ import annotations

import mmap
import time
from pathlib import Path

#: The seconds for which this process was stopped, in a file that is written by the process which
#: stops it.
_stopped = memoryview(bytearray(8)).cast("d")


def stopped_s(file: Path) -> memoryview:
    """A number in a file that several processes read and write."""
    file.touch()
    with file.open("r+b") as opened:
        opened.truncate(8)
        return memoryview(mmap.mmap(opened.fileno(), 8)).cast("d")


def follow(file: Path) -> None:
    """From now on, subtract the number in this file."""
    global _stopped  # noqa: PLW0603 - there is one such clock in a process
    _stopped = stopped_s(file)


def now() -> float:
    """Seconds since some moment."""
    while True:
        before = _stopped[0]
        at = time.perf_counter()
        if _stopped[0] == before:  # otherwise the process was stopped between the two lines
            return at - before
