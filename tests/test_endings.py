"""However a trial ends, its run says so and holds every row. Real Ray, real wandb, real faults."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lives import ROWS, WAYS, WithSetup
from programs import run_config
from ray import tune

from wbtune import wandb_trial
from wbtune._run import run_log

#: Also a class that opens its own run.
ALL_WAYS = {**WAYS, "setup_wandb class": replace(WAYS["setup_wandb"], trainable=WithSetup)}
HOWS = ["returns", "raises", "exits", "stopped", "killed"]


@pytest.mark.parametrize("way", ALL_WAYS)
def test_several_endings_at_once(way, ray, tmp_path, printed):
    """Trials of one experiment return, raise, are stopped, are killed, can't be built."""
    # Over 40 lines: one experiment, and each of its endings.
    hows = [*HOWS, "setup raises"] if isinstance(ALL_WAYS[way].trainable, type) else HOWS
    tuner = ALL_WAYS[way].build(
        run_config(tmp_path, "endings", stop={"stop_me": 1.0}),
        param_space={"how": tune.grid_search(hows), "checkpoints": False},
    )
    results = tuner.fit()

    logs = {log.config["how"]: log for log in run_log.read_runs(tmp_path / "endings").values()}
    if way == "setup_wandb class":  # its actor may be gone before its run is on disk
        logs.setdefault("setup raises", run_log.RunLog())
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
    if ALL_WAYS[way].watched:
        assert (log.exit_code, said["killed"]) == (254, "lost")
    else:
        assert log.exit_code is None  # which W&B shows as crashed

    if "setup raises" in logs:
        log = logs["setup raises"]
        assert log.rows == []
        if way == "WandbMixin":
            assert (log.exit_code, said["setup raises"]) == (1, "failed")
            assert log.summary["wbtune/error"] == "BoomError"
        else:
            assert log.exit_code is None  # `setup_wandb` is not told: crashed, at W&B

    if way == "wandb_trial":
        for how in ("returns", "raises", "stopped"):
            assert logs[how].rows[-1]["unwound"] == 1

    assert len(results.errors) == len(hows) - 2
    assert any("BoomError" in str(error) for error in results.errors)
    assert "wandb:" not in printed(tmp_path / "endings")


@pytest.mark.parametrize("way", [way for way in WAYS if WAYS[way].not_imported])
def test_not_imported(way, ray, tmp_path):
    """A worker that cannot import a trial's function opens no run: the driver does, and says so."""
    config, trainable = run_config(tmp_path, "imports"), WAYS[way].not_imported()
    tuner = WAYS[way].build(config, trainable, param_space={"how": "not imported"})
    results = tuner.fit()
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
        tune_config=tune.TuneConfig(reuse_actors=reuse, max_concurrent_trials=2 if reuse else None),
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
