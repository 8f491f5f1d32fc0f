"""Record what a Ray leaves of an experiment, as small text files: ``record.py FOLDER``.

Each folder beside this file was made by it, with the Ray that is in the folder's name; ``rllib``,
with Ray 2.60, needs RLlib's own packages. Of four trials one raised, and in ``killed`` the driver
was killed while the last one ran. What Ray pickles is cut short, as nobody loads it, and paths are
made neutral. In ``ray-2.7.2-cut``, the driver was killed while it wrote.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import ray
from ray import tune

#: What of Ray's files is kept.
KEPT = re.compile(
    r"experiment_state-.*\.json|params\.json|result\.json|error\.txt"
    r"|weights\.txt|rllib_checkpoint\.json"
)
PICKLE = re.compile(r'(CLOUDPICKLE_FALLBACK\\*",\s*(?:\\n)?\s*\\*"value\\*": \\*")[0-9a-f]+')


def train(config):
    if hasattr(tune, "Checkpoint"):
        from ray.tune import Checkpoint, report
    else:  # Ray 2.41
        from ray.train import Checkpoint, report
    for i in range(5):
        if config["lr"] == 3.0 and i == 2:
            raise RuntimeError("learning rate 3.0 is too high")
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "weights.txt").write_text(str(i), encoding="utf-8")
            checkpoint = None if i % 2 else Checkpoint.from_directory(folder)
            loss = {"loss": config["lr"] / (i + 1), "accuracy": float("nan") if i == 1 else i / 5}
            report({**loss, "validation": {"loss": 2 * loss["loss"]}}, checkpoint=checkpoint)
        if config["kill"] and config["lr"] == 4.0 and i == 3:
            os.kill(config["kill"], 9)


def fit(name: str, storage: str) -> None:
    """Run the experiment; one named "killed" kills this process."""
    if hasattr(tune, "RunConfig"):
        from ray.tune import CheckpointConfig, RunConfig
    else:  # Ray 2.41
        from ray.train import CheckpointConfig, RunConfig
    ray.init("local", num_cpus=2, include_dashboard=False, logging_level="error")
    space = {
        "lr": tune.grid_search([1.0, 2.0, 3.0, 4.0]),
        "activation": tune.choice(["relu", "tanh"]),
        "model": {"depth": tune.randint(1, 5), "class": dict},
        "api_key": "not-for-wandb",
        "kill": os.getpid() if name == "killed" else 0,
    }
    run_config = RunConfig(
        name=name,
        storage_path=storage,
        verbose=0,
        checkpoint_config=CheckpointConfig(num_to_keep=2),
    )
    tune_config = tune.TuneConfig(metric="loss", mode="min", max_concurrent_trials=2)
    tune.Tuner(train, param_space=space, tune_config=tune_config, run_config=run_config).fit()


def fit_rllib(storage: str) -> None:
    """Run PPO on CartPole, three iterations with each of two learning rates."""
    from ray.rllib.algorithms.ppo import PPOConfig

    ray.init("local", num_cpus=2, include_dashboard=False, logging_level="error")
    config = PPOConfig().environment("CartPole-v1").env_runners(num_env_runners=0)
    lr = tune.grid_search([1e-3, 1e-4])
    tune.Tuner(
        "PPO",
        param_space=config.training(
            train_batch_size_per_learner=200, minibatch_size=50, num_epochs=1, lr=lr
        ),
        tune_config=tune.TuneConfig(
            metric="env_runners/episode_return_mean", mode="max", max_concurrent_trials=1
        ),
        run_config=tune.RunConfig(
            name="rllib",
            storage_path=storage,
            verbose=0,
            stop={"training_iteration": 3},
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=True),
        ),
    ).fit()


def keep(source: Path, target: Path) -> None:
    """Copy what is kept of an experiment's folder."""
    for path in sorted(source.rglob("*")):
        if path.is_file() and KEPT.fullmatch(path.name):
            text = PICKLE.sub(r"\g<1>80059500", path.read_text(encoding="utf-8"))
            text = text.replace(str(source.parent), "/home/user/ray_results")
            text = re.sub(r'"/[^"]*/site-packages/', '"/site-packages/', text)
            text = text.replace(f'"{Path(__file__).resolve()}"', '"/home/user/train.py"')
            kept = target / path.relative_to(source)
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(text, encoding="utf-8")
    for state in target.glob("experiment_state-*.json"):
        text = state.read_text(encoding="utf-8")
        assert not text or json.loads(text)  # empty, if the driver was killed while it wrote


def main() -> None:
    """Record the experiments with the Ray that runs this; RLlib's, where it is installed."""
    target = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as storage:
        for name in ("done", "killed", "rllib") if find_spec("gymnasium") else ("done", "killed"):
            subprocess.run([sys.executable, __file__, "--fit", name, storage], check=False)
            folder = target / (name if name == "rllib" else f"ray-{ray.__version__}-{name}")
            shutil.rmtree(folder, ignore_errors=True)
            keep(Path(storage, name), folder)


if __name__ == "__main__":
    if sys.argv[1:3] == ["--fit", "rllib"]:
        fit_rllib(sys.argv[3])
    elif sys.argv[1] == "--fit":
        fit(*sys.argv[2:])
    else:
        main()
