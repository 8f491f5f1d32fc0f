"""A driver to be killed or interrupted: ``python crash_program.py FOLDER WAY``."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import ray
from drivers import local_ray, quick_workers
from ray import tune

from wbtune import WandbLoggerCallback, WandbMixin, wandb_trial, wandb_tuner

ITERATIONS = 40


def work(config, i):
    """Slow from the twelfth iteration on, so that the driver is ended in the middle of it."""
    if config["trial"] != 0:
        restored = Path(config["folder"], "restored").exists()
        time.sleep(0.02 if restored else 0.1 if i <= 12 else 1.5)


def iterations(config):
    """Results with a checkpoint every 5; one trial is done before the others begin."""
    start = 0
    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            start = int(Path(folder, "i").read_text())
    for i in range(start + 1, 1 + ITERATIONS):
        work(config, i)
        result = {"loss": float(i), "i": i, "score": float(i + config["trial"])}
        if i % 5:
            yield result, None
        else:
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, "i").write_text(str(i))
                yield result, tune.Checkpoint.from_directory(folder)


def plain(config):
    for result, checkpoint in iterations(config):
        tune.report(result, checkpoint=checkpoint)


@wandb_trial(project="crash")
def decorated(config, run):
    for result, checkpoint in iterations(config):
        tune.report(result, checkpoint=checkpoint)


class Mixed(WandbMixin, tune.Trainable, project="crash"):
    def setup(self, config):
        self.i = 0

    def step(self):
        self.i += 1
        work(self.config, self.i)
        score = float(self.i + self.config["trial"])
        done = self.i == ITERATIONS
        return {"loss": float(self.i), "i": self.i, "score": score, "done": done}

    def save_checkpoint(self, checkpoint_dir):
        return {"i": self.i}

    def load_checkpoint(self, checkpoint):
        self.i = checkpoint["i"]


TRAINABLES = {"callback": plain, "wandb_trial": decorated, "WandbMixin": Mixed}


def main():
    folder, way = sys.argv[1:]
    quick_workers()
    local_ray(2, forked=False)
    trainable = TRAINABLES[way]
    run_config = tune.RunConfig(
        name=f"crash-{way}",
        storage_path=folder,
        verbose=0,
        checkpoint_config=tune.CheckpointConfig(
            checkpoint_frequency=5 if way == "WandbMixin" else 0
        ),
    )
    space = {"trial": tune.grid_search([0, 1]), "folder": folder}
    tuned = {
        "param_space": space,
        "run_config": run_config,
        "tune_config": tune.TuneConfig(metric="score", mode="max"),
    }
    if way == "callback":
        run_config.callbacks = [WandbLoggerCallback(project="crash", sweep=True)]
        tuner = tune.Tuner(trainable, **tuned)
    else:
        tuner = wandb_tuner(trainable, sweep=True, **tuned)
    tuner.fit()
    print("fit returned")
    ray.shutdown()


if __name__ == "__main__":
    main()
