"""What is known of an experiment and its trials, as the overview needs it."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


def _doubles() -> array[float]:
    return array("d")


@dataclass(frozen=True, slots=True)
class Curve:
    """The metric of one trial, result by result; three arrays of the same length.

    Attributes:
        iteration: Tune's ``training_iteration``; NaN if it is not known. A retry repeats some.
        time: seconds since the epoch; NaN if it is not known.
        value: the metric, which may be NaN or infinite.
    """

    iteration: array[float] = field(default_factory=_doubles)
    time: array[float] = field(default_factory=_doubles)
    value: array[float] = field(default_factory=_doubles)


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One trial of an experiment, as far as it is known.

    All text in it is already filtered and masked.

    Attributes:
        trial_id: unique in the experiment.
        name: Tune's name for it.
        outcome: "finished", "stopped", "failed", "interrupted" or "lost"; "" if it is not known.
        reason: why it was stopped, or its error.
        iterations: how many it has done.
        seconds: how long it has run, without the time before a restore.
        params: its sampled parameters, flat, nested names joined by "."; plain data.
        last: the metric's last value.
        best: the metric's best value.
        curve: the metric, result by result.
        perturbations: what a population-based scheduler did to it, each with ``iteration``,
            ``from_trial`` (a trial's id, or the tag that Tune gave it), and ``old`` and ``new``,
            the parameters that changed.
    """

    trial_id: str
    name: str
    outcome: str
    reason: str = ""
    iterations: int = 0
    seconds: float | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    last: float | None = None
    best: float | None = None
    curve: Curve = field(default_factory=Curve)
    perturbations: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class ExperimentRecord:
    """An experiment and its trials.

    Attributes:
        name: the experiment's name.
        trials: in the order in which they were created.
        metric: what is optimised, or at least looked at.
        mode: "min" or "max".
        best_trial: the id of the best one; found by the metric if it is not given.
        space: for each parameter, W&B's description of it in a sweep:
            ``{"distribution": "log_uniform_values", "min": 1e-5, "max": 0.1}``,
            ``{"distribution": "categorical", "values": [...]}``, ``{"value": 3}``. For a parameter
            that is not in it, the sampled values decide.
        links: the page of each trial's run, by the trial's id.
        note: a line for the head of the page.
    """

    name: str
    trials: Sequence[TrialRecord]
    metric: str | None = None
    mode: str | None = None
    best_trial: str | None = None
    space: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
