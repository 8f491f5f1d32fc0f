"""How long the end of an experiment waits: for some time, or until somebody presses Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Patience:
    """The time left for uploads, which Ctrl-C ends.

    As a context manager, it also notices a second Ctrl-C, which is raised.

    Args:
        seconds: how long.
        is_interrupted: whether somebody has pressed Ctrl-C, if that was not raised.
    """

    def __init__(self, seconds: float, is_interrupted: Callable[[], bool]) -> None:
        self._until = time.monotonic() + seconds
        self._is_interrupted = is_interrupted
        self._lost = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._lost = self._lost or kind is KeyboardInterrupt

    def is_over(self) -> bool:
        """Did somebody press Ctrl-C?"""
        return self._lost or self._is_interrupted()

    @property
    def left(self) -> float:
        """The seconds that are left."""
        return 0.0 if self.is_over() else max(0.0, self._until - time.monotonic())
