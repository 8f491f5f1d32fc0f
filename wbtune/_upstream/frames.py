"""The frames of who has called: where Ray tells something nowhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType


def callers() -> Iterator[FrameType]:
    """The frames above the function that asks, from the inside out."""
    return up(sys._getframe(2))  # noqa: SLF001 - documented, and needed


def up(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
