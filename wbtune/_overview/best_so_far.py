"""The best value so far, over time."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from wbtune._overview import panel
from wbtune._overview.panel import Panel
from wbtune._overview.scores import Scores

_MOST_DOTS: Final = 2000
#: The units of time, in seconds; an experiment is shown in the longest that it has two of.
_UNITS: Final = {"days": 86_400.0, "hours": 3600.0, "minutes": 60.0, "seconds": 1.0}


def draw(scores: Scores) -> Panel:
    """Draw a step for each improvement, and a faint dot for the last value of each trial."""
    key, title = "best-so-far", "Best so far"
    why = scores.nothing_to_draw()
    if not why and scores.record.mode is None:
        why = "It is not known whether greater or smaller values are better: there is no mode."
    if why:
        return Panel(key, title, note=why)
    trials, times, values = _results(scores)
    axis, note = "results, in the order in which they came", ""
    if np.isfinite(times).all():
        order = np.argsort(times, kind="stable")
        trials, times, values = trials[order], times[order] - times[order[0]], values[order]
        unit = next((name for name, one in _UNITS.items() if times[-1] >= 2 * one), "seconds")
        times = times / _UNITS[unit]
        axis = f"{unit} since the first result"
    else:
        times = np.arange(1.0, values.size + 1)
        note = "The time of some results is not known."
    best = np.maximum.accumulate(values) if scores.is_max else np.minimum.accumulate(values)
    improved = np.flatnonzero(np.concatenate([[True], best[1:] != best[:-1]]))
    last = _last_of_each(trials)
    metric = panel.metric_axis(scores, [*values[last], *best[improved]])
    layout = {
        "height": 380,
        "xaxis": {"title": {"text": axis}, "rangemode": "tozero"},
        "yaxis": metric,
        "showlegend": False,
    }
    data = [_dots(trials[last], times[last], values[last]), _steps(improved, trials, times, best)]
    return Panel(key, title, data, layout, panel.sentences(note, panel.cut_note(metric)), log=True)


def _results(
    scores: Scores,
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """All finite results: the index of the trial, the time, the value."""
    trials, times, values = [], [], []
    for at, trial in enumerate(scores.record.trials):
        curve = trial.curve
        if not len(curve.value) and math.isfinite(scores.values[at]):
            trials.append(np.array([at]))
            times.append(np.array([math.nan]))
            values.append(scores.values[at : at + 1])
        trials.append(np.full(len(curve.value), at))
        times.append(np.array(curve.time, dtype=float))
        values.append(np.array(curve.value, dtype=float))
    found = np.concatenate(trials), np.concatenate(times), np.concatenate(values)
    finite = np.isfinite(found[2])
    return found[0][finite], found[1][finite], found[2][finite]


def _last_of_each(trials: NDArray[np.intp]) -> NDArray[np.intp]:
    """The index of each trial's last result."""
    _, from_end = np.unique(trials[::-1], return_index=True)
    last = np.sort(trials.size - 1 - from_end)
    return last[panel.evenly(range(last.size), _MOST_DOTS)]


def _dots(
    trials: NDArray[np.intp], times: NDArray[np.float64], values: NDArray[np.float64]
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": times.tolist(),
        "y": values.tolist(),
        "customdata": trials.tolist(),
        "marker": {"color": panel.BLUE, "size": 6, "opacity": 0.5},
        "hovertemplate": "%{text}<br>last value %{y}<extra></extra>",
    }


def _steps(
    improved: NDArray[np.intp],
    trials: NDArray[np.intp],
    times: NDArray[np.float64],
    best: NDArray[np.float64],
) -> dict[str, Any]:
    to_the_end = [*improved.tolist(), best.size - 1]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": times[to_the_end].tolist(),
        "y": best[to_the_end].tolist(),
        "customdata": trials[to_the_end[:-1]].tolist(),
        "line": {"shape": "hv", "color": panel.BEST, "width": 2.5},
        # No marker at the end of the line, where nothing was improved.
        "marker": {
            "size": [6] * improved.size + [0],
            "color": panel.BEST,
            "line": {"width": 0},
        },
        "hovertemplate": "%{text}<br>best so far %{y}<extra></extra>",
    }
