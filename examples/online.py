"""A sweep against a W&B server, with the API key only on this machine.

    WANDB_API_KEY=... [WANDB_BASE_URL=https://wandb.example.com] [WANDB_ENTITY=team] \
        python examples/online.py [PROJECT]

(or after `wandb login`). It runs twelve trials on the Ray cluster that it finds; the nodes need
no key of their own. W&B sorts the trials by their best loss, each trial's last checkpoint is an
artifact, and "Stop run" in W&B stops that trial.
"""

import sys
import tempfile
from pathlib import Path

from ray import tune
from ray.tune.schedulers import ASHAScheduler

from wbtune import wandb_trial, wandb_tuner


@wandb_trial(tags=["example"])
def train(config, run):
    run.config.update({"optimizer": "sgd"})
    loss = 10.0
    for step in range(1, 31):
        loss *= 1 - config["lr"]
        run.log({"gradient": loss * config["lr"]})
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "weights.txt").write_text(str(loss))
            checkpoint = tune.Checkpoint.from_directory(folder) if step % 10 == 0 else None
            tune.report({"loss": loss}, checkpoint=checkpoint)


if __name__ == "__main__":
    results = wandb_tuner(
        train,
        project=sys.argv[1] if len(sys.argv) > 1 else "wbtune-online",
        upload_checkpoints="last",
        upload_timeout=60,  # seconds; what is not sent by then stays on disk
        param_space={"lr": tune.loguniform(1e-3, 0.5)},
        tune_config=tune.TuneConfig(
            metric="loss", mode="min", num_samples=12, scheduler=ASHAScheduler()
        ),
    ).fit()
    print("best:", results.get_best_result().config)
