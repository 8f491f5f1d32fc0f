"""A warning that a process gives once, however often its cause comes back."""

from __future__ import annotations

import functools
import logging


@functools.cache
def warn_once(text: str) -> None:
    """Log a warning, unless this process has logged the same text before."""
    logging.getLogger("wbtune").warning("%s", text)
