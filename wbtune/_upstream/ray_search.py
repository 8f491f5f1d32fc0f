"""What schedulers and search algorithms were given, as far as their objects show it."""

from __future__ import annotations

import inspect
from typing import Any, Final

#: How many search algorithms may be wrapped in each other.
_DEEPEST: Final = 4


def described(chosen: Any, depth: int = 0) -> dict[str, Any]:
    """Return the name and the simple settings of a scheduler or search algorithm, seeds included.

    A setting is looked for as an attribute of its parameter's name, or of that name with an
    underscore; one that is under neither is left out.

    >>> from ray.tune.schedulers import ASHAScheduler
    >>> described(ASHAScheduler(max_t=9))["max_t"]
    9
    """
    if chosen is None or isinstance(chosen, str):
        return {} if chosen is None else {"name": chosen}
    found: dict[str, Any] = {"name": type(chosen).__name__}
    try:
        names = list(inspect.signature(type(chosen).__init__).parameters)[1:]
        for name in names:
            value = getattr(chosen, name, getattr(chosen, f"_{name}", None))
            if isinstance(value, (bool, int, float, str)):
                found[name] = value
        inner = getattr(chosen, "searcher", None)
        if inner is not None and depth < _DEEPEST:
            found["searcher"] = described(inner, depth + 1)
    except Exception:  # noqa: BLE001 - anybody's class; its name says most
        return {"name": type(chosen).__name__}
    return found
