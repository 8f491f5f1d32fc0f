"""The callback without Ray's scheduling: its hooks are called with trials that do not exist.

So there can be 64 of them open at once on two cores, and a thousand in half a minute.
"""

# Over 250 lines: how fast, how much, and the hooks that both call.

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import bare_loop
import processes
from bare_loop import PROJECT, result
from processes import Footprint
from ray import tune
from ray.air.integrations import wandb as peer
from sweeps import WrongRowsError

import wbtune
from wbtune._run import run_files, run_log


class FakeTrial:
    """What a callback asks of Tune's `Trial`."""

    def __init__(self, trial_id: str, folder: Path) -> None:
        self.trial_id = trial_id
        self.config = {"lr": 0.1, "layers": [1, 2]}
        self.experiment_dir_name = folder.name
        self.experiment_tag = trial_id
        self.local_experiment_path = str(folder)
        self.local_path = str(folder / trial_id)
        self.storage = None
        self.status = "RUNNING"
        self.num_failures = 0
        self.last_result: dict[str, Any] = {}
        self.stopping_criterion: dict[str, Any] = {}
        self.pickled_error_file = None
        self.rows = 0
        self._trainable = tune.Trainable

    def __str__(self) -> str:
        return f"trial_{self.trial_id}"

    def get_trainable_cls(self) -> type:
        """A class: its run is opened at once."""
        return self._trainable

    def is_finished(self) -> bool:
        """Has it ended?"""
        return self.status == "TERMINATED"


class Hooked:
    """A callback whose hooks are called by us; a context, at whose end the experiment ends."""

    def __init__(self, callback: Any, folder: Path) -> None:
        self.callback = callback
        self.folder = folder
        self.trials: list[FakeTrial] = []
        folder.mkdir(parents=True)

    def __enter__(self) -> Self:
        self.callback.setup()
        return self

    def __exit__(self, *_: object) -> None:
        self.callback.on_experiment_end(trials=self.trials)

    def open(self) -> FakeTrial:
        """A trial starts."""
        trial = FakeTrial(f"t{len(self.trials):05d}", self.folder)
        Path(trial.local_path).mkdir()
        self.trials.append(trial)
        self.callback.on_trial_start(0, self.trials, trial)
        return trial

    def report(self, trial: FakeTrial, rows: int) -> None:
        """A trial reports."""
        for i in range(trial.rows + 1, trial.rows + rows + 1):
            self.callback.on_trial_result(0, self.trials, trial, result(i))
        trial.rows += rows

    def end(self, trial: FakeTrial) -> None:
        """A trial ends."""
        trial.status = "TERMINATED"
        self.callback.on_trial_complete(0, self.trials, trial)

    def end_all(self) -> None:
        """All that have not ended end."""
        for trial in self.trials:
            if not trial.is_finished():
                self.end(trial)

    def until_closed(self, trials: list[FakeTrial]) -> None:
        """Wait until the runs of these trials are on disk, with their exit codes."""
        deadline = time.monotonic() + 60
        for trial in trials:
            one = f"wandb/*run-*-{trial.trial_id}/run-{trial.trial_id}.wandb"
            while not any(run_files.exit_code(path) is not None for path in self.folder.glob(one)):
                if time.monotonic() > deadline:
                    raise WrongRowsError(f"{self.folder.name}: {trial} is not closed")
                time.sleep(0.01)

    def whole(self, trials: int, rows: int) -> None:
        """Trials from their start to their end, one after the other."""
        for _ in range(trials):
            trial = self.open()
            self.report(trial, rows)
            self.end(trial)


def ours(folder: Path) -> Hooked:
    """The callback of wbtune."""
    return Hooked(wbtune.WandbLoggerCallback(PROJECT, mode="offline"), folder)


def peers(folder: Path) -> Hooked:
    """The callback of Ray."""
    return Hooked(peer.WandbLoggerCallback(PROJECT, mode="offline"), folder)


# --- how fast ---------------------------------------------------------------------------

#: Trials that start, report and end within a moment, before others do.
BATCH = 50


#: How often what is held is measured: the core's garbage comes and goes.
TIMES = 3


@dataclass(frozen=True, slots=True)
class Held:
    """After so many trials: the MB of client, core, and the driver's growth; the CPU of the two."""

    megabytes: float
    cpu_s: float


def rate_of_ours(runs: int, rows: int, folder: Path, few: int) -> tuple[float, tuple[Held, Held]]:
    """Trials through the callback, from its setup to the end of the experiment.

    Args:
        runs: how many, of which a batch may be open at once.
        rows: of each.
        folder: the experiment's.
        few: so many are few, in whole batches.

    Returns:
        Rows per second, and what was held after few and after all. Of its memory, that is the
        median of the batches from there, or up to there; to measure it takes no time.
    """
    after_few = [few + BATCH * number for number in range(TIMES)]
    after_all = [runs - BATCH * number for number in range(TIMES)]
    before, held, began = processes.own_mb(), {}, time.perf_counter()
    with ours(folder) as hooked:
        while (done := len(hooked.trials)) < runs:
            hooked.whole(min(BATCH, runs - done), rows)
            hooked.until_closed(hooked.trials[done:])
            if len(hooked.trials) in {*after_few, *after_all}:
                paused = time.perf_counter()
                processes.settle(0.5)
                megabytes = processes.footprint().megabytes + processes.own_mb() - before
                held[len(hooked.trials)] = Held(megabytes, sum(processes.cpu_s().values()))
                began += time.perf_counter() - paused
    rate = runs * rows / (time.perf_counter() - began)
    check(hooked)

    def at(count: int, counts: list[int]) -> Held:
        megabytes = statistics.median(held[each].megabytes for each in counts)
        return Held(megabytes, held[count].cpu_s)

    return rate, (at(few, after_few), at(runs, after_all))


def rate_of_bare(runs: int, rows: int, folder: Path) -> float:
    """Rows per second of the bare loop, from importing wandb to the last ``finish``."""
    command = [sys.executable, bare_loop.__file__, str(runs), str(rows), str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    check_runs(folder, {f"t{number:05d}": rows for number in range(runs)})
    return runs * rows / float(done.stdout.split()[-1])


def check(hooked: Hooked) -> None:
    """Read back every run of an experiment that has ended; see `check_runs`."""
    check_runs(hooked.folder, {trial.trial_id: trial.rows for trial in hooked.trials})


def check_runs(folder: Path, expected: dict[str, int]) -> None:
    """Read back runs that have ended.

    Args:
        folder: the experiment's.
        expected: how many rows, by run id.

    Raises:
        WrongRowsError: when a run or a row is missing.
    """
    logs = run_log.read_runs(folder)
    wrong = [
        run_id
        for run_id, rows in expected.items()
        if (log := logs.get(run_id)) is None
        or log.exit_code != 0
        or [row["training_iteration"] for row in log.rows] != list(range(1, rows + 1))
    ]
    if wrong:
        raise WrongRowsError(f"{folder.name}: of {len(expected)} runs, wrong: {wrong}")


# --- how much ---------------------------------------------------------------------------


def footprints(hooked: Hooked, counts: list[int], rows: int) -> dict[int, Footprint]:
    """Processes and memory with so many trials open at once, each with some rows."""
    seen = {}
    before = processes.own_mb()
    for count in counts:
        while len(hooked.trials) < count:
            hooked.report(hooked.open(), rows)
        processes.settle()
        here = processes.footprint()
        seen[count] = replace(here, driver_mb=processes.own_mb() - before)
    return seen


def cpu_of_rows(hooked: Hooked, rows: int) -> dict[str, float]:
    """Microseconds of CPU for a row of runs that are open: the driver, the client, the core."""
    before, driver = processes.cpu_s(), time.process_time()
    for trial in hooked.trials:
        hooked.report(trial, rows)
    processes.settle()
    used = {"driver": time.process_time() - driver}
    used |= {name: seconds - before[name] for name, seconds in processes.cpu_s().items()}
    return {name: 1e6 * seconds / rows / len(hooked.trials) for name, seconds in used.items()}


def seconds_to_disk(hooked: Hooked, times: int) -> list[float]:
    """How long one row takes from the hook to the disk, when nothing else is to be done."""
    trial = hooked.trials[0]
    (path,) = hooked.folder.glob(f"wandb/*run-*/run-{trial.trial_id}.wandb")

    def seconds_until_whole() -> float:
        began = time.perf_counter()
        while len(run_log.read(path).rows) < trial.rows:
            time.sleep(0.005)
        return time.perf_counter() - began

    seconds_until_whole()  # what was reported before
    found = []
    for _ in range(times):
        hooked.report(trial, 1)
        found.append(seconds_until_whole())
    return found
