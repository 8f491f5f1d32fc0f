"""Read the curve of a metric from a trial's `result.json`, which has a line for each result."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

from wbtune._data.filtering import Excludes
from wbtune._overview.record import Curve

_AXES: Final = ("training_iteration", "timestamp")
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
    last_part = json.dumps(metric.rpartition("/")[2])[1:-1].encode()
    for line in lines:
        if last_part not in line and b"\\" not in line:
            continue  # most of what a trial reports may be without it
        row = _parsed(line, names)
        if row is not None:
            curve.value.append(row[0])
            curve.iteration.append(row[1])
            curve.time.append(row[2])
    return curve


def progress_of(last: Mapping[str, Any]) -> tuple[int, float | None]:
    """How far a trial is by its last result: its iterations, and the seconds that it has run."""
    iterations, seconds = (
        value if isinstance(value, (int, float)) and math.isfinite(value) else None
        for value in map(last.get, ("training_iteration", "time_total_s"))
    )
    return int(iterations or 0), None if seconds is None else float(seconds)


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
