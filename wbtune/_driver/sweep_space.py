"""Declare a ``param_space`` as the parameters of a W&B sweep.

The names are those of the runs' configs because both are made by `Excludes.config`: each sampled
value is replaced by a number of its own, and where that number is found afterwards is where the
runs have the value. What is excluded or masked in the runs is not in the sweep at all.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from wbtune._data import sweep_config
from wbtune._data.filtering import Excludes
from wbtune._data.sanitize import plain
from wbtune._data.search_space import LEAVES, Branches, OneOf, Unknown, is_number, spread
from wbtune._data.signals import is_of_a_signal
from wbtune._data.sweep_config import Parameters
from wbtune._data.text import class_name
from wbtune._upstream import ray_spaces

logger = logging.getLogger("wbtune")

#: The numbers for the sampled values start here. They are told from others by identity.
_FIRST: Final = 2**62
_GONE: Final = object()
#: The longest text about a parameter that W&B can't express.
_MAX_ABOUT: Final = 200

#: Where a value is in a config: each mapping from the top, and the key in it.
_Trail = tuple[tuple[Mapping[str, Any], str], ...]


class Declared(NamedTuple):
    """A search space as W&B's sweeps have it: plain JSON data, without secrets.

    Attributes:
        parameters: a sweep's ``parameters``; may be empty.
        undescribed: the names of the sampled parameters that W&B can't express, each with what is
            known of it in brackets.
        is_grid: is everything that is sampled in a grid?
    """

    parameters: Parameters
    undescribed: tuple[str, ...] = ()
    is_grid: bool = False


def declared(space: Mapping[str, Any] | None, excludes: Excludes) -> Declared:
    """Declare a search space; never raises.

    Args:
        space: the ``param_space``; None for none.
        excludes: what the runs' configs are filtered by.

    >>> from ray import tune
    >>> space = {"lr": tune.uniform(0, 1), "f": tune.sample_from(lambda _: 1), "seed": 1, "x": 2}
    >>> declared(space, Excludes(("x",)))  # doctest: +NORMALIZE_WHITESPACE
    Declared(parameters={'lr': {'distribution': 'uniform', 'min': 0.0, 'max': 1.0},
                         'seed': {'value': 1}},
             undescribed=('f (computed by a function)',), is_grid=False)
    """
    try:
        tree = spread(ray_spaces.read(space))
        leaves: _Leaves = {}
        kept = excludes.config(_numbered(tree, leaves))
        declaration = _Declaration(excludes, leaves)
        parameters = declaration.parameters(kept, ())
    except BaseException as error:  # a value may raise anything when it is read
        if is_of_a_signal(error):
            raise
        # Its text may be a secret.
        logger.info("wbtune: the search space is not described (%s)", class_name(error))
        return Declared({})
    grids = [type(leaf) is OneOf and leaf.is_grid for _, leaf in leaves.values()]
    return Declared(parameters, tuple(declaration.undescribed), bool(grids) and all(grids))


#: By its number: the number as an object, and what is sampled.
_Leaves = dict[int, tuple[int, Any]]


def _numbered(node: Any, leaves: _Leaves) -> Any:
    """A tree with a number in place of each leaf, which is added to `leaves`."""
    if type(node) is Branches:
        return {key: _numbered(inner, leaves) for key, inner in node.items()}
    if type(node) not in LEAVES:
        return node
    number = _FIRST + len(leaves)
    leaves[number] = number, node
    return number


class _Declaration:
    """The parameters of one space.

    Args:
        excludes: what the runs' configs are filtered by.
        leaves: what is sampled.
    """

    def __init__(self, excludes: Excludes, leaves: _Leaves) -> None:
        self._excludes = excludes
        self._leaves = leaves
        self._left = sweep_config.MAX_PARAMETERS
        self.undescribed: list[str] = []

    def parameters(self, kept: Mapping[str, Any], above: _Trail) -> Parameters:
        """The parameters for a mapping of the filtered config."""
        found: Parameters = {}
        for name, value in kept.items():
            trail = (*above, (kept, name))
            if type(value) is dict and value:
                nested = self.parameters(value, trail)
                if nested:
                    found[name] = {"parameters": nested}
                continue
            leaf = self._leaf(value)
            parameter = self._constant(value, trail) if leaf is None else self._sampled(leaf, trail)
            if parameter is not None:
                found[name] = parameter
        return found

    def _leaf(self, value: Any) -> Any:
        number, leaf = self._leaves.get(value, (None, None)) if type(value) is int else (None, None)
        return leaf if number is value else None

    def _constant(self, value: Any, trail: _Trail) -> dict[str, Any] | None:
        if sweep_config.holds_mask(value) or self._may_be_masked([value], trail):
            return None
        parameter = sweep_config.of_constant(value)
        return parameter if parameter is not None and self._fits(parameter, trail) else None

    def _sampled(self, leaf: Any, trail: _Trail) -> dict[str, Any] | None:
        parameter, about = self._described(leaf, trail)
        if parameter is not None:
            if self._fits(parameter, trail):
                return parameter
            about = json.dumps(parameter)
        if about:
            name = ".".join(name for _, name in trail)
            text = f"{name} ({about})"
            short = text if len(text) <= _MAX_ABOUT else f"{text[:_MAX_ABOUT]}...)"
            self.undescribed.append(short)
        return None

    def _described(self, leaf: Any, trail: _Trail) -> tuple[dict[str, Any] | None, str]:
        """The parameter, or else what is known of it; neither if nothing may be shown."""
        if type(leaf) is Unknown:
            is_shown = self._placed("text", trail) == "text"
            return None, leaf.text if is_shown else ""
        if type(leaf) is not OneOf:
            return sweep_config.of_numbers(leaf), ""
        values = [plain(value) for value in leaf.values]
        if all(map(is_number, values)):  # never masked
            return self._listed(values)
        about = f"one of {len(values):,} values"
        if len(values) > sweep_config.MAX_VALUES:
            is_shown = self._placed("text", trail) == "text"
            return None, about if is_shown else ""
        values = [self._placed(value, trail) for value in values]
        is_gone = any(value is _GONE or sweep_config.holds_mask(value) for value in values)
        if is_gone or self._may_be_masked(values, trail):
            return None, ""
        return self._listed(values)

    def _listed(self, values: list[Any]) -> tuple[dict[str, Any] | None, str]:
        parameter = sweep_config.of_values(values)
        return parameter, "" if parameter else f"one of {len(values):,} values"

    def _placed(self, value: Any, trail: _Trail) -> Any:
        """What the runs' configs show if this value is sampled here."""
        config = value
        for mapping, key in reversed(trail):
            # In `{"name": ..., "value": ...}`, the name decides about the value.
            beside = {
                name: mapping[name] for name in ("name", "key") if type(mapping.get(name)) is str
            }
            config = {**beside, key: config}
        config = self._excludes.config(config)
        for _, key in trail:
            if type(config) is not dict or key not in config:
                return _GONE
            config = config[key]
        return config

    def _may_be_masked(self, values: list[Any], trail: _Trail) -> bool:
        """Is there text in these values, which some of the sampled names would mask?"""
        return any(type(value) in {str, list, dict} for value in values) and any(
            key == "value" and self._leaf(mapping.get("name", mapping.get("key"))) is not None
            for mapping, key in trail
        )

    def _fits(self, parameter: dict[str, Any], trail: _Trail) -> bool:
        """May this have a place in the config? If so, it takes it."""
        if not all(sweep_config.is_name(name) for _, name in trail):
            return False
        self._left -= sweep_config.size_of([[name for _, name in trail], parameter])
        return self._left >= 0
