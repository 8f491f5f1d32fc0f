"""Measure ``wbtune import``: its speed against a bare wandb loop, and its memory.

This file is also the program of both. The loop has its rows as dicts, and what Python needs to
import wandb does not count; for the command, everything does, from its start to its exit.

    python importing.py loop FOLDER TRIALS RESULTS
    python importing.py command FOLDER
"""

from __future__ import annotations

import contextlib
import json
import runpy
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

from wbtune._run import log_rows, run_files

ARGUMENTS: Final = ("import", "--project", "bench", "--mode", "offline")


class Imported(NamedTuple):
    """One import: how long it took, and its greatest memory."""

    wall_s: float
    megabytes: float


def rows_of(trial: int, results: int) -> Any:
    """The rows of a trial, without what Tune adds for itself."""
    for number in range(1, results + 1):
        yield {
            "loss": trial + 1 / number,
            "accuracy": number * 0.001,
            "timestamp": 1_700_000_000 + number,
            "training_iteration": number,
            "time_this_iter_s": 0.0032563209533691406,
            "time_total_s": number * 0.0032563209533691406,
            "time_since_restore": number * 0.0032563209533691406,
            "iterations_since_restore": number,
        }


def write_experiment(folder: Path, trials: int, results: int) -> None:
    """Write what Tune would leave of these trials."""
    data = []
    for trial in range(trials):
        trial_id = f"t{trial:05}"
        place = folder / f"train_{trial_id}"
        place.mkdir(parents=True)
        own = {"trial_id": trial_id, "done": False, "checkpoint_dir_name": None, "pid": 7}
        own |= {"date": "2026-01-01_00-00-00", "hostname": "here", "node_ip": "192.0.2.1"}
        own |= {"config": {"lr": 0.1, "layers": 4}}
        with (place / "result.json").open("w", encoding="utf-8") as file:
            for row in rows_of(trial, results):
                file.write(f"{json.dumps({**row, **own})}\n")
        (place / "params.json").write_text('{"lr": 0.1, "layers": 4}', encoding="utf-8")
        state = {"trial_id": trial_id, "relative_logdir": place.name, "status": "TERMINATED"}
        data.append([json.dumps(state), "{}"])
    content = json.dumps({"trial_data": data, "runner_data": {}})
    (folder / "experiment_state-2026-01-01_00-00-00.json").write_text(content, encoding="utf-8")


def by_command(folder: Path, trials: int, results: int) -> Imported:
    """Import an experiment.

    Raises:
        RuntimeError: if a row is missing.
    """
    write_experiment(folder, trials, results)
    began = time.perf_counter()
    megabytes = _own("command", folder)
    wall_s = time.perf_counter() - began
    _check(folder, trials * results)
    return Imported(wall_s, megabytes)


def by_loop(folder: Path, trials: int, results: int) -> float:
    """Seconds of a bare wandb loop that logs the same rows.

    Raises:
        RuntimeError: if a row is missing.
    """
    folder.mkdir(parents=True)
    seconds = _own("loop", folder, trials, results)
    _check(folder, trials * results)
    return seconds


def _own(*arguments: object) -> float:
    """The last number that this program prints."""
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.split()[-1])


def _check(folder: Path, rows: int) -> None:
    stamps = log_rows.numbers(run_files.logs(folder), log_rows.STAMP)
    found = sum(stamp is not None for (stamp,) in stamps)
    shutil.rmtree(folder)
    if found != rows:
        msg = f"{found} of {rows} rows in {folder}"
        raise RuntimeError(msg)


def run_loop(folder: str, trials: int, results: int) -> None:
    """Log the rows with wandb alone, and print how many seconds that took."""
    import wandb  # noqa: PLC0415 - not for the module's users

    rows = [list(rows_of(trial, results)) for trial in range(trials)]
    began = time.perf_counter()
    for trial, of_trial in enumerate(rows):
        config = {"lr": 0.1, "layers": 4}
        run = wandb.init(project="bench", id=f"t{trial:05}", dir=folder, config=config)
        for row in of_trial:
            run.log(row, step=row["training_iteration"])
        run.finish()
    print(time.perf_counter() - began)


def run_command(folder: str) -> None:
    """Import what is in the folder, and print the greatest memory of this process in megabytes."""
    sys.argv[1:] = [*ARGUMENTS, folder]
    with contextlib.suppress(SystemExit):  # a missing row shows what went wrong
        runpy.run_module("wbtune", run_name="__main__")
    # `ru_maxrss` would include what the parent had when it started this process.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)


if __name__ == "__main__":
    if sys.argv[1] == "loop":
        run_loop(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        run_command(sys.argv[2])
