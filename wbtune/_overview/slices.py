"""Slices: the metric over each parameter, a small plot for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from wbtune._overview import panel, text
from wbtune._overview.importance import Ranking
from wbtune._overview.panel import Panel
from wbtune._overview.parameters import Parameter
from wbtune._overview.scores import Scores

MOST_PLOTS: Final = 24
#: Points of all the plots together, so that a browser draws them at once.
MOST_POINTS: Final = 9000
_COLUMNS: Final = 3
_TICKS: Final = 8
#: From so many trials on, their points are small.
_MANY: Final = 60
#: On a wider axis, the powers of ten are enough.
_DECADES: Final = 50
#: Pixels of a plot, and below it.
_HEIGHT: Final = 170
_SPACE: Final = 75
_TOP: Final = 30


def draw(scores: Scores, parameters: Sequence[Parameter], ranking: Ranking) -> Panel:
    """Draw the plots, the most important parameter first."""
    key, title = "slices", "Slices"
    why = scores.nothing_to_draw()
    if why or not parameters:
        return Panel(key, title, note=why or "No parameter has more than one value.")
    shown = ranking.sort(parameters)[:MOST_PLOTS]
    trials = scores.ranked()
    few = panel.evenly(trials, MOST_POINTS // len(shown))
    axis = panel.metric_axis(scores, scores.values)
    data = [
        trace
        for at, parameter in enumerate(shown)
        for trace in _points(scores, parameter, few, _suffix(at))
    ]
    note = panel.sentences(
        f"The {MOST_PLOTS} most important of {len(parameters)} parameters are shown."
        if len(shown) < len(parameters)
        else "",
        f"{len(few):,} of {len(trials):,} trials are shown." if len(few) < len(trials) else "",
        panel.cut_note(axis),
    )
    return Panel(key, title, data, _layout(shown, axis), note, log=True)


def _suffix(at: int) -> str:
    """What Plotly adds to the names of the axes of a plot."""
    return str(at + 1) if at else ""


def _layout(shown: Sequence[Parameter], metric: dict[str, Any]) -> dict[str, Any]:
    """Plots in rows; all have the same axis of the metric, whose labels are at the left."""
    columns = min(_COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    layout: dict[str, Any] = {
        "height": rows * (_HEIGHT + _SPACE) + _TOP,
        "showlegend": False,
        "hovermode": "closest",
        "margin": {"t": _TOP, "b": 0, "l": 70, "r": 20},
    }
    for at, parameter in enumerate(shown):
        suffix = _suffix(at)
        row, column = divmod(at, columns)
        left, right, top = column / columns, (column + 1) / columns, 1 - row / rows
        layout[f"xaxis{suffix}"] = _x_axis(parameter) | {
            "domain": [left + 0.02 * (column > 0), right - 0.02],
            "anchor": f"y{suffix}",
        }
        layout[f"yaxis{suffix}"] = ({"matches": "y"} if at else metric) | {
            "domain": [top - _HEIGHT / (_HEIGHT + _SPACE) / rows, top],
            "anchor": f"x{suffix}",
            "showticklabels": column == 0,
            "title": metric["title"] if column == 0 else {},
        }
    return layout


def _x_axis(parameter: Parameter) -> dict[str, Any]:
    axis: dict[str, Any] = {"title": {"text": text.escape(parameter.name, 40), "standoff": 8}}
    if parameter.categories:
        shown = panel.evenly(range(len(parameter.categories)), _TICKS)
        axis |= {
            "tickvals": shown,
            "ticktext": [text.escape(parameter.categories[at], 12) for at in shown],
            "range": [-0.6, len(parameter.categories) - 0.4],
        }
    elif parameter.is_log:
        known = parameter.known
        axis |= {"type": "log", "dtick": 1 if known.max() / known.min() > _DECADES else "D2"}
    return axis


def _points(
    scores: Scores, parameter: Parameter, trials: Sequence[int], suffix: str
) -> list[dict[str, Any]]:
    """The trials that have the parameter, and the best of them once more, on top."""
    positions, best = parameter.positions, scores.best
    shown = np.array([at for at in trials if np.isfinite(positions[at]) and at != best], dtype=int)
    x = positions[shown]
    if parameter.categories:
        # Side by side: golden-ratio steps spread without a pattern, and are the same each time.
        x = x + ((shown * 0.618034) % 1 - 0.5) * 0.5
    axes = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}
    all_trials = {
        "type": "scatter",
        "mode": "markers",
        "x": x.tolist(),
        "y": scores.values[shown].tolist(),
        "customdata": shown.tolist(),
        "marker": {"color": panel.BLUE, "size": 5 if len(trials) > _MANY else 8, "opacity": 0.6},
        "hovertemplate": "%{text}<br>%{y}<extra></extra>",
    }
    found = [all_trials | axes]
    if best is not None and np.isfinite([positions[best], scores.values[best]]).all():
        found.append(
            all_trials
            | axes
            | {
                "x": [float(positions[best])],
                "y": [float(scores.values[best])],
                "customdata": [best],
                "marker": {"color": panel.BEST, "size": 10},
            }
        )
    return found
