"""The best trial of an experiment, as ``ResultGrid.get_best_result`` chooses it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wbtune._data.checkpoint import Objective

if TYPE_CHECKING:
    from ray.tune.experiment import Trial


def best_of(trials: Sequence[Trial], objective: Objective | None) -> Trial | None:
    """The trial whose last value of the metric is the best; None if there is none.

    A trial without a finite value is never the best, except if it is the only one. Of equal ones,
    it is the first [Ray 2.60, ``ExperimentAnalysis.get_best_trial``].
    """
    if objective is None:
        return None
    if len(trials) == 1:
        return trials[0]
    best: Trial | None = None
    best_value: float | None = None
    for trial in trials:
        value = last_value(trial, objective)
        if value is not None and objective.improves(value, best_value):
            best, best_value = trial, value
    return best


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
