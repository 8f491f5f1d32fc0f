"""Convert values that are a single number or text to W&B's JSON."""

from __future__ import annotations

import math
import sys
from collections import UserString
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from os import PathLike, fspath
from typing import Any, Final

from wbtune._data.text import clean


def number(value: float) -> Any:
    """A float in a form that JSON can hold: W&B's charts read ``"NaN"`` and ``"Infinity"``."""
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def integer(value: int) -> Any:
    """An integer. W&B can't read one beyond a float's range, and Python may refuse to print it."""
    if abs(value) <= sys.float_info.max:
        return value
    return "Infinity" if value > 0 else "-Infinity"


def _decimal(value: Decimal) -> Any:
    return number(float(value)) if value.is_finite() else str(value).lstrip("+")


def _bytes(value: Any) -> str:
    return bytes(value).decode("utf-8", "backslashreplace")


def _path(value: Any) -> str:
    name = fspath(value)
    return clean(str.__str__(name)) if isinstance(name, str) else _bytes(name)


#: Tried in this order: Enum comes before int because of IntEnum, and bool because it is an int.
SCALARS: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    (Enum, lambda value: clean(str.__str__(value.name))),
    (bool, bool),
    (int, lambda value: integer(int.__int__(value))),
    (float, lambda value: number(float.__float__(value))),
    (str, lambda value: clean(str.__str__(value))),
    (complex, lambda value: {"real": number(value.real), "imag": number(value.imag)}),
    ((bytes, bytearray, memoryview), _bytes),
    (UserString, lambda value: clean(str(value.data))),
    (PathLike, _path),
    (timedelta, timedelta.total_seconds),
    ((datetime, date, time), lambda value: value.isoformat()),
    (Decimal, _decimal),
    (Fraction, lambda value: number(float(value))),
)
