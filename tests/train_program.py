"""Training loops of Ray Train: ``python train_program.py FOLDER (v1|v2)``."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

VERSION = sys.argv[2] if __name__ == "__main__" else "v2"
os.environ["RAY_TRAIN_V2_ENABLED"] = "1" if VERSION == "v2" else "0"
# V2 takes one report for each look at its workers, which it has every two seconds.
os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.2"
# A process for each training run that looks out for nodes that are about to go.
os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"
if (
    __name__ == "__main__"
):  # of a sweep's agent, and of a core that is gone: the workers have their own
    os.environ |= {
        "WANDB_SWEEP_ID": "sweep",
        "WANDB_RUN_ID": "agents",
        "WANDB_SERVICE": "3-1-unix-/no",
    }

import ray
from drivers import local_ray, quick_workers
from ray import train, tune

from wbtune import setup_wandb, wandb_trial

if VERSION == "v2":
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
else:
    from ray.train.data_parallel_trainer import DataParallelTrainer

PROJECT = "train"
ROWS = 6


def work(run):
    """Log a row for each report; nobody calls ``finish``."""
    rank = train.get_context().get_world_rank()
    for i in range(ROWS):
        run.log({"i": i, "rank": rank})
        train.report({"i": i})
    return rank


def loop(config):
    run = setup_wandb(config, project=PROJECT, rank_zero_only=config.get("only", True))
    assert setup_wandb(config, project=PROJECT) is run or run.disabled or not config["only"]
    rank = work(run)
    if config.get("fails") == rank:
        raise ValueError("the loop's own")
    if "fails" in config:
        train.report({"i": ROWS})  # waits for the worker that has failed


@wandb_trial(project=PROJECT)
def decorated(run):
    work(run)


@wandb_trial(project=PROJECT, rank_zero_only=False)
def fails_once(config, run):
    mark = Path(config["folder"], "failed")
    again = mark.exists()  # reports wait for all workers: each asks before one has failed
    rank = work(run)
    if again:
        return
    if rank == 0:
        mark.touch()
        raise ValueError("once")
    train.report({"i": ROWS})  # waits for the worker that has failed


def trainer(loop, folder, name, config=None, failures=0):
    more = {} if VERSION == "v2" else {"trainer_resources": {"CPU": 0}}
    return DataParallelTrainer(
        loop,
        train_loop_config=config,
        scaling_config=train.ScalingConfig(
            num_workers=2, use_gpu=False, resources_per_worker={"CPU": 0.25}, **more
        ),
        run_config=train.RunConfig(
            name=name,
            storage_path=folder,
            failure_config=train.FailureConfig(max_failures=failures),
        ),
    )


def fit(*args, **kwargs):
    """A trainer that fails raises; what is in its runs is what counts here."""
    try:
        trainer(*args, **kwargs).fit()
    except Exception as error:  # noqa: BLE001 - whatever V1 or V2 wraps it in
        print(error)


def v2(folder):
    """All at once: each costs seconds of waiting for processes."""
    fits = [
        (loop, folder, "rank-zero", {"only": True}),
        (fails_once, folder, "each", {"folder": folder}, 1),
    ]
    threads = [threading.Thread(target=fit, args=args) for args in fits]
    for thread in threads:
        thread.start()

    def trial(config):
        fit(decorated, folder, "inner")

    results = tune.Tuner(
        tune.with_resources(trial, {"cpu": 0.25}),
        run_config=tune.RunConfig(name="sweep", storage_path=folder, verbose=0),
    ).fit()
    assert not results.errors, results.errors
    for thread in threads:
        thread.join()


def v1(folder):
    hows = [{"only": True}, {"only": False, "fails": 1}]
    tune.Tuner(
        trainer(loop, folder, "sweep"),
        param_space={"train_loop_config": tune.grid_search(hows)},
        run_config=train.RunConfig(name="sweep", storage_path=folder, verbose=0),
    ).fit()
    fit(decorated, folder, "decorated")


if __name__ == "__main__":
    if VERSION == "v2":  # its workers are killed before they could say what was run
        quick_workers()
    local_ray(4, forked=False)
    {"v1": v1, "v2": v2}[VERSION](sys.argv[1])
    ray.shutdown()
    print("all fitted")
