"""`Plan`: what a tuner is given, by a user's arguments and by a W&B sweep's config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ray.tune import RunConfig, TuneConfig

    from wbtune._data.sweep_file import SweepFile


class Plan(NamedTuple):
    """What a tuner is given.

    Attributes:
        param_space: for the tuner.
        tune_config: for the tuner.
        run_config: for the tuner.
        file: the sweep's config; None if there is none.
    """

    param_space: Mapping[str, Any] | None
    tune_config: TuneConfig | None
    run_config: RunConfig | None
    file: SweepFile | None = None
