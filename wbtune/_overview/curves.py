"""The metric of the trials over their iterations."""

from __future__ import annotations

import math
from itertools import chain
from typing import Any, Final

import numpy as np

from wbtune._overview import panel
from wbtune._overview.panel import Panel
from wbtune._overview.record import Curve
from wbtune._overview.scores import Scores

MOST_CURVES: Final = 200
MOST_POINTS: Final = 300
#: When not all are shown, as many of the best are.
_BEST: Final = 50

_Points = tuple[list[float], list[float | None]]


def draw(scores: Scores) -> Panel:
    """Draw a line for each trial, and that of the best one over all others."""
    key, title = "curves", "Curves"
    why = scores.nothing_to_draw()
    drawable = [at for at in scores.ranked() if len(scores.record.trials[at].curve.value)]
    if why or not drawable:
        return Panel(key, title, note=why or "The trials' results were not found.")
    shown = drawable[:_BEST] + panel.evenly(drawable[_BEST:], MOST_CURVES - _BEST)
    data, thinned = [], False
    for at in reversed(shown):  # the best ones on top
        curve = scores.record.trials[at].curve
        thinned = thinned or len(curve.value) > MOST_POINTS
        if at != scores.best:
            data.append(_line(at, _points(curve, scores), len(shown), is_best=False))
    if scores.best in shown:
        curve = scores.record.trials[scores.best].curve
        data.append(_line(scores.best, _points(curve, scores), len(shown), is_best=True))
    axis = panel.metric_axis(scores, chain.from_iterable(_finite(line["y"]) for line in data))
    layout = {
        "height": 460,
        "xaxis": {"title": {"text": "iteration"}, "rangemode": "tozero"},
        "yaxis": axis,
        "showlegend": False,
        "hovermode": "closest",
    }
    note = panel.sentences(
        f"{len(shown):,} of {len(drawable):,} trials are shown: the {_BEST} best, and a sample "
        "of the others."
        if len(shown) < len(drawable)
        else "",
        f"Long curves are drawn with {MOST_POINTS} points." if thinned else "",
        panel.cut_note(axis),
    )
    return Panel(key, title, data, layout, note, log=True)


def _finite(values: list[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _points(curve: Curve, scores: Scores) -> _Points:
    """A curve's points, thinned, with its best one; a gap where a retry goes back."""
    values = np.array(curve.value, dtype=float)
    iterations = np.array(curve.iteration, dtype=float)
    if not np.isfinite(iterations).all():
        iterations = np.arange(1.0, values.size + 1)
    kept = panel.evenly(range(values.size), MOST_POINTS)
    finite = np.isfinite(values)
    if len(kept) < values.size and finite.any() and scores.record.mode:
        worst = -math.inf if scores.is_max else math.inf
        ordered = np.where(finite, values, worst)
        kept = sorted({*kept, int(ordered.argmax() if scores.is_max else ordered.argmin())})
    x: list[float] = []
    y: list[float | None] = []
    for at in kept:
        if x and iterations[at] <= x[-1]:
            x.append(x[-1])
            y.append(None)
        x.append(float(iterations[at]))
        y.append(float(values[at]) if finite[at] else None)
    return x, y


def _line(trial: int, points: _Points, lines: int, *, is_best: bool) -> dict[str, Any]:
    x, y = points
    opacity = 1.0 if is_best else max(0.25, 0.8 - lines / 250)
    return {
        "type": "scatter",
        "mode": "lines" if sum(one is not None for one in y) > 1 else "markers",
        "x": x,
        "y": y,
        "meta": trial,
        "line": {"color": panel.BEST if is_best else panel.BLUE, "width": 3 if is_best else 1.2},
        "marker": {"color": panel.BEST if is_best else panel.BLUE, "size": 6},
        "opacity": opacity,
        "hovertemplate": "%{text}<br>iteration %{x}: %{y}<extra></extra>",
    }
