"""Two ways in which a trainable's run was not closed with the truth."""

from __future__ import annotations

import pytest
from fakes import FakeRun
from ray import tune

from wbtune._data import options
from wbtune._place import identity
from wbtune._run import closing, guard, opening
from wbtune._trial import tune_hooks
from wbtune._trial.trial_run import TrialRun


class BoomError(Exception):
    """The user's own."""


class Train(tune.Trainable):
    """Raises where it is told to."""

    where = ""

    def step(self):
        return {"loss": 1.0}

    def _boom(self, name):
        if self.where == name:
            raise BoomError(name)

    def log_result(self, result):
        self._boom("log_result")

    def save_checkpoint(self, folder):
        self._boom("save_checkpoint")
        return {}

    def load_checkpoint(self, checkpoint):
        self._boom("load_checkpoint")

    def reset_config(self, new_config):
        self._boom("reset_config")
        return True


class RefusesXAxis(FakeRun):
    """Its core is gone just after it was opened."""

    def define_metric(self, name, **options):
        raise OSError("the fake refuses")


@pytest.fixture
def build(monkeypatch, tmp_path):
    monkeypatch.setattr("ray.tune.trainable.trainable.DEFAULT_STORAGE_PATH", str(tmp_path))
    monkeypatch.setattr(closing, "end_core", lambda end_by: None)
    monkeypatch.setattr(opening, "disabled_run", lambda: FakeRun("disabled"))
    monkeypatch.setattr(guard, "of", lambda run: None)

    def build(run):
        monkeypatch.setattr(opening, "open_run", lambda spec, secret=None, **how: run)
        trainable = Train(config={})
        declared = options.RunOptions(log_results=True, init_kwargs={"mode": "offline"})
        trial_run = TrialRun("gaps", declared)
        tune_hooks.attach(trainable, trial_run, reopens=True)
        trial_run.open(identity.Identity(), {})
        return trainable

    return build


CALLS = {
    "log_result": lambda trainable, folder: trainable.train(),
    "save_checkpoint": lambda trainable, folder: trainable.save(str(folder)),
    "load_checkpoint": lambda trainable, folder: trainable.restore(str(folder)),
    "reset_config": lambda trainable, folder: trainable.reset({}),
}


@pytest.mark.parametrize("where", CALLS)
def test_what_a_user_raises_outside_of_step_is_a_failure(where, build, tmp_path):
    """Tune fails the trial for any of these; its own run must not say that it was stopped."""
    run = FakeRun()
    trainable = build(run)
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    trainable.save(str(folder))
    trainable.where = where
    with pytest.raises(BoomError, match=where):
        CALLS[where](trainable, folder)
    trainable.stop()
    assert (run.exit_codes[-1], run.summary["wbtune/outcome"]) == (1, "failed")


def test_an_open_run_that_refuses_the_x_axis_is_used_and_closed(build, caplog):
    """It was opened, so it is closed; its rows go into it; one warning."""
    run = RefusesXAxis()
    trainable = build(run)
    trainable.train()
    trainable.stop()
    assert (len(run.rows), run.exit_codes) == (1, [0])
    assert len(caplog.messages) == 1
