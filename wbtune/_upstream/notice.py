"""A warning that is given once in a process."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


@functools.cache
def say_once(text: str) -> None:
    logging.getLogger("wbtune").warning("%s", text)
