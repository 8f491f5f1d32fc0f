"""Write a W&B sweep's config: its ``parameters``, in the form of W&B's published schema.

========================== ===================================================================
Tune                       W&B
========================== ===================================================================
uniform                    uniform
quniform, qrandint         q_uniform
loguniform                 log_uniform_values
qloguniform, qlograndint   q_log_uniform_values
lograndint                 q_log_uniform_values, with ``q`` 1
randint                    int_uniform, with the upper bound included
randn, qrandn              normal, q_normal
choice, grid_search        ``values``
a constant                 ``value``
========================== ===================================================================

The schema is that of the package `sweeps` (https://github.com/wandb/sweeps), by which W&B's server
checks a config. What it can't check, its code does: ``min`` has to be less than ``max``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from wbtune._data.masking import MASK
from wbtune._data.sanitize import plain
from wbtune._data.search_space import Normal, Range, is_number
from wbtune._data.text import clean

#: Longer lists are given as the range of their numbers, or not at all: a part of a list would be
#: wrong, and the config is sent in one request and loaded with each view of the sweep.
MAX_VALUES: Final = 1_000
#: The longest description of a parameter, in characters of JSON, and of all of them.
MAX_PARAMETER: Final = 50_000
MAX_PARAMETERS: Final = 500_000

#: The names that the schema allows. ``$`` would also allow a line's end after them.
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\Z")
_GOALS: Final = {"min": "minimize", "max": "maximize"}
Parameters = dict[str, dict[str, Any]]

#: A sweep must have a parameter; this one stands in for those that nobody knows.
NO_PARAMETERS: Final[Parameters] = {"param_space": {"value": "not described"}}


def sweep_config(
    name: str,
    parameters: Mapping[str, Any],
    metric: object = None,
    mode: object = None,
    *,
    description: str = "",
    method: str = "custom",
) -> dict[str, Any]:
    """The config of a sweep in which Tune chooses the values.

    Args:
        name: the sweep's name.
        parameters: see `_driver.sweep_space.declared` and `seen`.
        metric: what is optimised, with a `mode` of "min" or "max". The runs have its best value in
            their summaries: ``loss.min``.
        mode: anything but "min" or "max", and the config has no metric.
        description: further text.
        method: "grid", "random", or "custom".

    >>> sweep_config("tune", {"lr": {"value": 1}}, "loss", "min", method="grid")["metric"]
    {'name': 'loss.min', 'goal': 'minimize'}
    """
    config: dict[str, Any] = {"name": clean(name), "method": method}
    if description:
        config["description"] = clean(description)
    if isinstance(metric, str) and isinstance(mode, str) and mode in _GOALS:
        config["metric"] = {"name": f"{clean(metric)}.{mode}", "goal": _GOALS[mode]}
    return {**config, "parameters": dict(parameters) or dict(NO_PARAMETERS)}


def is_name(name: str) -> bool:
    """Does W&B's schema allow a parameter of this name?

    >>> is_name("optimizer.lr"), is_name("learning rate"), is_name("0")
    (True, False, False)
    """
    return _NAME.match(name) is not None


def of_numbers(numbers: Range | Normal) -> dict[str, Any]:
    """The parameter for a range or a distribution of numbers.

    >>> of_numbers(Range(1, 4))
    {'distribution': 'int_uniform', 'min': 1, 'max': 4}
    >>> of_numbers(Range(0.1, 0.9, 0.1))
    {'distribution': 'q_uniform', 'min': 0.1, 'max': 0.9, 'q': 0.1}
    """
    q = {} if numbers.step is None else {"q": numbers.step}
    prefix = "q_" if q else ""
    if isinstance(numbers, Normal):
        return {
            "distribution": f"{prefix}normal",
            "mu": numbers.mean,
            "sigma": numbers.sd,
            **q,
        }
    if numbers.lower >= numbers.upper:
        return {"value": numbers.lower}
    if numbers.is_log:
        distribution = f"{prefix}log_uniform_values"
    else:
        integers = type(numbers.lower) is int and type(numbers.upper) is int and not q
        distribution = "int_uniform" if integers else f"{prefix}uniform"
    return {"distribution": distribution, "min": numbers.lower, "max": numbers.upper, **q}


def of_values(values: Iterable[Any]) -> dict[str, Any] | None:
    """The parameter for a choice between plain values; None if they can't be described.

    >>> of_values(["sgd", "adam", "sgd"])
    {'values': ['sgd', 'adam']}
    """
    listed = different(values)
    if len(listed) > MAX_VALUES:
        return _range_of(listed)
    parameter = {"values": listed}
    if not listed or size_of(parameter) > MAX_PARAMETER:
        return None
    return parameter


def of_constant(value: Any) -> dict[str, Any] | None:
    """The parameter for a plain value that is always the same; None if it is too large."""
    parameter = {"value": value}
    return None if size_of(parameter) > MAX_PARAMETER else parameter


def size_of(parameter: Any) -> int:
    """How many characters of JSON this takes."""
    return len(json.dumps(parameter))


def different(values: Iterable[Any]) -> list[Any]:
    """The values, each once; 1, 1.0 and True are equal, and yet different."""
    return list({json.dumps(value, sort_keys=True): value for value in values}.values())


def _range_of(values: list[Any]) -> dict[str, Any] | None:
    if not values or not all(map(is_number, values)):
        return None
    if any(type(value) is float for value in values):
        values = [float(value) for value in values]
    return of_numbers(Range(min(values), max(values)))


def holds_mask(value: Any) -> bool:
    """Is there a value in this plain data that was masked as a whole?"""
    if type(value) is dict:
        return any(map(holds_mask, value.values()))
    if type(value) is list:
        return any(map(holds_mask, value))
    return bool(value == MASK)


# --- Without a space: what the trials have shown so far --------------------------------------


def parameters_of_trial(params: Mapping[str, Any]) -> Parameters:
    """The parameters of a single trial, as far as they are known from its config: see `seen`."""
    return seen([params])


def seen(configs: Iterable[Mapping[str, Any]]) -> Parameters:
    """The parameters that these configs have, for a search that has no space.

    Numbers become the range that they were in, anything else the values that there were. A key that
    is a mapping in some configs and none in others is left out.

    Args:
        configs: of the trials, filtered and masked.

    >>> seen([{"lr": 0.1, "model": {"act": "relu"}}, {"lr": 0.3, "model": {"act": "tanh"}}])
    ... # doctest: +NORMALIZE_WHITESPACE
    {'lr': {'distribution': 'uniform', 'min': 0.1, 'max': 0.3},
     'model': {'parameters': {'act': {'values': ['relu', 'tanh']}}}}
    >>> parameters_of_trial({"layers": 5})
    {'layers': {'value': 5}}
    """
    found: dict[tuple[str, ...], list[Any]] = {}
    for config in configs:
        for path, value in _leaves(plain(config), ()):
            found.setdefault(path, []).append(value)
    above = {path[:end] for path in found for end in range(1, len(path))}
    for path in above & found.keys():
        if all(type(value) is dict for value in found[path]):  # empty for some trials
            del found[path]
    parameters: Parameters = {}
    left = MAX_PARAMETERS
    for path, values in found.items():
        prefixes = [path[:end] for end in range(1, len(path) + 1)]
        is_both = any(one in found and one in above for one in prefixes)
        parameter = None if is_both or not all(map(is_name, path)) else _of_seen(values)
        if parameter is not None and left >= (size := size_of([path, parameter])):
            left -= size
            inner = parameters
            for name in path[:-1]:
                inner = inner.setdefault(name, {"parameters": {}})["parameters"]
            inner[path[-1]] = parameter
    return parameters


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """What is no mapping, or an empty one, and where it stands."""
    if type(value) is dict and (value or not path):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif path:
        yield path, value


def _of_seen(values: list[Any]) -> dict[str, Any] | None:
    if any(map(holds_mask, values)):
        return None
    listed = different(values)
    if len(listed) == 1:
        return of_constant(listed[0])
    return _range_of(listed) or of_values(listed)


# --- Flat names ------------------------------------------------------------------------------


def flat(parameters: Mapping[str, Any]) -> Parameters:
    """Nested parameters by the names that W&B shows: ``model.act``.

    >>> flat({"model": {"parameters": {"act": {"value": "relu"}}}, "lr": {"value": 1}})
    {'model.act': {'value': 'relu'}, 'lr': {'value': 1}}
    """
    found: Parameters = {}
    for name, parameter in parameters.items():
        nested = parameter.get("parameters")
        if isinstance(nested, Mapping):
            for inner, described in flat(nested).items():
                found.setdefault(f"{name}.{inner}", described)
        else:
            found.setdefault(name, dict(parameter))
    return found


def varying(parameters: Mapping[str, Any]) -> Parameters:
    """Nested parameters by their flat names, without constants.

    >>> varying({"seed": {"value": 3}, "lr": {"values": [0.1, 0.2]}})
    {'lr': {'values': [0.1, 0.2]}}
    """
    return {name: one for name, one in flat(parameters).items() if "value" not in one}
