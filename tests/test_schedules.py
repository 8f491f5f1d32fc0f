"""Retries, pauses, perturbations, schedulers, budgets: one run per trial, no row missing."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest
from lives import ROWS, WAYS, NoDiskError, PauseOnce, small_disk
from programs import run_config
from ray import tune
from ray.tune.schedulers import ASHAScheduler, HyperBandScheduler, PopulationBasedTraining

from wbtune import ConfigurationError, WandbMixin
from wbtune._run import run_log

#: Those of a function; a population's class can be reused.
FUNCTIONS = ["callback", "wandb_trial", "setup_wandb", "wandb_tuner"]


class Mixed(WandbMixin, tune.Trainable, project="endings", log_results=True):
    def setup(self, config):
        self.i = 0

    def reset_config(self, new_config):
        self.i = 0
        return True

    def step(self):
        self.i += 1
        time.sleep(0.02)  # work, so that the population advances together
        return {"score": self.i * self.config["lr"], "i": self.i, "done": self.i >= ROWS}

    def save_checkpoint(self, checkpoint_dir):
        return {"i": self.i}

    def load_checkpoint(self, checkpoint):
        self.i = checkpoint["i"]


def steps_grow(log):
    steps = [row["_step"] for row in log.rows]
    return steps == sorted(set(steps))


#: How a first attempt ends, and where the second goes on: all of it where the driver writes the
#: runs, and where the trials do.
RETRIES = {
    "callback": ["retried", "retried from scratch", "killed, retried"],
    "wandb_trial": ["retried", "retried from scratch", "killed, retried"],
    "wandb_tuner": ["retried"],
    "setup_wandb": ["killed, retried"],
}


@pytest.mark.parametrize("way", FUNCTIONS)
def test_retry(way, ray, tmp_path):
    """A retried trial has one run with the rows of all attempts, ended as the last one was."""
    hows = RETRIES[way]
    tuner = WAYS[way].build(
        run_config(tmp_path, "retry", failure_config=tune.FailureConfig(max_failures=1)),
        param_space={
            "how": tune.grid_search(hows),
            "folder": str(tmp_path),
            "checkpoints": tune.sample_from(lambda spec: "from scratch" not in spec.config.how),
        },
    )
    results = tuner.fit()
    assert not results.errors
    logs = {log.config["how"]: log for log in run_log.read_runs(tmp_path / "retry").values()}
    assert set(logs) == set(hows)
    for how, log in logs.items():
        assert log.exit_code == 0
        assert log.summary["wbtune/outcome"] == "finished"
        assert "failed" not in log.tags
        assert steps_grow(log)
        rows = [row["i"] for row in log.rows if "i" in row]
        reported = [1, 2, 3, 4, 5, 6, 7]
        again = list(range(1 if "from scratch" in how else 8, ROWS + 1))
        if way in {"wandb_trial", "setup_wandb"}:
            reported = [*reported, 8]  # it logged this one and died before it reported it
        assert rows == reported + again
        attempts = [row.get("wbtune/attempt") for row in log.rows if "i" in row]
        assert 2 in attempts
        assert attempts.index(2) == len(reported)


@pytest.mark.filterwarnings("ignore:Consider boosting PBT:UserWarning")  # Ray's advice
@pytest.mark.parametrize(
    ("way", "reuse"),
    [("callback", False), ("wandb_tuner", True), ("WandbMixin", False), ("WandbMixin", True)],
)
def test_population(way, reuse, ray, tmp_path):
    """Exploited trials keep one run with every reported row, and say how they were changed."""
    # Over 40 lines: one experiment, and all that it shows.
    options = {
        "param_space": {"lr": tune.grid_search([0.1, 2.0])},
        "tune_config": tune.TuneConfig(
            metric="score",
            mode="max",
            reuse_actors=reuse,
            scheduler=PopulationBasedTraining(
                time_attr="training_iteration",
                perturbation_interval=6,  # each costs every trial a new process
                hyperparam_mutations={"lr": tune.uniform(0.1, 3.0)},
                synch=True,
            ),
        ),
    }
    seen: dict[str, list] = {}

    class Count(tune.Callback):
        def on_trial_result(self, iteration, trials, trial, result, **info):
            mark = (result["training_iteration"], result["time_total_s"])
            seen.setdefault(trial.trial_id, []).append(mark)

    config = run_config(tmp_path, "pbt", callbacks=[Count()])
    # The class by the tuner, which logs its results to its own run.
    built = replace(WAYS["wandb_tuner"], trainable=Mixed) if way == "WandbMixin" else WAYS[way]
    tuner = built.build(config, **options)
    results = tuner.fit()
    assert not results.errors
    logs = run_log.read_runs(tmp_path / "pbt")
    assert set(logs) == set(seen)
    changed = [log for log in logs.values() if "wbtune/perturbations" in log.config]
    assert changed
    for trial_id, log in logs.items():
        marks = [
            (row["training_iteration"], row["time_total_s"]) for row in log.rows if "score" in row
        ]
        assert marks == seen[trial_id]
        assert log.exit_code == 0
        assert steps_grow(log)
    for log in changed:
        for change in log.config["wbtune/perturbations"]:
            assert change["old"]["lr"] != change["new"]["lr"]
            assert change["from_trial"] in set(logs) - {log.id}
            assert change["iteration"] >= 6
        assert log.config["lr"] == log.config["wbtune/perturbations"][-1]["new"]["lr"]


SCHEDULERS = {
    "hyperband": lambda: HyperBandScheduler(
        metric="score", mode="max", max_t=ROWS, reduction_factor=2
    ),
    "pause": PauseOnce,
}


@pytest.mark.parametrize(
    ("way", "scheduler"),
    [
        ("callback", "hyperband"),
        ("callback", "pause"),
        ("wandb_trial", "pause"),
        ("wandb_tuner", "pause"),
    ],
)
def test_pause(way, scheduler, ray, tmp_path):
    """Paused and resumed trials: one run, no hole, no row twice, exit code 0."""
    rates = [0.1, 2.0] if scheduler == "hyperband" else [2.0]  # which compares trials
    tuner = WAYS[way].build(
        run_config(tmp_path, "pause"),
        param_space={"lr": tune.grid_search(rates)},
        tune_config=tune.TuneConfig(scheduler=SCHEDULERS[scheduler]()),
    )
    results = tuner.fit()
    assert not results.errors
    logs = run_log.read_runs(tmp_path / "pause")
    assert len(logs) == len(rates)
    for result in results:
        log = logs[result.metrics["trial_id"]]
        rows = [row["i"] for row in log.rows if "i" in row]
        assert rows == list(range(1, result.metrics["i"] + 1))
        assert log.exit_code == 0
        assert steps_grow(log)
        if way == "callback":  # HyperBand stops one at its last result, one that is paused
            stopped = scheduler == "hyperband"
            assert log.summary["wbtune/outcome"] == ("stopped" if stopped else "finished")
        if scheduler == "pause":
            assert len(log.paths) == (1 if way == "callback" else 2)


@pytest.mark.parametrize("way", ["callback", "wandb_trial", "wandb_tuner"])
def test_early_stopping(way, ray, tmp_path):
    """ASHA: stopped trials are no failures, and hold what they reported."""
    tuner = WAYS[way].build(
        run_config(tmp_path, "asha"),
        param_space={"lr": tune.grid_search([2.0, 0.1])},
        tune_config=tune.TuneConfig(
            metric="score",
            mode="max",
            max_concurrent_trials=1,
            scheduler=ASHAScheduler(max_t=ROWS, grace_period=2, reduction_factor=2),
        ),
    )
    results = tuner.fit()
    assert not results.errors
    logs = run_log.read_runs(tmp_path / "asha")
    short = 0
    for result in results:
        log = logs[result.metrics["trial_id"]]
        assert log.exit_code == 0
        assert [r["i"] for r in log.rows if "i" in r] == list(range(1, result.metrics["i"] + 1))
        if result.metrics["i"] < ROWS:
            short += 1
            assert log.summary["wbtune/outcome"] == "stopped"
            if way == "callback":
                assert log.summary["wbtune/reason"] == "AsyncHyperBandScheduler"
    assert short


@pytest.mark.parametrize("way", ["callback", "wandb_trial", "wandb_tuner"])
def test_time_budget(way, ray, tmp_path):
    """Out of time is no failure: exit code 0, outcome stopped, every delivered row."""
    delivered: dict[str, int] = {}

    class Count(tune.Callback):
        def on_trial_result(self, iteration, trials, trial, result, **info):
            delivered[trial.trial_id] = result["i"]

    config = run_config(tmp_path, "budget", callbacks=[Count()])
    begun = time.monotonic()
    tuner = WAYS[way].build(
        config,
        param_space={"how": "time budget"},
        tune_config=tune.TuneConfig(time_budget_s=4),
    )
    tuner.fit()
    assert time.monotonic() - begun < 4 + 15
    logs = run_log.read_runs(tmp_path / "budget")
    assert set(logs) >= set(delivered)
    for trial_id, last in delivered.items():
        log = logs[trial_id]
        assert log.exit_code == 0
        assert log.summary["wbtune/outcome"] == "stopped"
        rows = [row["i"] for row in log.rows if "i" in row]
        assert rows[:last] == list(range(1, last + 1))
        if way == "callback":
            assert log.summary["wbtune/reason"] == "time_budget_s=4"


@pytest.mark.parametrize("way", FUNCTIONS)
def test_core_killed(way, ray, tmp_path):
    """wandb-core is killed in the middle: the trial goes on, in the same run, no row missing."""
    trials = [1, 2] if way == "callback" else [1]  # which share a core
    owner = os.getpid() if way == "callback" else 0
    fault = {"how": "wandb-core killed", "owner": owner, "since": time.time()}
    tuner = WAYS[way].build(
        run_config(tmp_path, "core"),
        param_space={"n": tune.grid_search(trials), **fault},
    )
    results = tuner.fit()
    assert not results.errors
    logs = run_log.read_runs(tmp_path / "core")
    assert len(logs) == len(trials)
    for log in logs.values():
        assert [row["i"] for row in log.rows if "i" in row] == list(range(1, ROWS + 1))
        assert log.exit_code == 0
        assert log.summary["wbtune/outcome"] == "finished"
        assert steps_grow(log)


@pytest.fixture
def disk(tmp_path):
    """A file system of 2.6 MB, of which 100 kB are free."""
    try:
        with small_disk(tmp_path / "disk", 2600, ballast=2500) as folder:
            yield folder
    except NoDiskError as error:
        pytest.skip(str(error.__doc__))


@pytest.mark.parametrize("way", ["callback", "wandb_trial"])
def test_full_disk(way, ray, tmp_path, disk):
    """A disk that was full for a while, and is not any more, costs nothing."""
    experiment = tmp_path / "full"
    experiment.mkdir()
    (experiment / "wandb").symlink_to(disk, target_is_directory=True)
    space = {"how": "disk full", "rows": 300, "checkpoints": False, "disk": str(disk)}
    results = WAYS[way].build(run_config(tmp_path, "full"), param_space=space).fit()
    assert not results.errors
    assert results[0].metrics["i"] == 300
    [log] = run_log.read_runs(experiment).values()
    assert [row["i"] for row in log.rows if "i" in row] == list(range(1, 301))
    assert log.exit_code == 0
    assert log.summary["wbtune/dropped"] == 0


@pytest.mark.parametrize("way", ["callback", "wandb_trial"])
def test_folder_not_writable(way, ray, tmp_path):
    """Where no run can be written: an error before any trial; with no callback, a trial goes on."""
    experiment = tmp_path / "closed"
    experiment.mkdir()
    (experiment / "wandb").write_text("a file, where the folder should be")
    config = run_config(tmp_path, "closed")
    tuner = WAYS[way].build(config, param_space={"checkpoints": False})
    if way == "callback":
        with pytest.raises(ConfigurationError, match="can't write runs to"):
            tuner.fit()
        return
    results = tuner.fit()
    assert not results.errors
    assert results[0].metrics["i"] == ROWS
