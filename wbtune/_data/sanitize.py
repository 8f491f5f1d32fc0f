r"""Convert any Python value to something that W&B accepts: total, idempotent, deterministic.

`plain` never raises, never changes its argument, and returns the same result in every process
(sets are ordered by their text, addresses are cut from `repr`). Text stays text: it
is never parsed into a number. If reading a value raises anything, only that value's key is
affected.

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
a record (`fields.names_of`)   a dict of its fields
NumPy or torch scalar          the number
array, tensor, up to 32 items  a list; larger: W&B's histogram form (a metric), or a
                               short description (a config)
a key that is not text         its text
a cycle, nesting beyond 32,    ``"..."``
what comes after 100,000
values
a pydantic secret              ``"****"``
anything else                  its ``str``, or ``<module.Class>`` if it holds a secret or
                               has no ``str`` of its own
============================== ====================================================

In all text, passwords in URLs are masked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from typing import Any, Final

from wbtune._data import arrays, fields, scalars
from wbtune._data.masking import MASK, looks_secret
from wbtune._data.signals import is_of_a_signal
from wbtune._data.text import CUT, class_name, clean, described, nameplate

MAX_DEPTH: Final = 32
MAX_LIST: Final = 32
MAX_VALUES: Final = 100_000

Hides = Callable[[str], bool]


def plain(value: Any, hides: Hides = looks_secret) -> Any:
    """``value`` as what JSON can hold, for a run's config.

    Args:
        value: anything.
        hides: whether text under a given name must be hidden. An object that holds such text,
            and is not a record, is shown as its type.

    >>> plain({"x": float("inf"), 1: {3, 2}})
    {'x': 'Infinity', '1': [2, 3]}
    """
    return _Sanitizer(hides=hides).value(value, 0)


def plain_metric(
    value: Any, hides: Hides = looks_secret, take: Callable[[Any], Any] | None = None
) -> Any:
    """``value`` as what ``run.log`` can hold.

    Like `plain`, but numeric arrays of 3, 4 or 5 dimensions (image, images, videos) and
    W&B's own media objects stay what they are, and other large arrays become histograms.

    Args:
        value: anything.
        hides: as for `plain`; such fields of records are masked.
        take: makes the result a snapshot, which later changes to the value do not affect: it
            returns a copy of a W&B object. Arrays are then copied too, and become histograms when
            this is called again without ``take``.
    """
    return _Sanitizer(metric=True, hides=hides, take=take).value(value, 0)


def key_text(key: Any) -> str:
    """The text that a mapping's key becomes."""
    if type(key) is str:
        return clean(key)
    text = plain(key)
    return text if isinstance(text, str) else str(text)


class _Sanitizer:
    """One walk over one value; remembers the containers that it is inside."""

    __slots__ = ("_hides", "_inside", "_left", "_masks", "_metric", "_pictures", "_take")

    def __init__(
        self,
        *,
        metric: bool = False,
        hides: Hides = looks_secret,
        take: Callable[[Any], Any] | None = None,
    ) -> None:
        self._metric = metric
        self._pictures = metric
        self._hides = hides
        self._take = take
        # Secrets in a config are masked by their path (`filtering.Excludes`), and metrics are not
        # masked at all; but a secret field of an object is not a metric.
        self._masks = False
        self._left = MAX_VALUES
        self._inside: set[int] = set()

    def value(self, value: Any, depth: int) -> Any:  # noqa: PLR0911 - a table of types
        kind = type(value)
        if kind is float:
            return scalars.number(value)
        if kind is int:
            return scalars.integer(value)
        if kind is bool or value is None:
            return value
        if kind is str:
            return clean(value)
        if depth > MAX_DEPTH or id(value) in self._inside:
            return CUT
        self._inside.add(id(value))
        try:
            return self._other(value, depth)
        except BaseException as error:  # a value may raise anything when it is read
            if is_of_a_signal(error):
                raise
            return nameplate(value)
        finally:
            self._inside.discard(id(value))

    def _other(self, value: Any, depth: int) -> Any:  # noqa: C901, PLR0911, PLR0912 - a table of types
        if type(value) is dict:
            return self._mapping(list(value.items()), depth)
        if type(value) is list:
            return self._items(value, depth)
        if self._metric and arrays.is_media(value):
            return value if self._take is None else self._take(value)
        if self._pictures and arrays.is_media_array(value):
            return value if self._take is None else value.copy()
        for kinds, convert in scalars.SCALARS:
            if isinstance(value, kinds):
                return convert(value)
        names = fields.names_of(value)
        if names is not None:
            return self._record(value, names, depth)
        if isinstance(value, AbstractSet):
            # By text, because the order of a set depends on the hash seed.
            return sorted(self._items(value, depth), key=_order)
        if isinstance(value, (Sequence, ValuesView)):
            return self._items(value, depth)
        if hasattr(type(value), "__array__"):
            return self._array(value, depth)
        if hasattr(type(value), "get_secret_value"):  # pydantic's
            return MASK
        if isinstance(value, type) or callable(value):
            module = getattr(value, "__module__", None)
            name = getattr(value, "__qualname__", None)
            return clean(f"{module}.{name}") if module and name else nameplate(value)
        if fields.is_mapping(value):
            return self._mapping(_items_of(value), depth)
        return self._text_of(value)

    def _nested(self, value: Any, depth: int) -> Any:
        return self.value(value, depth + 1)

    def _within(self, values: Iterable[Any]) -> Iterator[Any]:
        """The values, as long as there are not too many."""
        for value in values:
            if self._left <= 0:
                return
            self._left -= 1
            yield value

    def _items(self, values: Any, depth: int) -> list[Any]:
        # An array inside a list is not logged as a picture (`media`), but as data.
        outside, self._pictures = self._pictures, False
        try:
            done = [self._nested(item, depth) for item in self._within(values)]
        finally:
            self._pictures = outside
        if self._left <= 0 and done[-1:] != [CUT]:
            done.append(CUT)
        return done

    def _record(self, value: Any, names: list[str], depth: int) -> dict[str, Any]:
        outside, self._masks = self._masks, self._metric
        try:
            return self._mapping(((name, _asked(getattr, value, name)) for name in names), depth)
        finally:
            self._masks = outside

    def _mapping(self, items: Iterable[tuple[Any, Any]], depth: int) -> dict[str, Any]:
        done: dict[str, Any] = {}
        others: list[tuple[str, Any, Any]] = []
        for key, item in self._within(items):
            text = key_text(key)
            inner = self._nested(item, depth)
            if self._masks and self._hides(text):
                inner = _masked(inner)
            if issubclass(type(key), str) and str.__str__(key) == text:
                done[text] = inner
            else:
                others.append((text, key, inner))
        for text, key, inner in others:
            # {1: a, "1": b} keeps both: the key that was text already keeps its name.
            name = text if text not in done else f"{text} ({class_name(key)})"
            while name in done:
                name += "'"
            done[name] = inner
        if self._left <= 0:
            done.setdefault(CUT, CUT)
        return done

    def _array(self, value: Any, depth: int) -> Any:
        array = arrays.as_numpy(value)
        if array.size == 1:
            return self.value(array.reshape(-1).tolist()[0], depth + 1)
        if array.size <= MAX_LIST:
            return self.value(array.tolist(), depth + 1)
        if self._metric and array.dtype.kind in "biuf":
            return arrays.histogram(array) if self._take is None else array.copy()
        return f"array of {array.dtype} {tuple(array.shape)}"

    def _text_of(self, value: Any) -> str:
        kind: Any = type(value)
        if kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__:
            return nameplate(value)
        if fields.holds(value, self._hides):
            return nameplate(value)
        return described(value)


def _masked(value: Any) -> Any:
    """Plain data with its text masked."""
    if type(value) is dict:
        return {key: _masked(inner) for key, inner in value.items()}
    if type(value) is list:
        return [_masked(inner) for inner in value]
    return MASK if type(value) is str else value


def _items_of(mapping: Any) -> Iterator[tuple[Any, Any]]:
    """The items, each read by itself, so that one which can't be read costs no other."""
    for key in mapping.keys():  # noqa: SIM118 - it may not be iterable itself
        yield key, _asked(lambda of, name: of[name], mapping, key)


def _asked(ask: Callable[[Any, Any], Any], value: Any, name: Any) -> Any:
    try:
        return ask(value, name)
    except BaseException as error:  # a value may raise anything when it is read
        if is_of_a_signal(error):
            raise
        return f"<{class_name(error)}>"


def _order(item: Any) -> tuple[bool, str, Any]:
    numeric = type(item) in {int, float}
    return (
        not numeric,
        "" if numeric else f"{type(item).__name__}:{item!r}",
        item if numeric else 0,
    )
