"""What a panel of the page is, and what several of them have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np

from wbtune._overview import text
from wbtune._overview.record import TrialRecord
from wbtune._overview.scores import Scores

#: The colours of Okabe and Ito, which people who are colour-blind can tell apart.
BLUE: Final = "#2f7fc1"
BEST: Final = "#d55e00"
#: From the worst trial to the best, by rank.
SCALE: Final = (
    *((0.0, "#a9b6c3"), (0.5, "#7fa8cc"), (0.85, BLUE)),
    *((0.93, "#e69f00"), (1.0, BEST)),
)

#: In a tooltip: so many parameters, and so much of each.
_PARAMETERS_SHOWN: Final = 12
_NAME_LENGTH: Final = 40

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Panel:
    """One section of the page.

    Attributes:
        key: the id of the element that it is drawn in.
        title: its heading.
        data: Plotly's traces. Their ``customdata`` are indices of trials, and so is ``meta`` of a
            trace that belongs to one; the page makes them the tooltips of the points.
        layout: Plotly's layout.
        note: what a reader has to know, as text; or why there is nothing to see.
        log: does it get a button for a logarithmic axis of the metric?
    """

    key: str
    title: str
    data: Sequence[dict[str, Any]] = ()
    layout: dict[str, Any] | None = None
    note: str = ""
    log: bool = False


def tooltip(trial: TrialRecord) -> str:
    """A trial and its parameters, as Plotly's HTML."""
    lines = [f"<b>{text.escape(trial.name, 2 * _NAME_LENGTH)}</b>"]
    if trial.trial_id not in trial.name:
        lines.append(text.escape(trial.trial_id, 2 * _NAME_LENGTH))
    for name, value in [*trial.params.items()][:_PARAMETERS_SHOWN]:
        shown = text.escape(text.value(value), _NAME_LENGTH)
        lines.append(f"{text.escape(name, _NAME_LENGTH)} = {shown}")
    if len(trial.params) > _PARAMETERS_SHOWN:
        lines.append(f"and {len(trial.params) - _PARAMETERS_SHOWN} more parameters")
    return "<br>".join(lines)


def metric_axis(scores: Scores, values: Any) -> dict[str, Any]:
    """The axis of the metric. Where it is cut, a double click shows all of it."""
    axis: dict[str, Any] = {"title": {"text": text.escape(scores.metric, 60)}}
    limits = scores.limits(values)
    if limits is not None:
        axis["range"] = [*limits]
    return axis


def cut_note(axis: dict[str, Any]) -> str:
    """The sentence for an axis that is cut."""
    return "The worst values are outside; a double click shows all." if "range" in axis else ""


def evenly(items: Sequence[_Item], amount: int) -> list[_Item]:
    """At most so many of the items, at even distances, with the first and the last."""
    if len(items) <= amount:
        return [*items]
    return [items[at] for at in np.linspace(0, len(items) - 1, amount).round().astype(int)]


def sentences(*parts: str) -> str:
    """The notes of a panel, without empty ones."""
    return " ".join(part for part in parts if part)
