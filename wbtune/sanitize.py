r"""Any Python value to something that W&B accepts: total, idempotent, deterministic.

`plain` never raises, never changes its argument, gives the same result in every process
(sets are ordered by their text, addresses are cut from `repr`), and text stays text: it
is never parsed into a number.

============================== ====================================================
a value                        becomes
============================== ====================================================
NaN, Infinity                  ``"NaN"``, ``"Infinity"``, ``"-Infinity"`` (W&B's own
                               spelling, which its charts read)
complex                        ``{"real": …, "imag": …}``
set, frozenset                 a list, ordered
bytes                          text; bytes that are not UTF-8 as ``\xNN``
enum                           its name
path, UUID, …                  text; dates in ISO form; a duration in seconds
Decimal, Fraction              the number
dataclass, namedtuple          a dict of its fields
NumPy or torch scalar          the number
array, tensor, up to 32 items  a list; larger: W&B's histogram form (a metric), or a
                               short description (a config)
a key that is not text         its text
a cycle, nesting beyond 32     ``"..."``
anything else                  its ``str``, or ``<module.Class>``
============================== ====================================================
"""
# Over 250 lines: it is one table of types, and splitting it would hide the order in
# which they are asked.

from __future__ import annotations

import dataclasses
import math
import re
import sys
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from os import PathLike, fspath
from typing import Any, Final

MAX_DEPTH: Final = 32
MAX_LIST: Final = 32
HISTOGRAM_BINS: Final = 32
CUT: Final = "..."

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_MEDIA_DIMENSIONS = (3, 4, 5)


def plain(value: Any) -> Any:
    """``value`` as what JSON can hold, for a run's config.

    >>> plain({"x": float("inf"), 1: {3, 2}})
    {'x': 'Infinity', '1': [2, 3]}
    """
    return _Sanitizer(metric=False).value(value, 0)


def plain_metric(value: Any) -> Any:
    """``value`` as what ``run.log`` can hold.

    As `plain`, but numeric arrays of 3, 4 or 5 dimensions (image, images, videos) and
    W&B's own media objects stay what they are, and other large arrays become histograms.
    """
    return _Sanitizer(metric=True).value(value, 0)


def key_text(key: Any) -> str:
    """The text that a mapping's key becomes."""
    if isinstance(key, str):
        return _clean(str.__str__(key))
    text = plain(key)
    return text if isinstance(text, str) else str(text)


def is_media(value: Any) -> bool:
    """Is this one of W&B's own objects (Image, Table, Histogram, …)?"""
    return str(type(value).__module__).partition(".")[0] == "wandb"


def is_media_array(value: Any) -> bool:
    """Is this an array that the guide's callback logs as images or videos?"""
    return (
        type(value).__module__ == "numpy"
        and getattr(value, "ndim", 0) in _MEDIA_DIMENSIONS
        and hasattr(value, "dtype")  # np.broadcast has dimensions, but no values
        and value.dtype.kind in "biuf"
    )


def _clean(text: str) -> str:
    """Text without lone surrogates, which protobuf refuses (and the row with them)."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _number(value: float) -> Any:
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _integer(value: int) -> Any:
    """Beyond a float's range W&B can't read it, and Python may refuse to print it."""
    if value.bit_length() <= sys.float_info.max_exp:
        return value
    return "Infinity" if value > 0 else "-Infinity"


class _Sanitizer:
    """One walk over one value; remembers the containers that it is inside of."""

    __slots__ = ("_inside", "_metric", "_pictures")

    def __init__(self, *, metric: bool) -> None:
        self._metric = metric
        self._pictures = metric
        self._inside: set[int] = set()

    def value(self, value: Any, depth: int) -> Any:  # noqa: PLR0911 - a table of types
        kind = type(value)
        if kind is float:
            return _number(value)
        if kind is int:
            return _integer(value)
        if kind is bool or value is None:
            return value
        if kind is str:
            return _clean(value)
        if (self._metric and is_media(value)) or (self._pictures and is_media_array(value)):
            return value
        if depth > MAX_DEPTH or id(value) in self._inside:
            return CUT
        self._inside.add(id(value))
        try:
            return self._other(value, depth)
        except Exception:  # noqa: BLE001 - a user's object may raise anything when asked
            return _nameplate(value)
        finally:
            self._inside.discard(id(value))

    def _other(self, value: Any, depth: int) -> Any:  # noqa: PLR0911 - a table of types
        for kinds, convert in _SCALARS:
            if isinstance(value, kinds):
                return convert(value)
        if isinstance(value, Mapping):
            return self._mapping(value.items(), depth)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return self._mapping(zip(value._fields, value, strict=True), depth)
        if isinstance(value, (list, tuple, range)):
            return self._items(value, depth)
        if isinstance(value, (set, frozenset)):
            # By text, because the order of a set depends on the hash seed.
            return sorted(self._items(value, depth), key=_order)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            names = [field.name for field in dataclasses.fields(value)]
            return self._mapping(((name, getattr(value, name)) for name in names), depth)
        if hasattr(value, "dtype") or hasattr(type(value), "__array__"):
            return self._array(value, depth)
        if isinstance(value, type) or callable(value):
            module = getattr(value, "__module__", None)
            name = getattr(value, "__qualname__", None)
            return _clean(f"{module}.{name}") if module and name else _nameplate(value)
        return _text_of(value)

    def _nested(self, value: Any, depth: int) -> Any:
        return self.value(value, depth + 1)

    def _items(self, values: Any, depth: int) -> list[Any]:
        # Nobody makes pictures of arrays inside a list (`runs.to_media`): there they are data.
        outside, self._pictures = self._pictures, False
        try:
            return [self._nested(item, depth) for item in values]
        finally:
            self._pictures = outside

    def _mapping(self, items: Any, depth: int) -> dict[str, Any]:
        done: dict[str, Any] = {}
        others: list[tuple[str, Any, Any]] = []
        for key, item in items:
            text = key_text(key)
            if isinstance(key, str) and str.__str__(key) == text:
                done[text] = self._nested(item, depth)
            else:
                others.append((text, key, item))
        for text, key, item in others:
            # {1: a, "1": b} keeps both: the key that was text has the better claim.
            name = text if text not in done else f"{text} ({type(key).__name__})"
            while name in done:
                name += "'"
            done[name] = self._nested(item, depth)
        return done

    def _array(self, value: Any, depth: int) -> Any:
        array = _as_numpy(value)
        if array.size == 1:
            return self.value(array.reshape(-1).tolist()[0], depth + 1)
        if array.size <= MAX_LIST:
            return self.value(array.tolist(), depth + 1)
        if self._metric and array.dtype.kind in "biuf":
            return _histogram(array)
        return f"array of {array.dtype} {tuple(array.shape)}"


def _as_numpy(value: Any) -> Any:
    import numpy as np  # noqa: PLC0415 - only who logs arrays pays for the import

    if hasattr(value, "detach"):  # torch: bfloat16 has no NumPy type
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
    array = np.asarray(value)
    if array.dtype.char == "g":  # a long double, which Python has not
        array = array.astype(float)
    elif array.dtype.char == "G":
        array = array.astype(complex)
    return array


def _histogram(array: Any) -> Any:
    """W&B's JSON form of a histogram, over the finite values."""
    import numpy as np  # noqa: PLC0415 - see _as_numpy

    finite = array[np.isfinite(array)].astype(float)
    if not finite.size:
        return f"array of {array.dtype} {tuple(array.shape)}, no finite value"
    counts, edges = np.histogram(finite, bins=HISTOGRAM_BINS)
    return {"_type": "histogram", "values": counts.tolist(), "bins": edges.tolist()}


def _text_of(value: Any) -> str:
    kind: Any = type(value)
    if kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__:
        return _nameplate(value)
    return _clean(_ADDRESS.sub("", str.__str__(str(value))))


def _nameplate(value: Any) -> str:
    return _clean(f"<{type(value).__module__}.{type(value).__qualname__}>")


def _order(item: Any) -> tuple[bool, str, Any]:
    numeric = type(item) in {int, float}
    return (
        not numeric,
        "" if numeric else f"{type(item).__name__}:{item!r}",
        item if numeric else 0,
    )


def _decimal(value: Decimal) -> Any:
    return _number(float(value)) if value.is_finite() else str(value).lstrip("+")


_SCALARS: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    (Enum, lambda value: _clean(str.__str__(value.name))),
    (bool, bool),
    (int, lambda value: _integer(int.__int__(value))),
    (float, lambda value: _number(float.__float__(value))),
    (str, lambda value: _clean(str.__str__(value))),
    (complex, lambda value: {"real": _number(value.real), "imag": _number(value.imag)}),
    (
        (bytes, bytearray, memoryview),
        lambda value: bytes(value).decode("utf-8", "backslashreplace"),
    ),
    (PathLike, lambda value: plain(fspath(value))),
    (timedelta, timedelta.total_seconds),
    ((datetime, date, time), lambda value: value.isoformat()),
    (Decimal, _decimal),
    (Fraction, lambda value: _number(float(value))),
)
"""Asked in this order: an IntEnum is an Enum first, a bool before an int."""
