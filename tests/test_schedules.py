"""Retries, pauses, perturbations, schedulers, budgets: one run per trial, no row missing."""

# Over 250 lines: one Ray, and the programs of every schedule.

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from programs import run_config
from ray import tune
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    PopulationBasedTraining,
)

from wbtune import (
    ConfigurationError,
    WandbLoggerCallback,
    WandbMixin,
    setup_wandb,
    wandb_trial,
    wandb_tuner,
)
from wbtune._run import run_log

ROWS = 12


def resumable(config, log):
    """Iterations with a checkpoint each, from the checkpoint on."""
    begin, attempt = 0, 1
    checkpoint = tune.get_checkpoint() if config.get("checkpoints", True) else None
    if checkpoint:
        with checkpoint.as_directory() as folder:
            begin, attempt = map(int, Path(folder, "state").read_text().split())
            attempt += 1
    for i in range(begin + 1, ROWS + 1):
        log({"loss": -float(i), "i": i})
        config.get("each", lambda i, attempt: None)(i, attempt)
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "state").write_text(f"{i} {attempt}")
            saved = config.get("checkpoints", True)
            yield (
                {"loss": -float(i) * config.get("lr", 1.0), "i": i},
                tune.Checkpoint.from_directory(folder) if saved else None,
            )


def plain(config):
    for result, checkpoint in resumable(config, lambda row: None):
        tune.report(result, checkpoint=checkpoint)


@wandb_trial(project="schedules")
def decorated(config, run):
    for result, checkpoint in resumable(config, run.log):
        tune.report(result, checkpoint=checkpoint)


def with_setup(config):
    run = setup_wandb(config, project="schedules")
    for result, checkpoint in resumable(config, run.log):
        tune.report(result, checkpoint=checkpoint)


@wandb_trial(project="schedules")
def reports(config):
    for result, checkpoint in resumable(config, lambda row: None):
        tune.report(result, checkpoint=checkpoint)


class Mixed(WandbMixin, tune.Trainable, project="schedules", log_results=True):
    def setup(self, config):
        self.i = 0

    def reset_config(self, new_config):
        self.i = 0
        return True

    def step(self):
        self.i += 1
        time.sleep(0.02)  # work, so that the population advances together
        return {"loss": -self.i * self.config["lr"], "i": self.i, "done": self.i >= ROWS}

    def save_checkpoint(self, checkpoint_dir):
        return {"i": self.i}

    def load_checkpoint(self, checkpoint):
        self.i = checkpoint["i"]


def _callback(run_config):
    run_config.callbacks = [WandbLoggerCallback(project="schedules")]
    return run_config


DOORS = {
    "callback": lambda run_config, **kw: tune.Tuner(plain, run_config=_callback(run_config), **kw),
    "wandb_trial": lambda run_config, **kw: tune.Tuner(decorated, run_config=run_config, **kw),
    "setup_wandb": lambda run_config, **kw: tune.Tuner(with_setup, run_config=run_config, **kw),
    "wandb_tuner": lambda run_config, **kw: wandb_tuner(reports, run_config=run_config, **kw),
}


def steps_grow(log):
    steps = [row["_step"] for row in log.rows]
    return steps == sorted(set(steps))


class FailOnce:
    """Fails the first attempt at one iteration, by raising or by dying."""

    def __init__(self, folder, how):
        self.folder, self.how = str(folder), how

    def __call__(self, i, attempt):
        mark = Path(self.folder, self.how)
        if i != 8 or mark.exists():
            return
        mark.touch()
        if self.how == "killed":
            time.sleep(1.2)  # the promise: all but the last second's
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how.startswith("raised"):
            raise RuntimeError("once")


@pytest.mark.parametrize("door", DOORS)
def test_retry(door, ray, tmp_path):
    """A retried trial has one run with the rows of all attempts, ended as the last one was."""
    marks = tmp_path / "marks"
    marks.mkdir()
    hows = ["raised", "raised from scratch", "killed"]
    results = DOORS[door](
        run_config(tmp_path, "retry", failure_config=tune.FailureConfig(max_failures=1)),
        param_space={
            "how": tune.grid_search(hows),
            "checkpoints": tune.sample_from(lambda spec: spec.config.how != "raised from scratch"),
            "each": tune.sample_from(lambda spec: FailOnce(marks, spec.config.how)),
        },
    ).fit()
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
        again = list(range(1 if how == "raised from scratch" else 8, ROWS + 1))
        if door in {"wandb_trial", "setup_wandb"}:
            reported = [*reported, 8]  # it logged this one and died before it reported it
        assert rows == reported + again
        attempts = [row.get("wbtune/attempt") for row in log.rows]
        assert 2 in attempts
        assert attempts.index(2) == len(reported)


@pytest.mark.filterwarnings("ignore:Consider boosting PBT:UserWarning")  # Ray's advice
@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("door", ["callback", "wandb_tuner", "WandbMixin"])
def test_population(door, reuse, ray, tmp_path):
    """Exploited trials keep one run with every reported row, and say how they were changed."""
    # Over 40 lines: one experiment, and all that it shows.
    options = {
        "param_space": {"lr": tune.grid_search([0.1, 2.0])},
        "tune_config": tune.TuneConfig(
            metric="loss",
            mode="min",
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
    if door == "callback":
        config.callbacks.append(WandbLoggerCallback(project="schedules"))
        tuner = tune.Tuner(plain, run_config=config, **options)
    else:
        trainable = Mixed if door == "WandbMixin" else reports
        tuner = wandb_tuner(trainable, run_config=config, **options)
    results = tuner.fit()
    assert not results.errors
    logs = run_log.read_runs(tmp_path / "pbt")
    assert set(logs) == set(seen)
    changed = [log for log in logs.values() if "wbtune/perturbations" in log.config]
    assert changed
    for trial_id, log in logs.items():
        marks = [
            (row["training_iteration"], row["time_total_s"]) for row in log.rows if "loss" in row
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


class PauseOnce(FIFOScheduler):
    """Pauses each trial after its fourth iteration, as HyperBand does when it has to choose."""

    def __init__(self):
        super().__init__()
        self.paused = set()

    def on_trial_result(self, tune_controller, trial, result):
        if result["training_iteration"] != 4 or trial.trial_id in self.paused:
            return self.CONTINUE
        self.paused.add(trial.trial_id)
        return self.PAUSE


SCHEDULERS = {
    "hyperband": lambda: HyperBandScheduler(
        metric="loss", mode="min", max_t=ROWS, reduction_factor=2
    ),
    "pause": PauseOnce,
}


@pytest.mark.parametrize(
    ("door", "scheduler"),
    [
        ("callback", "hyperband"),
        ("callback", "pause"),
        ("wandb_trial", "pause"),
        ("wandb_tuner", "pause"),
    ],
)
def test_pause(door, scheduler, ray, tmp_path):
    """Paused and resumed trials: one run, no hole, no row twice, exit code 0."""
    results = DOORS[door](
        run_config(tmp_path, "pause"),
        param_space={"lr": tune.grid_search([0.1, 2.0])},
        tune_config=tune.TuneConfig(scheduler=SCHEDULERS[scheduler]()),
    ).fit()
    assert not results.errors
    logs = run_log.read_runs(tmp_path / "pause")
    assert len(logs) == 2
    for result in results:
        log = logs[result.metrics["trial_id"]]
        rows = [row["i"] for row in log.rows if "i" in row]
        assert rows == list(range(1, result.metrics["i"] + 1))
        assert log.exit_code == 0
        assert steps_grow(log)
        if door == "callback":  # HyperBand stops one at its last result, one that is paused
            stopped = scheduler == "hyperband"
            assert log.summary["wbtune/outcome"] == ("stopped" if stopped else "finished")
        if scheduler == "pause":
            assert len(log.paths) == (1 if door == "callback" else 2)


@pytest.mark.parametrize("door", ["callback", "wandb_trial", "wandb_tuner"])
def test_early_stopping(door, ray, tmp_path):
    """ASHA: stopped trials are no failures, and hold what they reported."""
    results = DOORS[door](
        run_config(tmp_path, "asha"),
        param_space={"lr": tune.grid_search([2.0, 0.1])},
        tune_config=tune.TuneConfig(
            metric="loss",
            mode="min",
            max_concurrent_trials=1,
            scheduler=ASHAScheduler(max_t=ROWS, grace_period=2, reduction_factor=2),
        ),
    ).fit()
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
            if door == "callback":
                assert log.summary["wbtune/reason"] == "AsyncHyperBandScheduler"
    assert short


@pytest.mark.parametrize("door", ["callback", "wandb_trial", "wandb_tuner"])
def test_time_budget(door, ray, tmp_path):
    """Out of time is no failure: exit code 0, outcome stopped, every delivered row."""
    delivered: dict[str, int] = {}

    class Count(tune.Callback):
        def on_trial_result(self, iteration, trials, trial, result, **info):
            delivered[trial.trial_id] = result["i"]

    config = run_config(tmp_path, "budget", callbacks=[Count()])
    if door == "callback":
        config.callbacks.append(WandbLoggerCallback(project="schedules"))
        build = tune.Tuner
    else:
        build = wandb_tuner if door == "wandb_tuner" else tune.Tuner
    trainable = {"callback": plain, "wandb_trial": decorated, "wandb_tuner": reports}[door]
    begun = time.monotonic()
    build(
        trainable,
        run_config=config,
        param_space={"each": lambda i, attempt: time.sleep(0.5), "n": tune.grid_search([1, 2])},
        tune_config=tune.TuneConfig(time_budget_s=4),
    ).fit()
    assert time.monotonic() - begun < 4 + 15
    logs = run_log.read_runs(tmp_path / "budget")
    assert set(logs) >= set(delivered)
    for trial_id, last in delivered.items():
        log = logs[trial_id]
        assert log.exit_code == 0
        assert log.summary["wbtune/outcome"] == "stopped"
        rows = [row["i"] for row in log.rows if "i" in row]
        assert rows[:last] == list(range(1, last + 1))
        if door == "callback":
            assert log.summary["wbtune/reason"] == "time_budget_s=4"


class KillCore:
    """Kills this trial's wandb-core, or the experiment's, at one iteration."""

    def __init__(self, helper_of=None):
        self.helper_of = helper_of

    def __call__(self, i, attempt):
        if i != 6:
            return
        owner = psutil.Process(self.helper_of or os.getpid())
        cores = [p for p in owner.children(recursive=True) if p.name().startswith("wandb-core")]
        for core in cores:
            core.kill()
        psutil.wait_procs(cores, timeout=10)


@pytest.mark.parametrize("door", ["callback", "wandb_trial", "setup_wandb", "wandb_tuner"])
def test_core_killed(door, ray, tmp_path):
    """wandb-core is killed in the middle: the trial goes on, in the same run, no row missing."""
    driver = os.getpid() if door == "callback" else None
    results = DOORS[door](
        run_config(tmp_path, "core"),
        param_space={"n": tune.grid_search([1, 2]), "each": KillCore(driver)},
    ).fit()
    assert not results.errors
    logs = run_log.read_runs(tmp_path / "core")
    assert len(logs) == 2
    for log in logs.values():
        assert [row["i"] for row in log.rows if "i" in row] == list(range(1, ROWS + 1))
        assert log.exit_code == 0
        assert log.summary["wbtune/outcome"] == "finished"
        assert steps_grow(log)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, with a ballast that leaves little room."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2600k", "tmpfs", str(folder)], check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a file system needs to be root")
    (folder / "ballast").write_bytes(b"x" * 2_500_000)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def chatters(config):
    for i in range(1, 301):
        tune.report({"i": i, "text": "z" * 2000})
        if i == 299:
            deadline = time.monotonic() + 30
            while os.statvfs(config["disk"]).f_bavail and time.monotonic() < deadline:
                time.sleep(0.05)
            Path(config["disk"], "ballast").unlink()


@wandb_trial(project="schedules", log_results=True)
def decorated_chatters(config):
    chatters(config)


@pytest.mark.parametrize("door", ["callback", "wandb_trial"])
def test_full_disk(door, ray, tmp_path, small_disk):
    """A disk that was full for a while, and is not any more, costs nothing."""
    experiment = tmp_path / "full"
    experiment.mkdir()
    (experiment / "wandb").symlink_to(small_disk, target_is_directory=True)
    config = run_config(tmp_path, "full")
    if door == "callback":
        config.callbacks = [WandbLoggerCallback(project="schedules")]
    results = tune.Tuner(
        chatters if door == "callback" else decorated_chatters,
        run_config=config,
        param_space={"disk": str(small_disk)},
    ).fit()
    assert not results.errors
    assert results[0].metrics["i"] == 300
    [log] = run_log.read_runs(experiment).values()
    assert [row["i"] for row in log.rows] == list(range(1, 301))
    assert log.exit_code == 0
    assert log.summary["wbtune/dropped"] == 0


@pytest.mark.parametrize("door", ["callback", "wandb_trial"])
def test_folder_not_writable(door, ray, tmp_path):
    """Where no run can be written: an error before any trial; with no callback, a trial goes on."""
    experiment = tmp_path / "closed"
    experiment.mkdir()
    (experiment / "wandb").write_text("a file, where the folder should be")
    config = run_config(tmp_path, "closed")
    if door == "callback":
        config.callbacks = [WandbLoggerCallback(project="schedules")]
    tuner = tune.Tuner(
        plain if door == "callback" else decorated,
        run_config=config,
        param_space={"checkpoints": False},
    )
    if door == "callback":
        with pytest.raises(ConfigurationError, match="can't write runs to"):
            tuner.fit()
        return
    results = tuner.fit()
    assert not results.errors
    assert results[0].metrics["i"] == ROWS
