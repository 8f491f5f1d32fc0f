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
from stand_in import StandIn
from workload import train

import wbtune
from wbtune._run import run_log

PROJECT = "benchmark"
NONE, OURS, PEER = "no logging", "wbtune", "Ray's own"


class WrongRowsError(Exception):
    """Rows are missing: a fast wrong answer is no answer."""


@dataclass(slots=True)
class Clock:
    """What is noted while a sweep runs.

    Attributes:
        loop_us: microseconds in `log_trial_result`, which is Tune's loop's time.
        end_s: seconds in `on_experiment_end`, which it waits for once.
        last_result: when the last result reached Tune; `stopwatch.now`, as all of it.
    """

    loop_us: list[float] = field(default_factory=list)
    end_s: float = 0.0
    last_result: float = 0.0


#: Of the sweep that runs; the callbacks, which Tune pickles, can't hold it.
CLOCK = Clock()


class NotesLastResult(tune.Callback):
    """Is there in every sweep, so that it costs all the same."""

    def on_trial_result(self, *_: Any, **__: Any) -> None:
        """One result."""
        CLOCK.last_result = stopwatch.now()


class Timed:
    """A clock around the methods of a callback that Tune's loop calls."""

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        """One result."""
        began = stopwatch.now()
        super().log_trial_result(iteration, trial, result)
        CLOCK.loop_us.append(1e6 * (stopwatch.now() - began))

    def on_experiment_end(self, *args: Any, **info: Any) -> None:
        """The end."""
        began = stopwatch.now()
        super().on_experiment_end(*args, **info)
        CLOCK.end_s = stopwatch.now() - began


class Ours(Timed, wbtune.WandbLoggerCallback):
    """wbtune's callback, timed."""


class Peer(Timed, peer.WandbLoggerCallback):
    """Ray's own, timed."""


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
        tail_s: of them, from the last result to the end.
        loop_us: microseconds of Tune's loop, for each result.
        end_s: seconds in the callback's `on_experiment_end`.
        missing: rows that did not arrive.
    """

    wall_s: float
    tail_s: float
    loop_us: Sequence[float]
    end_s: float = 0.0
    missing: int = 0


def start_ray(folder: Path) -> None:
    """A Ray of the benchmark's own, with everything of it below a folder.

    Ray makes sockets there, which need short paths.
    """
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _temp_dir=str(folder),
    )


def sweep(how: str, load: Load, folder: Path, server: StandIn | None = None) -> Sweep:
    """Run one sweep, and look whether all its rows arrived.

    Args:
        how: one of the ways of logging.
        load: what to do.
        folder: Ray's temporary folder; results go below it as well.
        server: upload to it; offline without.

    Raises:
        WrongRowsError: when rows of wbtune's are missing.
    """
    processes.none_left()
    name = f"{load.name}-{time.monotonic_ns()}".replace(" ", "-")
    callbacks: list[Any] = [NotesLastResult()]
    mode = "offline" if server is None else "online"
    if how == OURS:
        callbacks.append(Ours(PROJECT, mode=mode))
    elif how == PEER:
        callbacks.append(Peer(PROJECT, mode=mode))
    tuner = tune.Tuner(
        train,
        param_space={"results": load.results, "work_s": load.work_s},
        tune_config=tune.TuneConfig(num_samples=load.trials, max_concurrent_trials=load.at_once),
        run_config=tune.RunConfig(
            name=name, storage_path=str(folder / "results"), callbacks=callbacks, verbose=0
        ),
    )
    CLOCK.loop_us, CLOCK.end_s = [], 0.0
    began = stopwatch.now()
    results = tuner.fit()
    ended = stopwatch.now()
    if results.num_errors:
        raise WrongRowsError(f"{load.name}: {results.num_errors} trials failed: {results.errors}")
    processes.none_left()  # whoever still writes may end
    if how == NONE:
        missing = 0
    elif server is None:
        missing = missing_rows(how, load, name, folder)
    else:
        run_ids = [str((one.metrics or {}).get("trial_id")) for one in results]
        missing = missing_uploads(how, load, server.rows(run_ids, load.results))
    return Sweep(ended - began, ended - CLOCK.last_result, CLOCK.loop_us, CLOCK.end_s, missing)


def missing_rows(how: str, load: Load, name: str, folder: Path) -> int:
    """Read back every run of a sweep.

    Returns:
        How many rows Ray's own lost. That happens to it, so it is said, and no more.

    Raises:
        WrongRowsError: when wbtune's runs are anything but whole.
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


def missing_uploads(how: str, load: Load, rows: dict[str, int]) -> int:
    """The same of what the stand-in was sent, by run."""
    if how == OURS and list(rows.values()) != [load.results] * load.trials:
        raise WrongRowsError(f"{load.name}: rows that were uploaded, for {load.results}: {rows}")
    return load.trials * load.results - sum(rows.values())
