"""Write the figures as text: the table of the bounds, the section of docs/costs.md, JSON."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

from figures import Bound, Figure
from parts import ROWS
from sweeps import NONE, OURS
from trial_side import OURS as OURS_IN_TRIAL

Measured = dict[str, Any]


def table(bounds: list[Bound]) -> str:
    """The table of the bounds, in Markdown."""
    rows = [("what", "measured", "to reach", "Ray's own", "")]
    for bound in bounds:
        limit = f"{'≥' if bound.at_least else '≤'} {bound.limit:g} {bound.unit}".rstrip()
        theirs = "" if bound.peer is None else f"{bound.peer} {bound.unit}".rstrip()
        ours = f"{bound.figure} {bound.unit}".rstrip()
        rows.append((bound.name, ours, limit, theirs, "" if bound.is_met else "**missed**"))
    rows.insert(1, ("---",) * 5)
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |"
        for row in rows
    )


def section(about: Measured, measured: Measured, bounds: list[Bound]) -> str:
    """The section of docs/costs.md."""
    versions = f"Ray {about['ray']}, wandb {about['wandb']}, Python {about['Python']}"
    apart = Figure.of(measured["in-the-trial"][OURS_IN_TRIAL]["log_ratio_apart"])
    return "\n\n".join(
        [
            table(bounds),
            f"{about['date']}, {versions}, {about['machine']}, measured in "
            f"{about['minutes']} minutes. A ratio is of sweeps side by side: the median, and "
            f"from the least to the greatest pair; Ray's own had two trials, as its pair had. "
            "A `run.log` that comes 20 ms or more after the last is guarded by itself, and takes "
            f"{apart} of a bare one.",
            "![What a result costs, and what is held](pictures/cost.png)",
            scale(measured),
        ]
    )


def scale(measured: Measured) -> str:
    """What larger experiments would need, extrapolated from the measured slopes."""
    crowd, many = measured["crowds"], measured["many"]
    at_once = crowd["trials at once"][OURS]
    few, most = min(at_once), max(at_once)
    base = at_once[few]["megabytes"] + at_once[few]["driver_mb"]
    total = at_once[most]["megabytes"] + at_once[most]["driver_mb"]
    open_mb = (total - base) / (most - few)
    (fewer, before), (more, after) = many["finished trials"].items()

    def of_one(name: str) -> float:
        """What each further ended trial adds."""
        return float(after[name] - before[name]) / (more - fewer)

    cpu = crowd["CPU of a row, us"]
    row_us = cpu["client"] + cpu["core"]
    ended_mb = max(0.0, of_one("megabytes"))
    run_ms = 1000 * of_one("cpu_s") - ROWS * row_us / 1000
    bare = measured["report-only"]["ours"][NONE]
    tunes = bare["results"] / statistics.median(bare["wall_s"])
    fullest = 1e6 / max(cpu.values())
    return (
        f"**Beyond this machine**, from the slopes measured here. A row takes "
        f"{cpu['driver']:.0f} µs of CPU in the driver, {cpu['client']:.0f} µs in the helper "
        f"process (wandb's client) and {cpu['core']:.0f} µs in wandb-core, so *1,000 results a "
        f"second* keep them {cpu['driver'] / 10:.0f} %, {cpu['client'] / 10:.0f} % and "
        f"{cpu['core'] / 10:.0f} % of a core busy. A run takes {run_ms:.0f} ms of CPU to open and "
        f"close, {1000 * open_mb:.0f} kB while it is open and {1000 * ended_mb:.0f} kB "
        f"when it has ended, so *10,000 trials* take {10 * run_ms / 60:.0f} minutes of CPU in all, "
        f"{(base + 10_000 * ended_mb) / 1000:.1f} GB at the end if they ran one after "
        f"the other, and {(base + 10_000 * open_mb) / 1000:.1f} GB if all were open at once. The "
        f"first limit is Tune itself: without any logging its loop delivered {tunes:.0f} "
        f"results a second here. Next is the helper, one Python process, whose CPU is enough for "
        f"some {fullest:.0f} rows a second; what comes faster waits in the driver's memory, and "
        f"arrives late, but whole."
    )


def write(text: str, file: Path) -> None:
    """Put the section between its markers."""
    before, _, rest = file.read_text(encoding="utf-8").partition("<!-- bench -->\n")
    _, end, after = rest.partition("<!-- /bench -->")
    whole = f"{before}<!-- bench -->\n{text}\n{end}{after}"
    file.write_text(whole, encoding="utf-8")


def as_json(about: Measured, measured: Measured, bounds: list[Bound]) -> str:
    """Everything, with only the digits that are significant."""
    found = [asdict(bound) | {"is_met": bound.is_met} for bound in bounds]
    everything = {"about": about, "measured": measured, "bounds": found}
    return json.dumps(_rounded(everything), indent=1, ensure_ascii=False) + "\n"


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
