"""Runs that are opened in the trial: bare wandb, Ray's `setup_wandb`, and `@wandb_trial`.

The trials run one after the other, each in its own actor, and the ways alternate: opening a run
starts a wandb-core, which takes half a second, a little more or less each time.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import wandb
from ray import tune
from ray.air.integrations import wandb as peer
from sweeps import WrongRowsError

import wbtune
from wbtune._run import replay, run_log

PROJECT = "benchmark"
BARE, OURS, PEER = "bare wandb", "@wandb_trial", "Ray's setup_wandb"
ROWS = 50
#: For comparing two kinds of ``run.log``: seconds in all, and how many rows of one kind in turn.
COMPARE_S, BLOCK = 3.0, 50


def trial(config: dict[str, Any]) -> None:
    """The trainable: open a run in one of the ways, log, close it; the imports are done by then."""
    began = time.perf_counter()
    case = config["case"]
    tune.report(WAYS[case["how"]]({**config, **case}, began=began))


def bare(config: dict[str, Any], began: float) -> dict[str, float]:
    """A run like that of wandb's own quickstart."""
    trial_id = tune.get_context().get_trial_id()
    run = wandb.init(project=PROJECT, mode="offline", id=trial_id, dir=config["dir"])
    times = log(run, began)
    run.finish()
    return times


def peers(config: dict[str, Any], began: float) -> dict[str, float]:
    """A run as in https://docs.ray.io/en/latest/tune/examples/tune-wandb.html, with a `finish`.

    Without the `finish`, its rows are lost.
    """
    run = peer.setup_wandb(config, project=PROJECT, mode="offline", dir=config["dir"])
    times = log(run, began)
    run.finish()
    return times


@wbtune.wandb_trial(project=PROJECT, mode="offline")
def decorated(config: dict[str, Any], run: Any, began: float) -> dict[str, float]:
    """A run as in the examples of wbtune's documentation."""
    times = log(run, began)
    if config["compare"]:
        ratios = compare(run, COMPARE_S)
        with mock.patch.object(replay, "TOGETHER_S", 0.0):
            apart = compare(run, COMPARE_S / 2)
        times["log_ratio"] = statistics.median(ratios)
        times["log_ratio_apart"] = statistics.median(apart)
        times["compared"] = 2 * BLOCK * (len(ratios) + len(apart))
    return times


def log(run: Any, began: float) -> dict[str, float]:
    """The first lines of a function: log some rows."""
    opened = time.perf_counter()
    for i in range(ROWS):
        run.log({"loss": 1.0 / (1 + i)})
    logged = time.perf_counter()
    return {"open_ms": (opened - began) * 1000, "log_us": (logged - opened) * 1e6 / ROWS}


def compare(run: Any, seconds: float) -> list[float]:
    """The time of ``run.log`` in a decorated trial, divided by that without its guard, in turns.

    Both are of the same run, because two bare runs of one process differ by up to 3 %.
    Rows are logged as fast as possible, so that the guard remembers many rows as one entry; if that
    is turned off, it remembers each by itself, as it does with rows that are some time apart.
    """
    attributes = vars(run)
    guarded = {
        name: attributes[name] for name in attributes if callable(getattr(type(run), name, 0))
    }
    assert guarded, "there is no guard to be compared with"  # noqa: S101 - see the message
    ratios: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        times = {}
        for how in (OURS, BARE) if len(ratios) % 2 else (BARE, OURS):
            if how == BARE:
                for name in guarded:
                    del attributes[name]
            began = time.perf_counter()
            for i in range(BLOCK):
                run.log({"loss": 1.0 / (1 + i)})
            times[how] = time.perf_counter() - began
            attributes.update(guarded)
        ratios.append(times[OURS] / times[BARE])
    return ratios


WAYS: dict[str, Callable[..., dict[str, float]]] = {BARE: bare, OURS: decorated, PEER: peers}


def measure(rounds: int, folder: Path) -> dict[str, list[dict[str, float]]]:
    """Measure the ways in turn, for some rounds; Ray's own only in the first.

    Args:
        rounds: how many rounds of bare wandb and wbtune, which take turns at being first; one
            more before them is a warm-up.
        folder: results go below it.

    Raises:
        WrongRowsError: if rows are missing.
    """
    name = f"trial-side-{time.monotonic_ns()}"
    directory = folder / "results" / name
    (directory / "wandb").mkdir(parents=True)
    cases = [
        {"how": how, "round": number, "compare": how == OURS and number > 0}
        for number in range(rounds + 1)
        for how in ((BARE, OURS) if number % 2 else (OURS, BARE)) + (PEER,) * (number <= 1)
    ]
    results = tune.Tuner(
        trial,
        param_space={"case": tune.grid_search(cases), "dir": str(directory)},
        tune_config=tune.TuneConfig(max_concurrent_trials=1),
        run_config=tune.RunConfig(name=name, storage_path=str(directory.parent), verbose=0),
    ).fit()
    logs = run_log.read_runs(directory)
    found: dict[str, list[dict[str, float]]] = {how: [] for how in WAYS}
    for one in results:
        metrics, case = one.metrics or {}, (one.config or {})["case"]
        run = logs.get(metrics.get("trial_id", ""), run_log.RunLog())
        wanted = ROWS + metrics.get("compared", 0)
        if one.error or len(run.rows) < wanted or run.exit_code != 0:
            raise WrongRowsError(f"{case['how']}: {len(run.rows)} of {wanted} rows; {one.error}")
        if case["round"]:
            found[case["how"]].append(metrics)
    return found


def import_ms(repeats: int, folder: Path) -> list[float]:
    """Milliseconds to import `wandb_tuner` after ``ray.tune``, each in a new process.

    The modules are compiled, as after pip has installed a wheel.
    """
    program = (
        "import time, ray.tune; began = time.perf_counter(); from wbtune import wandb_tuner; "
        "print((time.perf_counter() - began) * 1000)"
    )
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
    command, env = [sys.executable, "-c", program], os.environ | compiled
    times = [
        float(subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout)
        for _ in range(repeats + 1)
    ]
    return times[1:]  # the first has compiled them
