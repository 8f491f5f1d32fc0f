"""Several nodes, and storage that is no folder: the runs are where the experiment is."""

# Over 250 lines: one cluster, and the copying that it does, without Ray.

from __future__ import annotations

import contextlib
import logging
import threading
import types
from pathlib import Path

import pytest
import wandb
from drivers import fitted
from fakes import FakeTrial
from nodes_program import PROJECT, ROWS
from pyarrow import fs

from wbtune._data import timeouts
from wbtune._data.options import RunOptions
from wbtune._driver.experiment import Experiment
from wbtune._place import identity
from wbtune._place.storage import Remote
from wbtune._run import run_files, run_log

WAYS = ("callback", "setup_wandb", "wandb_trial", "WandbMixin")
IN_S3 = ("s3-callback", "s3-WandbMixin", "s3-wandb_trial")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """What the program left behind, and what it said."""
    folder = tmp_path_factory.mktemp("nodes")
    return folder, fitted("nodes_program.py", folder)


@pytest.mark.parametrize("way", [*WAYS, *IN_S3])
def test_each_node(way, cluster):
    """A trial on each of two nodes: both runs, with all rows, are in the experiment's storage."""
    folder, _ = cluster
    logs = run_log.read_runs(folder / ("s3" if way in IN_S3 else "shared") / way)
    assert {log.config["node"] for log in logs.values()} == {"node_a", "node_b"}
    assert len(logs) == 2
    assert len({log.rows[0]["on"] for log in logs.values()}) == 2
    retried = way == "s3-wandb_trial"
    for log in logs.values():
        assert [row["i"] for row in log.rows if "i" in row][-ROWS:] == list(range(ROWS))
        assert (log.exit_code, log.summary["wbtune/outcome"]) == (0, "finished")
        assert (log.project, log.group) == (PROJECT, way)
        assert len(log.paths) == 1 + retried
        assert log.summary.get("wbtune/attempt", 1) == 1 + retried


def test_the_closing_line(cluster):
    """The driver says where in S3 the runs are, and what to type; and has no trouble to tell."""
    _, output = cluster
    for way in ("s3-callback", "s3-WandbMixin"):
        address = f"s3://bucket/results/{way}"
        line = f"wbtune: 2 runs in {address}/wandb; upload them by: wbtune sync {address}\n"
        assert output.count(line) == 1
    assert "not copied" not in output
    assert "wandb:" not in output


# --- The same without Ray: any file system of pyarrow's will do -------------------------


def offline_run(folder, run_id, rows=3, exit_code=0):
    """One part of a run, as W&B writes it."""
    Path(folder, "wandb").mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        project="p",
        id=run_id,
        dir=str(folder),
        reinit="create_new",
        settings={"silent": True, "console": "off"},
    )
    for i in range(rows):
        run.log({"i": i, "training_iteration": i + 1})
    run.finish(exit_code=exit_code)
    assert run_files.wait_for_end(run_files.logs(folder, run_id)[-1])


@pytest.fixture
def remote(tmp_path):
    (tmp_path / "remote").mkdir()
    return Remote(fs.SubTreeFileSystem(str(tmp_path / "remote"), fs.LocalFileSystem()), "e/wandb")


def test_there_and_back(remote, tmp_path):
    """What one node delivers, another fetches; an attempt is counted on whichever it runs."""
    one, other = tmp_path / "one", tmp_path / "other"
    offline_run(one, "a", exit_code=1)
    offline_run(one, "b")
    assert remote.deliver(one, "a")
    assert set(run_log.read_runs(tmp_path / "remote" / "e")) == {"a"}
    assert remote.deliver(one)
    assert set(run_log.read_runs(tmp_path / "remote" / "e")) == {"a", "b"}
    assert {name.rpartition("-")[2] for name in remote.runs()} == {"a", "b"}

    remote.fetch(other, "a")
    assert set(run_log.read_runs(other)) == {"a"}
    assert run_files.attempts(other, "a") == 1
    remote.fetch(other)
    assert [len(log.rows) for log in run_log.read_runs(other).values()] == [3, 3]


def test_delivered_twice(remote, tmp_path):
    """A log that has grown since is copied again, and one that has not is left alone."""
    offline_run(tmp_path, "a")
    (log,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    whole = log.read_bytes()
    log.write_bytes(whole[:100])
    assert remote.deliver(tmp_path)
    there = tmp_path / "remote/e/wandb" / log.parent.name / log.name
    assert there.read_bytes() == whole[:100]
    log.write_bytes(whole)
    assert remote.deliver(tmp_path)
    assert there.read_bytes() == whole
    before = there.stat().st_mtime_ns
    assert remote.deliver(tmp_path)
    assert there.stat().st_mtime_ns == before


def test_nothing_there_yet(remote, tmp_path):
    """The first trial of an experiment finds no folder in the storage, which is no trouble."""
    remote.fetch(tmp_path)
    assert remote.runs() == []
    assert remote.deliver(tmp_path)


def test_two_parts_of_one_second(remote, tmp_path):
    """W&B numbers the folder of the second one: it is delivered and fetched like the first."""
    one, other = tmp_path / "one", tmp_path / "other"
    offline_run(one, "a", exit_code=1)
    (log,) = one.glob("wandb/offline-run-*/*.wandb")
    log.parent.rename(log.parent.with_name(f"{log.parent.name}-1"))
    offline_run(one, "a-b")
    assert remote.deliver(one, "a")
    assert [name.rpartition("-a")[2] for name in remote.runs()] == ["-1"]
    remote.fetch(other, "a")
    assert run_files.attempts(other, "a") == 1


class Down:
    """A storage that refuses, or that keeps who asks waiting until the test is over."""

    type_name = "down"

    def __init__(self, answers):
        self._answers = answers

    def get_file_info(self, what):
        if self._answers is not None:
            self._answers.wait()
        raise OSError("no such host")


@contextlib.contextmanager
def silent_storage():
    over = threading.Event()
    try:
        yield Down(over)
    finally:
        over.set()


def test_a_storage_that_is_down(tmp_path, caplog):
    """It raises nothing and is waited for only so long; the folder with the run is named."""
    offline_run(tmp_path, "a")
    with caplog.at_level(logging.WARNING, "wbtune"):
        refusing = Remote(Down(None), "e/wandb")
        assert not refusing.deliver(tmp_path, "a")
        refusing.fetch(tmp_path, "a")
        with silent_storage() as silent:
            assert not Remote(silent, "e/wandb").deliver(tmp_path, seconds=0.05)
    ours = [record for record in caplog.records if record.name == "wbtune"]
    refused, looked, late = [record.getMessage() for record in ours]
    assert "no such host" in refused and f"wandb sync {tmp_path}/wandb/offline-run-*-a" in refused
    assert "earlier attempts" in looked and "no such host" in looked
    assert "not done after 0.05 s" in late


class RemoteStorage:
    """What wbtune asks of Ray's `StorageContext`."""

    def __init__(self, tmp_path):
        self.storage_filesystem = fs.SubTreeFileSystem(
            str(tmp_path / "remote"), fs.LocalFileSystem()
        )
        self.experiment_fs_path = "e"
        self.trial_fs_path = "e/trial"
        self.experiment_driver_staging_path = str(tmp_path / "session/e/driver_artifacts")


class WriterThatWrites:
    """Carries the orders out at once, in this process."""

    def __init__(self, folder):
        self.folder = folder
        self.rows = {}

    def launch(self, log_file=None):
        assert log_file == self.folder / "wandb" / "wbtune.log"

    def call(self, work):
        work()

    def start(self, key, spec, router, secret):
        self.rows[key] = []

    def log(self, key, result):
        self.rows[key].append(dict(result))

    def log_all(self, key, results):
        for result in results():
            self.log(key, result)

    def end(self, key, outcome, notes=None):
        offline_run(self.folder, key, rows=len(self.rows[key]), exit_code=outcome.exit_code)

    def close(self, timeout, is_interrupted=bool):
        return True


def test_the_driver_on_another_node(tmp_path, remote, capfd):
    """A restored driver knows what is in the storage, logs the rest, and copies it there."""
    offline_run(tmp_path / "before", "a", rows=2, exit_code=130)
    assert remote.deliver(tmp_path / "before")
    results = tmp_path / "remote/e/trial/result.json"
    results.parent.mkdir(parents=True)
    results.write_text("".join(f'{{"training_iteration": {i}}}\n' for i in (1, 2, 3, 4)))

    staging = tmp_path / "session/e/wbtune"  # beside what Tune copies by itself
    trial = FakeTrial("a", tmp_path)
    trial.storage = RemoteStorage(tmp_path)
    writer = WriterThatWrites(staging)
    state = {"a": {"attempt": 1, "perturbations": [], "own": False}}
    experiment = Experiment("w", RunOptions(project="p"), writer=writer, restored=state)
    experiment.start(trial)
    assert [row["training_iteration"] for row in writer.rows["a"]] == [3, 4]
    experiment.end(trial, failed=False)
    trial.status = "TERMINATED"
    experiment.close([trial])

    log = run_log.read_runs(tmp_path / "remote/e")["a"]
    assert (len(log.paths), log.exit_code, len(log.rows)) == (2, 0, 4)
    assert "wbtune: 1 run in subtree://e/wandb; copy that folder" in capfd.readouterr().out


def test_staging(tmp_path):
    """A run waits in Ray's session folder for being copied; V2 has a folder of its own there."""
    tunes = RemoteStorage(tmp_path)
    found = identity.of_trainable(types.SimpleNamespace(_trial_info=None, _storage=tunes))
    assert found.directory == str(tmp_path / "session/e/wbtune")
    assert found.remote is not None and found.remote.path == "e/wandb"
    trains = types.SimpleNamespace(
        storage_filesystem=tunes.storage_filesystem,
        experiment_fs_path="e",
        local_working_directory=str(tmp_path / "session/e"),
    )
    found = identity.of_trainable(types.SimpleNamespace(_trial_info=None, _storage=trains))
    assert found.directory == str(tmp_path / "session/e/wbtune")
    assert timeouts.COPY_S < 60
