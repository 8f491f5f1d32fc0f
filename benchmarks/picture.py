"""The picture of docs/costs.md: what a result costs, and how much memory logging takes."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from sweeps import NONE, OURS, PEER

COLORS = {OURS: "#0f766e", PEER: "#b45309"}
LEAST_MS = 0.01  # smaller values, or those lost in the noise, are drawn here


def draw(measured: dict[str, Any], about: dict[str, Any], path: Path) -> None:
    """Draw what was measured; a part that was not measured is left out."""
    import matplotlib as mpl  # noqa: PLC0415 - nothing but the picture needs it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the backend is chosen

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    parts = [measured.get(name, {}) for name in ("with-work", "report-only")]
    _costs(left, [load for part in parts for load in part.values()])
    _memory(right, measured.get("crowds", {}).get("trials at once", {}))
    for axes in (left, right):
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.has_data():
            axes.legend(frameon=False, fontsize=8)
    versions = ", ".join(f"{name} {about[name]}" for name in ("ray", "wandb", "wbtune"))
    figure.suptitle(f"{about['machine']}; {versions}; {about['date']}; offline", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _costs(axes: Any, loads: list[dict[str, Any]]) -> None:
    """Wall time that logging adds per result, and the part of it in Tune's loop."""
    for how in (OURS, PEER):
        rates, walls, loops = [], [], []
        for load in loads:
            if how not in load:
                continue
            results = load[NONE]["results"]
            bare = statistics.median(load[NONE]["wall_s"])
            wall = statistics.median(load[how]["wall_s"])
            rates.append(results / bare)
            walls.append(max(LEAST_MS, (wall - bare) / results * 1000))
            loops.append(statistics.median(load[how]["loop_us"]) / 1000)
        if not rates:
            continue
        axes.plot(rates, walls, "o-", color=COLORS[how], label=f"{how}: wall time")
        axes.plot(rates, loops, "o--", color=COLORS[how], alpha=0.6, label=f"{how}: Tune's loop")
    axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("results per second, without logging")
    axes.set_ylabel("ms for each result")
    axes.set_title("What a result costs", loc="left")


def _memory(axes: Any, crowds: dict[str, Any]) -> None:
    """Memory of the processes that logging adds."""
    for how, footprints in crowds.items():
        counts = sorted(footprints)
        megabytes = [footprints[count]["megabytes"] for count in counts]
        axes.plot(counts, megabytes, "o-", color=COLORS[how], label=how)
        last = footprints[counts[-1]]
        axes.annotate(
            f"{last['processes']} processes",
            (counts[-1], last["megabytes"]),
            xytext=(-4, 8),
            textcoords="offset points",
            ha="right",
            fontsize=8,
        )
    axes.set_ylim(bottom=0)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.set_xlabel("trials at once")
    axes.set_ylabel("MB (PSS) of what logs")
    axes.set_title("What is held", loc="left")
