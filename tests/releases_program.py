"""Log by every way with the Ray and wandb that are installed: `releases` looks at what arrived.

Nothing here is newer than the oldest releases that wbtune works with.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path

os.environ |= {
    "WANDB_SILENT": "true",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
}
os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from wbtune import WandbLoggerCallback, WandbMixin, setup_wandb, wandb_trial, wandb_tuner


class AfterThree(FIFOScheduler):
    """Stops the trial that is to be stopped, as ASHA would at its first rung."""

    def on_trial_result(self, tune_controller, trial, result):
        stops = trial.config["how"] == "is stopped" and result["training_iteration"] == 3
        return TrialScheduler.STOP if stops else TrialScheduler.CONTINUE


def rows(config):
    """Ten rows; five, and an error, for the trial that raises."""
    for i in range(10):
        if config["how"] == "raises" and i == 5:
            raise RuntimeError("the trial's own")
        yield {"loss": float(i), "i": i}


def plain(config):
    for row in rows(config):
        tune.report(row)


def by_hand(config):
    run = setup_wandb(config, project="releases")
    for row in rows(config):
        run.log(row)
        tune.report(row)


@wandb_trial(project="releases")
def decorated(config, run):
    run.summary["way"] = "decorated"
    for row in rows(config):
        run.log(row)
        tune.report(row)


class Class(tune.Trainable):
    def setup(self, config):
        self.rows = rows(config)

    def step(self):
        try:
            return next(self.rows)
        except StopIteration:
            return {"done": True, "loss": 10.0}

    def save_checkpoint(self, checkpoint_dir):
        return {}

    def load_checkpoint(self, checkpoint):
        pass


class Logging(Class):
    def step(self):
        result = super().step()
        self.run.log(result)
        return result


class ByHand(Logging):
    def setup(self, config):
        super().setup(config)
        self.run = setup_wandb(config, project="releases")


class Mixed(WandbMixin, Logging, project="releases"):
    pass


def fit(storage, name, how, trainable, *, make=tune.Tuner, callbacks=(), **more):
    tuner = make(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={"how": tune.grid_search(how), "way": name},
        tune_config=tune.TuneConfig(scheduler=AfterThree()),
        run_config=tune.RunConfig(
            name=name, storage_path=storage, callbacks=[*callbacks], verbose=0
        ),
        **more,
    )
    tuner.fit()
    Path(storage, f"fitted {name}").touch()


WAYS = {
    "WandbLoggerCallback": lambda *trials: fit(
        *trials, plain, callbacks=[WandbLoggerCallback(project="releases")]
    ),
    "setup_wandb": lambda *trials: fit(*trials, by_hand),
    "setup_wandb, class": lambda *trials: fit(*trials, ByHand),
    "@wandb_trial": lambda *trials: fit(*trials, decorated),
    "WandbMixin": lambda *trials: fit(*trials, Mixed),
    "wandb_tuner": lambda *trials: fit(*trials, plain, make=wandb_tuner, project="releases"),
}


if __name__ == "__main__":
    storage, ways = sys.argv[1], json.loads(sys.argv[2])
    warnings.simplefilter("ignore")
    if "RELEASES_RAY" in os.environ:  # one that several programs share, with packages of their own
        path = {"env_vars": {"PYTHONPATH": os.environ["PYTHONPATH"]}}
        ray.init(os.environ["RELEASES_RAY"], logging_level="error", runtime_env=path)
    else:
        # What is kept in a folder of its node is then in the same place.
        quiet = {"include_dashboard": False, "logging_level": "error"}
        ray.init(num_cpus=3, _temp_dir=f"{storage}/ray", **quiet)
    for way, how in ways.items():
        WAYS[way](storage, way, how)
    ray.shutdown()
