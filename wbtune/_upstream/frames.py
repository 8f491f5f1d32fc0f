"""The frames of the calling functions, for what Ray tells nowhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType


def callers() -> Iterator[FrameType]:
    """Yield the frames above the function that asks, from the inside out."""
    return up(sys._getframe(2))  # noqa: SLF001 - documented, and needed


def up(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield a frame and those above it."""
    while frame is not None:
        yield frame
        frame = frame.f_back
