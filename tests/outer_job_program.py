"""A driver that a sweep's agent started, with a run of its own: ``python ... FOLDER``.

Its wandb-core and its environment are what the trials inherit.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import time
from pathlib import Path

AGENT = {
    "WANDB_SWEEP_ID": "sweep",
    "WANDB_RUN_ID": "agents",
    "WANDB_PROJECT": "of-the-sweep",
    "WANDB_ENTITY": "of-the-sweep",
    "WANDB_TAGS": "from-outside",
}
if __name__ == "__main__":  # before wandb reads it
    os.environ.update(AGENT)

import psutil
import ray
import wandb
from drivers import local_ray, quick_workers
from ray import tune

from wbtune import setup_wandb, wandb_trial, wandb_tuner
from wbtune._run import log_rows, run_files

ROWS = 10


@wandb_trial(project="p")
def killed_once(config, run):
    """Its process is killed in the middle, when what it logged is on disk, and started again."""
    flag = Path(config["folder"], f"killed {config['i']}")
    for row in range(ROWS):
        run.log({"mine": row})
        tune.report({"loss": row})
        if row == 4 and not flag.exists():
            flag.touch()
            logged = Path(config["folder"], "decorated")
            while sum("mine" in line for line in written(logged, run.id)) <= row:
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)


def written(folder, run_id):
    """The rows of a run that are on disk."""
    return log_rows.rows(run_files.logs(folder, run_id))


def plain(config):
    for row in range(ROWS):
        tune.report({"loss": row})


def drivers_core_dies(config):
    """The trial itself was the first to use wandb, so that it is connected to the driver's core."""
    with contextlib.suppress(Exception):  # the other trial has killed it
        wandb.setup()
    run = setup_wandb(config, project="p")
    for row in range(ROWS):
        run.log({"mine": row})
        tune.report({"loss": row})
        if row == 4:
            for core in cores(config["driver"]):
                core.kill()


def cores(pid):
    children = psutil.Process(pid).children()
    return [child for child in children if "wandb-core" in child.name()]


def fit(make, trainable, folder, name, **space):
    config = tune.RunConfig(
        name=name,
        storage_path=folder,
        verbose=0,
        failure_config=tune.FailureConfig(max_failures=1),
    )
    space = {"i": tune.grid_search([0, 1]), "folder": folder, **space}
    results = make(trainable, param_space=space, run_config=config).fit()
    assert not results.errors, results.errors


def main(folder):
    quick_workers()
    mine = wandb.init(dir=folder)
    mine.log({"before": 1})
    address = os.environ["WANDB_SERVICE"]
    local_ray(2)
    fit(wandb_tuner, killed_once, folder, "decorated")
    fit(functools.partial(wandb_tuner, project="p"), plain, folder, "plain")
    assert wandb.run is mine and os.environ["WANDB_SERVICE"] == address
    mine.log({"after": 1})
    mine.finish()
    fit(tune.Tuner, drivers_core_dies, folder, "setup_wandb", driver=os.getpid())
    ray.shutdown()
    print("all fitted")


if __name__ == "__main__":
    main(sys.argv[1])
