"""Look inside objects: find the fields of records, and secrets in any other object.

A config holds more than mappings: ``argparse.Namespace``, dataclasses, attrs, pydantic, …
Their fields are treated as keys, like a mapping's, so that excludes and masking apply to them.
Any other object is logged as its text only, and not even as that if it holds a secret.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

#: Classes whose attributes are their fields; by name, since importing them takes time.
_BAGS: Final = frozenset({"argparse.Namespace", "types.SimpleNamespace", "optparse.Values"})

#: How deep, and in how many values, to look for a secret in an object.
_DEPTH: Final = 4
_VALUES: Final = 2000

# Read from `type` itself, so that a metaclass can't interfere.
_module: Final = type.__dict__["__module__"].__get__
_qualname: Final = type.__dict__["__qualname__"].__get__
_mro: Final = type.__dict__["__mro__"].__get__


def class_names(value: Any) -> Iterator[tuple[str, str]]:
    """Module and name of a value's class and of its bases, found without running their code."""
    for kind in _mro(type(value)):
        module = _module(kind)
        yield module if type(module) is str else "", _qualname(kind)


def names_of(value: Any) -> list[str] | None:  # noqa: PLR0911 - a table of types
    """The names of a record's fields, in order; None if the value is not a record.

    >>> from types import SimpleNamespace
    >>> names_of(SimpleNamespace(lr=0.1)), names_of(0.1)
    (['lr'], None)
    """
    kind = type(value)
    if isinstance(value, tuple):
        return _texts(getattr(kind, "_fields", None))
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    attrs = getattr(kind, "__attrs_attrs__", None)
    if isinstance(attrs, tuple):
        return [attribute.name for attribute in attrs]
    for declared in ("model_fields", "__fields__"):  # pydantic 2 and 1
        fields = getattr(kind, declared, None)
        if isinstance(fields, Mapping):
            extra = getattr(value, "__pydantic_extra__", None) or {}
            return list(dict.fromkeys([*fields, *vars(value), *extra]))
    struct = _texts(getattr(kind, "__struct_fields__", None))  # msgspec
    if struct is not None:
        return struct
    if any(f"{module}.{name}" in _BAGS for module, name in class_names(value)):
        return list(vars(value))
    return None


def _texts(names: Any) -> list[str] | None:
    return list(names) if isinstance(names, tuple) else None


def is_mapping(value: Any) -> bool:
    """Is this a mapping, or used like one (as `dict` would take it)?"""
    kind = type(value)
    return isinstance(value, Mapping) or (hasattr(kind, "keys") and hasattr(kind, "__getitem__"))


def holds(value: Any, hides: Callable[[str], bool]) -> bool:
    """Is there text anywhere in this object under a name that must be hidden?

    Args:
        value: an object that is not a record.
        hides: whether text under a given name must be hidden.
    """
    waiting, seen = [(value, 0)], {id(value)}
    for inner, depth in waiting:  # the list grows during the loop
        for name, part in _parts(inner):
            if isinstance(part, (str, bytes)):
                if type(name) is str and hides(name):
                    return True
            elif depth < _DEPTH and len(waiting) < _VALUES and id(part) not in seen:
                seen.add(id(part))
                waiting.append((part, depth + 1))
    return False


def _parts(value: Any) -> Iterable[tuple[Any, Any]]:
    kind = type(value)
    if kind is dict:
        return list(value.items())[:_VALUES]
    if kind is list or kind is tuple:
        pairs = [item for item in value[:_VALUES] if type(item) is tuple and len(item) == 2]  # noqa: PLR2004
        return [*pairs, *(("", item) for item in value[:_VALUES])]
    if isinstance(value, type) or callable(value):
        return ()
    found: list[tuple[Any, Any]] = []
    with contextlib.suppress(AttributeError):  # it has slots, or nothing
        found += object.__getattribute__(value, "__dict__").items()
    for base in _mro(kind):
        for name, slot in vars(base).items():
            if type(slot).__name__ == "member_descriptor":
                found += [(name, slot.__get__(value))] if _is_set(slot, value) else []
    return found[:_VALUES]


def _is_set(slot: Any, value: Any) -> bool:
    try:
        slot.__get__(value)
    except AttributeError:
        return False
    return True
