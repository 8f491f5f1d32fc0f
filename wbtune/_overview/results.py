"""Read the curve of a metric from a trial's `result.json`, in which Tune writes a line per result.

A line has half a kilobyte or much more, of which three numbers are wanted. They are looked for in
the bytes where that is safe, which takes half of the time that it takes to parse the line.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from wbtune._data.filtering import Excludes
from wbtune._overview.record import Curve

_AXES: Final = ("training_iteration", "timestamp")
_NUMBER: Final = rb": (-?[0-9][-+.0-9eE]*|NaN|-?Infinity)[,}]"
#: To delete all but these from a line: what is left shows whether a text has a brace in it.
_ALL_BUT_BRACES_AND_QUOTES: Final = bytes(set(range(256)) - set(b'{}"'))

_Find = Callable[[bytes], "bytes | None"]
_Row = tuple[float, float, float]


def read_curve(lines: Iterable[bytes], metric: str, excludes: Excludes | None = None) -> Curve:
    """Read the values of a metric, in the order of the lines.

    Args:
        lines: those of a trial's `result.json`; one that is cut off is left out.
        metric: its key: that of a value, or the path to one in nested results (``"val/loss"``).
        excludes: what is left out of all that wbtune writes.

    Returns:
        The results that have the metric as a number.
    """
    excludes = excludes or Excludes()
    curve = Curve()
    if excludes.drops(metric):
        return curve
    names = (metric, *(None if excludes.drops(name) else name for name in _AXES))
    finders = tuple(_finder(name) for name in names)
    last_part = json.dumps(metric.rpartition("/")[2])[1:-1].encode()
    for line in lines:
        if last_part not in line and b"\\" not in line:
            continue
        row = _found(line, finders) or _parsed(line, names)
        if row is not None:
            curve.value.append(row[0])
            curve.iteration.append(row[1])
            curve.time.append(row[2])
    return curve


def _found(line: bytes, finders: tuple[_Find, ...]) -> _Row | None:
    """The numbers of a line, without parsing all of it; None if that is not safe."""
    if b"\\" in line or line.count(b"{") != line.count(b"}"):
        return None  # quotes inside of a text; cut off
    # Quotes come in pairs. If a text had a brace in it, one would be without its other.
    braces = line.translate(None, _ALL_BUT_BRACES_AND_QUOTES).replace(b'""', b"")
    if b'"' in braces or (b"}{" in braces and b"}{" in line):
        return None  # such a text; two results in a line
    value, iteration, time = finders
    try:
        return float(value(line) or ""), float(iteration(line) or ""), float(time(line) or "")
    except ValueError:
        return None


def _finder(name: str | None) -> _Find:
    """A function that finds a number in a line by its key, and returns None if in doubt."""
    if name is None:
        return lambda _: b"NaN"
    flat = json.dumps(name).encode()
    outer, *inner = [json.dumps(part).encode() for part in name.split("/")]
    # What comes before it in the same mapping has no mappings in it.
    pattern = re.escape(outer) + b"".join(rb": \{(?:[^{}]*, )?" + re.escape(part) for part in inner)
    matches = re.compile(pattern + _NUMBER).finditer

    def find(line: bytes) -> bytes | None:
        if inner and flat in line:
            return None  # such a key would come before the path
        for match in matches(line):
            start = match.start()
            if line.count(b"{", 0, start) == line.count(b"}", 0, start) + 1:  # at the top
                return match[1]
        return None

    return find


def _parsed(line: bytes, names: Iterable[str | None]) -> _Row | None:
    """The numbers of a line; all but the first may be missing."""
    try:
        result = json.loads(line)
    except (ValueError, RecursionError):
        return None  # cut off by a crash
    if not isinstance(result, dict):
        return None
    value, iteration, time = (
        None if name is None else _number(_value(result, name)) for name in names
    )
    if value is None:
        return None
    return (
        value,
        math.nan if iteration is None else iteration,
        math.nan if time is None else time,
    )


def _value(result: Mapping[str, Any], name: str) -> Any:
    value: Any = result
    for part in [name] if name in result else name.split("/"):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None
