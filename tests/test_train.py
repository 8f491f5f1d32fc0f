"""Ray Train, V2 and V1: a training loop has its run, whichever worker it runs in."""

from __future__ import annotations

import re
import types

import pytest
from drivers import fitted
from train_program import PROJECT, ROWS

from wbtune._data.options import RunOptions
from wbtune._place import identity
from wbtune._run import run_log
from wbtune._trial import train_hooks, tune_hooks
from wbtune._trial.trial_run import TrialRun
from wbtune._upstream import ray_train


def program(folder, version):
    """The program's training runs, which are read by name and by what each should be."""
    output = fitted("train_program.py", folder, version)
    said = re.findall(r"^.*(?:wbtune|setup_wandb|wandb_trial)(?::| \().*$", output, re.MULTILINE)
    assert said == []
    return folder


@pytest.fixture(scope="module")
def v2(tmp_path_factory):
    return program(tmp_path_factory.mktemp("v2"), "v2")


@pytest.fixture(scope="module")
def v1(tmp_path_factory):
    return program(tmp_path_factory.mktemp("v1"), "v1")


def by_name(folder):
    return {log.name: log for log in run_log.read_runs(folder).values()}


def is_complete(log, rank):
    assert [row["i"] for row in log.rows] == list(range(ROWS))
    assert {row["rank"] for row in log.rows} == {rank}
    assert (log.exit_code, log.summary["wbtune/outcome"]) == (0, "finished")
    assert log.project == PROJECT
    assert log.summary["wbtune/dropped"] == 0
    return True


def test_rank_zero(v2):
    """Rank 0 alone has a run, complete, named and grouped after the Train run."""
    (log,) = by_name(v2 / "rank-zero").values()
    assert is_complete(log, rank=0)
    assert (log.name, log.group) == ("rank-zero", "rank-zero")
    assert log.config["only"] is True


def test_each_rank(v2):
    """`rank_zero_only=False`: a run each, ids apart, one group; restarted, the same runs."""
    logs = by_name(v2 / "each")
    assert set(logs) == {"each-rank0", "each-rank1"}
    ids = sorted(log.id for log in logs.values())
    assert [run_id[-6:] for run_id in ids] == ["-rank0", "-rank1"]
    assert ids[0][:-6] == ids[1][:-6]
    for rank in (0, 1):
        log = logs[f"each-rank{rank}"]
        assert log.group == "each"
        assert len(log.paths) == 2
        assert [row["i"] for row in log.rows] == 2 * list(range(ROWS))
        assert {row["rank"] for row in log.rows} == {rank}
        assert log.exit_code == 0
    # The one that had failed says that this was its second attempt.
    assert logs["each-rank0"].rows[ROWS]["wbtune/attempt"] == 2
    assert logs["each-rank0"].summary["wbtune/attempt"] == 2


def test_failure(v2):
    """What the loop raised is in its run; the other worker's says that it was shut down."""
    logs = by_name(v2 / "each")
    failed, other = (run_log.read(logs[f"each-rank{rank}"].paths[0]) for rank in (0, 1))
    assert (failed.exit_code, failed.summary["wbtune/error"]) == (1, "ValueError")
    assert failed.summary["wbtune/error_message"] == "once"
    assert "train_program.py" in failed.summary["wbtune/traceback"]
    assert (other.exit_code, other.summary["wbtune/outcome"]) == (130, "interrupted")
    assert "shut the worker down" in other.summary["wbtune/reason"]
    assert [len(log.rows) for log in (failed, other)] == [ROWS, ROWS]


def test_in_a_trial(v2):
    """A decorated loop that a trial of Tune started: the name says which, and of what sweep."""
    (trial,) = [path.name.split("_")[1] for path in (v2 / "sweep").glob("trial_*_0*")]
    (log,) = by_name(v2 / "inner").values()
    assert is_complete(log, rank=0)
    assert log.name == f"trial_{trial}_00000-inner"
    assert log.group == "sweep"


def test_a_name_that_says_the_trial():
    """Ray's guide has users put the trial's id into the Train run's name: it stays."""
    run_id = 4 * "0123456789"
    worker = ray_train.TrainWorker(1, run_id, "run-of-ab12_00000", None, None, None)
    trial = identity.Identity("ab12_00000", "train_ab12_00000", "sweep")
    found = identity.of_worker(worker, only=False, trial=trial)
    assert (found.trial_name, found.experiment) == ("run-of-ab12_00000-rank1", "sweep")
    assert found.trial_id == f"{run_id[:12]}-rank1"
    alone = identity.of_worker(worker)
    assert (alone.trial_name, alone.experiment) == (2 * ("run-of-ab12_00000",))
    assert not found.contested and not alone.contested


def test_another_ray(caplog, monkeypatch):
    """Where what is private of Ray has moved, the loop goes on, and its user is told the cure."""
    monkeypatch.setattr(ray_train.LOOPS, "_trouble", "")  # it is noted there
    elsewhere = types.SimpleNamespace()
    worker = ray_train.TrainWorker(0, "id", "name", None, None, elsewhere)
    train_hooks.attach_to_worker(worker, TrialRun("setup_wandb", RunOptions()))
    assert "setup_wandb: this Ray does not say when" in caplog.text
    assert "@wandb_trial" in caplog.text
    assert tune_hooks.attached_run(elsewhere) is None


def test_v1_in_the_tuner(v1):
    """V1's trainer in a Tuner: id, name and group are the trial's, and each rank's its own."""
    logs = by_name(v1 / "sweep")
    alone = [log for log in logs.values() if "-rank" not in log.name]
    assert len(alone) == 1 and is_complete(alone[0], rank=0)
    assert alone[0].name == f"DataParallelTrainer_{alone[0].id}"
    each = sorted((log for log in logs.values() if "-rank" in log.name), key=lambda log: log.name)
    assert [log.name[-6:] for log in each] == ["-rank0", "-rank1"]
    assert {log.group for log in logs.values()} == {"sweep"}
    other, failed = each
    assert (failed.exit_code, failed.summary["wbtune/error"]) == (1, "ValueError")
    # V1 kills the others at once: the loop had returned, or there is no exit record.
    assert other.exit_code in {0, None}
    assert [len(log.rows) for log in each] == [ROWS, ROWS]


def test_v1_decorated(v1):
    """The decorated loop of a V1 trainer: rank 0 has its run, in the Train run's group."""
    (log,) = by_name(v1 / "decorated").values()
    assert is_complete(log, rank=0)
    assert log.group == "decorated"
