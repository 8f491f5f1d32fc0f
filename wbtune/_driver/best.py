"""The best trial of an experiment, as ``ResultGrid.get_best_result`` chooses it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wbtune._data.checkpoint import Objective

if TYPE_CHECKING:
    from ray.tune.experiment import Trial


def best_of(trials: Sequence[Trial], objective: Objective | None) -> Trial | None:
    """The trial whose last value of the metric is the best; None if there is none."""
    if objective is None:
        return None
    best = objective.best_of([last_value(trial, objective) for trial in trials])
    return None if best is None else trials[best]


def last_value(trial: Trial, objective: Objective) -> float | None:
    """The last finite value of the metric that a trial has reported; None if it has none."""
    return _value(trial, objective, "last")


def best_value(trial: Trial, objective: Objective) -> float | None:
    """The best finite value of the metric that a trial has reported; None if it has none."""
    return _value(trial, objective, objective.mode)


def _value(trial: Trial, objective: Objective, which: str) -> float | None:
    analysis: Any = getattr(trial, "metric_analysis", None)
    if analysis is None:  # a Ray that keeps none has at least the last result
        return finite(objective.value(trial.last_result or {}))
    try:
        return finite(float(analysis[objective.metric][which]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def finite(value: float | None) -> float | None:
    """The value, or None if it is none or not finite."""
    return value if value is not None and math.isfinite(value) else None
