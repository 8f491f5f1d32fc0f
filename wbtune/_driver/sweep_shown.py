"""Show a W&B sweep's config to W&B as it was given, except for what is excluded or secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from wbtune._data import sweep_config
from wbtune._data.filtering import Excludes
from wbtune._data.sweep_config import Parameters
from wbtune._data.sweep_file import BAYES, SweepFile
from wbtune._data.sweep_source import KeyPath
from wbtune._driver.description import CUSTOM, Description
from wbtune._upstream import ray_sweep

_GONE: Final = object()
_NESTED: Final = "parameters"


def shown(
    description: Description, file: SweepFile, excludes: Excludes, search_alg: Any
) -> Description:
    """Complete the description of an experiment that a sweep's config declares.

    Args:
        description: of what the user gave besides: its parameters come before the config's.
        file: the config.
        excludes: what is left out and masked, as in the runs' configs.
        search_alg: what chooses the values.
    """
    parameters = _parameters(file.source.config[_NESTED], excludes, ())
    rest = {key: one for key, one in file.source.config.items() if key != _NESTED}
    # What is a secret in a command line, say: no pattern of the user's is about these keys.
    config = {key: _masked(key, one, excludes) for key, one in rest.items()}
    order = {key: config.get(key) for key in file.source.config}
    expected = "OptunaSearch" if file.method == BAYES else ""
    is_own = ray_sweep.search_of(search_alg) == expected
    return description._replace(
        parameters=_joined(parameters, description.parameters),
        method=file.method if is_own else CUSTOM,
        given={**order, _NESTED: parameters or sweep_config.NO_PARAMETERS},
    )


def _masked(key: str, value: Any, excludes: Excludes) -> Any:
    return Excludes((), excludes.unmask).config({key: value}).get(key, value)


def _parameters(given: Mapping[str, Any], excludes: Excludes, path: KeyPath) -> Parameters:
    found: Parameters = {}
    for name, one in given.items():
        inner = (*path, name)
        if _NESTED in one:
            nested = _parameters(one[_NESTED], excludes, inner)
            if nested:
                found[name] = {_NESTED: nested}
            continue
        if _placed(0, inner, excludes) is _GONE:
            continue
        found[name] = {key: _values(key, value, inner, excludes) for key, value in one.items()}
    return found


def _values(key: str, value: Any, path: KeyPath, excludes: Excludes) -> Any:
    if key == "value":
        return _placed(value, path, excludes)
    if key == "values":
        return [_placed(item, path, excludes) for item in value]
    return value


def _placed(value: Any, path: KeyPath, excludes: Excludes) -> Any:
    """What the runs' configs show where a parameter has this value."""
    config: Any = value
    for name in reversed(path):
        config = {name: config}
    config = excludes.config(config)
    for name in path:
        if type(config) is not dict or name not in config:
            return _GONE
        config = config[name]
    return config


def _joined(under: Parameters, over: Parameters) -> Parameters:
    """Parameters, with those of `over` in place of those of the same name, at any depth."""
    joined = {**under, **over}
    for name in under.keys() & over.keys():
        both = under[name].get(_NESTED), over[name].get(_NESTED)
        if both[0] and both[1]:
            joined[name] = {_NESTED: _joined(both[0], both[1])}
    return joined
