"""What was sampled, parameter by parameter, as positions on an axis."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from wbtune._overview import text
from wbtune._overview.record import ExperimentRecord

#: Without a description of the space, positive values this far apart are shown on a log axis.
_FAR_APART: Final = 1000
#: `wbtune._data.scalars.number` writes these instead of a float.
_NOT_FINITE: Final = frozenset({"NaN", "Infinity", "-Infinity"})
_LARGEST: Final = sys.float_info.max
_NOTHING: Final = object()


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of an experiment.

    Attributes:
        name: its flat name.
        positions: for each trial its value, or the index of its category; NaN if it has none.
        categories: the texts of the values; empty if they are numbers.
        is_ordered: are all values numbers? Categories may be, too.
        is_log: is a logarithmic axis better?
        is_integer: are all values integers?
        bounds: the least and the greatest possible value, as far as they are known.
    """

    name: str
    positions: NDArray[np.float64]
    categories: Sequence[str] = ()
    is_ordered: bool = True
    is_log: bool = False
    is_integer: bool = False
    bounds: tuple[float, float] = (math.nan, math.nan)

    @property
    def known(self) -> NDArray[np.float64]:
        """The positions of the trials that have it."""
        return self.positions[np.isfinite(self.positions)]

    @property
    def varies(self) -> bool:
        """Has it more than one value?"""
        known = self.known
        return bool(known.size and known.min() != known.max())

    @property
    def is_conditional(self) -> bool:
        """Do some trials not have it?"""
        return self.known.size < self.positions.size


def parameters_of(record: ExperimentRecord) -> list[Parameter]:
    """The parameters of an experiment, in the order in which they are first met."""
    names = dict.fromkeys(name for trial in record.trials for name in trial.params)
    return [
        _parameter(
            name,
            [trial.params.get(name, _NOTHING) for trial in record.trials],
            record.space.get(name, {}),
        )
        for name in names
    ]


def _parameter(name: str, values: Sequence[Any], space: Mapping[str, Any]) -> Parameter:
    given = [value for value in values if value is not _NOTHING]
    # "values" without a distribution is W&B's short form of a categorical one.
    is_choice = "values" in space or "categorical" in str(space.get("distribution"))
    numbers = [_number(value) for value in given]
    finite = [number for number in numbers if number is not None and math.isfinite(number)]
    if is_choice or None in numbers or not finite:
        return _categorical(name, values, space.get("values", ()))
    positions = np.array(
        [math.nan if value is _NOTHING else _number(value) for value in values], dtype=float
    )
    positions[~np.isfinite(positions)] = math.nan
    known = positions[np.isfinite(positions)]
    bounds = _bound(space, "min"), _bound(space, "max")
    if known.min() <= 0:
        is_log = False
    elif space:
        is_log = "log" in str(space.get("distribution"))
    else:
        is_log = bool(known.max() / known.min() >= _FAR_APART)
    is_integer = all(type(value) is int for value in given)
    return Parameter(name, positions, is_log=is_log, is_integer=is_integer, bounds=bounds)


def _categorical(name: str, values: Sequence[Any], possible: Any) -> Parameter:
    keys = [None if value is _NOTHING else text.as_json(value) for value in values]
    listed = possible if isinstance(possible, (list, tuple)) else ()
    seen = {key: one for key, one in zip(keys, values, strict=True) if key is not None}
    ordered = {key: value for value in listed if (key := text.as_json(value)) in seen}
    ordered |= dict(sorted((one for one in seen.items() if one[0] not in ordered), key=_order))
    is_ordered = all(_is_real(value) for value in ordered.values())
    if is_ordered:
        ordered = dict(sorted(ordered.items(), key=_order))
    index = {key: float(at) for at, key in enumerate(ordered)}
    positions = np.array([math.nan if key is None else index[key] for key in keys], dtype=float)
    # Quotes distinguish "1" from 1, where there are both.
    is_text = all(isinstance(value, str) for value in ordered.values())
    labels = [value if is_text else key for key, value in ordered.items()]
    return Parameter(name, positions, tuple(labels), is_ordered)


def _order(item: tuple[str, Any]) -> tuple[bool, float, str]:
    key, value = item
    return (not _is_real(value), float(value) if _is_real(value) else 0.0, key)


def _is_real(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and -_LARGEST <= value <= _LARGEST


def _number(value: Any) -> float | None:
    if _is_real(value):
        return float(value)
    return math.nan if isinstance(value, float) or str(value) in _NOT_FINITE else None


def _bound(space: Mapping[str, Any], name: str) -> float:
    value = space.get(name)
    return float(value) if isinstance(value, (int, float)) and _is_real(value) else math.nan


def varying(parameters: Iterable[Parameter]) -> list[Parameter]:
    """The parameters that have more than one value."""
    return [parameter for parameter in parameters if parameter.varies]
