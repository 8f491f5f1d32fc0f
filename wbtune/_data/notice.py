"""Give a warning once per process, however often its cause recurs."""

from __future__ import annotations

import functools
import logging


@functools.cache
def warn_once(text: str) -> None:
    """Log a warning, unless this process has logged the same text before."""
    logging.getLogger("wbtune").warning("%s", text)
