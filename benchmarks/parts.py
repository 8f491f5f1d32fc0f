"""What is measured, part by part, and how far each figure may go.

A part is measured a round at a time, so that `bench` can have another of each for as long as
there is time: the more of them, the less it matters what else the machine did in one.
"""

# Over 250 lines: the parts and the fifteen bounds of them are one table.

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import hooks
import sweeps
import trial_side
from figures import Bound, Figure, quantile
from lanes import Lanes
from stand_in import StandIn
from sweeps import NONE, OURS, PEER, Load, Sweep

Measured = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """What the parts have in common.

    Attributes:
        folder: everything goes below it.
        lanes: for sweeps that are compared.
        server: what is uploaded goes there.
        quick: less of everything, to see that it works.
    """

    folder: Path
    lanes: Lanes
    server: StandIn
    quick: bool


class Part:
    """One of them.

    Attributes:
        needs_ray: else it is measured without one, which always does something.
        rounds: how many were measured.
    """

    needs_ray = True

    def __init__(self, place: Place) -> None:
        self.place = place
        self.rounds = 0

    def once(self) -> None:
        """What is measured before the first round, and no second time."""

    def measure(self) -> None:
        """Another round."""
        raise NotImplementedError

    def found(self) -> tuple[Measured, list[Bound]]:
        """What all rounds found, as the JSON has it, and the bounds of that."""
        raise NotImplementedError


class Turns:
    """Sweeps of one load in several ways, which take turns; who goes first alternates."""

    def __init__(self, load: Load, ways: tuple[str, ...], place: Place) -> None:
        self.load = load
        self.place = place
        self.of: dict[str, list[Sweep]] = {how: [] for how in ways}

    def side_by_side(self) -> None:
        """One sweep of each, of the two ways that there are, in lanes."""
        one, other = self._ways()
        for how, found in self.place.lanes.side_by_side((one, other), self.load).items():
            self.of[how].append(found)

    def one_by_one(self, server: StandIn) -> None:
        """One sweep of each, one after the other, uploaded."""
        for how in self._ways():
            self.of[how].append(sweeps.sweep(how, self.load, self.place.folder, server))

    def _ways(self) -> list[str]:
        return list(self.of)[:: -1 if len(self.of[NONE]) % 2 else 1]

    def over_none(self, how: str) -> list[float]:
        """A way's wall time over no logging's, pair by pair."""
        pairs = zip(self.of[how], self.of[NONE], strict=True)
        return [one.wall_s / bare.wall_s for one, bare in pairs]

    def tails(self, how: str) -> Figure:
        """Seconds from the last result to the end of ``fit()``, beyond no logging's."""
        pairs = zip(self.of[how], self.of[NONE], strict=True)
        return Figure.of([one.tail_s - bare.tail_s for one, bare in pairs])

    def loop(self, how: str, share: float) -> Figure:
        """A quantile of the microseconds of Tune's loop, of all results."""
        return Figure.of([quantile([us for one in self.of[how] for us in one.loop_us], share)])

    def summary(self) -> Measured:
        """Everything, by way."""
        return {
            how: {
                "results": self.load.trials * self.load.results,
                "wall / no logging, pair by pair": self.over_none(how),
                "wall_s": [one.wall_s for one in ones],
                "tail_s": [one.tail_s for one in ones],
                "loop_us": [quantile(one.loop_us, 0.5) for one in ones if one.loop_us],
                "loop_us_p99": [quantile(one.loop_us, 0.99) for one in ones if one.loop_us],
                "missing rows": [one.missing for one in ones],
                "end_s": [one.end_s for one in ones],
            }
            for how, ones in self.of.items()
        }


class ReportOnly(Part):
    """Trials that do nothing but report: the hardest case.

    Ray's own takes minutes for as many trials, so it has fewer of them, beside no logging of as
    few. Not fewer results of each, else its start, which is slow, would count for more.
    """

    needs_ray = False  # each lane has its own

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        results, trials = (100, 4) if place.quick else (1000, 8)
        self.turns = Turns(Load("report only", results, trials=trials), (NONE, OURS), place)
        self.peers = Turns(Load("fewer report", results, trials=2), (NONE, PEER), place)

    def once(self) -> None:
        """Ray's own: its figure is so far away that the time is better spent on pairs of ours."""
        self.peers.side_by_side()

    def measure(self) -> None:
        """A pair."""
        self.turns.side_by_side()

    def found(self) -> tuple[Measured, list[Bound]]:
        """Wall time, Tune's loop, and the tail."""
        turns, peers = self.turns, self.peers
        return {one.load.size: one.summary() for one in (turns, peers)}, [
            Bound(
                f"wall / no logging, {turns.load.size}, trials that only report",
                Figure.of(turns.over_none(OURS)),
                1.15,
                peer=Figure.of(peers.over_none(PEER)),
            ),
            Bound(
                "Tune's loop per result, median",
                turns.loop(OURS, 0.5),
                20,
                "µs",
                peer=peers.loop(PEER, 0.5),
            ),
            Bound(
                "Tune's loop per result, p99",
                turns.loop(OURS, 0.99),
                500,
                "µs",
                peer=peers.loop(PEER, 0.99),
            ),
            Bound(
                "last result to the end of fit(), beyond no logging",
                turns.tails(OURS),
                0.5,
                "s",
                peer=peers.tails(PEER),
            ),
        ]


class WithWork(Part):
    """Trials that work for 20 ms before each result."""

    needs_ray = False

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        load = Load("20 ms of work", *((20, 0.02, 4) if place.quick else (1000, 0.02)))
        self.turns = Turns(load, (NONE, OURS), place)

    def measure(self) -> None:
        """A pair."""
        self.turns.side_by_side()

    def found(self) -> tuple[Measured, list[Bound]]:
        """Wall time."""
        size = self.turns.load.size
        bound = Bound(
            f"wall / no logging, {size}, 20 ms of work a result",
            Figure.of(self.turns.over_none(OURS)),
            1.03,
        )
        return {size: self.turns.summary()}, [bound]


class Many(Part):
    """A thousand trials without Ray's scheduling, beside a bare loop; what is held of them."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.few, self.runs = (hooks.BATCH, 300) if place.quick else (100, 1000)
        self.ours: list[float] = []
        self.bare: list[float] = []
        self.held: list[tuple[hooks.Held, hooks.Held]] = []

    def measure(self) -> None:
        """A pair."""
        few, runs, folder = self.few, self.runs, self.place.folder
        rate, held = hooks.rate_of_ours(runs, ROWS, folder / f"ours{self.rounds}", few)
        self.ours.append(rate)
        self.held.append(held)
        # Half as many have the same rate, and leave time for what is less certain.
        self.bare.append(hooks.rate_of_bare(runs // 2, ROWS, folder / f"bare{self.rounds}"))

    def found(self) -> tuple[Measured, list[Bound]]:
        """Rows per second, and memory."""
        few, runs = self.few, self.runs
        measured = {
            "rows per second": {OURS: self.ours, "bare loop": self.bare},
            "finished trials": {
                count: {
                    name: [getattr(pair[index], name) for pair in self.held]
                    for name in ("megabytes", "cpu_s")
                }
                for index, count in enumerate((few, runs))
            },
        }
        return measured, [
            Bound(
                f"{runs} × {ROWS} through the callback / a bare loop, rows per second",
                Figure.ratio(self.ours, self.bare),
                0.8,
                at_least=True,
            ),
            Bound(
                f"memory held after {runs} finished trials / after {few}",
                Figure.of([most.megabytes / least.megabytes for least, most in self.held]),
                1.1,
            ),
        ]


class InTheTrial(Part):
    """Runs that the trial opens itself."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.pairs = 1 if place.quick else 2
        self.of: dict[str, list[dict[str, float]]] = {how: [] for how in trial_side.WAYS}

    def measure(self) -> None:
        """Some pairs, and Ray's own once."""
        for how, ones in trial_side.measure(self.pairs, 1, self.place.folder).items():
            self.of[how] += ones

    def found(self) -> tuple[Measured, list[Bound]]:
        """The opening, and `run.log`."""
        measured = {
            how: {
                name: [one[name] for one in ones if name in one]
                for name in ("open_ms", "log_us", "whole_ms", "log_ratio", "log_ratio_apart")
            }
            for how, ones in self.of.items()
        }
        opens = {how: values["open_ms"] for how, values in measured.items()}
        return measured, [
            Bound(
                "decorated trial, start to first line beyond bare wandb.init",
                Figure.difference(opens[trial_side.OURS], opens[trial_side.BARE]),
                20,
                "ms",
                peer=Figure.difference(
                    opens[trial_side.PEER], opens[trial_side.BARE][:: self.pairs]
                ),
            ),
            Bound(
                "decorated trial, one run.log of many / a bare one of the same run",
                Figure.of(measured[trial_side.OURS]["log_ratio"]),
                1.02,
            ),
        ]


class Crowds(Part):
    """Many trials at once; hooks called directly, no trial runs."""

    def measure(self) -> None:
        """Open more and more runs."""
        rows, folder = 10 if self.place.quick else 100, self.place.folder
        with hooks.ours(folder / "crowd") as hooked:
            self.ours = hooks.footprints(hooked, [1, 4, 16, 64], rows)
            self.cpu = hooks.cpu_of_rows(hooked, 2 * rows)
            self.delays = hooks.seconds_to_disk(hooked, 3 if self.place.quick else 10)
            hooked.end_all()
        hooks.check(hooked)
        with hooks.peers(folder / "peers") as hooked:
            self.peers = hooks.footprints(hooked, [1, 4], 10)
            hooked.end_all()

    def found(self) -> tuple[Measured, list[Bound]]:
        """Processes, memory, and how long a row takes to the disk."""
        few, many, theirs = self.ours[4], self.ours[64], self.peers[4]
        slowest = f"a row from the hook to the disk, the slowest of {len(self.delays)}"
        measured = {
            "trials at once": {
                how: {count: asdict(seen) for count, seen in footprints.items()}
                for how, footprints in ((OURS, self.ours), (PEER, self.peers))
            },
            "CPU of a row, us": self.cpu,
            "from the hook to the disk, s": self.delays,
        }

        def most(what: str, figure: float, limit: float, unit: str = "", **peer: Figure) -> Bound:
            return Bound(what, Figure.of([figure]), limit, unit, **peer)

        processes = Figure.of([theirs.processes])
        megabytes = Figure.of([theirs.megabytes])
        return measured, [
            most("extra processes, 4 trials at once", few.processes, 2, peer=processes),
            most("extra processes, 64 trials at once", many.processes, few.processes),
            most("extra memory (PSS), 4 trials at once", few.megabytes, 150, "MB", peer=megabytes),
            most("extra memory (PSS), 64 trials at once", many.megabytes, 200, "MB"),
            most(slowest, max(self.delays), 1, "s"),
        ]


class Imports(Part):
    """``import wbtune`` after ``import ray.tune``."""

    needs_ray = False

    def measure(self) -> None:
        """In some processes."""
        self.times = trial_side.import_ms(3 if self.place.quick else 5, self.place.folder)

    def found(self) -> tuple[Measured, list[Bound]]:
        """Milliseconds."""
        bound = Bound("import wbtune beyond import ray.tune", Figure.of(self.times), 30, "ms")
        return {"import wbtune, ms": self.times}, [bound]


class Uploads(Part):
    """Trials that only report, uploaded to a stand-in of W&B's server; without a bound.

    The stand-in works on the same cores, for wbtune and Ray's own alike. One sweep after the
    other: what one has to upload must not wait for another.
    """

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        load = Load("uploaded", 20 if place.quick else 30, trials=4)
        self.turns = Turns(load, (NONE, OURS, PEER), place)

    def measure(self) -> None:
        """One of each."""
        self.turns.one_by_one(self.place.server)

    def found(self) -> tuple[Measured, list[Bound]]:
        """Wall time and the rest, as they were."""
        return {self.turns.load.size: self.turns.summary()}, []


#: Of each trial of the part `Many`.
ROWS = 20

#: In their order: those that have no need of a Ray come first, what warms up its own does next.
PARTS: dict[str, type[Part]] = {
    "imports": Imports,
    "with-work": WithWork,
    "report-only": ReportOnly,
    "many": Many,
    "in-the-trial": InTheTrial,
    "uploads": Uploads,
    "crowds": Crowds,
}

#: What is measured again while there is time: first what differs most from round to round.
AGAIN = ("report-only", "with-work", "many", "in-the-trial", "uploads")
