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
    """As many trials as it asks for, each with its parameters inside, and an overview."""
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
    # The best one's tag is a segment of its own.
    ids = {run.name.split("-", 3)[-1] for run in offline.glob("swept/wandb/offline-run-*")}
    assert len(ids) == number + 1


def test_hyperband_stops_at_its_rungs(ray, offline):
    """From the last: 5 / 2 and 5 / 4, cut to whole numbers. None is stopped where there is none."""
    results = run("hyperband_from_its_end", offline, train)
    assert [result.metrics["training_iteration"] for result in results] == [4, 1, 1, 1]


def test_a_target_ends_the_experiment(ray, offline):
    """The first trial reaches it at its third result, and none of the other 49 has run."""
    results = run("target", offline)
    begun = [result.metrics["training_iteration"] for result in results if result.metrics]
    assert begun == [3]


def failing(config):
    """Fails in its first attempt; the storage knows whether there was one."""
    mark = Path(tune.get_context().get_trial_dir(), "attempted")
    tune.report({"loss": float(config["noise"] ** 2)})
    if not mark.exists():
        mark.touch()
        raise ValueError
    tune.report({"loss": 0.5})


def test_the_sweep_has_exactly_the_files_config_and_goes_on_after_restoring(
    ray, tmp_path, monkeypatch
):
    """What is ignored here is in it, too; the restored experiment is in the same sweep."""
    path = tmp_path / "sweep.yaml"
    config = {
        "name": "from a file",
        "program": "train.py",
        "command": ["${env}", "python3", "${program}", "${args}"],
        "method": "random",
        "run_cap": 2,
        "metric": {"name": "loss", "goal": "minimize", "target": -1},
        "early_terminate": {"type": "hyperband", "min_iter": 3},
        "parameters": {
            "noise": {"distribution": "q_normal", "q": 0.5},
            "model": {"parameters": {"lr": {"min": 1e-05, "max": 0.1}, "act": {"value": "relu"}}},
        },
    }
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    with WandbServer(keys={TEST_KEY}) as server:
        for name, value in server.env(tmp_path / "client").items():
            if name != "HOME":
                monkeypatch.setenv(name, value)
        run_config = tune.RunConfig("swept", storage_path=str(tmp_path), verbose=0)
        tuner = wandb_tuner(failing, sweep=path, project="p", run_config=run_config)
        assert tuner.fit().num_errors == 2
        (sweep,) = server.sweeps
        assert (sweep.config, sweep.name, sweep.configs) == (config, "from a file", [config])
        members = {run.key for run in server.runs.values() if run.sweep == sweep.id}
        assert len(members) == 2
        path.unlink()
        again = restore_wandb_tuner(str(tmp_path / "swept"), failing, resume_errored=True)
        assert again.fit().num_errors == 0
        assert [one.configs for one in server.sweeps] == [[config]]
        assert sweep.states[-1] == "FINISHED"
        assert {run.key for run in server.runs.values() if run.sweep == sweep.id} == members
        for run in server.runs.values():
            assert run.sweep is None or run.config["noise"] % 0.5 == 0
