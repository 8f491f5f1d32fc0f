"""A search space in neutral words: what may be sampled, without the classes that Tune has for it.

`_upstream.ray_spaces` reads a ``param_space`` into these. A value that is none of them is a
constant, and is never looked into or compared: it may be an object of any class.

`spread` makes one tree of it, in which each leaf is a parameter of its own: a choice between
mappings becomes one mapping with the keys of all of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from wbtune._data.sanitize import plain

#: How many values lists and mappings with sampled parts may have, to be listed one by one.
MAX_COMBINATIONS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `lower` to `upper`, both included.

    Attributes:
        lower: an int if all of the numbers are integers.
        upper: the same.
        step: all numbers are multiples of it; None for no such rule.
        is_log: are they sampled evenly on a logarithmic axis?
    """

    lower: float
    upper: float
    step: float | None = None
    is_log: bool = False


@dataclass(frozen=True, slots=True)
class Normal:
    """Normally distributed numbers; `step` as for `Range`."""

    mean: float
    sd: float
    step: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """One of some options, which may be sampled themselves."""

    options: tuple[Any, ...]
    is_grid: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    """A list or a tuple of which some items are sampled."""

    items: tuple[Any, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Fields:
    """A mapping of which some values are sampled."""

    entries: Mapping[Any, Any]


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody can tell what is sampled; `text` says what is known of it."""

    text: str


@dataclass(frozen=True, slots=True, eq=False)
class OneOf:
    """One of these constants, which are all that there are."""

    values: tuple[Any, ...]
    is_grid: bool = False


class Branches(dict[Any, Any]):
    """A mapping of a tree that `spread` has made."""


_SAMPLED: Final = frozenset({Range, Normal, Choice, Items, Fields, Unknown})
#: What has a description of its own in a tree that `spread` has made.
LEAVES: Final = frozenset({Range, Normal, OneOf, Unknown})


def is_sampled(node: Any) -> bool:
    """Is this, or a part of it, sampled?"""
    return type(node) in _SAMPLED


def spread(node: Any) -> Any:
    """A space as a tree: `Branches` of `Branches`, `LEAVES` and constants.

    >>> sgd = Fields({"name": "sgd", "momentum": Range(0.0, 1.0)})
    >>> spread(Choice((sgd, {"name": "adam"})))["momentum"]
    Range(lower=0.0, upper=1.0, step=None, is_log=False)
    """
    match node:
        case Fields():
            return Branches({key: spread(inner) for key, inner in node.entries.items()})
        case Choice():
            return _spread_choice(node)
        case Items():
            values = _values_of(node)
            if not values:
                return Unknown("a list with sampled items")
            return OneOf(tuple(values), _is_grid(node))
    return node


def _spread_choice(choice: Choice) -> Any:
    options = list(_options_of(choice))
    entries = [_entries_of(option) for option in options]
    mappings = [one for one in entries if one is not None]
    if mappings and len(mappings) == len(entries):
        # W&B has no conditions: each name gets what it may be in the options that have it. It is
        # in the runs' configs under the same name, and where it is not, nothing is said of it.
        names = dict.fromkeys(name for one in mappings for name in one)
        return Branches(
            {
                name: spread(
                    Choice(tuple(one[name] for one in mappings if name in one), choice.is_grid)
                )
                for name in names
            }
        )
    values = _values_of(choice)
    if values:
        return OneOf(tuple(values), _is_grid(choice))
    return _hull(options) or Unknown("one of several kinds of value")


def _options_of(choice: Choice) -> Iterable[Any]:
    """The options, with those of an option that is a choice itself in its place."""
    for option in choice.options:
        if type(option) is Choice:
            yield from _options_of(option)
        else:
            yield option


def _entries_of(option: Any) -> Mapping[str, Any] | None:
    """The entries of a mapping with names as keys; None for anything else."""
    entries = option.entries if type(option) is Fields else option
    if type(entries) is not dict or any(type(name) is not str for name in entries):
        return None
    return entries


def _is_grid(node: Any) -> bool:
    match node:
        case Choice():
            return node.is_grid and all(map(_is_grid, node.options))
        case Items():
            return all(map(_is_grid, node.items))
        case Fields():
            return all(map(_is_grid, node.entries.values()))
    return not is_sampled(node)


def _values_of(node: Any) -> list[Any] | None:
    """All values that this may have, one by one; None if they are too many, or not known."""
    match node:
        case Choice():
            parts = [_values_of(option) for option in node.options]
            known = [part for part in parts if part is not None]
            if len(known) < len(parts):
                return None
            return [*itertools.chain.from_iterable(known)]
        case Items():
            found = _combinations(node.items)
            return None if found is None else [list(values) for values in found]
        case Fields():
            found = _combinations(node.entries.values())
            names = list(node.entries)
            return None if found is None else [dict(zip(names, v, strict=True)) for v in found]
    return None if is_sampled(node) else [node]


def _combinations(nodes: Iterable[Any]) -> Iterable[tuple[Any, ...]] | None:
    parts = []
    for node in nodes:
        values = _values_of(node)
        if values is None:
            return None
        parts.append(values)
    many = math.prod(map(len, parts)) > MAX_COMBINATIONS
    return None if many else itertools.product(*parts)


def _hull(options: list[Any]) -> Range | Normal | None:
    """What all of these lie inside; None if they are not all numbers."""
    if not options:
        return None
    first: Range | Normal = options[0]  # perhaps
    if type(first) in {Range, Normal} and all(
        type(one) is type(first) and one == first for one in options
    ):
        return first
    bounds: list[float] = []
    for option in options:
        both = (option.lower, option.upper) if type(option) is Range else (plain(option),)
        if not all(is_number(bound) for bound in both):
            return None
        bounds += both
    if any(type(bound) is float for bound in bounds):
        bounds = [float(bound) for bound in bounds]
    return Range(min(bounds), max(bounds))


def is_number(value: Any) -> bool:
    """Is this an int or a finite float, and not a bool?"""
    return type(value) is int or (type(value) is float and math.isfinite(value))
