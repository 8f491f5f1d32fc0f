"""Read a ``param_space`` of Tune's domains into the words of `_data.search_space`.

All that is used of Ray is public: the classes of ``ray.tune.search.sample`` and their attributes
[Ray 2.41 to 2.60]. A domain or a sampler of the user's own is never guessed at.

What Tune does, found by reading and by sampling:

- An upper bound of integers is excluded. With ``q`` it is included, except for ``q=1``.
- ``quniform(0, 0.3, 0.1)`` gives 0.30000000000000004: multiples of ``q`` are rounded after the
  bounds were. `Range.lower` and `Range.upper` are those that are really reached.
- Before Ray 2.60, floats are not rounded at all with ``q=1``.
- ``exp(log(0.1))`` is more than 0.1, so what is sampled on a logarithmic axis may lie outside of
  its bounds by a rounding error. That only matters for ranges almost as narrow as that error.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Iterable
from itertools import islice
from types import ModuleType, NoneType
from typing import Any, Final

from wbtune._data.sanitize import MAX_DEPTH
from wbtune._data.search_space import Choice, Fields, Items, Normal, Range, Unknown, is_sampled
from wbtune._data.signals import is_of_a_signal
from wbtune._data.text import CUT, nameplate

#: How many containers, domains and options are read; what comes after them is `Unknown`.
MAX_NODES: Final = 100_000

_SCALARS: Final = frozenset({int, float, str, bool, NoneType})
#: Tune's own forms of a grid and of a function, in a dict of one entry.
_GRID: Final = "grid_search"
_EXPRESSION: Final = "eval"

#: Narrower than this, in relation to its bounds, a range is widened by `_ROUNDING`.
_NARROW: Final = 1e-6
_ROUNDING: Final = 1e-12
#: Multiples beyond this one are not exact in a float.
_EXACT: Final = 2**50


def read(space: Any) -> Any:
    """A space in the words of `_data.search_space`; never raises, and changes nothing.

    >>> from ray import tune
    >>> read({"lr": tune.loguniform(1e-4, 1e-1), "layers": tune.randint(1, 5), "seed": 1}).entries
    ... # doctest: +NORMALIZE_WHITESPACE
    {'lr': Range(lower=0.0001, upper=0.1, step=None, is_log=True),
     'layers': Range(lower=1, upper=4, step=None, is_log=False), 'seed': 1}
    """
    return _Reader().node(space, 0)


class _Reader:
    """One walk over one space; remembers the containers that it is inside."""

    __slots__ = ("_inside", "_left", "_sample")

    def __init__(self) -> None:
        from ray.tune.search import sample  # noqa: PLC0415 - needs ray

        self._sample: ModuleType = sample
        self._inside: set[int] = set()
        self._left = MAX_NODES

    def node(self, value: Any, depth: int) -> Any:
        if type(value) in _SCALARS:
            return value
        if id(value) in self._inside:
            return CUT
        self._left -= 1
        if self._left < 0:
            return Unknown("part of a very large space")
        self._inside.add(id(value))
        try:
            return self._other(value, depth)
        except BaseException as error:  # a value may raise anything when it is read
            if is_of_a_signal(error):
                raise
            return Unknown(nameplate(value))
        finally:
            self._inside.discard(id(value))

    def _other(self, value: Any, depth: int) -> Any:
        # By the type: a value may lie about its class, and raise when it is asked.
        kind = type(value)
        if issubclass(kind, self._sample.Domain):
            return self._domain(value, depth)
        if issubclass(kind, dict):
            if len(value) == 1 and _GRID in value:
                return self._choice(value[_GRID], depth, is_grid=True)
            if len(value) == 1 and _EXPRESSION in value:
                return Unknown("computed from an expression")
            return self._fields(value, depth)
        if issubclass(kind, (list, tuple)) and depth <= MAX_DEPTH:
            items = tuple(self.node(item, depth + 1) for item in value)
            return Items(items) if any(map(is_sampled, items)) else value
        return value

    def _fields(self, value: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:  # the runs' configs are cut there, too
            return value
        entries = {key: self.node(inner, depth + 1) for key, inner in value.items()}
        return Fields(entries) if any(map(is_sampled, entries.values())) else value

    def _choice(self, categories: Iterable[Any], depth: int, *, is_grid: bool) -> Any:
        if iter(categories) is categories:  # a generator: Tune needs its values itself
            return Unknown("one of a generator's values")
        values = list(islice(categories, MAX_NODES))
        if len(values) == MAX_NODES:
            return Unknown("one of very many values")
        return Choice(tuple(self.node(value, depth) for value in values), is_grid)

    def _domain(self, domain: Any, depth: int) -> Any:
        sample, kind = self._sample, type(domain)
        if kind is sample.Function:
            return Unknown("computed by a function")
        sampler, step = domain.get_sampler(), None
        if type(sampler) is sample.Quantized:
            sampler, step = sampler.get_sampler(), sampler.q
        if type(sampler).__module__ != sample.__name__:
            return Unknown(f"sampled by {nameplate(sampler)}")
        if kind is sample.Categorical:
            is_grid = isinstance(sampler, sample.Grid)
            return self._choice(domain.categories, depth, is_grid=is_grid)
        is_log = isinstance(sampler, sample.LogUniform)
        if kind is sample.Integer:
            return _integers(domain, step, is_log=is_log)
        if kind is not sample.Float:
            return Unknown(nameplate(domain))
        if step is not None and float(step) == 1 and not _rounds_to_integers():
            step = None
        is_normal = isinstance(sampler, sample.Normal)
        return _normal(sampler, step) if is_normal else _floats(domain, step, is_log=is_log)


@functools.cache
def _rounds_to_integers() -> bool:
    """Does this Ray round floats with ``q=1``? Sampled with a seed: nobody else's is touched."""
    from ray import tune  # noqa: PLC0415 - needs ray

    return bool(float(tune.quniform(0, 8, 1).sample(random_state=0)).is_integer())


def _finite(number: Any) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError
    return value


def _step(step: Any) -> float | None:
    """The ``q`` of a domain: W&B takes only positive ones."""
    if step is None:
        return None
    if not _finite(step):
        raise ValueError
    return abs(float(step))


def _normal(sampler: Any, step: Any) -> Normal:
    return Normal(_finite(sampler.mean), abs(_finite(sampler.sd)), _step(step))


def _floats(domain: Any, step: Any, *, is_log: bool) -> Range:
    lower, upper = sorted((_finite(domain.lower), _finite(domain.upper)))
    size, step = max(abs(lower), abs(upper)), _step(step)
    if step is None:
        narrow = upper - lower <= size * _NARROW and (is_log or lower < upper)
    else:
        narrow = size / step > _EXACT
        ends = [_multiple(lower, step, math.ceil) * step, _multiple(upper, step, math.floor) * step]
        lower, upper = min(lower, *ends), max(upper, *ends)
    if is_log and lower <= 0:
        raise ValueError  # Tune refuses it, when it samples
    slack = size * _ROUNDING if narrow else 0.0
    return Range(_finite(lower - slack), _finite(upper + slack), step, is_log)


def _integers(domain: Any, step: Any, *, is_log: bool) -> Range:
    # Bounds of integers may be given as floats.
    first, end = math.floor(domain.lower), math.ceil(domain.upper)
    if (is_log and first <= 0) or max(abs(first), abs(end)) > sys.float_info.max:
        raise ValueError
    if step is not None and step != 1:
        return _multiples(domain, step, is_log=is_log)
    last = end - 1
    narrow = is_log and end - first <= end * _NARROW
    if last < first and not narrow:
        raise ValueError
    if not is_log:
        return Range(first, last)
    slack = 1 + int(end * _ROUNDING) if narrow else 0
    # W&B has no logarithmic integers, but logarithmic multiples of 1.
    return Range(max(first - slack, 1), max(first, last) + slack, 1, is_log=True)


def _multiples(domain: Any, step: Any, *, is_log: bool) -> Range:
    """Integers with ``q``, of which the upper bound is included."""
    if not _finite(step) > 0:
        raise ValueError
    first, last = (
        _multiple(domain.lower, step, math.ceil),
        _multiple(domain.upper, step, math.floor),
    )
    if last < first:
        raise ValueError
    if step != int(step):  # multiples of 0.5, of which Tune cuts the fraction off
        return Range(math.floor(first * step), math.ceil(last * step))
    step = int(step)
    narrow = (is_log and last + 1 - first <= last * _NARROW) or max(abs(first), abs(last)) > _EXACT
    slack = 1 + int(max(abs(first), abs(last)) * _ROUNDING) if narrow else 0
    least = max(first - slack, 1) if is_log else first - slack
    return Range(least * step, (last + slack) * step, step, is_log)


def _multiple(bound: Any, step: float, rounded: Any) -> int:
    """Which multiple of ``q`` a bound stands for; almost one counts as one, as in Ray 2.60."""
    ratio = bound / step
    nearest = round(ratio)
    return nearest if math.isclose(ratio, nearest) else int(rounded(ratio))
