"""What the driver says of its runs: once for each run and cause, and how often in the end.

A row that can't be logged is followed by thousands like it, and each says another number.
"""

from __future__ import annotations

import logging
import re
import threading
from typing import Final

logger = logging.getLogger("wbtune")

#: Not those of a name: ``checkpoint_000003`` is another one than ``checkpoint_000004``.
_NUMBER: Final = re.compile(r"(?<![\w./-])-?(0x[0-9a-fA-F]+|\d[\d.,]*(e[+-]?\d+)?)")


class Notices:
    """Warnings of one experiment. Its methods may be called by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first: dict[tuple[str, str], str] = {}
        self._count: dict[tuple[str, str], int] = {}

    def warn(self, key: str, text: str, count: int = 1) -> None:
        """Say it, if that was not said of the run before, whatever the numbers in it.

        Args:
            key: the run; empty for what is of no run.
            text: what happened.
            count: how often.
        """
        cause = key, _NUMBER.sub("#", text)
        with self._lock:
            is_new = cause not in self._count
            self._count[cause] = self._count.get(cause, 0) + count
            if is_new:
                self._first[cause] = text
        if is_new:
            logger.warning("wbtune%s: %s", _of(key), text)

    def sum_up(self) -> None:
        """Say of what came more than once how often it came; and forget it all."""
        with self._lock:
            again = [
                (key, count, self._first[key, cause])
                for (key, cause), count in self._count.items()
                if count > 1
            ]
            self._first.clear()
            self._count.clear()
        for key, count, text in again:
            logger.warning("wbtune%s: %d times in all: %s", _of(key), count, text)


def _of(key: str) -> str:
    return f" (run {key})" if key else ""
