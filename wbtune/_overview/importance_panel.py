"""The panel that shows how important each parameter is."""

from __future__ import annotations

from typing import Final

from wbtune._overview import panel, text
from wbtune._overview.importance import Ranking
from wbtune._overview.panel import Panel

_MOST: Final = 30
_BAR: Final = 26  # pixels


def draw(ranking: Ranking) -> Panel:
    """Draw a bar for each parameter."""
    key, title = "importance", "Parameter importance"
    if not ranking.items:
        return Panel(key, title, note=ranking.note)
    shown = ranking.items[:_MOST][::-1]  # Plotly begins at the bottom
    labels = [text.escape(item.name, 40) for item in shown]
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": [item.value for item in shown],
        "y": list(range(len(shown))),
        "text": [item.label for item in shown],
        "textposition": "outside",
        "cliponaxis": False,
        "marker": {"color": [panel.BEST if item.sign < 0 else panel.BLUE for item in shown]},
        "hovertext": [f"{name}: {item.label}" for name, item in zip(labels, shown, strict=True)],
        "hoverinfo": "text",
    }
    top = max(item.value for item in shown)
    layout = {
        "height": 40 + _BAR * len(shown),
        "bargap": 0.35,
        "xaxis": {"range": [0, top * 1.18 or 1], "zeroline": False, "fixedrange": True},
        "yaxis": {
            "tickvals": list(range(len(shown))),
            "ticktext": labels,
            "showgrid": False,
            "fixedrange": True,
        },
        "margin": {"t": 10, "r": 90, "b": 30},
    }
    signs = (
        "Orange: greater values go with a smaller metric."
        if any(item.sign < 0 for item in shown)
        else ""
    )
    more = len(ranking.items) - len(shown)
    rest = f"{more} less important ones are not shown." if more > 0 else ""
    note = panel.sentences(f"{ranking.method}.", signs, ranking.note, rest)
    return Panel(key, title, [bars], layout, note)
