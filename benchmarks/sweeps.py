"""Whole sweeps through Tune: without logging, with Ray's own callback, and with wbtune's."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import processes
import ray
import stopwatch
from ray import tune
from ray.air.integrations import wandb as peer
from workload import train

import wbtune
from wbtune._run import run_log

PROJECT = "benchmark"
NONE, OURS, PEER = "no logging", "wbtune", "Ray's own"


class WrongRowsError(Exception):
    """Rows are missing, so the measured time means nothing."""


@dataclass(slots=True)
class Clock:
    """What is recorded while a sweep runs.

    Attributes:
        loop_us: microseconds in `log_trial_result`, which are part of Tune's loop.
        last_result: when the last result reached Tune, by `stopwatch.now`.
    """

    loop_us: list[float] = field(default_factory=list)
    last_result: float = 0.0


#: The running sweep's clock; the callbacks can't have it, because Tune pickles them.
CLOCK = Clock()


class NotesLastResult(tune.Callback):
    """Records when the last result came; part of every sweep, so that each has its cost."""

    def on_trial_result(self, *_: Any, **__: Any) -> None:
        CLOCK.last_result = stopwatch.now()


class Timed:
    """A clock around the method of a callback that Tune's loop calls for each result."""

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        began = stopwatch.now()
        super().log_trial_result(iteration, trial, result)
        CLOCK.loop_us.append(1e6 * (stopwatch.now() - began))


class Ours(Timed, wbtune.WandbLoggerCallback):
    """wbtune's callback, timed."""


class Peer(Timed, peer.WandbLoggerCallback):
    """Ray's own, timed."""


CALLBACKS: dict[str, type] = {OURS: Ours, PEER: Peer}


@dataclass(frozen=True, slots=True)
class Load:
    """What a sweep has to do."""

    name: str
    results: int
    work_s: float = 0.0
    trials: int = 8
    at_once: int = 4

    @property
    def size(self) -> str:
        """Trials × results."""
        return f"{self.trials} × {self.results}"


@dataclass(frozen=True, slots=True)
class Sweep:
    """What one sweep took.

    Attributes:
        wall_s: seconds of ``fit()``.
        tail_s: the part of them from the last result to the end.
        loop_us: microseconds of Tune's loop, for each result.
        missing: how many rows did not arrive; for wbtune, `WrongRowsError` is raised instead.
    """

    wall_s: float
    tail_s: float
    loop_us: Sequence[float]
    missing: int = 0


def start_ray(folder: Path) -> None:
    """Start the benchmark's own Ray, with all of its files below a folder.

    Ray makes sockets there, which need short paths.
    """
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _temp_dir=str(folder),
    )


def sweep(how: str, load: Load, folder: Path) -> Sweep:
    """Run one sweep offline, and check that all its rows arrived.

    Args:
        how: one of the ways of logging.
        load: what to do.
        folder: Ray's temporary folder; results go below it as well.

    Raises:
        WrongRowsError: if rows of wbtune's are missing.
    """
    processes.none_left()
    name = f"{load.name}-{time.monotonic_ns()}".replace(" ", "-")
    callbacks: list[Any] = [NotesLastResult()]
    if how != NONE:
        callbacks.append(CALLBACKS[how](PROJECT, mode="offline"))
    tuner = tune.Tuner(
        train,
        param_space={"results": load.results, "work_s": load.work_s},
        tune_config=tune.TuneConfig(num_samples=load.trials, max_concurrent_trials=load.at_once),
        run_config=tune.RunConfig(
            name=name, storage_path=str(folder / "results"), callbacks=callbacks, verbose=0
        ),
    )
    CLOCK.loop_us = []
    began = stopwatch.now()
    results = tuner.fit()
    ended = stopwatch.now()
    if results.num_errors:
        raise WrongRowsError(f"{load.name}: {results.num_errors} trials failed: {results.errors}")
    processes.none_left()  # what still writes may end
    missing = 0 if how == NONE else missing_rows(how, load, name, folder)
    return Sweep(ended - began, ended - CLOCK.last_result, CLOCK.loop_us, missing)


def missing_rows(how: str, load: Load, name: str, folder: Path) -> int:
    """Read back every run of a sweep.

    Returns:
        How many rows Ray's own callback lost. That does happen, so it is only counted.

    Raises:
        WrongRowsError: if one of wbtune's runs is not complete.
    """
    expected = list(range(1, load.results + 1))
    if how == OURS:
        logs = list(run_log.read_runs(folder / "results" / name).values())
    else:
        # Ray's own writes into its session's folder, not into the experiment's.
        found = folder.glob(f"session_2*/artifacts/*/{name}/**/wandb/*run-*/*.wandb")
        logs = [run_log.read(path) for path in found]
    iterations = {log.id: [row["training_iteration"] for row in log.rows] for log in logs}
    wrong = {key: len(found) for key, found in iterations.items() if found != expected}
    codes = [log.exit_code for log in logs]
    if how == OURS and (wrong or codes != [0] * load.trials):
        raise WrongRowsError(
            f"{load.name}: {len(logs)} of {load.trials} runs; "
            f"rows, for {load.results}: {wrong}; exit codes {codes}"
        )
    return load.trials * load.results - sum(map(len, iterations.values()))
