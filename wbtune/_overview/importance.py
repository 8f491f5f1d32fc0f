"""Which parameters matter: by PED-ANOVA where there are enough trials, else by rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wbtune._overview import ped_anova, text
from wbtune._overview.parameters import Parameter
from wbtune._overview.scores import Scores

#: A correlation of fewer trials is always near 1.
_LEAST: Final = 4


class Importance(NamedTuple):
    """How important a parameter is.

    Attributes:
        name: the parameter's.
        value: from 0 to 1.
        label: what to write beside the bar.
        sign: 1 if greater values give a greater metric, -1 for a smaller one, 0 if not known.
    """

    name: str
    value: float
    label: str
    sign: int = 0


class Ranking(NamedTuple):
    """The parameters by importance, the greatest first.

    Attributes:
        items: those that were evaluated.
        method: what the values are.
        note: what was left out, and why; or why there is nothing.
    """

    items: Sequence[Importance] = ()
    method: str = ""
    note: str = ""

    def sort(self, parameters: Sequence[Parameter]) -> list[Parameter]:
        """Sort parameters by importance; those that were not evaluated come last."""
        places = {item.name: at for at, item in enumerate(self.items)}
        return sorted(parameters, key=lambda one: places.get(one.name, len(places)))


def rank(scores: Scores, parameters: Sequence[Parameter]) -> Ranking:
    """Evaluate the parameters that vary."""
    nothing = _nothing_to_evaluate(scores, parameters)
    if nothing:
        return Ranking(note=nothing)
    if scores.record.mode is None:
        return _by_correlation(scores, parameters, "PED-ANOVA needs a mode.")
    if scores.known.size < ped_anova.ENOUGH:
        reason = f"PED-ANOVA needs {ped_anova.ENOUGH} trials."
        return _by_correlation(scores, parameters, reason)
    try:
        found = ped_anova.importances(scores, parameters)
    except ImportError:
        reason = "For PED-ANOVA, install Optuna: pip install optuna."
        return _by_correlation(scores, parameters, reason)
    if not found:
        reason = "For PED-ANOVA of parameters that some trials do not have, install Optuna 5."
        return _by_correlation(scores, parameters, reason)
    items = [Importance(name, one, f"{one:.1%}") for name, one in found.items()]
    missing = text.count(len(parameters) - len(items), "parameter")
    return Ranking(
        sorted(items, key=lambda item: -item.value),
        f"PED-ANOVA of {text.count(scores.known.size, 'trial')}: which parameters distinguish the "
        "best tenth from the others",
        f"Left out: {missing} that some trials do not have."
        if len(items) < len(parameters)
        else "",
    )


def _nothing_to_evaluate(scores: Scores, parameters: Sequence[Parameter]) -> str:
    why = scores.nothing_to_draw()
    if why:
        return why
    if not parameters:
        return "No parameter has more than one value."
    known = scores.values[scores.known]
    if known.size < _LEAST:
        return f"There are too few trials with a value: {known.size}."
    if known.min() == known.max():
        return "All trials have the same value of the metric."
    return ""


def _by_correlation(scores: Scores, parameters: Sequence[Parameter], reason: str) -> Ranking:
    items = [item for one in parameters if (item := _correlation(scores, one)) is not None]
    missing = len(parameters) - len(items)
    left_out = (
        f"Left out: {text.count(missing, 'parameter')} with too few trials for each of its values."
    )
    return Ranking(
        sorted(items, key=lambda item: -item.value),
        f"Rank correlation (Spearman) with the metric, of {text.count(scores.known.size, 'trial')}"
        "; of a parameter without an order, the correlation ratio of the ranks",
        f"{reason} {left_out}" if missing else reason,
    )


def _correlation(scores: Scores, parameter: Parameter) -> Importance | None:
    both = np.isfinite(scores.values) & np.isfinite(parameter.positions)
    values, positions = ranks(scores.values[both]), parameter.positions[both]
    n = positions.size
    if n < _LEAST or positions.min() == positions.max() or values.min() == values.max():
        return None
    if not parameter.is_ordered:
        groups = [values[positions == category] for category in np.unique(positions)]
        if len(groups) == n:
            return None  # each trial has a category of its own: that explains everything
        between = sum(group.size * (group.mean() - values.mean()) ** 2 for group in groups)
        ratio = float(np.sqrt(between / ((values - values.mean()) ** 2).sum()))
        return Importance(parameter.name, ratio, f"{ratio:.2f} (n = {n:,})")
    rho = float(np.corrcoef(ranks(positions), values)[0, 1])
    return Importance(parameter.name, abs(rho), f"{rho:+.2f} (n = {n:,})", int(np.sign(rho)))


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rank of each value, from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((2 * last - counts + 1) / 2)[inverse]
