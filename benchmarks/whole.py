"""Measure what ``sweep=True`` adds: to Tune's loop, and at the end the overview."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import hooks
from figures import Figure

from wbtune._data.checkpoint import Objective
from wbtune._data.filtering import Excludes
from wbtune._data.options import RunOptions
from wbtune._driver.description import describe
from wbtune._driver.experiment import Experiment
from wbtune._driver.sweep_start import Whole
from wbtune._driver.writer import Writer
from wbtune._overview.page import write
from wbtune._overview.record import ExperimentRecord, TrialRecord
from wbtune._overview.results import read_curve

OPTIONS = RunOptions(project="bench", init_kwargs={"mode": "offline"})


class Unsent(Writer):
    """Takes what Tune's loop puts on the queue, and sends none of it."""

    def launch(self, log_file: Path | None = None) -> None:
        pass


def hook_us(trials: int, results: int, folder: Path, *, whole: bool) -> float:
    """Microseconds of the hooks for one result, with these trials open."""
    asked = Whole(describe(Excludes(), space=None), "bench") if whole else None
    objective = Objective("loss", "min")
    experiment = Experiment("bench", OPTIONS, objective=objective, writer=Unsent(), whole=asked)
    made: list[Any] = [hooks.FakeTrial(f"t{number}", folder) for number in range(trials)]
    for trial in made:
        experiment.start(trial)
    rows = [hooks.result(1 + number % 100) for number in range(results)]
    began = time.perf_counter()
    for number, row in enumerate(rows):
        experiment.result(made[number % trials], row)
        experiment.step_end(made)
    return 1e6 * (time.perf_counter() - began) / results


def added_us(trials: int, results: int, pairs: int, folder: Path) -> Figure:
    """Microseconds that it adds to the hooks for one result, pair by pair."""
    found = [
        [hook_us(trials, results, folder, whole=whole) for whole in (True, False)]
        for _ in range(pairs)
    ]
    return Figure.difference(*map(list, zip(*found, strict=True)))


def overview_s(trials: int, results: int, folder: Path) -> float:
    """Seconds from Tune's files to the overview."""
    folder.mkdir(parents=True)
    chance = random.Random(0)  # noqa: S311 - data
    paths = [folder / f"{number}.json" for number in range(trials)]
    for path in paths:
        lines = (
            json.dumps({**hooks.result(1 + i), "loss": chance.random()}) for i in range(results)
        )
        path.write_text("\n".join(lines), encoding="utf-8")
    began = time.perf_counter()
    records = []
    for path in paths:
        curve = read_curve(path.read_bytes().splitlines(), "loss")
        params = {"lr": 10 ** chance.uniform(-5, -1), "layers": chance.randint(1, 8), "act": "relu"}
        last, best = curve.value[-1], min(curve.value)
        about = (path.stem, path.stem, "finished", "", results, 1.0, params, last, best, curve)
        records.append(TrialRecord(*about))
    write(ExperimentRecord("bench", records, "loss", "min"), folder / "overview.html")
    return time.perf_counter() - began
