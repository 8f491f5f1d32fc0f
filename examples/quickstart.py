"""The guide's three programs, through wbtune, without an account and without a network.

    python examples/quickstart.py [FOLDER]

Each has five trials of 30 results: logged by the callback, by `setup_wandb` in a function, and
by `setup_wandb` in a class. At the end it prints a table of the runs, read back from disk by
wandb's own reader, and where the overview of the first program is.
"""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import ray
from ray import tune

from wbtune import WandbLoggerCallback, setup_wandb

WANDB = Path(sys.executable).with_name("wandb")


def train_function(config):
    for _ in range(30):
        loss = config["mean"] + config["sd"] * np.random.randn()
        tune.report({"loss": loss})


def train_function_wandb(config):
    wandb = setup_wandb(config, project="Wandb_example")

    for _ in range(30):
        loss = config["mean"] + config["sd"] * np.random.randn()
        tune.report({"loss": loss})
        wandb.log(dict(loss=loss))


class WandbTrainable(tune.Trainable):
    def setup(self, config):
        self.wandb = setup_wandb(
            config,
            trial_id=self.trial_id,
            trial_name=self.trial_name,
            group="Example",
            project="Wandb_example",
        )

    def step(self):
        for _ in range(30):
            loss = self.config["mean"] + self.config["sd"] * np.random.randn()
            self.wandb.log({"loss": loss})
        return {"loss": loss, "done": True}

    def save_checkpoint(self, checkpoint_dir):
        pass

    def load_checkpoint(self, checkpoint_dir):
        pass


def tune_it(trainable, name, folder, callbacks=None):
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(metric="loss", mode="min"),
        run_config=tune.RunConfig(
            name=name, storage_path=str(folder), callbacks=callbacks, verbose=0
        ),
        param_space={
            "mean": tune.grid_search([1, 2, 3, 4, 5]),
            "sd": tune.uniform(0.2, 0.8),
        },
    )
    tuner.fit()


def records(log):
    """The records of one log, read by wandb's own reader."""
    command = [WANDB, "leet", "inspect", "--json", log]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in lines.splitlines()]


def inspect(found):
    """One run's name, state, rows and best loss."""
    run = [record["run"] for record in found if record["type"] == "run"][-1]
    rows = [record["history"]["item"] for record in found if record["type"] == "history"]
    ends = [record["exit"].get("exit_code", 0) for record in found if record["type"] == "exit"]
    state = "running" if not ends else "failed" if ends[-1] else "finished"
    return run["display_name"], state, len(rows), min(row["loss"] for row in rows)


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo-results").resolve()
    if folder.exists():
        shutil.rmtree(folder)
    os.environ.setdefault("WANDB_MODE", "offline")
    ray.init(include_dashboard=False, logging_level="error", log_to_driver=False)

    callback = WandbLoggerCallback(project="Wandb_example", sweep=True)
    tune_it(train_function, "callback", folder, [callback])
    tune_it(train_function_wandb, "function", folder)
    tune_it(WandbTrainable, "class", folder)

    # A run may have several logs: the best one was opened again for its tag.
    logs = {}
    for log in sorted(folder.glob("*/wandb/offline-run-*/*.wandb")):
        if not log.stem.startswith("run-sweep-"):  # the run for the whole experiment
            logs.setdefault(log.stem, []).append(log)
    with ThreadPoolExecutor(2) as pool:
        read = pool.map(lambda parts: [r for log in parts for r in records(log)], logs.values())
        runs = sorted(map(inspect, read))
    print(f"\n{'run':<34} {'state':<9} {'rows':>4} {'best loss':>10}")
    for name, state, rows, best in runs:
        print(f"{name:<34} {state:<9} {rows:>4} {best:>10.4f}")
    print(f"\nThe {len(runs)} runs are in {folder}. Look at them, and upload them:")
    wandb, runs_in = os.path.relpath(WANDB), os.path.relpath(folder)
    print(f"  {wandb} leet {runs_in}/callback/wandb")
    print(f"  {wandb} sync {runs_in}/*/wandb/offline-run-*")
    print(f"The overview of the first program: {runs_in}/callback/overview.html")


if __name__ == "__main__":
    main()
