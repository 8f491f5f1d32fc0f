"""The least that logging can cost: a loop around ``run.log``, without Ray and wbtune.

    python benchmarks/bare_loop.py RUNS ROWS FOLDER

Prints the seconds from importing wandb to the last ``finish``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

PROJECT = "benchmark"

#: What wbtune's driver opens its runs with (`wbtune.runs`), written out: this imports no
#: wbtune.
SETTINGS: dict[str, Any] = {
    "x_disable_stats": True,
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "disable_git": True,
    "disable_code": True,
    "disable_job_creation": True,
    "console": "off",
    "silent": True,
    "symlink": False,
    "x_transaction_log_flush_interval": 0.3,
    "finish_timeout_raises": False,
}

#: The keys of a result that wbtune logs.
LOGGED = frozenset(
    {
        "loss",
        "accuracy",
        "timestamp",
        "training_iteration",
        "time_this_iter_s",
        "time_total_s",
        "time_since_restore",
        "iterations_since_restore",
    }
)


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


def loop(runs: int, rows: int, folder: Path) -> float:
    """The same runs without wbtune: with its settings, and what it logs of a result."""
    began = time.perf_counter()
    import wandb  # noqa: PLC0415 - is part of it, as the helper's is

    (folder / "wandb").mkdir(parents=True)
    for number in range(runs):
        run = wandb.init(
            project=PROJECT,
            group=folder.name,
            id=f"t{number:05d}",
            name=f"trial_t{number:05d}",
            dir=str(folder),
            resume="allow",
            mode="offline",
            config={"lr": 0.1, "layers": [1, 2]},
            reinit="create_new",
            allow_val_change=True,
            settings=wandb.Settings(**SETTINGS),
        )
        for i in range(1, rows + 1):
            run.log({key: value for key, value in result(i).items() if key in LOGGED}, step=i)
        run.finish(exit_code=0)
    return time.perf_counter() - began


if __name__ == "__main__":
    print(loop(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
