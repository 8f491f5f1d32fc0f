"""Describe what an experiment searches, and how: plain data without secrets."""

from __future__ import annotations

import inspect
import platform
import sys
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from wbtune._data.filtering import Excludes
from wbtune._driver.sweep_space import declared
from wbtune._upstream import capabilities

#: W&B's names for how the values are chosen.
GRID, RANDOM, CUSTOM = "grid", "random", "custom"

#: Tune's own search, which draws the samples and walks the grids.
_BASIC: Final = "BasicVariantGenerator"
#: How many search algorithms may be wrapped in each other.
_DEEPEST: Final = 4


class Description(NamedTuple):
    """What an experiment searches; it can be pickled with the callback.

    Attributes:
        parameters: the space, in the form of a W&B sweep's ``parameters``; empty if it is known
            to nobody but the search algorithm.
        undescribed: the parameters that such a form can't express.
        method: how the values are chosen, in W&B's words.
        config: further entries of the config of the run for the whole.
    """

    parameters: dict[str, Any]
    undescribed: tuple[str, ...] = ()
    method: str = CUSTOM
    config: Mapping[str, Any] = {}


def describe(
    excludes: Excludes,
    *,
    space: Mapping[str, Any] | None,
    search_alg: Any = None,
    scheduler: Any = None,
    num_samples: Any = None,
) -> Description:
    """Describe an experiment.

    Args:
        excludes: what is left out and masked, as in the runs' configs.
        space: the ``param_space``.
        search_alg: as for ``TuneConfig``.
        scheduler: as for ``TuneConfig``.
        num_samples: as for ``TuneConfig``.
    """
    known = declared(space, excludes)
    config = {
        "search_alg": _described(search_alg) or {"name": _BASIC},
        "scheduler": _described(scheduler) or {"name": "FIFOScheduler"},
        # Tune itself replaces -1, for "as long as there is time".
        "num_samples": -1 if num_samples == sys.maxsize else num_samples,
        "versions": {
            "python": platform.python_version(),
            **{name: _release(name) for name in ("ray", "wandb", "wbtune")},
        },
    }
    is_basic = search_alg is None or type(search_alg).__name__ == _BASIC
    method = (GRID if known.is_grid else RANDOM) if is_basic else CUSTOM
    return Description(known.parameters, known.undescribed, method, excludes.config(config))


def _release(package: str) -> str:
    return capabilities.version(package).partition(" ")[2] or "unknown"


def _described(chosen: Any, depth: int = 0) -> dict[str, Any]:
    """The name of a scheduler or search algorithm, and its simple settings, seeds included."""
    if chosen is None or isinstance(chosen, str):
        return {} if chosen is None else {"name": chosen}
    described: dict[str, Any] = {"name": type(chosen).__name__}
    try:
        names = list(inspect.signature(type(chosen).__init__).parameters)[1:]
        for name in names:
            value = getattr(chosen, name, getattr(chosen, f"_{name}", None))
            if isinstance(value, (bool, int, float, str)):
                described[name] = value
        inner = getattr(chosen, "searcher", None)
        if inner is not None and depth < _DEEPEST:
            described["searcher"] = _described(inner, depth + 1)
    except Exception:  # noqa: BLE001 - anybody's class; its name says most
        return {"name": type(chosen).__name__}
    return described
