"""Measure the callback without Ray's scheduling: call its hooks with trials that do not run.

So 64 trials can be open at once on two cores, and a thousand take half a minute.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import processes
from processes import Footprint
from ray import tune
from ray.air.integrations import wandb as peer
from sweeps import PROJECT, WrongRowsError

import wbtune
from wbtune._run import run_files, run_log

#: How many trials start, report and end together, before others do.
BATCH = 50
#: How often memory is measured, because the core's garbage varies.
TIMES = 3


def result(iteration: int) -> dict[str, Any]:
    """A result with everything that Tune puts into one."""
    return {
        "loss": 1.0 / iteration,
        "accuracy": iteration * 0.001,
        "timestamp": 1700000000 + iteration,
        "checkpoint_dir_name": None,
        "done": False,
        "training_iteration": iteration,
        "trial_id": "fake",
        "date": "2026-01-01_00-00-00",
        "time_this_iter_s": 0.01,
        "time_total_s": 0.01 * iteration,
        "pid": 1,
        "hostname": "localhost",
        "node_ip": "127.0.0.1",
        "config": {"lr": 0.1, "layers": [1, 2]},
        "time_since_restore": 0.01 * iteration,
        "iterations_since_restore": iteration,
        "experiment_tag": "fake",
    }


class FakeTrial:
    """What a callback uses of Tune's `Trial`."""

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
        return self.status == "TERMINATED"


class Hooked:
    """A callback whose hooks the benchmark calls; as a context manager, it ends the experiment."""

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
        trial = FakeTrial(f"t{len(self.trials):05d}", self.folder)
        Path(trial.local_path).mkdir()
        self.trials.append(trial)
        self.callback.on_trial_start(0, self.trials, trial)
        return trial

    def report(self, trial: FakeTrial, rows: int) -> None:
        for i in range(trial.rows + 1, trial.rows + rows + 1):
            self.callback.on_trial_result(0, self.trials, trial, result(i))
        trial.rows += rows

    def end(self, trial: FakeTrial) -> None:
        trial.status = "TERMINATED"
        self.callback.on_trial_complete(0, self.trials, trial)

    def end_all(self) -> None:
        for trial in self.trials:
            if not trial.is_finished():
                self.end(trial)

    def whole(self, trials: int, rows: int) -> None:
        """Run trials from their start until their runs have ended on disk."""
        done = len(self.trials)
        for _ in range(trials):
            trial = self.open()
            self.report(trial, rows)
            self.end(trial)
        deadline = time.monotonic() + 60
        for trial in self.trials[done:]:
            log = f"wandb/*run-*-{trial.trial_id}/run-{trial.trial_id}.wandb"
            while not any(run_files.exit_code(path) is not None for path in self.folder.glob(log)):
                if time.monotonic() > deadline:
                    raise WrongRowsError(f"{self.folder.name}: {trial} is not closed")
                time.sleep(0.01)


def ours(folder: Path) -> Hooked:
    """The callback of wbtune."""
    return Hooked(wbtune.WandbLoggerCallback(PROJECT, mode="offline"), folder)


def peers(folder: Path) -> Hooked:
    """The callback of Ray."""
    return Hooked(peer.WandbLoggerCallback(PROJECT, mode="offline"), folder)


def check(hooked: Hooked) -> None:
    """Read back every run of an experiment that has ended.

    Raises:
        WrongRowsError: if a run or a row is missing.
    """
    logs = run_log.read_runs(hooked.folder)
    for trial in hooked.trials:
        log = logs.get(trial.trial_id, run_log.RunLog())
        found = [row["training_iteration"] for row in log.rows]
        if log.exit_code != 0 or found != list(range(1, trial.rows + 1)):
            raise WrongRowsError(f"{hooked.folder.name}: {trial}: {found}, {log.exit_code}")


@dataclass(frozen=True, slots=True)
class Held:
    """After some trials: MB of client, core and driver growth; CPU seconds of client and core."""

    megabytes: float
    cpu_s: float


def held_after(few: int, runs: int, rows: int, folder: Path) -> tuple[Held, Held]:
    """Memory and CPU of the callback after a few trials have ended, and after all.

    Args:
        few: how many are a few, in whole batches.
        runs: how many there are in all; one batch may be open at once.
        rows: how many rows each has.
        folder: the experiment's folder.
    """
    after_few = [few + BATCH * number for number in range(TIMES)]
    after_all = [runs - BATCH * number for number in range(TIMES)]
    before, held = processes.own_mb(), {}
    with ours(folder) as hooked:
        while len(hooked.trials) < runs:
            hooked.whole(BATCH, rows)
            if len(hooked.trials) in {*after_few, *after_all}:
                processes.settle(0.5)
                megabytes = processes.footprint().megabytes + processes.own_mb() - before
                held[len(hooked.trials)] = Held(megabytes, sum(processes.cpu_s().values()))
    check(hooked)

    def at(counts: list[int]) -> Held:
        megabytes = statistics.median(held[count].megabytes for count in counts)
        return Held(megabytes, held[counts[0]].cpu_s)

    return at(after_few), at(after_all)


def footprints(hooked: Hooked, counts: list[int], rows: int) -> dict[int, Footprint]:
    """Processes and memory with these numbers of trials open at once, each with some rows."""
    seen = {}
    before = processes.own_mb()
    for count in counts:
        while len(hooked.trials) < count:
            hooked.report(hooked.open(), rows)
        processes.settle()
        seen[count] = replace(processes.footprint(), driver_mb=processes.own_mb() - before)
    return seen


def cpu_of_rows(hooked: Hooked, rows: int) -> dict[str, float]:
    """Microseconds of CPU per row, with open runs: of the driver, the client and the core."""
    before, driver = processes.cpu_s(), time.process_time()
    for trial in hooked.trials:
        hooked.report(trial, rows)
    processes.settle()
    used = {"driver": time.process_time() - driver}
    used |= {name: seconds - before[name] for name, seconds in processes.cpu_s().items()}
    return {name: 1e6 * seconds / rows / len(hooked.trials) for name, seconds in used.items()}


def seconds_to_disk(hooked: Hooked, times: int) -> list[float]:
    """How long one row takes from the hook to the disk, when there is nothing else to do."""
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
