"""A run names what ended its trial; where nobody knows, it says "unknown" and guesses nothing."""

from __future__ import annotations

import contextlib
import re
import time

import pytest
from fakes import FakeTrial
from programs import run_config
from ray import exceptions, tune
from ray.tune.schedulers import ASHAScheduler, HyperBandScheduler
from ray.tune.stopper import CombinedStopper, MaximumIterationStopper, TrialPlateauStopper

from wbtune import wandb_tuner
from wbtune._data import outcomes
from wbtune._driver import endings
from wbtune._run import run_log

METRIC = "env_runners/episode_return_mean"
NEVER_STOPS = {"max_t": 1000, "grace_period": 999}


def train(config):
    for i in range(1, 13):
        if config.get("raises") and i == 2:
            raise ValueError(f"\x1b[31mboom\x1b[0m {config['raises']}")
        time.sleep(config.get("pause", 0.0))
        tune.report({"env_runners": {"episode_return_mean": float(i) * config.get("lr", 1)}})


def reasons(folder, scheduler=None, param_space=None, tune_config=None, **how):
    """What the runs of an experiment say of their ends; by the learning rate."""
    tuner = wandb_tuner(
        train,
        project="reasons",
        param_space=param_space or {"lr": 1},
        tune_config=tune.TuneConfig(
            metric=METRIC, mode="max", scheduler=scheduler, **(tune_config or {})
        ),
        run_config=run_config(folder, "reasons", **how),
    )
    with contextlib.suppress(ValueError):  # what a trial raises, if `fail_fast` is "raise"
        tuner.fit()
    logs = run_log.read_runs(folder / "reasons").values()
    return {log.config["lr"]: (log.exit_code, log.summary) for log in logs}


class Everybody(tune.Stopper):
    """Ends the experiment after so many results."""

    def __init__(self, results):
        self.left = results
        self.asked = []

    def __call__(self, trial_id, result):
        self.asked.append(result["training_iteration"])
        self.left -= 1
        return False

    def stop_all(self):
        return self.left <= 0


def by_function(trial_id, result):
    return result["training_iteration"] >= 4


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ({METRIC: 3}, f"stop={{'{METRIC}': 3}}"),
        (by_function, "stop=by_function"),
        (
            CombinedStopper(
                CombinedStopper(TrialPlateauStopper("lr"), MaximumIterationStopper(5)),
                TrialPlateauStopper(METRIC, std=0.0),
            ),
            "stop=MaximumIterationStopper",
        ),
    ],
    ids=["path", "function", "stoppers"],
)
def test_stop_beside_a_scheduler(stop, reason, ray, tmp_path):
    """What `stop=` ended is said to be ended by that, in whatever form it is given."""
    scheduler = ASHAScheduler(**NEVER_STOPS)
    [(code, summary)] = reasons(tmp_path, scheduler, stop=stop).values()
    assert (code, summary["wbtune/outcome"], summary["wbtune/reason"]) == (0, "stopped", reason)


def test_the_whole_experiment_is_stopped(ray, tmp_path):
    """By a stopper with a state, which is asked once a result; and in somebody's `except`."""
    stopper = Everybody(3)
    try:
        {}["nothing to restore"]
    except LookupError:
        [(code, summary)] = reasons(
            tmp_path,
            ASHAScheduler(**NEVER_STOPS),
            {"lr": 1, "pause": 0.1},
            {"time_budget_s": 500},
            stop=stopper,
        ).values()
    assert (code, summary["wbtune/outcome"]) == (0, "stopped")
    assert summary["wbtune/reason"] == "stop=Everybody"
    assert stopper.asked == sorted(set(stopper.asked))


@pytest.mark.filterwarnings("ignore:fail_fast='raise' detected:UserWarning")  # Ray's advice
@pytest.mark.parametrize("fail_fast", [True, "raise"])
def test_fail_fast(fail_fast, ray, tmp_path):
    """The trial that raised failed, the others were interrupted by that; nothing is coloured."""
    space = {
        "lr": tune.grid_search([1, 2]),
        "raises": tune.sample_from(lambda spec: {1: "", 2: "here"}[spec.config.lr]),
        "pause": tune.sample_from(lambda spec: {1: 0.5, 2: 0.0}[spec.config.lr]),
    }
    found = reasons(
        tmp_path,
        None,
        space,
        {"time_budget_s": 500},
        failure_config=tune.FailureConfig(fail_fast=fail_fast),
    )
    code, summary = found.pop(2)
    assert (code, summary["wbtune/outcome"], summary["wbtune/error"]) == (1, "failed", "ValueError")
    assert summary["wbtune/error_message"] == "boom here"
    assert "raise ValueError" in summary["wbtune/traceback"]
    assert not any("\x1b" in str(text) for text in summary.values())
    for code, summary in found.values():  # if it had begun by then
        assert (code, summary["wbtune/outcome"]) == (130, "interrupted")
        assert "fail_fast" in summary["wbtune/reason"]


def test_a_scheduler_is_named(ray, tmp_path):
    """Also one that stops a trial which it had paused, between two results."""
    found = reasons(tmp_path, HyperBandScheduler(max_t=4), {"lr": tune.grid_search([1, 2, 3])})
    stopped = [summary for _, summary in found.values() if summary["wbtune/outcome"] == "stopped"]
    assert stopped
    assert {summary["wbtune/reason"] for summary in stopped} == {"HyperBandScheduler"}


@pytest.mark.parametrize(
    ("coloured", "plain"),
    [
        ("\x1b[36mray::ImplicitFunc\x1b[39m", "ray::ImplicitFunc"),
        ("\x1b[1;38;5;196mred\x1b[0m", "red"),
        ("\x1b]8;;https://x.example\x07link\x1b]8;;\x1b\\", "link"),
        ("\x1b[?25lhidden\x1b[K\x1b", "hidden"),
        ("[36m is text", "[36m is text"),
        ("lone \ud800", "lone \\ud800"),
    ],
)
def test_text_without_a_terminal(coloured, plain):
    """What a terminal reads as colour is no part of what a run says of an error."""
    summary = outcomes.Outcome(outcomes.Kind.FAILED, coloured, error_message=coloured).summary()
    assert (summary["wbtune/reason"], summary["wbtune/error_message"]) == (plain, plain)
    assert not re.search("\x1b", "".join(summary.values()))


UNEXPECTED = "Worker exit type: SYSTEM_ERROR Worker exit detail: Worker exits unexpectedly. "
ON_REQUEST = "Worker exit type: INTENDED_USER_EXIT Worker exit detail: Worker exits by an user "
KILLED = (
    "Worker exit detail: Worker unexpectedly exits with a connection error code 2. End of file."
)


def death(detail):
    """As Ray 2.60 tells the driver of it."""
    text = f"The actor died unexpectedly before finishing this task.\n\tpid: 7\nThe actor {detail}"
    return exceptions.RayActorError(None, text)


def cancelled():
    error = exceptions.TaskCancelledError()
    return exceptions.RayTaskError("train", "raise KeyboardInterrupt", error).as_instanceof_cause()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (death(f"{UNEXPECTED}Worker exits with an exit code 3."), ("failed", "SystemExit", "3")),
        (
            death(f"{UNEXPECTED}Worker exits with an exit code one.\n two.."),
            ("failed", "SystemExit", "one.\n two."),
        ),
        (
            death(f"{ON_REQUEST}request. Worker exits with an exit code 0."),
            ("failed", "SystemExit", "0"),
        ),
        (
            cancelled(),
            ("failed", "KeyboardInterrupt", "Ray passes it on as a TaskCancelledError"),
        ),
        (
            death(f"{UNEXPECTED}Worker exits with an exit code 1. The process receives a SIGTERM."),
            ("lost", "RayActorError", "The actor died unexpectedly before finishing this task."),
        ),
        (
            death(KILLED),
            ("lost", "RayActorError", "The actor died unexpectedly before finishing this task."),
        ),
        (
            exceptions.OutOfMemoryError("1 worker(s) were killed"),
            ("lost", "OutOfMemoryError", "1 worker(s) were killed"),
        ),
    ],
)
def test_who_ended_the_process(error, expected, tmp_path):
    """A trial that exits by itself has failed, with its code; one that was killed is lost."""
    trial = FakeTrial("a", tmp_path)
    trial.error = error
    summary = endings.failure(trial).summary()
    names = ("wbtune/outcome", "wbtune/error", "wbtune/error_message")
    assert tuple(summary[name] for name in names) == expected


def test_an_error_that_tune_keeps_for_itself(tmp_path):
    """That Ray has killed a process for want of memory is written nowhere; it is looked up."""
    trial = FakeTrial("a", tmp_path)

    def _process_trial_failure(trial, exception):
        return endings.failure(trial)

    outcome = _process_trial_failure(trial, exceptions.OutOfMemoryError("low on memory"))
    assert (outcome.kind, outcome.error_message) == (outcomes.Kind.LOST, "low on memory")
    assert endings.failure(trial).kind is outcomes.Kind.FAILED
