"""The lineage of a population: which trial went on from which, and with what."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from wbtune._overview import panel, text
from wbtune._overview.panel import Panel
from wbtune._overview.record import TrialRecord
from wbtune._overview.scores import Scores

MOST_TRIALS: Final = 150
#: With more trials than a few, the pixels of a line are fewer.
_FEW: Final = 30
_LINE: Final = 22
_NARROW_LINE: Final = 13
_MOST_CHANGES: Final = 12


class _Step(NamedTuple):
    """One perturbation, as it is drawn."""

    donor: int | None
    recipient: int
    iteration: float
    hover: str


def draw(scores: Scores) -> Panel | None:
    """Draw a line for each trial, and arrows between them; None if nothing was perturbed."""
    trials = scores.record.trials
    steps = _steps(trials)
    if not steps:
        return None
    part = {at for step in steps for at in (step.donor, step.recipient) if at is not None}
    shown = sorted(part)[:MOST_TRIALS]
    rows = {at: row for row, at in enumerate(shown)}
    steps = [step for step in steps if step.recipient in rows and step.donor in {None, *rows}]
    arrows = [step for step in steps if step.donor is not None]
    height = _LINE if len(shown) <= _FEW else _NARROW_LINE
    data = [
        _lifelines(trials, rows),
        *([_arrows(arrows, rows)] if arrows else []),
        _marks(steps, rows),
    ]
    layout = {
        "height": max(200, 100 + height * len(shown)),
        "xaxis": {"title": {"text": "iteration"}, "rangemode": "tozero"},
        "yaxis": {
            "tickvals": [*rows.values()],
            "ticktext": [_name(trials[at], is_best=at == scores.best) for at in rows],
            "range": [len(shown) - 0.5, -0.5],
            "tickfont": {"size": 11 if len(shown) <= _FEW else 9},
            "showgrid": False,
            "zeroline": False,
        },
        "showlegend": False,
        "hovermode": "closest",
        "margin": {"t": 30},
    }
    unknown = len(steps) - len(arrows)
    note = panel.sentences(
        "An arrow leads from the trial whose checkpoint was taken to the one that went on with it.",
        f"Of {text.count(unknown, 'step')} the source is not known." if unknown else "",
        f"{len(shown)} of {len(part)} trials are shown." if len(shown) < len(part) else "",
    )
    return Panel("lineage", "Lineage of the population", data, layout, note)


def _steps(trials: Any) -> list[_Step]:
    ids = {trial.trial_id: at for at, trial in enumerate(trials)}
    names = {trial.name: at for at, trial in enumerate(trials)}
    numbers = {
        match[1]: at
        for at, trial in enumerate(trials)
        if (match := re.fullmatch(r".*_0*(\d+)", trial.trial_id, re.DOTALL))
    }  # Tune's tags begin with them

    def find(source: str) -> int | None:
        tag = re.match(r"(\d+)(?:_|$)", source)
        number = numbers.get(tag[1].lstrip("0") or "0") if tag else None
        return ids.get(source, names.get(source, number))

    return [
        _Step(
            donor := find(str(one.get("from_trial", ""))),
            at,
            iteration,
            _hover(trial, None if donor is None else trials[donor], one),
        )
        for at, trial in enumerate(trials)
        for one in trial.perturbations
        if (iteration := _iteration(one)) is not None
    ]


def _iteration(step: Mapping[str, Any]) -> float | None:
    iteration = step.get("iteration")
    is_number = isinstance(iteration, (int, float)) and math.isfinite(iteration)
    return float(iteration) if is_number and iteration is not None else None


def _hover(trial: TrialRecord, donor: TrialRecord | None, step: Mapping[str, Any]) -> str:
    source = "an unknown trial" if donor is None else text.escape(donor.name, 60)
    lines = [f"<b>{text.escape(trial.name, 60)}</b>", f"goes on from {source}"]
    old, new = (value if isinstance(value, dict) else {} for value in map(step.get, ("old", "new")))
    names = [*dict.fromkeys([*old, *new])]
    for name in names[:_MOST_CHANGES]:
        before, after = (
            text.escape(text.value(side[name]), 40) if name in side else text.NOTHING
            for side in (old, new)
        )
        lines.append(f"{text.escape(name, 40)}: {before} → {after}")
    if len(names) > _MOST_CHANGES:
        lines.append(f"and {len(names) - _MOST_CHANGES} more parameters")
    return "<br>".join(lines)


def _name(trial: TrialRecord, *, is_best: bool) -> str:
    name = text.escape(trial.name, 32)
    return f"<b>{name}</b>" if is_best else name


def _lifelines(trials: Any, rows: Mapping[int, int]) -> dict[str, Any]:
    """All trials in one trace: a line from the start of each to its last iteration."""
    x: list[float | None] = []
    y: list[float | None] = []
    for at, row in rows.items():
        taken = [_iteration(step) or 0 for step in trials[at].perturbations]
        x += [0, max([trials[at].iterations, *taken]), None]
        y += [row, row, None]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "line": {"color": "#9aa5b1", "width": 2},
        "hoverinfo": "skip",
    }


def _arrows(steps: list[_Step], rows: Mapping[int, int]) -> dict[str, Any]:
    """All arrows in one trace, with a gap between each two."""
    x: list[float | None] = []
    y: list[float | None] = []
    # Slanted: in a population that is perturbed at the same time, they would all be one line.
    slant = max(step.iteration for step in steps) / 25
    for step in steps:
        x += [step.iteration - slant, step.iteration, None]
        y += [rows[step.donor or 0], rows[step.recipient], None]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": x,
        "y": y,
        "line": {"color": panel.BLUE, "width": 1},
        "marker": {
            "symbol": "arrow",
            "angleref": "previous",
            "size": [0, 9, 0] * len(steps),
            "color": panel.BLUE,
        },
        "opacity": 0.7,
        "hoverinfo": "skip",
    }


def _marks(steps: list[_Step], rows: Mapping[int, int]) -> dict[str, Any]:
    """What a reader points at: a dot for each perturbation."""
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [step.iteration for step in steps],
        "y": [rows[step.recipient] for step in steps],
        "hovertext": [step.hover for step in steps],
        "hovertemplate": "%{hovertext}<br>iteration %{x}<extra></extra>",
        "marker": {"color": panel.BLUE, "size": 7},
    }
