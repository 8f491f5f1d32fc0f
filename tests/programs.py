"""The trainables under test: the guide's three programs, and the same through each way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune

from wbtune import WandbLoggerCallback, WandbMixin, setup_wandb, wandb_trial, wandb_tuner

PROJECT = "Wandb_example"
ROWS = 30


def losses(config: dict[str, Any]) -> Iterator[float]:
    for _ in range(ROWS):
        yield config["mean"] + config["sd"] * np.random.default_rng().standard_normal()


# --- the guide's three ---


def train_function(config):
    for loss in losses(config):
        tune.report({"loss": loss})


def train_function_wandb(config):
    wandb = setup_wandb(config, project=PROJECT)

    for loss in losses(config):
        tune.report({"loss": loss})
        wandb.log({"loss": loss})


class WandbTrainable(tune.Trainable):
    def setup(self, config):
        self.wandb = setup_wandb(
            config,
            trial_id=self.trial_id,
            trial_name=self.trial_name,
            group="Example",
            project=PROJECT,
        )

    def step(self):
        for loss in losses(self.config):
            self.wandb.log({"loss": loss})
        return {"loss": loss, "done": True}

    def save_checkpoint(self, checkpoint_dir):
        pass

    def load_checkpoint(self, checkpoint_dir):
        pass


# --- the same, declared ---


@wandb_trial(project=PROJECT)
def decorated_logs(config, run):
    for loss in losses(config):
        tune.report({"loss": loss})
        run.log({"loss": loss})


@wandb_trial(project=PROJECT)
def decorated_reports(config):
    for loss in losses(config):
        tune.report({"loss": loss})


@wandb_trial(project=PROJECT)
def decorated_returns(config):
    *others, last = losses(config)
    for loss in others:
        tune.report({"loss": loss})
    return {"loss": last}


@wandb_trial(project=PROJECT)
def decorated_generator(config, run):
    for loss in losses(config):
        run.log({"loss": loss})
        yield {"loss": loss}


class Mixed(WandbMixin, tune.Trainable, project=PROJECT, group="Example"):
    def setup(self, config):
        assert self.run.id == self.trial_id

    def step(self):
        for loss in losses(self.config):
            self.run.log({"loss": loss})
        return {"loss": loss, "done": True}

    def save_checkpoint(self, checkpoint_dir):
        pass

    def load_checkpoint(self, checkpoint_dir):
        pass


class MixedReports(WandbMixin, tune.Trainable, project=PROJECT):
    def setup(self, config):
        self.losses = list(losses(config))

    def step(self):
        return {"loss": self.losses.pop(), "done": not self.losses}

    def save_checkpoint(self, checkpoint_dir):
        pass

    def load_checkpoint(self, checkpoint_dir):
        pass


def space(trials: int) -> dict[str, Any]:
    return {
        "mean": tune.grid_search(list(range(1, trials + 1))),
        "sd": tune.uniform(0.2, 0.8),
    }


def _plain(trainable: Any) -> Callable[..., Any]:
    def build(trials: int, run_config: Any) -> Any:
        return tune.Tuner(trainable, param_space=space(trials), run_config=run_config)

    return build


def _callback(trainable: Any) -> Callable[..., Any]:
    def build(trials: int, run_config: Any) -> Any:
        run_config.callbacks = [WandbLoggerCallback(project=PROJECT)]
        return tune.Tuner(trainable, param_space=space(trials), run_config=run_config)

    return build


def _tuner(trainable: Any, **options: Any) -> Callable[..., Any]:
    def build(trials: int, run_config: Any) -> Any:
        return wandb_tuner(
            trainable,
            project=PROJECT,
            param_space=space(trials),
            run_config=run_config,
            **options,
        )

    return build


#: Each way to combine the pieces, with how many trials it is tried: several where the driver
#: writes the runs and where the trials do, or one. Every trial gives a run of thirty rows.
WAYS: dict[str, tuple[Callable[..., Any], int]] = {
    "callback": (_callback(train_function), 3),
    "setup_wandb in a function": (_plain(train_function_wandb), 1),
    "setup_wandb in a class": (_plain(WandbTrainable), 1),
    "wandb_trial": (_plain(decorated_logs), 3),
    "wandb_trial on a generator": (_plain(decorated_generator), 1),
    "WandbMixin": (_plain(Mixed), 2),
    "wandb_tuner": (_tuner(train_function), 2),
    "wandb_tuner and wandb_trial": (_tuner(decorated_reports), 1),
    "wandb_tuner and wandb_trial that returns": (_tuner(decorated_returns), 1),
    "wandb_tuner and wandb_trial that logs": (_tuner(decorated_logs, log_results=False), 1),
    "wandb_tuner and WandbMixin": (_tuner(MixedReports), 1),
    "callback and wandb_trial": (_callback(decorated_logs), 1),
    "callback and WandbMixin": (_callback(Mixed), 1),
    "callback and setup_wandb in a function": (_callback(train_function_wandb), 1),
    "callback and setup_wandb in a class": (_callback(WandbTrainable), 1),
}


def run_config(folder: Path, name: str, **more: Any) -> Any:
    return tune.RunConfig(name=name, storage_path=str(folder), verbose=0, **more)
