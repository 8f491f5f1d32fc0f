"""W&B sweep files, as people publish them, run on Ray; and the sweep at W&B has the file's config.

Real Ray and real wandb-core, offline, and once against the stand-in for W&B's server.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import strategies_sweeps as sweeps
import yaml
from ray import tune
from wandb_server import TEST_KEY, WandbServer

from wbtune import restore_wandb_tuner, wandb_tuner
from wbtune._data.sweep_source import read

FOLDER = Path(__file__).with_name("sweep_files")

#: How many trials each file has, and how many iterations they may end with.
EXPECTED: dict[str, tuple[int, set[int]]] = {
    "quickstart": (3, {4}),
    "grid": (8, {4}),
    "grid_capped": (2, {4}),
    "bayes_hyperband": (4, {1, 2, 4}),
    "nested": (2, {4}),
    "exponents": (2, {4}),
    "quantized": (2, {4}),
    "probabilities": (3, {4}),
    "hyperband_from_its_end": (4, {1, 2, 4}),
}


def train(config):
    """The first trial is the best, and each later one is worse than all before."""
    trial = int(tune.get_context().get_trial_id().rpartition("_")[2])
    for i in range(1, 5):
        tune.report({"loss": trial + 1 / i, "score": float(i)})


def counted(config):
    for i in range(1, 5):
        tune.report({"loss": config.get("lr", 1.0) / i, "score": float(i)})


def run(name: str, path: Path, trainable: Any = counted, **given: Any) -> Any:
    tuner = wandb_tuner(
        trainable,
        sweep=FOLDER / f"{name}.yaml",
        project="p",
        tune_config=tune.TuneConfig(max_concurrent_trials=1, reuse_actors=True),
        run_config=tune.RunConfig("swept", storage_path=str(path), verbose=0),
        **given,
    )
    return tuner.fit()


@pytest.fixture
def offline(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "0")  # the overview reads Tune's files
    return tmp_path


@pytest.mark.parametrize("name", EXPECTED)
def test_a_published_file_runs(name, ray, offline):
    """As many trials as it asks for, each with its parameters inside, none lost, and an overview."""
    results = run(name, offline)
    number, iterations = EXPECTED[name]
    assert (len(results), results.num_errors) == (number, 0)
    config = read("f", FOLDER / f"{name}.yaml").config
    is_grid = config["method"] == "grid"
    for result in results:
        for parameter, one, value in sweeps.leaves(config["parameters"], result.config):
            assert sweeps.lies_inside(one, value, is_grid=is_grid), (parameter, one, value)
    assert {result.metrics["training_iteration"] for result in results} <= iterations
    if is_grid:
        different = {json.dumps(result.config, sort_keys=True) for result in results}
        assert len(different) == number
    page = offline / "swept" / "overview.html"
    assert page.is_file()
    assert len([*offline.glob("swept/wandb/offline-run-*")]) == number + 1
