"""The value of the metric that each trial is compared by, and which trial is the best."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from wbtune._overview.record import ExperimentRecord, TrialRecord

#: An axis is cut where its outermost twentieth would take most of it.
_TAIL: Final = 5
_MANY_TIMES: Final = 4
#: Fewer values than these are all shown.
_FEW: Final = 8


@dataclass(frozen=True, slots=True)
class Scores:
    """The trials of an experiment with one value of the metric for each.

    Attributes:
        record: the experiment.
        values: each trial's last value, by which ``ResultGrid.get_best_result`` compares them;
            NaN if it has none.
        best: the index of the best trial; None if it is not known.
    """

    record: ExperimentRecord
    values: NDArray[np.float64]
    best: int | None

    @classmethod
    def of(cls, record: ExperimentRecord) -> Scores:
        """Evaluate an experiment."""
        values = np.array([_value(trial) for trial in record.trials], dtype=float)
        values[~np.isfinite(values)] = math.nan
        ids = [trial.trial_id for trial in record.trials]
        best = ids.index(record.best_trial) if record.best_trial in ids else None
        if best is None and record.mode and record.metric and np.isfinite(values).any():
            best = int(np.nanargmin(values) if record.mode == "min" else np.nanargmax(values))
        return cls(record, values, best)

    @property
    def known(self) -> NDArray[np.intp]:
        """The indices of the trials that have a value."""
        return np.flatnonzero(np.isfinite(self.values))

    @property
    def metric(self) -> str:
        """The name of the metric; "" if there is none."""
        return self.record.metric or ""

    @property
    def is_max(self) -> bool:
        """Are greater values better?"""
        return self.record.mode == "max"

    def ranked(self) -> list[int]:
        """The trials that have a value, from the best to the worst; without a mode, by value."""
        values = self.values[self.known]
        order = np.argsort(-values if self.is_max else values, kind="stable")
        return [int(at) for at in self.known[order]]

    def nothing_to_draw(self) -> str:
        """Why no panel of the metric can be drawn; "" if it can."""
        if not self.record.trials:
            return "The experiment has no trials."
        if not self.record.metric:
            return "No metric is known. Give Tune's TuneConfig a metric and a mode."
        if not self.known.size:
            return "No trial has reported the metric as a number."
        return ""

    def without_value(self) -> int:
        """How many trials have no value."""
        return len(self.values) - self.known.size

    def limits(self, values: Iterable[float]) -> tuple[float, float] | None:
        """The range of an axis that leaves out the worst values, if these are far from the others.

        Returns:
            The range, or None if all values are to be seen.
        """
        all_values = np.asarray([*values], dtype=float)
        finite = all_values[np.isfinite(all_values)]
        if finite.size < _FEW:
            return None
        least, low, high, greatest = np.percentile(finite, [0, _TAIL, 100 - _TAIL, 100]).tolist()
        width = high - low
        if not (width > 0 and math.isfinite(greatest - least)):
            return None
        cut_below = self.record.mode != "min" and low - least > _MANY_TIMES * width
        cut_above = self.record.mode != "max" and greatest - high > _MANY_TIMES * width
        if not (cut_below or cut_above):
            return None
        bottom = low - width / 4 if cut_below else least
        top = high + width / 4 if cut_above else greatest
        margin = (top - bottom) / 20
        return bottom - margin, top + margin


def _value(trial: TrialRecord) -> float:
    for value in (trial.last, trial.best):
        if value is not None and math.isfinite(value):
            return value
    return math.nan
