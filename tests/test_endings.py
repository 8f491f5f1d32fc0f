"""However a trial ends, its run says so and holds every row. Real Ray, real wandb, real faults."""

from __future__ import annotations

import os
import signal
import sys
import time
import types

import pytest
from programs import run_config
from ray import tune

from wbtune import WandbLoggerCallback, WandbMixin, setup_wandb, wandb_trial, wandb_tuner
from wbtune._run import run_log

ROWS = 10
HOWS = ["returns", "raises", "exits", "stopped", "killed"]


class BoomError(Exception):
    """Raised by a trial."""


def life(config, log):
    """Ten iterations, and then the ending that the config asks for."""
    how = config["how"]
    for i in range(1, ROWS + 1):
        log({"loss": float(i)})
        yield {"loss": float(i), "stop_me": float(how == "stopped" and i == 5)}
    if how == "raises":
        raise BoomError("the trial's own")
    if how == "exits":
        sys.exit("no data: see\nthe log.")
    if how == "killed":
        time.sleep(1.2)  # the promise: all but the last second's
        os.kill(os.getpid(), signal.SIGKILL)


def plain(config):
    for result in life(config, lambda row: None):
        tune.report(result)


def with_setup(config):
    run = setup_wandb(config, project="endings")
    for result in life(config, run.log):
        tune.report(result)


@wandb_trial(project="endings")
def decorated(config, run):
    try:
        for result in life(config, run.log):
            tune.report(result)
    finally:
        run.log({"unwound": 1})


@wandb_trial(project="endings")
def reports(config):
    for result in life(config, lambda row: None):
        tune.report(result)


class WithMixin(WandbMixin, tune.Trainable, project="endings"):
    def setup(self, config):
        if config["how"] == "not built":
            raise BoomError("the trial's own")
        self.life = life(config, self.run.log)

    def step(self):
        return next(self.life, None) or {"done": True, "loss": 0.0, "stop_me": 0.0}

    def save_checkpoint(self, checkpoint_dir):
        pass

    def load_checkpoint(self, checkpoint_dir):
        pass


class WithSetup(tune.Trainable):
    def setup(self, config):
        run = setup_wandb(config, project="endings")
        if config["how"] == "not built":
            raise BoomError("the trial's own")
        self.life = life(config, run.log)

    def step(self):
        return next(self.life, None) or {"done": True, "loss": 0.0, "stop_me": 0.0}

    def save_checkpoint(self, checkpoint_dir):
        pass

    def load_checkpoint(self, checkpoint_dir):
        pass


def _callback(run_config):
    run_config.callbacks = [WandbLoggerCallback(project="endings")]
    return run_config


DOORS = {
    "callback": lambda run_config, **kw: tune.Tuner(plain, run_config=_callback(run_config), **kw),
    "setup_wandb": lambda run_config, **kw: tune.Tuner(with_setup, run_config=run_config, **kw),
    "setup_wandb class": lambda run_config, **kw: tune.Tuner(
        WithSetup, run_config=run_config, **kw
    ),
    "wandb_trial": lambda run_config, **kw: tune.Tuner(decorated, run_config=run_config, **kw),
    "WandbMixin": lambda run_config, **kw: tune.Tuner(WithMixin, run_config=run_config, **kw),
    "wandb_tuner": lambda run_config, **kw: wandb_tuner(reports, run_config=run_config, **kw),
}
CLASSES = {"setup_wandb class", "WandbMixin"}


@pytest.mark.parametrize("door", DOORS)
def test_several_endings_at_once(door, ray, tmp_path, capfd):
    """Trials of one experiment return, raise, are stopped, are killed, can't be built."""
    # Over 40 lines: one experiment, and each of its endings.
    hows = [*HOWS, "not built"] if door in CLASSES else HOWS
    results = DOORS[door](
        run_config(tmp_path, "endings", stop={"stop_me": 1.0}),
        param_space={"how": tune.grid_search(hows)},
    ).fit()

    logs = {log.config["how"]: log for log in run_log.read_runs(tmp_path / "endings").values()}
    if door == "setup_wandb class":  # its actor may be gone before its run is on disk
        logs.setdefault("not built", run_log.RunLog())
    assert set(logs) == set(hows)
    rows = {how: [r["loss"] for r in log.rows if "loss" in r] for how, log in logs.items()}
    full = [float(i) for i in range(1, ROWS + 1)]
    said = {how: log.summary.get("wbtune/outcome") for how, log in logs.items()}

    log = logs["returns"]
    assert (log.exit_code, said["returns"], log.tags) == (0, "finished", [])
    assert rows["returns"][:ROWS] == full

    log = logs["raises"]
    assert (log.exit_code, said["raises"], log.tags) == (1, "failed", ["failed"])
    assert rows["raises"] == full
    assert log.summary["wbtune/error"] == "BoomError"
    assert log.summary["wbtune/error_message"] == "the trial's own"
    assert "raise BoomError" in log.summary["wbtune/traceback"]
    assert len(log.summary["wbtune/traceback"].splitlines()) <= 20

    log = logs["exits"]
    assert (log.exit_code, said["exits"], log.tags) == (1, "failed", ["failed"])
    assert rows["exits"] == full
    assert log.summary["wbtune/error"] == "SystemExit"
    assert log.summary["wbtune/error_message"] == "no data: see\nthe log."

    log = logs["stopped"]
    assert (log.exit_code, said["stopped"], log.tags) == (0, "stopped", ["stopped"])
    assert rows["stopped"] == full[:5]
    assert log.summary["wbtune/reason"]

    log = logs["killed"]
    assert rows["killed"] == full
    if door in {"callback", "wandb_tuner"}:  # these have a driver that notices
        assert (log.exit_code, said["killed"]) == (254, "lost")
    else:
        assert log.exit_code is None  # which W&B shows as crashed

    if "not built" in logs:
        log = logs["not built"]
        assert log.rows == []
        if door == "WandbMixin":
            assert (log.exit_code, said["not built"]) == (1, "failed")
            assert log.summary["wbtune/error"] == "BoomError"
        else:
            assert log.exit_code is None  # `setup_wandb` is not told: crashed, at W&B

    if door == "wandb_trial":
        for how in ("returns", "raises", "stopped"):
            assert logs[how].rows[-1]["unwound"] == 1

    assert len(results.errors) == len(hows) - 2
    assert any("BoomError" in str(error) for error in results.errors)
    said = capfd.readouterr()
    assert "wandb:" not in said.out + said.err


def test_not_imported(ray, tmp_path, monkeypatch):
    """A worker that cannot import a trial's function opens no run: the driver does, and says so."""
    only_here = types.ModuleType("only_here")
    monkeypatch.setitem(sys.modules, "only_here", only_here)

    @wandb_trial(project="endings")
    def imports(config):
        tune.report({"loss": 0.0, "by": only_here.__name__})

    results = wandb_tuner(
        imports, param_space={"how": "not imported"}, run_config=run_config(tmp_path, "imports")
    ).fit()
    assert len(results.errors) == 1
    [log] = run_log.read_runs(tmp_path / "imports").values()
    assert (log.exit_code, log.summary["wbtune/outcome"], log.rows) == (254, "lost", [])
    assert log.config["how"] == "not imported"


RETURNED = {
    "dict": {"loss": 1.0},
    "number": 0.5,
    "nothing": None,
    "text": "no result",
    "twice": {"loss": 1.0},
}


@wandb_trial(project="endings", log_results=True)
def returning(config):
    return RETURNED[config["what"]]


def calls_it(config):
    if config["what"] == "twice":
        returning(config)
    return returning(config)


@pytest.mark.parametrize("reuse", [False, True])
def test_what_a_function_returns(reuse, ray, tmp_path):
    """It is a row like what is reported; what Tune does not take fails the trial and its run."""
    results = tune.Tuner(
        calls_it,
        param_space={"what": tune.grid_search([*RETURNED])},
        tune_config=tune.TuneConfig(reuse_actors=reuse, max_concurrent_trials=1 + reuse),
        run_config=run_config(tmp_path, "returned"),
    ).fit()
    logs = run_log.read_runs(tmp_path / "returned")
    seen = {log.config["what"]: log for log in logs.values()}
    assert len(results.errors) == 1
    rows = {what: [row["training_iteration"] for row in log.rows] for what, log in seen.items()}
    assert rows == {"dict": [1], "number": [1], "nothing": [], "text": [], "twice": [1]}
    failed = seen.pop("text")
    assert (failed.exit_code, failed.summary["wbtune/error"]) == (1, "ValueError")
    for log in seen.values():
        assert (log.exit_code, log.summary["wbtune/outcome"]) == (0, "finished")
        assert "wbtune/reason" not in log.summary
