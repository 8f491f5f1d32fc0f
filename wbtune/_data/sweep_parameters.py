"""Check the ``parameters`` of a W&B sweep's config, and read them into `_data.distributions`."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import Any, Final

from wbtune._data.distributions import (
    DEFAULTS,
    LISTED,
    NUMERIC,
    OF_EXPONENTS,
    Categorical,
    Constant,
    Family,
    Leaf,
    Numeric,
    Tree,
)
from wbtune._data.search_space import is_number
from wbtune._data.sweep_config import is_name
from wbtune._data.sweep_source import KeyPath, Source
from wbtune._data.unknown import near

#: As far as probabilities may be from a sum of 1: W&B's `numpy.isclose`.
_CLOSE: Final = 1e-5
#: ``config["wandb"]`` has the options of wbtune; see `_data.config_keys`.
_RESERVED: Final = "wandb"
_NESTED: Final = "parameters"


def read_parameters(source: Source, given: Any, path: KeyPath) -> Tree:
    """Check and read a mapping of parameters.

    Raises:
        ConfigurationError: for anything that W&B's schema or its sampler would refuse.
    """
    if not isinstance(given, dict) or not given:
        raise source.error(path, "expected a mapping with at least one parameter.")
    return {name: _parameter(source, one, (*path, name)) for name, one in given.items()}


def _parameter(source: Source, one: Any, path: KeyPath) -> Leaf | Tree:
    name = str(path[-1])
    if not is_name(name):
        problem = "W&B accepts letters, digits, '_', '.' and '-' in a parameter's name"
        raise source.error(
            path, f"{problem}, and no digit, '.' or '-' at its beginning. Rename it."
        )
    if name == _RESERVED and len(path) == 2:  # noqa: PLR2004 - directly below "parameters"
        raise source.error(path, 'config["wandb"] holds options of wbtune. Rename the parameter.')
    if not isinstance(one, dict):
        form = "values" if isinstance(one, list) else "value"
        raise source.error(path, f"expected a mapping. Write {name}: {{{form}: ...}}.")
    if _NESTED in one:
        _check_keys(source, one, (_NESTED,), path)
        return read_parameters(source, one[_NESTED], (*path, _NESTED))
    distribution = _distribution(source, one, path)
    if distribution in LISTED:
        _check_keys(source, one, LISTED[distribution], path, distribution)
        return _listed(source, one, path)
    return _numeric(source, distribution, one, path)


def _distribution(source: Source, one: Mapping[str, Any], path: KeyPath) -> str:
    """The distribution's name, which W&B infers where it is not given."""
    given = one.get("distribution")
    if given is not None:
        if isinstance(given, str) and (given in NUMERIC or given in LISTED):
            return given
        known = (*LISTED, *NUMERIC)
        meant = near(given, known) if isinstance(given, str) else None
        cure = f"Did you mean {meant}?" if meant else f"There are {', '.join(known)}."
        where = (*path, "distribution")
        raise source.error(where, f"W&B has no distribution {given!r}. {cure}")
    if "probabilities" in one and "values" in one:
        return "categorical_w_probabilities"
    for name, key in (("categorical", "values"), ("constant", "value")):
        if key in one:
            return name
    if "min" in one and "max" in one:
        low, high = _number(source, one, path, "min"), _number(source, one, path, "max")
        if type(low) is type(high):
            return "int_uniform" if type(low) is int else "uniform"
        problem = f"one of its bounds is an int and the other is not ({low!r}, {high!r})"
        raise source.error(
            path,
            f"{problem}. Write both as ints (for int_uniform) or both as floats (for uniform), or "
            "give a distribution.",
        )
    wrong = next((key for key in one if key not in _KEYS), None)
    if wrong is not None:
        raise source.unknown((*path, wrong), _KEYS)
    raise source.error(path, "expected value, values, min and max, a distribution or parameters.")


#: All keys that a parameter may have.
_KEYS: Final = (
    *("value", "values", "probabilities", "distribution", "min", "max", "q"),
    *("mu", "sigma", "a", "b", "parameters"),
)


def _check_keys(
    source: Source,
    one: Mapping[str, Any],
    keys: tuple[str, ...],
    path: KeyPath,
    distribution: str = "",
    optional: tuple[str, ...] = (),
) -> None:
    for key in one:
        if key in keys or key in optional or (key == "distribution" and distribution):
            continue
        if key not in _KEYS:
            raise source.unknown((*path, key), (*keys, *optional))
        what = distribution or "a parameter with nested parameters"
        # Cure: Remove it.
        raise source.error((*path, key), f"{what} has none; it has {', '.join(keys + optional)}.")
    for key in keys:
        if key not in one:
            # Cure: Add it.
            raise source.error(path, f"{distribution} needs {key}.")


def _listed(source: Source, one: Mapping[str, Any], path: KeyPath) -> Leaf:
    if "value" in one:
        return Constant(one["value"])
    values = one["values"]
    if not isinstance(values, list) or not values:
        problem = f"expected a list of at least one value, got {values!r}."
        raise source.error((*path, "values"), problem)
    probabilities = one.get("probabilities")
    if probabilities is None:
        return Categorical(tuple(values))
    where = (*path, "probabilities")
    if not isinstance(probabilities, list) or not all(map(_is_probability, probabilities)):
        raise source.error(where, f"expected numbers, 0 or more, got {probabilities!r}.")
    if len(probabilities) != len(values):
        counts = f"{len(probabilities)} probabilities for {len(values)} values"
        # Cure: Write one for each value.
        raise source.error(where, f"there are {counts}.")
    total = math.fsum(probabilities)
    if not math.isclose(total, 1, abs_tol=_CLOSE):
        # Cure: Change them.
        raise source.error(where, f"their sum is {total:g}, and has to be 1.")
    return Categorical(tuple(values), tuple(map(float, probabilities)))


def _is_probability(value: Any) -> bool:
    return is_number(value) and bool(value >= 0)


def _number(source: Source, one: Mapping[str, Any], path: KeyPath, key: str) -> float:
    value = one.get(key, DEFAULTS.get(key))
    if is_number(value):
        return float(value) if key == "q" and type(value) is not int else value
    cure = ""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):  # it is no number
            cure = f" Write {float(value)!r}, without quotes."
    raise source.error((*path, key), f"expected a number, got {value!r}.{cure}")


def _numeric(source: Source, distribution: str, one: Mapping[str, Any], path: KeyPath) -> Numeric:
    family, names = NUMERIC[distribution]
    has_q = distribution.startswith("q_")
    required, optional = (names, ()) if names == ("min", "max") else ((), names)
    _check_keys(source, one, required, path, distribution, (*optional, *(("q",) if has_q else ())))
    first, second = (_number(source, one, path, name) for name in names)
    q = _number(source, one, path, "q") if has_q else None
    if q is not None and q <= 0:
        raise source.error((*path, "q"), f"expected more than 0, got {q!r}.")
    match names:
        case ("min", "max"):
            first, second = _bounds(source, distribution, (first, second), path)
        case ("mu", "sigma") if second <= 0:
            cure = f"For a constant, write {{value: {first!r}}}."
            problem = f"expected more than 0, got {second!r}. {cure}"
            raise source.error((*path, "sigma"), problem)
        case ("a", "b") if min(first, second) <= 0:
            key, value = ("a", first) if first <= 0 else ("b", second)
            raise source.error((*path, key), f"expected more than 0, got {value!r}.")
    return Numeric(distribution, family, first, second, q)


def _bounds(
    source: Source, distribution: str, given: tuple[float, float], path: KeyPath
) -> tuple[float, float]:
    """The bounds as values."""
    low, high = given
    if low >= high:
        # Cure: Write the smaller one as min; for a constant, write value.
        raise source.error(path, f"min has to be less than max, got {low!r} and {high!r}.")
    if distribution == "int_uniform":
        for key, value in zip(("min", "max"), given, strict=True):
            if type(value) is not int:
                problem = f"int_uniform has ints, got {value!r}. For floats, write uniform."
                raise source.error((*path, key), problem)
    elif distribution in OF_EXPONENTS:
        if distribution == "inv_log_uniform":
            low, high = -high, -low
        try:
            low, high = math.exp(low), math.exp(high)
        except OverflowError:
            low = 0.0
        if not 0 < low < high:
            values = distribution + "_values"
            problem = f"{distribution} has exponents of e, and {given} are out of range"
            raise source.error(path, f"{problem}. For bounds as values, write {values}.")
    elif NUMERIC[distribution][0] is Family.LOG_UNIFORM and low <= 0:
        exponents = distribution.removesuffix("_values")
        problem = f"expected more than 0, got {low!r}. For exponents of e, write {exponents}."
        raise source.error((*path, "min"), problem)
    return low, high
