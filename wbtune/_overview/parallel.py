"""Parallel coordinates: a line for each trial through its parameters to the metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from wbtune._overview import panel, text
from wbtune._overview.importance import Ranking
from wbtune._overview.panel import Panel
from wbtune._overview.parameters import Parameter
from wbtune._overview.scores import Scores

MOST_AXES: Final = 25
MOST_TICKS: Final = 30
#: With more axes, their names get less room.
_ROOM: Final = 160
_LONGEST_NAME: Final = 28
_SLANTED_FROM: Final = 6
#: A metric that is spread over more than this has a logarithmic axis.
_FAR_APART: Final = 1000
#: A logarithmic axis over less than this is drawn as a linear one.
_NARROW: Final = 3
#: Over more than this, the powers of ten are enough labels; over more powers, some of them.
_DECADES: Final = 100
_MOST_DECADES: Final = 8
_NO_WIDTH: Final = "\N{ZERO WIDTH SPACE}"


def draw(scores: Scores, parameters: Sequence[Parameter], ranking: Ranking) -> Panel:
    """Draw the parameters that vary; those of many that matter most."""
    key, title = "parallel-coordinates", "Parallel coordinates"
    why = scores.nothing_to_draw()
    if why or not parameters:
        return Panel(key, title, note=why or "No parameter has more than one value.")
    chosen = {one.name for one in ranking.sort(parameters)[:MOST_AXES]}
    shown = [one for one in parameters if one.name in chosen]
    order = np.array(scores.ranked()[::-1])  # the best on top
    length = max(8, min(_LONGEST_NAME, _ROOM // (len(shown) + 1)))
    metric, is_clipped = _metric(scores, order, length)
    data = {
        "type": "parcoords",
        "ids": [str(at) for at in order],
        "dimensions": [*(_dimension(one, order, length) for one in shown), metric],
        "line": {
            # By rank: a few bad values don't take all of the colours. The greatest is on top.
            "color": list(range(order.size)),
            "cmin": 0,
            "cmax": max(1, order.size - 1),
            "colorscale": [[place, name] for place, name in panel.SCALE],
        },
        "labelangle": 0 if len(shown) < _SLANTED_FROM else -20,
        "unselected": {"line": {"opacity": 0.06}},
    }
    layout = {"height": 480, "margin": {"t": 90, "b": 30, "l": 70, "r": 50}}
    without, partial = scores.without_value(), any(one.is_conditional for one in shown)
    note = panel.sentences(
        "Drag along an axis to select trials, also in the table; a click on the axis ends it.",
        f"The {MOST_AXES} most important of {len(parameters)} parameters are shown."
        if len(shown) < len(parameters)
        else "",
        f"Left out: {text.count(without, 'trial')} without a value." if without else "",
        "A parameter that a trial does not have is at the bottom of its axis." if partial else "",
        "The worst values are drawn at the end of the metric's axis." if is_clipped else "",
    )
    return Panel(key, title, [data], layout, note)


def _dimension(parameter: Parameter, order: NDArray[np.intp], length: int) -> dict[str, Any]:
    positions = parameter.positions[order]
    known = positions[np.isfinite(positions)]
    if parameter.categories:
        values, ticks = positions, _categories(parameter.categories, length)
        known = np.array([0, len(parameter.categories) - 1])
    else:
        whole = parameter.is_integer and not parameter.is_log
        values, ticks = _axis(positions, is_log=parameter.is_log, is_whole=whole)
        known = values[np.isfinite(values)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    missing = low - ((high - low) or 1) / 10
    if ticks and known.size and np.isnan(values).any():
        ticks = {missing: text.NOTHING, **ticks}
    label = text.escape(parameter.name, length)
    return {"label": label, **_scale(np.where(np.isnan(values), missing, values), ticks)}


def _metric(scores: Scores, order: NDArray[np.intp], length: int) -> tuple[dict[str, Any], bool]:
    """The axis of the metric, and whether values were clipped."""
    values = scores.values[order]
    limits = scores.limits(values)
    if limits is not None:
        values = np.clip(values, max(limits[0], values.min()), min(limits[1], values.max()))
    is_log = bool(values.min() > 0 and values.max() / values.min() >= _FAR_APART)
    label = f"<b>{text.escape(scores.metric, length)}</b>"
    return {"label": label, **_scale(*_axis(values, is_log=is_log))}, limits is not None


def _axis(
    positions: NDArray[np.float64], *, is_log: bool, is_whole: bool = False
) -> tuple[NDArray[np.float64], dict[float, str]]:
    """The positions on a linear axis and its ticks; none if Plotly's are right.

    Plotly takes an axis with ticks for one of categories: what is selected on it ends halfway
    between two ticks. So a logarithmic axis has many, and an axis of floats none.
    """
    known = positions[np.isfinite(positions)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    if is_log and high / low > _NARROW:
        return np.log10(positions), _ruler(float(low), float(high))
    if is_whole and high - low < MOST_TICKS:
        return positions, {float(at): text.number(at) for at in range(int(low), int(high) + 1)}
    return positions, {}


def _scale(values: NDArray[np.float64], ticks: dict[float, str]) -> dict[str, Any]:
    """Plotly's description of an axis."""
    low, high = min([*values, *ticks]), max([*values, *ticks])
    if low == high:
        low, high = low - 0.5, high + 0.5
    scale = {"values": values.tolist(), "range": [float(low), float(high)]}
    if not ticks:
        return scale | {"tickformat": ".3~g"}
    # Plotly takes ticks with the same text for one: a space without width tells them apart.
    labels: list[str] = []
    for label in ticks.values():
        while label in labels:
            label += _NO_WIDTH  # noqa: PLW2901 - until it is another
        labels.append(label)
    return scale | {"tickvals": [float(tick) for tick in ticks], "ticktext": labels}


def _categories(names: Sequence[str], length: int) -> dict[float, str]:
    """A tick for each category, and the names of so many of them as there is room for."""
    named = {*panel.evenly(range(len(names)), MOST_TICKS)}
    return {
        float(at): text.short(name, max(8, length)) if at in named else ""
        for at, name in enumerate(names)
    }


def _ruler(low: float, high: float) -> dict[float, str]:
    """The ticks of a logarithmic axis, like those of a slide rule; some have labels."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    labelled = (1,) if high / low > _DECADES else (1, 2, 5)
    every = 1 + len(exponents) // _MOST_DECADES
    margin = (math.log10(high) - math.log10(low)) / 15
    ticks = {math.log10(low): text.number(float(f"{low:.3g}"))}
    for exponent in exponents:
        for factor in range(1, 10):
            place = exponent + math.log10(factor)
            room = min(place - math.log10(low), math.log10(high) - place)
            if room > 0:
                has_label = room > margin and factor in labelled and exponent % every == 0
                ticks[place] = text.number(float(f"{factor}e{exponent}")) if has_label else ""
    return ticks | {math.log10(high): text.number(float(f"{high:.3g}"))}
