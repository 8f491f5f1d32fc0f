"""The parts of the benchmark: what each measures, and the bounds of its figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import hooks
import importing
import trial_side
import whole
from figures import Bound, Figure, quantile
from lanes import Lanes
from sweeps import NONE, OURS, PEER, Load, Sweep

Measured = dict[str, Any]
#: How many rows each trial of the part `many` has.
ROWS = 20


@dataclass(frozen=True, slots=True)
class Place:
    """What the parts have in common.

    Attributes:
        folder: everything is written below it.
        lanes: for sweeps that are compared.
        rounds: how many pairs there are of each comparison.
        quick: less of everything, to check that it works.
    """

    folder: Path
    lanes: Lanes
    rounds: int
    quick: bool


class Pairs:
    """Sweeps of one load, with a way of logging and without, side by side."""

    def __init__(self, load: Load, how: str, place: Place, rounds: int) -> None:
        self.load = load
        self.of: dict[str, list[Sweep]] = {NONE: [], how: []}
        for number in range(rounds):
            ways = (how, NONE) if number % 2 else (NONE, how)  # the first of them moves first
            for way, found in place.lanes.side_by_side(ways, load).items():
                self.of[way].append(found)

    def walls(self) -> Figure:
        """Wall time, divided by that without logging."""
        return Figure.ratio(*self._both("wall_s"))

    def tails(self) -> Figure:
        """Seconds from the last result to the end of ``fit()``, minus those without logging."""
        return Figure.difference(*self._both("tail_s"))

    def _both(self, name: str) -> tuple[list[float], list[float]]:
        bare, logged = ([getattr(one, name) for one in ones] for ones in self.of.values())
        return logged, bare

    def loop(self, share: float) -> Figure:
        """A quantile of the microseconds of Tune's loop per result, over all results."""
        every = [us for ones in self.of.values() for one in ones for us in one.loop_us]
        return Figure.of([quantile(every, share)])

    def measured(self) -> Measured:
        """The figures for the JSON file."""
        return {
            how: {
                "results": self.load.trials * self.load.results,
                "wall_s": [one.wall_s for one in ones],
                "tail_s": [one.tail_s for one in ones],
                "loop_us": [quantile(one.loop_us, 0.5) for one in ones if one.loop_us],
                "loop_us_p99": [quantile(one.loop_us, 0.99) for one in ones if one.loop_us],
                "missing rows": [one.missing for one in ones],
            }
            for how, ones in self.of.items()
        }


def imports(place: Place) -> tuple[Measured, list[Bound]]:
    """``from wbtune import wandb_tuner`` after ``import ray.tune``."""
    times = trial_side.import_ms(2 if place.quick else 5, place.folder)
    bound = Bound("import wandb_tuner beyond import ray.tune", Figure.of(times), 30, "ms")
    return {"import wandb_tuner, ms": times}, [bound]


def with_work(place: Place) -> tuple[Measured, list[Bound]]:
    """Trials that work for 20 ms before each result."""
    results, trials = (20, 2) if place.quick else (1000, 8)
    ours = Pairs(Load("20 ms of work", results, 0.02, trials), OURS, place, place.rounds)
    name = f"wall / no logging, {ours.load.size}, 20 ms of work a result"
    return {"ours": ours.measured()}, [Bound(name, ours.walls(), 1.03)]


def report_only(place: Place) -> tuple[Measured, list[Bound]]:
    """Trials that do nothing but report: the hardest case.

    Ray's own callback takes minutes for as many trials, so it gets fewer, compared with as few
    without logging, and only once: its figure is so far off that the time is better spent on
    wbtune's pairs. The results of each are not fewer, because its slow start would then weigh more.
    """
    results, trials = (20, 2) if place.quick else (1000, 8)
    peers = Pairs(Load("fewer report", results, trials=2), PEER, place, 1)
    ours = Pairs(Load("report only", results, trials=trials), OURS, place, place.rounds)
    wall = f"wall / no logging, {ours.load.size}, trials that only report"
    loop = "Tune's loop per result"
    tail = "last result to the end of fit(), beyond no logging"
    return {"ours": ours.measured(), "peers": peers.measured()}, [
        Bound(wall, ours.walls(), 1.15, peer=peers.walls()),
        Bound(f"{loop}, median", ours.loop(0.5), 20, "µs", peer=peers.loop(0.5)),
        Bound(f"{loop}, p99", ours.loop(0.99), 500, "µs", peer=peers.loop(0.99)),
        Bound(tail, ours.tails(), 0.5, "s", peer=peers.tails()),
    ]


def many(place: Place) -> tuple[Measured, list[Bound]]:
    """Memory that is still in use after a thousand trials have ended."""
    few, runs = (hooks.BATCH, 4 * hooks.BATCH) if place.quick else (100, 1000)
    held = hooks.held_after(few, runs, ROWS, place.folder / "many")
    ratio = Figure.of([held[1].megabytes / held[0].megabytes])
    name = f"memory held after {runs} finished trials / after {few}"
    measured = {few: asdict(held[0]), runs: asdict(held[1])}
    return {"finished trials": measured}, [Bound(name, ratio, 1.1)]


def in_the_trial(place: Place) -> tuple[Measured, list[Bound]]:
    """Runs that the trial opens itself: twice as many pairs, and Ray's `setup_wandb` once."""
    found = trial_side.measure(1 if place.quick else 2 * place.rounds, place.folder)
    names = ("open_ms", "log_us", "log_ratio", "log_ratio_apart")
    measured = {
        how: {name: [one[name] for one in ones if name in one] for name in names}
        for how, ones in found.items()
    }
    bare, peers = measured[trial_side.BARE]["open_ms"], measured[trial_side.PEER]["open_ms"]
    ours = measured[trial_side.OURS]
    return measured, [
        Bound(
            "decorated trial, start to first line beyond bare wandb.init",
            Figure.difference(ours["open_ms"], bare),
            20,
            "ms",
            peer=Figure.difference(peers, bare[: len(peers)]),
        ),
        Bound(
            "decorated trial, one run.log of many / a bare one of the same run",
            Figure.of(ours["log_ratio"]),
            1.02,
        ),
    ]


def crowds(place: Place) -> tuple[Measured, list[Bound]]:
    """Many trials at once; hooks called directly, no trial runs."""
    rows = 10 if place.quick else 100
    with hooks.ours(place.folder / "crowd") as hooked:
        ours = hooks.footprints(hooked, [1, 4, 16, 64], rows)
        cpu = hooks.cpu_of_rows(hooked, 2 * rows)
        delays = hooks.seconds_to_disk(hooked, 3 if place.quick else 10)
        hooked.end_all()
    hooks.check(hooked)
    with hooks.peers(place.folder / "peers") as hooked:
        peers = hooks.footprints(hooked, [1, 4], 10)
        hooked.end_all()
    at_once = {
        how: {count: asdict(seen) for count, seen in footprints.items()}
        for how, footprints in ((OURS, ours), (PEER, peers))
    }
    measured = {
        "trials at once": at_once,
        "CPU of a row, us": cpu,
        "from the hook to the disk, s": delays,
    }

    def bound(what: str, value: float, limit: float, unit: str = "", **peer: Figure) -> Bound:
        return Bound(what, Figure.of([value]), limit, unit, **peer)

    few, most = ours[4], ours[64]
    processes = Figure.of([peers[4].processes])
    memory = Figure.of([peers[4].megabytes])
    slowest = f"a row from the hook to the disk, the slowest of {len(delays)}"
    return measured, [
        bound("extra processes, 4 trials at once", few.processes, 2, peer=processes),
        bound("extra processes, 64 trials at once", most.processes, few.processes),
        bound("extra memory (PSS), 4 trials at once", few.megabytes, 150, "MB", peer=memory),
        bound("extra memory (PSS), 64 trials at once", most.megabytes, 200, "MB"),
        bound(slowest, max(delays), 1, "s"),
    ]


def as_a_whole(place: Place) -> tuple[Measured, list[Bound]]:
    """What ``sweep=True`` adds; hooks called directly, no trial runs."""
    trials, results = (100, 10) if place.quick else (1000, 100)
    added = {
        count: whole.added_us(count, 20_000, 5, place.folder / "whole") for count in (10, trials)
    }
    seconds = whole.overview_s(trials, results, place.folder / "overview")
    bounds = [
        Bound(f"Tune's loop per result, added by sweep=True, {count} trials", figure, 5, "µs")
        for count, figure in added.items()
    ]
    name = f"the overview of {trials:,} trials × {results} results"
    return {"overview, s": seconds}, [*bounds, Bound(name, Figure.of([seconds]), 5, "s")]


def an_import(place: Place) -> tuple[Measured, list[Bound]]:
    """``wbtune import``: rows in a second, and memory, which must not grow with the results."""
    trials, results = (2, 500) if place.quick else (8, 5000)
    size = f"{trials} trials × {results:,} results"
    below = place.folder / "import"
    ours, bare = [], []
    for number in range(place.rounds):
        bare.append(importing.by_loop(below / f"loop {number}", trials, results))
        ours.append(importing.by_command(below / f"command {number}", trials, results))
    more = importing.by_command(below / "more", 2, 10 * results)
    walls = [one.wall_s for one in ours]
    memory = Figure.difference([more.megabytes], [ours[0].megabytes])
    measured = {
        "rows": trials * results,
        "command, s": walls,
        "bare loop, s": bare,
        "command, MB": [one.megabytes for one in ours],
        "command with ten times the results of a trial, MB": more.megabytes,
    }
    name = "wbtune import: rows a second / a bare wandb loop"
    return measured, [
        Bound(f"{name}, {size}", Figure.ratio(bare, walls), 0.5, at_least=True),
        Bound("wbtune import: memory added by ten times the results", memory, 20, "MB"),
    ]


#: In order. Ray always uses some CPU, so the parts that need no Ray in this process come first.
PARTS: dict[str, Callable[[Place], tuple[Measured, list[Bound]]]] = {
    "imports": imports,
    "with-work": with_work,
    "report-only": report_only,
    "many": many,
    "in-the-trial": in_the_trial,
    "crowds": crowds,
    "whole": as_a_whole,
    "import": an_import,
}
#: These parts need a Ray in this process, which would disturb the others.
NEED_RAY = ("many", "in-the-trial", "crowds")
