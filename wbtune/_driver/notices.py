"""The driver's warnings: each once per run and cause, and at the end how often it occurred.

After a row that can't be logged come thousands like it, each with another number in its text.
"""

from __future__ import annotations

import logging
import re
import threading
from typing import Final

logger = logging.getLogger("wbtune")

#: A number in a text, but not in a name: ``checkpoint_000003`` and ``checkpoint_000004`` differ.
_NUMBER: Final = re.compile(r"(?<![\w./-])-?(0x[0-9a-fA-F]+|\d[\d.,]*(e[+-]?\d+)?)")


class Notices:
    """Warnings of one experiment. Its methods may be called by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first: dict[tuple[str, str], str] = {}
        self._count: dict[tuple[str, str], int] = {}

    def warn(self, key: str, text: str, count: int = 1) -> None:
        """Log a warning, unless the run had the same one before; numbers in it may differ.

        Args:
            key: the run; empty if the warning concerns no run.
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
            # Message: none by itself.
            logger.warning("wbtune%s: %s", _of(key), text)

    def sum_up(self) -> None:
        """Log how often each repeated warning occurred, and forget all warnings."""
        with self._lock:
            again = [
                (key, count, self._first[key, cause])
                for (key, cause), count in self._count.items()
                if count > 1
            ]
            self._first.clear()
            self._count.clear()
        for key, count, text in again:
            # Cause: The line is printed once, and at the end how often it occurred.
            # Cure: See the line itself.
            logger.warning("wbtune%s: %d times in all: %s", _of(key), count, text)


def _of(key: str) -> str:
    return f" (run {key})" if key else ""
