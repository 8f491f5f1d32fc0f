"""Describe what an experiment searches, and how: plain data without secrets."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from wbtune._data.filtering import Excludes
from wbtune._driver.sweep_space import declared
from wbtune._upstream import capabilities, ray_search

#: W&B's names for how the values are chosen.
GRID, RANDOM, CUSTOM = "grid", "random", "custom"

#: Tune's own search, which draws the samples and walks the grids.
_BASIC: Final = "BasicVariantGenerator"


class Description(NamedTuple):
    """What an experiment searches; it can be pickled with the callback.

    Attributes:
        parameters: the space, in the form of a W&B sweep's ``parameters``; empty if it is known
            to nobody but the search algorithm.
        undescribed: the parameters that such a form can't express.
        method: how the values are chosen, in W&B's words.
        config: further entries of the config of the run for the whole.
        given: the sweep's config, if the user gave one; else it is made of the others.
    """

    parameters: dict[str, Any]
    undescribed: tuple[str, ...] = ()
    method: str = CUSTOM
    config: Mapping[str, Any] = {}
    given: Mapping[str, Any] | None = None


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
        "search_alg": ray_search.described(search_alg) or {"name": _BASIC},
        "scheduler": ray_search.described(scheduler) or {"name": "FIFOScheduler"},
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
