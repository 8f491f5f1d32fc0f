"""The examples of the recipes that need a library run as they stand, and their runs are complete.

``make recipes`` runs this in an environment of its own, `.venv/recipes`, which has RLlib,
Lightning, transformers and torch, and neither the other tests' packages nor their `conftest`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import page_examples
import pytest
from page_examples import PAGES, blocks

from wbtune._run import run_log
from wbtune._run.run_log import RunLog

PROGRAMS = [block for page in PAGES for block in blocks(page, "recipes")]


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What became of each program, in one process and on one Ray."""
    folder = tmp_path_factory.mktemp("recipes")
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    (folder / "home").mkdir()
    env |= {"HOME": str(folder / "home"), "WANDB_ERROR_REPORTING": "false"}
    pages = [page for page in PAGES if blocks(page, "recipes")]
    return page_examples.run(pages, folder, env, "recipes")


@pytest.fixture
def logs(results: dict[str, dict[str, Any]]) -> Any:
    """Read the runs of an experiment, whichever page started it."""

    def read(experiment: str) -> list[RunLog]:
        homes = {Path(one["home"]) for one in results.values()}
        found = [run_log.read_runs(home / "ray_results" / experiment).values() for home in homes]
        return [log for runs in found for log in runs]

    return read


@pytest.mark.parametrize("block", PROGRAMS, ids=lambda block: block.name)
def test_it_runs(block, results):
    """Each is a program of its own."""
    assert results[block.name]["error"] is None


def is_complete(log: RunLog, rows: int, outcome: str = "finished") -> bool:
    """Say whether a run is as its trial was."""
    assert (log.exit_code, log.summary["wbtune/outcome"]) == (0, outcome)
    assert log.summary["wbtune/dropped"] == 0
    assert len(log.rows) == rows
    return True


def test_rllib(logs):
    """A run for each trial; its nested results, less what is excluded; and its checkpoint."""
    low, high = sorted(logs("ppo"), key=lambda log: log.config["lr"])
    assert (low.config["lr"], high.config["lr"]) == (1e-4, 1e-3)
    for log in (low, high):
        assert is_complete(log, 2, "stopped")
        assert log.project == "cartpole"
        assert log.name == f"PPO_CartPole-v1_{log.id}"
        assert log.config["env"] == "CartPole-v1"
        row = log.rows[-1]
        assert {"env_runners/episode_return_mean", "learners/default_policy/total_loss"} <= set(row)
        assert {"num_env_steps_sampled_lifetime", "env_runners/episode_len_mean"} <= set(row)
        words = ("timer", "throughput", "connector", "perf", "fault_tolerance")
        assert [key for key in row if any(word in key for word in words)] == []
        best = log.summary["env_runners/episode_return_mean"]["max"]
        assert best == max(row["env_runners/episode_return_mean"] for row in log.rows)
        (artifact,) = log.artifacts
        assert artifact.name == f"checkpoint_{log.name}"
        assert set(artifact.aliases) == {"latest", "best"}
        assert "rllib_checkpoint.json" in artifact.files


def test_rllib_with_the_callback(logs):
    """The same; nothing is left out without `excludes`."""
    (log,) = logs("ppo-callback")
    assert is_complete(log, 1, "stopped")
    assert any("timer" in key for key in log.rows[0])


def test_an_rllib_algorithm_with_a_run_of_its_own(logs):
    """What it logs is in the row of RLlib's results."""
    (log,) = logs("ppo-own-run")
    assert is_complete(log, 1, "stopped")
    assert log.rows[0]["weights/sum"] > 0
    assert "env_runners/episode_return_mean" in log.rows[0]


@pytest.mark.parametrize(
    ("page", "rows", "steps", "project"),
    [
        ("lightning", 4, "trainer/global_step", "mnist"),
        ("huggingface", 3, "train/global_step", "bert"),
    ],
)
def test_loggers_find_the_run(page, rows, steps, project, logs):
    """Each trial has one run, which has what the library logs."""
    found = logs(page)
    assert len(found) == 2
    for log in found:
        assert is_complete(log, rows)
        assert (log.project, log.group, log.name) == (project, page, f"train_{log.id}")
        assert [row[steps] for row in log.rows] == sorted(row[steps] for row in log.rows)
        assert "lr" in log.config
        assert any("loss" in key for key in log.rows[0])
    assert len({log.config["lr"] for log in found}) == 2


def test_the_trainer_of_transformers_adds_its_config(logs):
    """The arguments of the Trainer, and the model's config."""
    for log in logs("huggingface"):
        assert {"learning_rate", "hidden_size", "model/num_parameters"} <= set(log.config)
        assert "train_runtime" in log.summary


def test_ray_train(logs):
    """The worker of rank 0 has the run."""
    (log,) = logs("torch")
    assert is_complete(log, 3)
    assert (log.name, log.group, log.config["lr"]) == ("torch", "torch", 0.1)


def test_no_other_run_is_written(results):
    """All runs are those of experiments, below their folders: no library opened one itself."""
    homes = {Path(one["home"]) for one in results.values()}
    found = [log for home in homes for log in home.parent.rglob("*.wandb")]
    strays = [log for log in found if "ray_results" not in log.parts]
    assert found
    assert strays == []
