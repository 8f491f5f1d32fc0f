"""What logging costs: wbtune beside no logging, Ray's own callback and bare wandb.

    python benchmarks/bench.py [--quick] [--only PART ...] [--write README.md]

In one Ray, offline but for the part that uploads. The ways of logging take turns, so that
what else the machine does meets them all; a ratio is that of neighbours: the median, the
least and the greatest of them. Every measurement reads its runs back from disk (or asks the
server for them), and a missing row ends the benchmark, unless Ray's own lost it: that is
counted. Ends non-zero when a bound of the table is missed.
"""

# Over 250 lines: what is measured and how far it may go, part by part.

from __future__ import annotations

import argparse
import atexit
import contextlib
import datetime as dt
import io
import itertools
import logging
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Ray makes sockets in it, which need short paths.
FOLDER = Path(tempfile.mkdtemp(prefix="wb-", dir="/tmp"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
# Before anything imports Ray or wandb: workers inherit it, and wandb reads it once.
for _name in [name for name in os.environ if name.startswith("WANDB_")]:
    del os.environ[_name]
os.environ |= {
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    "WANDB_ERROR_REPORTING": "false",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
# Modules are compiled once, as pip leaves them when it installs a wheel.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ |= {f"WANDB_{name}_DIR": str(FOLDER / name) for name in ("CONFIG", "DATA", "CACHE")}

import hooks
import picture
import ray
import report
import stand_in
import sweeps
import trial_side
from figures import Bound, Figure, quantile
from stand_in import StandIn
from sweeps import NONE, OURS, PEER, Load, Sweep

Measured = dict[str, Any]


def main() -> int:
    """Measure, say what was measured, and whether it is within the bounds."""
    arguments = parse()
    about = machine()
    print("\n".join(f"{name}: {value}" for name, value in about.items()), flush=True)
    began = time.monotonic()
    with stand_in.listening() as server:
        os.environ |= {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": stand_in.KEY}
        start_ray()
        try:
            measured, bounds = measure(arguments.only or PARTS, arguments.quick, server)
        finally:
            ray.shutdown()
    about["minutes"] = round((time.monotonic() - began) / 60, 1)
    print(f"\n{report.table(bounds)}\n")
    if arguments.json:
        arguments.json.write_text(report.as_json(about, measured, bounds), encoding="utf-8")
    if arguments.picture:
        picture.draw(measured, about, arguments.picture)
    if arguments.write:
        report.write(report.section(about, measured, bounds), arguments.write)
    missed = [bound.name for bound in bounds if not bound.is_met]
    print(f"missed: {'; '.join(missed)}" if missed else "all bounds are met")
    return 1 if missed else 0


def start_ray() -> None:
    """A Ray of the benchmark's own."""
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _temp_dir=str(FOLDER),
    )


def measure(names: Iterable[str], quick: bool, server: StandIn) -> tuple[Measured, list[Bound]]:
    """Measure these parts."""
    measured: Measured = {}
    bounds: list[Bound] = []
    for name in names:
        began = time.monotonic()
        with contextlib.redirect_stdout(io.StringIO()):  # Tune's tables
            measured[name], found = PARTS[name](quick=quick, server=server)
        bounds += found
        print(f"\n{name}: measured in {time.monotonic() - began:.0f} s", flush=True)
        for line in report.lines(measured[name]):
            print(f"  {line}", flush=True)
    return measured, bounds


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run: less of everything")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=" ".join(PARTS))
    parser.add_argument("--json", type=Path, help="write everything into this file")
    parser.add_argument("--picture", type=Path, help="draw into this file")
    parser.add_argument("--write", type=Path, help="the file whose section is replaced")
    arguments = parser.parse_args()
    if arguments.write and (arguments.quick or arguments.only):
        parser.error("--write is for a whole run")
    return arguments


def machine() -> dict[str, Any]:
    """When, where and with what."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.machine()}",
        "Python": platform.python_version(),
        **{name: version(name) for name in ("ray", "wandb", "wbtune")},
        "load before": round(os.getloadavg()[0], 2),
    }


# --- the parts --------------------------------------------------------------------------


def report_only(*, quick: bool, server: StandIn) -> tuple[Measured, list[Bound]]:
    """Trials that do nothing but report: the hardest case."""
    load = Load("report only", *((100, 0.0, 4) if quick else (1000,)))
    warm_up((NONE, OURS) if quick else (NONE, OURS, PEER))
    found = in_turns(load, 0 if quick else 100, peers=True)
    loops = {how: [us for one in found[how] for us in one.loop_us] for how in (OURS, PEER)}
    p99 = {how: Figure.of([quantile(us, 0.99)]) for how, us in loops.items()}
    median = {how: Figure.of([quantile(us, 0.5)]) for how, us in loops.items()}
    tails = {how: [one.tail_s for one in found[how]] for how in found}
    return summary(load, found), [
        Bound(
            f"wall / no logging, {load.trials} × {load.results}, trials that only report",
            over_none(found, OURS),
            1.15,
            peer=over_none(found, PEER),
        ),
        Bound("Tune's loop per result, median", median[OURS], 20, "µs", peer=median[PEER]),
        Bound("Tune's loop per result, p99", p99[OURS], 500, "µs", peer=p99[PEER]),
        Bound(
            "last result to the end of fit(), beyond no logging",
            Figure.difference(tails[OURS], tails[NONE]),
            0.5,
            "s",
            peer=Figure.difference(tails[PEER], tails[NONE]),
        ),
    ]


def with_work(*, quick: bool, server: StandIn) -> tuple[Measured, list[Bound]]:
    """Trials that work for 20 ms before each result."""
    load = Load("20 ms of work", *((20, 0.02, 4) if quick else (500, 0.02)))
    found = in_turns(load, 0 if quick else 185)
    bound = Bound(
        f"wall / no logging, {load.trials} × {load.results}, 20 ms of work a result",
        over_none(found, OURS),
        1.03,
    )
    return summary(load, found), [bound]


def crowds(*, quick: bool, server: StandIn) -> tuple[Measured, list[Bound]]:
    """Many trials at once; hooks called directly, no trial runs."""
    # Over 40 lines: what is measured in one go, and the five bounds of it.
    rows = 10 if quick else 100
    with hooks.ours(FOLDER / "crowd") as hooked:
        ours = hooks.footprints(hooked, [1, 4, 16, 64], rows)
        cpu = hooks.cpu_of_rows(hooked, 2 * rows)
        delays = hooks.seconds_to_disk(hooked, 3 if quick else 10)
        hooked.end_all()
    hooks.check(hooked)
    with hooks.peers(FOLDER / "peers") as hooked:
        peers = hooks.footprints(hooked, [1] if quick else [1, 4, 8], 10)
        hooked.end_all()
    few, many, theirs = ours[4], ours[64], peers.get(4)
    measured = {
        "trials at once": {
            how: {count: asdict(seen) for count, seen in footprints.items()}
            for how, footprints in ((OURS, ours), (PEER, peers))
        },
        "CPU of a row, us": cpu,
        "from the hook to the disk, s": delays,
    }
    return measured, [
        Bound(
            "extra processes, 4 trials at once",
            Figure.of([few.processes]),
            2,
            peer=theirs and Figure.of([theirs.processes]),
        ),
        Bound("extra processes, 64 trials at once", Figure.of([many.processes]), few.processes),
        Bound(
            "extra memory (PSS), 4 trials at once",
            Figure.of([few.megabytes]),
            150,
            "MB",
            peer=theirs and Figure.of([theirs.megabytes]),
        ),
        Bound("extra memory (PSS), 64 trials at once", Figure.of([many.megabytes]), 200, "MB"),
        Bound(
            f"a row from the hook to the disk, the slowest of {len(delays)}",
            Figure.of([max(delays)]),
            1,
            "s",
        ),
    ]


def many(*, quick: bool, server: StandIn) -> tuple[Measured, list[Bound]]:
    """A thousand trials without Ray's scheduling, beside a bare loop; what is held of them."""
    runs, rows = (100 if quick else 1000), 20
    ours: list[float] = []
    bare: list[float] = []
    for number in rounds_within(0 if quick else 70):
        ours.append(hooks.rate_of_ours(runs, rows, FOLDER / f"ours{number}"))
        bare.append(hooks.rate_of_bare(runs, rows, FOLDER / f"bare{number}"))
    with hooks.ours(FOLDER / "held") as hooked:
        held = hooks.held(hooked, [runs // 10, runs], rows)
    hooks.check(hooked)
    few, most = held.values()
    measured = {
        "rows per second": {OURS: ours, "bare loop": bare},
        "finished trials": {count: asdict(seen) for count, seen in held.items()},
    }
    return measured, [
        Bound(
            f"{runs} × {rows} through the callback / a bare loop, rows per second",
            Figure.ratio(ours, bare),
            0.8,
            at_least=True,
        ),
        Bound(
            f"memory held after {runs} finished trials / after {runs // 10}",
            Figure.of([most.megabytes / few.megabytes]),
            1.1,
        ),
    ]


def in_the_trial(*, quick: bool, server: StandIn) -> tuple[Measured, list[Bound]]:
    """Runs that the trial opens itself."""
    rounds, peers = (2, 1) if quick else (7, 2)
    found = trial_side.measure(rounds, peers, FOLDER)
    measured = {
        how: {
            name: [one[name] for one in ones if name in one]
            for name in ("open_ms", "log_us", "whole_ms", "log_ratio", "log_ratio_apart")
        }
        for how, ones in found.items()
    }
    opens = {how: values["open_ms"] for how, values in measured.items()}
    return measured, [
        Bound(
            "decorated trial, start to first line beyond bare wandb.init",
            Figure.difference(opens[trial_side.OURS], opens[trial_side.BARE]),
            20,
            "ms",
            peer=Figure.difference(opens[trial_side.PEER], opens[trial_side.BARE]),
        ),
        Bound(
            "decorated trial, one run.log of many / a bare one of the same run",
            Figure.of(measured[trial_side.OURS]["log_ratio"]),
            1.02,
        ),
    ]


def imports(*, quick: bool, server: StandIn) -> tuple[Measured, list[Bound]]:
    """``import wbtune`` after ``import ray.tune``."""
    times = trial_side.import_ms(3 if quick else 7, FOLDER)
    bound = Bound("import wbtune beyond import ray.tune", Figure.of(times), 30, "ms")
    return {"import wbtune, ms": times}, [bound]


def uploads(*, quick: bool, server: StandIn) -> tuple[Measured, list[Bound]]:
    """Trials that only report, uploaded to a stand-in of W&B's server; without a bound.

    The stand-in works on the same cores, for wbtune and Ray's own alike.
    """
    load = Load("uploaded", *((20, 0.0, 4) if quick else (50,)))
    found = in_turns(load, peers=True, server=server)
    return summary(load, found), []


PARTS: dict[str, Callable[..., tuple[Measured, list[Bound]]]] = {
    "report-only": report_only,
    "with-work": with_work,
    "crowds": crowds,
    "many": many,
    "in-the-trial": in_the_trial,
    "imports": imports,
    "uploads": uploads,
}


# --- what they share --------------------------------------------------------------------


def warm_up(ways: tuple[str, ...]) -> None:
    """The first sweep finds cold files and no workers."""
    for how in ways:
        sweeps.sweep(how, Load("warm up", 20, trials=4), FOLDER)


def rounds_within(seconds: float) -> Iterator[int]:
    """Numbers of rounds, from 0: as many as seem to fit into the time, but at least two.

    So a fast machine measures more often. Without any time, one: a smoke run.
    """
    began = time.monotonic()
    for number in itertools.count():
        least = 2 if seconds else 1
        if number >= least and (time.monotonic() - began) / number * (number + 1) > seconds:
            return
        yield number


def in_turns(
    load: Load, seconds: float = 0.0, *, peers: bool = False, server: StandIn | None = None
) -> dict[str, list[Sweep]]:
    """No logging and wbtune side by side, who goes first alternating; Ray's own before them."""
    found: dict[str, list[Sweep]] = {NONE: [], OURS: [], PEER: []}
    if peers:
        found[PEER].append(sweeps.sweep(PEER, load, FOLDER, server))
    for number in rounds_within(seconds):
        for how in (OURS, NONE) if number % 2 else (NONE, OURS):
            found[how].append(sweeps.sweep(how, load, FOLDER, server))
    return found


def over_none(found: dict[str, list[Sweep]], how: str) -> Figure:
    """A way's wall time over no logging's."""
    walls = {name: [one.wall_s for one in ones] for name, ones in found.items()}
    return Figure.ratio(walls[how], walls[NONE])


def summary(load: Load, found: dict[str, list[Sweep]]) -> Measured:
    """A load's sweeps, as the JSON has them."""
    return {
        how: {
            "results": load.trials * load.results,
            "wall / no logging, pair by pair": [
                one.wall_s / bare.wall_s for one, bare in zip(ones, found[NONE], strict=False)
            ],
            "wall_s": [one.wall_s for one in ones],
            "tail_s": [one.tail_s for one in ones],
            "loop_us": [quantile(one.loop_us, 0.5) for one in ones if one.loop_us],
            "loop_us_p99": [quantile(one.loop_us, 0.99) for one in ones if one.loop_us],
            "missing rows": [one.missing for one in ones],
            "end_s": [one.end_s for one in ones],
        }
        for how, ones in found.items()
    }


if __name__ == "__main__":
    sys.exit(main())
