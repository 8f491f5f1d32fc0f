"""An experiment whose driver is killed, and which continues in the same runs.

    python examples/restore.py [FOLDER]

It starts itself as a driver, kills that in the middle (by SIGKILL, as the kernel does when it
runs out of memory), continues the experiment by `restore_wandb_tuner`, and counts what
is on disk: four runs with all of their twenty iterations. (A trial repeats what it had done after
its last checkpoint, and its run has both.)
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ray
from ray import tune

from wbtune import restore_wandb_tuner, wandb_trial, wandb_tuner
from wbtune._run import run_log

ROWS = 20


@wandb_trial
def train(config):
    start = 0
    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            start = int(Path(folder, "step").read_text())
    for step in range(start + 1, ROWS + 1):
        time.sleep(0.2)
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "step").write_text(str(step))
            tune.report(
                {"loss": config["lr"] / step}, checkpoint=tune.Checkpoint.from_directory(folder)
            )


def drive(folder):
    """The driver's program, which begins the experiment or, if there is one, restores it."""
    ray.init(include_dashboard=False, logging_level="error", log_to_driver=False)
    path = str(Path(folder, "killed"))
    if tune.Tuner.can_restore(path):
        tuner = restore_wandb_tuner(path, train, resume_errored=True)
    else:
        tuner = wandb_tuner(
            train,
            project="restore",
            param_space={"lr": tune.grid_search([0.1, 0.2, 0.3, 0.4])},
            run_config=tune.RunConfig(name="killed", storage_path=str(folder), verbose=0),
        )
    tuner.fit()


def rows(folder):
    """The iterations of each run's rows, in order; read from disk."""
    return {
        log.name: [row["training_iteration"] for row in log.rows]
        for log in run_log.read_runs(Path(folder, "killed")).values()
    }


def main(folder):
    os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1")
    driver = subprocess.Popen([sys.executable, __file__, folder, "drive"])
    while sum(map(len, rows(folder).values())) < ROWS:
        if driver.poll() is not None:
            sys.exit("the driver ended before it could be killed")
        time.sleep(0.5)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    print("killed; rows so far:", {name: len(found) for name, found in rows(folder).items()})
    subprocess.run([sys.executable, __file__, folder, "drive"], check=True)
    complete = True
    for name, iterations in sorted(rows(folder).items()):
        repeated = len(iterations) - len(set(iterations))
        print(f"{name}: {len(set(iterations))} of {ROWS} iterations, {repeated} rows repeated")
        complete = complete and set(iterations) == set(range(1, ROWS + 1))
    return 0 if complete else 1


if __name__ == "__main__":
    where = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()
    if sys.argv[2:] == ["drive"]:
        drive(where)
    else:
        sys.exit(main(where))
