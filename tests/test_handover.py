"""What a driver puts into Ray's store for its trials is gone when its experiment has ended."""

from __future__ import annotations

import atexit

import pytest
from fakes import FakeStore, FakeTrial
from ray import tune

from wbtune import callback
from wbtune._data.options import RunOptions
from wbtune._data.outcomes import Kind, Outcome
from wbtune._driver import experiment, experiment_start
from wbtune._place import handover
from wbtune._upstream import ray_store

FIRST, SECOND = "fit-1", "fit-2"


class IsAFunction(tune.trainable.FunctionTrainable):
    """What Tune makes of a function: it may claim its run."""


CTRL_C = Outcome(Kind.INTERRUPTED, "Ctrl-C")


@pytest.fixture
def store(monkeypatch):
    """Ray's key-value store, in a driver."""
    store = FakeStore()
    store.stand_in_for(ray_store, monkeypatch)
    monkeypatch.setattr(ray_store, "is_driver", lambda: True)
    handover._take_back_at_exit.cache_clear()
    yield store
    handover._take_back_at_exit.cache_clear()


@pytest.fixture
def at_exit(monkeypatch):
    """What would be called when this process ends."""
    registered = []
    monkeypatch.setattr(atexit, "register", registered.append)
    return registered


def test_what_is_taken_back_is_gone(store, at_exit):
    """The login of one experiment, and why it was interrupted; nothing of another's."""
    for fit in (FIRST, SECOND):
        handover.hand_over(fit, {"key": fit})
        handover.announce_end(fit, CTRL_C)
    handover.take_back(FIRST)
    assert handover.handed_over(FIRST) is None
    assert handover.announced_end(FIRST) is None
    assert handover.handed_over(SECOND) == {"key": SECOND}
    assert handover.announced_end(SECOND) == CTRL_C
    handover.take_back("")  # of no experiment
    assert handover.handed_over(SECOND) == {"key": SECOND}


def test_all_is_taken_back_when_the_driver_ends(store, at_exit):
    """Each job's own, once: the cluster may outlive its drivers."""
    store["login/another/fit-1"] = "{}"
    handover.hand_over(FIRST, {})
    handover.hand_over(SECOND, {})
    [take_all_back] = at_exit
    take_all_back()
    assert [*store] == ["login/another/fit-1"]


def test_a_trial_leaves_what_its_driver_has_handed_over(store, at_exit, monkeypatch):
    """Only the driver of a job takes back at its end."""
    monkeypatch.setattr(ray_store, "is_driver", lambda: False)
    handover.hand_over(FIRST, {})
    assert at_exit == []


def test_who_claims_a_run_first_has_it_until_the_claims_are_forgotten(store):
    """And only those whose names begin as was said are forgotten."""
    assert handover.claim("a/1", "driver") == "driver"
    assert handover.claim("a/1", "trial") == "driver"
    assert handover.claim("ab/1", "trial") == "trial"
    handover.unclaim("a/")
    assert handover.claim("a/1", "trial") == "trial"
    assert handover.claim("ab/1", "driver") == "trial"


class WriterToNowhere:
    """A writer that takes everything."""

    stops = frozenset()

    def __getattr__(self, name):
        return lambda *args, **kwargs: None

    def close(self, timeout, is_interrupted=bool):
        return True


def test_an_experiment_forgets_its_claims_when_it_is_closed(store, tmp_path):
    """The store is as it was; the claims of others stay."""
    handover.claim("of another/t", "driver")
    before = dict(store)
    watching = experiment.Experiment("test", RunOptions(project="p"), writer=WriterToNowhere())
    trials = [FakeTrial(name, tmp_path, IsAFunction) for name in "ab"]
    for trial in trials:
        watching.start(trial)
        watching.result(trial, {"loss": 1.0, "training_iteration": 1})
    assert len(store) == len(before) + len(trials)
    watching.close(trials)
    assert store == before


def test_the_callback_takes_its_login_back(store, at_exit, tmp_path, monkeypatch):
    """When its experiment has ended, whatever went wrong in that."""

    class Failing(experiment.Experiment):
        def close(self, trials):
            raise ValueError("mine")

    monkeypatch.setattr(experiment_start, "Experiment", Failing)
    way = callback.WandbLoggerCallback(project="p")
    way.setup()
    assert store
    way.on_experiment_end([])
    assert not store
