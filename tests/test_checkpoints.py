# Over 250 lines: the copier, the driver, the helper and Tune are one way of a file.
"""Checkpoints become artifacts: the right ones, whole, wherever they are stored."""

from __future__ import annotations

import importlib.util
import json
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import FakeTrial, OwnsItsRun
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import example, given
from hypothesis import strategies as st
from programs import run_config
from pyarrow import fs
from ray import tune
from wandb_server import TEST_KEY, Fault, WandbServer

from wbtune import ConfigurationError, WandbLoggerCallback, wandb_trial, wandb_tuner
from wbtune._data import checkpoint, timeouts
from wbtune._data.checkpoint import Objective, SavedCheckpoint
from wbtune._data.options import RunOptions
from wbtune._data.outcomes import Kind, Outcome
from wbtune._data.routing import Router
from wbtune._data.secret import Secret
from wbtune._driver.checkpoint_copies import CheckpointCopier
from wbtune._driver.experiment import Experiment
from wbtune._driver.writer import Writer
from wbtune._helper.messages import Reopen
from wbtune._run import run_log
from wbtune._run.run_log import RunLog
from wbtune._run.run_spec import RunSpec

FILES = {"model.pt": "weights", "inner/optimizer.pt": "state"}


def stored(filesystem: Any, path: str, files: dict[str, str] = FILES) -> tune.Checkpoint:
    """A checkpoint as Tune has put it into its storage."""
    for name, text in files.items():
        filesystem.create_dir(str(Path(path, name).parent), recursive=True)
        with filesystem.open_output_stream(f"{path}/{name}") as stream:
            stream.write(text.encode())
    return tune.Checkpoint(path, filesystem)


def contents(folder: str | None) -> dict[str, str]:
    """The files of a copy."""
    assert folder is not None
    paths = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in paths}


def remote(base: Path) -> fs.FileSystem:
    """A storage that is not "of this machine", as far as pyarrow tells."""
    base.mkdir(exist_ok=True)
    return fs.SubTreeFileSystem(str(base), fs.LocalFileSystem())


class Taken:
    """Who gets the copies."""

    def __init__(self) -> None:
        self.saved: list[SavedCheckpoint] = []
        self.kept = True

    def copy_by(
        self, copier: CheckpointCopier, checkpoint: tune.Checkpoint, trial: str = "trial"
    ) -> None:
        artifact = SavedCheckpoint(
            f"checkpoint_{trial}", Path(checkpoint.path).name, metadata={"loss": 1}
        )
        copier.copy(checkpoint, trial, artifact, self.saved.append, lambda: self.kept)

    def discard(self) -> None:
        for saved in self.saved:
            saved.discard()


@pytest.fixture
def taken() -> Iterator[Taken]:
    taken = Taken()
    yield taken
    taken.discard()


# --- What it is called, and which is the best -------------------------------------------


IDS = st.from_regex(r"[0-9a-f]{5}_[0-9]{5}", fullmatch=True)
NAMES = st.one_of(
    st.text(max_size=200),
    st.text(st.sampled_from("ab-./= é\ud800"), max_size=5),
    st.builds("train_{}".format, IDS),
)


@given(st.lists(st.tuples(NAMES, IDS), min_size=2), st.sampled_from(["", "6b86b2"]))
@example([("train_00000_00000", "00000_00000"), ("train_00000_00001", "00000_00001")], "")
def test_no_two_trials_have_the_same_artifact(trials, experiment):
    """Whatever they are called, the names are legal, and as many as there are trials.

    Of two experiments, trials of one id are two runs, and `name_in` tells these apart.
    """
    names = {trial: checkpoint.artifact_name(*trial, experiment) for trial in trials}
    for name in names.values():
        assert 1 <= len(name) <= 128 and name.isascii()
        assert not set(name) - set("._-") - {char for char in name if char.isalnum()}
    # Tune's own names end with the trial's own id; of another, they are another trial's.
    assert len({name.lower() for name in names.values()}) == len(names)


def test_an_artifact_is_called_as_its_trial_is():
    """Where that is enough to tell it from others; and always the same."""
    assert checkpoint.artifact_name("f_a1_0", "a1_0", "e") == "checkpoint_f_a1_0"
    assert checkpoint.artifact_name("lr=1", "a1_0", "e") == checkpoint.artifact_name(
        "lr=1", "a1_0", "e"
    )
    assert checkpoint.artifact_name("lr=1", "a1_0", "e").startswith("checkpoint_lr-1-")
    saved = SavedCheckpoint("checkpoint_f_a1_0", "checkpoint_000000", run_id="a1_0")
    # At the server, the trial's id was another experiment's run.
    assert saved.name_in("a1_0-6b86b2") == "checkpoint_f_a1_0-6b86b2"
    assert saved.name_in("a1_0") == saved.name


@pytest.mark.parametrize(
    ("result", "value"),
    [
        ({"val": {"loss": 1}}, 1.0),
        ({"val/loss": 2}, 2.0),
        ({"val": {"loss": float("nan")}}, None),
        ({"val": {"loss": "text"}}, None),
        ({"val": 3}, None),
        ({}, None),
    ],
)
def test_the_metric_of_a_result(result, value):
    """It may be nested; what is no number is never the best."""
    objective = Objective("val/loss", "max")
    assert objective.value(result) == value
    assert objective.improves(value, on=None) == (value is not None)
    assert not objective.improves(value, on=9.0)


# --- The copier -------------------------------------------------------------------------


def test_a_local_checkpoint_is_linked_at_once(tmp_path, taken):
    """Without a copy, before the hook returns: Tune may delete it right after."""
    checkpoint = stored(fs.LocalFileSystem(), str(tmp_path / "c"))
    copier = CheckpointCopier(tmp_path / "wandb")
    taken.copy_by(copier, checkpoint)
    [saved] = taken.saved
    assert Path(str(saved.folder), "model.pt").stat().st_nlink == 2
    fs.LocalFileSystem().delete_dir(checkpoint.path)
    assert contents(saved.folder) == FILES
    assert (saved.source, saved.metadata) == ("c", {"loss": 1})


@pytest.mark.parametrize("deleted", [False, True])
def test_many_files_are_linked_by_a_thread(deleted, tmp_path, taken, monkeypatch, caplog):
    """Tune's loop waits for a few of them only; if Tune deletes the others, that is said."""
    begun, go = threading.Event(), threading.Event()
    monkeypatch.setattr(timeouts, "LINKS_S", 0)
    link = os.link

    def slow_link(source, target):
        if threading.current_thread() is not threading.main_thread():
            begun.set()
            assert go.wait(30)
        link(source, target)

    monkeypatch.setattr(os, "link", slow_link)
    files = {f"inner/{number % 3}/{number}": str(number) for number in range(40)}
    copier = CheckpointCopier(tmp_path / "wandb")
    taken.copy_by(copier, stored(fs.LocalFileSystem(), str(tmp_path / "many"), files))
    assert taken.saved == [] and begun.wait(30)
    if deleted:
        taken.kept = False
        fs.LocalFileSystem().delete_dir(str(tmp_path / "many"))
    monkeypatch.setattr(timeouts, "LINKS_S", 60)
    # The next is copied at once, and comes after it: `latest` has to be the last.
    taken.copy_by(copier, stored(fs.LocalFileSystem(), str(tmp_path / "next")))
    assert taken.saved == []
    go.set()
    copier.close(30)
    sources = [saved.source for saved in taken.saved]
    assert sources == (["next"] if deleted else ["many", "next"])
    assert contents(taken.saved[-1].folder) == FILES
    assert ("many of trial is lost" in caplog.text) == deleted
    if not deleted:
        assert contents(taken.saved[0].folder) == files
    copies = list((tmp_path / "wandb").iterdir())
    assert len(copies) == len(taken.saved)


@pytest.mark.parametrize("kind", ["remote", "without hard links"])
def test_any_other_storage_is_copied_by_a_thread(kind, tmp_path, taken, monkeypatch):
    """Tune's loop does not wait for it; the end of the experiment does."""

    def no_links(source, target):
        raise OSError("this file system has no hard links")

    filesystem = fs.LocalFileSystem() if kind != "remote" else remote(tmp_path / "storage")
    if kind != "remote":
        monkeypatch.setattr("os.link", no_links)
    path = str(tmp_path / "c") if kind != "remote" else "c"
    copier = CheckpointCopier(tmp_path / "wandb")
    taken.copy_by(copier, stored(filesystem, path))
    copier.close(30)
    [saved] = taken.saved
    assert contents(saved.folder) == FILES
    assert Path(str(saved.folder)).is_relative_to(tmp_path / "wandb") == (kind != "remote")


def test_one_trials_copies_come_in_order(tmp_path, taken):
    """`latest` has to be the last one, with several trials and threads at work."""
    filesystem = remote(tmp_path / "storage")
    copier = CheckpointCopier(tmp_path / "wandb")
    for number in range(12):
        trial = f"trial{number % 3}"
        path = f"{trial}/checkpoint_{number:06}"
        taken.copy_by(copier, stored(filesystem, path), trial)
    copier.close(30)
    for trial in ("trial0", "trial1", "trial2"):
        sources = [s.source for s in taken.saved if s.name == f"checkpoint_{trial}"]
        assert len(sources) == 4
        assert sources == sorted(sources)


def test_one_that_fails_does_not_hold_up_the_next(tmp_path, taken, caplog):
    """Whatever is raised where a checkpoint is fetched, or handed on: the next one is fetched."""

    def fails(*_):
        raise AttributeError("renamed")

    filesystem = remote(tmp_path / "storage")
    copier = CheckpointCopier(tmp_path / "wandb")
    ways = [(taken.saved.append, fails), (fails, lambda: True)]
    for number, (then, is_kept) in enumerate(ways):
        checkpoint = stored(filesystem, f"trial/checkpoint_{number:06}")
        artifact = SavedCheckpoint("checkpoint_trial", f"checkpoint_{number:06}")
        copier.copy(checkpoint, "trial", artifact, then, is_kept)
    taken.copy_by(copier, stored(filesystem, "trial/checkpoint_000002"))
    copier.close(30)
    assert [saved.source for saved in taken.saved] == ["checkpoint_000002"]
    assert caplog.text.count("is lost, and not uploaded") == 2


class Storage(MemoryFileSystem):
    """A storage in memory, where something happens while a file of it is read."""

    protocol = "memory"
    cachable = False

    def __init__(self, on_read: Any) -> None:
        super().__init__()
        self.store = {}  # type: ignore[misc]  # its class has one for the whole process
        self.pseudo_dirs = [""]  # type: ignore[misc]
        self.on_read = on_read

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode == "rb":
            self.on_read(self)
        return super().open(path, mode, **options)


def in_memory(on_read: Any) -> tuple[Storage, tune.Checkpoint]:
    """A checkpoint in such a storage."""
    storage = Storage(on_read)
    checkpoint = stored(fs.PyFileSystem(fs.FSSpecHandler(storage)), "/bucket/checkpoint_000001")
    return storage, checkpoint


@pytest.mark.parametrize("deleted", ["before", "meanwhile", "in part", "a bit later"])
def test_a_torn_checkpoint_is_lost_and_said(deleted, tmp_path, taken, caplog):
    """Tune deletes when it likes: what is not whole is never uploaded, and named."""

    def delete(storage):
        if deleted == "meanwhile":
            storage.rm("/bucket/checkpoint_000001", recursive=True)
        elif deleted == "in part" and storage.exists("/bucket/checkpoint_000001/model.pt"):
            storage.rm("/bucket/checkpoint_000001/model.pt")

    storage, checkpoint = in_memory(delete)
    if deleted == "before":
        storage.rm("/bucket/checkpoint_000001", recursive=True)
    taken.kept = deleted not in {"before", "a bit later"}
    copier = CheckpointCopier(tmp_path)
    taken.copy_by(copier, checkpoint, "mine")
    copier.close(30)
    assert taken.saved == []
    [record] = caplog.records
    assert "checkpoint_000001 of mine is lost" in record.getMessage()
    assert ("num_to_keep" in record.getMessage()) == (not taken.kept)


def test_a_storage_that_does_not_answer(tmp_path, taken, caplog):
    """The wait for it is bounded; what is given up is named, and never comes later."""
    answer, done = threading.Event(), threading.Event()
    _, checkpoint = in_memory(lambda storage: answer.wait(30))
    copier = CheckpointCopier(tmp_path)
    artifact = SavedCheckpoint("checkpoint_mine", "checkpoint_000001")
    copier.copy(checkpoint, "mine", artifact, taken.saved.append, lambda: not done.set())
    copier.close(0)
    assert "checkpoint_000001 of mine was not fetched in time" in caplog.text
    answer.set()
    assert done.wait(30)
    copier.close(30)
    assert taken.saved == []


@pytest.mark.parametrize(
    ("filesystem", "uri"),
    [
        (fs.S3FileSystem(region="us-east-1"), "s3://bucket/c"),
        (fs.SubTreeFileSystem("deep", fs.S3FileSystem(region="us-east-1")), "s3://deep/bucket/c"),
        (fs.GcsFileSystem(anonymous=True), "gs://bucket/c"),
        (fs.PyFileSystem(fs.FSSpecHandler(MemoryFileSystem())), "memory://bucket/c"),
    ],
    ids=["s3", "subtree", "gcs", "fsspec"],
)
def test_references_name_the_place(filesystem, uri, tmp_path, taken):
    """Nothing is copied: the artifact gets the checkpoint's URI."""
    taken.copy_by(
        CheckpointCopier(tmp_path, references=True), tune.Checkpoint("bucket/c", filesystem)
    )
    [saved] = taken.saved
    assert (saved.reference, saved.folder) == (uri, None)


# --- The driver -------------------------------------------------------------------------


class RecordingWriter:
    """Keeps what was to be uploaded; the copies go, as they do with the real one."""

    def __init__(self) -> None:
        self.uploads: list[tuple[SavedCheckpoint, Reopen, bool]] = []
        self.open: set[str] = set()
        self.stops: set[str] = set()

    def launch(self, log_file=None):
        pass

    def start(self, key, spec, router, secret):
        self.open.add(key)

    def log(self, key, result):
        pass

    def log_all(self, key, results):
        pass

    def upload(self, key, checkpoint, reopen, secret):
        self.uploads.append((checkpoint, reopen(), key in self.open))
        checkpoint.discard()

    def end(self, key, outcome, notes=None):
        self.open.remove(key)

    def close(self, timeout, is_interrupted):
        assert timeout >= 0 and not is_interrupted()
        return True


LOSSES = [3.0, 1.0, float("nan"), 2.0, 0.5, 0.5, 4.0]


def went_through(folder: Path, policy: Any, *, own=False, objective=True, failed=False):
    """What is uploaded of a trial with these losses, each with a checkpoint."""
    writer: Any = RecordingWriter()
    watching = Experiment(
        "who",
        RunOptions(project="p", upload_checkpoints=policy, init_kwargs={"tags": ["mine"]}),
        objective=Objective("loss", "min") if objective else None,
        writer=writer,
    )
    trial: Any = FakeTrial("a", folder, OwnsItsRun if own else tune.Trainable)
    watching.start(trial)
    for number, loss in enumerate(LOSSES):
        trial.last_result = {"loss": loss, "training_iteration": number, "trial_id": "a"}
        watching.result(trial, trial.last_result)
        path = folder / f"checkpoint_{number}"
        trial.checkpoint = stored(fs.LocalFileSystem(), str(path))
        watching.save(trial)
        watching.save(trial)  # a pause: the same once more
    watching.end(trial, failed=failed)
    in_time = len(writer.uploads)
    watching.close([trial])
    assert not list(folder.rglob(".checkpoint-*"))
    assert in_time == (0 if own else len(writer.uploads))
    uploaded = [
        (int(saved.metadata["training_iteration"]), "best" in saved.aliases)
        for saved, _, _ in writer.uploads
    ]
    assert all("latest" in saved.aliases for saved, _, _ in writer.uploads)
    return uploaded, writer.uploads


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (True, [(0, True), (1, True), (2, False), (3, False), (4, True), (5, True), (6, False)]),
        ("best", [(0, True), (1, True), (4, True)]),
        ("last", [(6, False)]),
    ],
)
def test_policies(policy, expected, tmp_path):
    """All of them, those that are the best so far, or the last; `best` by metric and mode."""
    uploaded, uploads = went_through(tmp_path, policy)
    assert uploaded == expected
    assert all(is_open for _, _, is_open in uploads)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("all", list(range(7))), ("best", [4]), ("last", [6])],
)
def test_policies_where_the_trial_writes_its_run(policy, expected, tmp_path):
    """Its checkpoints wait until it has ended; one that was surpassed meanwhile is let go."""
    uploaded, uploads = went_through(tmp_path, policy, own=True, failed=True)
    assert [number for number, _ in uploaded] == expected
    assert {(reopen.exit_code, is_open) for _, reopen, is_open in uploads} == {(1, False)}


def test_slow_storage(tmp_path):
    """Fetched after the trial's end, a checkpoint still arrives; the best is the best fetched."""
    answer = threading.Event()
    storage, _ = in_memory(lambda _: answer.wait(30))
    filesystem = fs.PyFileSystem(fs.FSSpecHandler(storage))
    writer: Any = RecordingWriter()
    options = RunOptions(project="p", upload_checkpoints="best")
    watching = Experiment("w", options, objective=Objective("loss", "min"), writer=writer)
    trial: Any = FakeTrial("a", tmp_path)
    watching.start(trial)
    for loss in (3.0, 1.0, 2.0):
        trial.last_result = {"loss": loss}
        trial.checkpoint = stored(filesystem, f"/bucket/loss_{loss}")
        watching.save(trial)
    watching.end(trial, failed=True)
    assert writer.uploads == []
    answer.set()
    watching.close([trial])
    assert [
        (saved.source, reopen.exit_code, is_open) for saved, reopen, is_open in writer.uploads
    ] == [
        ("loss_3.0", 1, False),
        ("loss_1.0", 1, False),
    ]


def test_without_a_metric_none_is_the_best(tmp_path):
    """No tuner's metric, no `best`."""
    uploaded, _ = went_through(tmp_path, "all", objective=False)
    assert not any(best for _, best in uploaded)


def test_a_visit_leaves_config_and_tags(tmp_path):
    """What is opened once more for a late checkpoint: id, tags and outcome, but no config."""
    _, [(_, reopen, _), *_] = went_through(tmp_path, "all", failed=True)
    assert reopen.spec.config == {}
    assert reopen.spec.init["id"] == "a"
    assert "mine" in reopen.spec.init["tags"]


def test_what_the_trial_declared_comes_first(tmp_path, monkeypatch):
    """A run that its trial opened is where its log says, with the tags that it had."""
    log = RunLog("a", name="theirs", project="declared", tags=["own", "stopped"])
    monkeypatch.setattr(run_log, "read_runs", lambda folder, run_id: {run_id: log})
    _, [(_, reopen, _)] = went_through(tmp_path, "last", own=True, failed=True)
    assert {name: reopen.spec.init[name] for name in ("id", "project", "name", "tags")} == {
        "id": "a",
        "project": "declared",
        "name": "theirs",
        "tags": ["own", "failed"],
    }


def test_what_was_not_sent_in_time_is_said(tmp_path, caplog, monkeypatch):
    """W&B took none of it until `upload_timeout`: named, and no copy stays."""
    monkeypatch.setattr(RecordingWriter, "upload", lambda *_: None)
    went_through(tmp_path, "all")
    [record] = [record for record in caplog.records if "in time" in record.getMessage()]
    assert all(
        f"checkpoint_{number} (checkpoint_trial_a)" in record.getMessage() for number in range(7)
    )


def test_a_full_disk_leaves_no_run_open(tmp_path, monkeypatch):
    """The last checkpoint can't be copied: its trial's run ends all the same."""
    writer: Any = RecordingWriter()
    watching = Experiment("w", RunOptions(project="p", upload_checkpoints="last"), writer=writer)
    trial: Any = FakeTrial("a", tmp_path)
    watching.start(trial)
    trial.checkpoint = stored(fs.LocalFileSystem(), str(tmp_path / "c"))
    watching.save(trial)

    def full(**_):
        raise OSError("no space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(OSError, match="no space"):
        watching.end(trial, failed=False)
    assert not writer.open


def test_a_restored_experiment_knows_the_best(tmp_path):
    """A driver that died had a best checkpoint; only a better one is better."""
    options = RunOptions(project="p", upload_checkpoints="best")
    objective, writer = Objective("loss", "min"), RecordingWriter()
    state: dict[str, Any] | None = None
    for number, loss in enumerate([1.0, 2.0, 0.5]):
        watching = Experiment(
            "w",
            options,
            objective=objective,
            restored=state,
            writer=writer,  # type: ignore[arg-type]
        )
        trial: Any = FakeTrial("a", tmp_path)
        watching.start(trial)
        trial.last_result = {"loss": loss}
        trial.checkpoint = stored(fs.LocalFileSystem(), str(tmp_path / f"{number}"))
        watching.save(trial)
        state = json.loads(json.dumps(watching.state()))
    assert [saved.source for saved, _, _ in writer.uploads] == ["0", "2"]


# --- What is known before the first trial -----------------------------------------------


def run(callback, metric=None, mode=None, scheduler=None, filesystem=None):
    """As `ray.tune.run`, whose locals tell what callbacks are not told."""
    storage = SimpleNamespace(storage_filesystem=filesystem, experiment_fs_path="e")
    experiments = [SimpleNamespace(storage=storage)]
    callback.setup()
    return experiments


@pytest.mark.parametrize("mode", [None, "min"])
def test_best_needs_a_metric(mode):
    """An error on the driver, before any trial, with the cure."""
    callback = WandbLoggerCallback("p", upload_checkpoints="best", mode="offline")
    with pytest.raises(ConfigurationError, match=r"TuneConfig\(metric="):
        run(callback, mode=mode)
    run(callback, "loss", "min")
    run(callback, scheduler=tune.schedulers.ASHAScheduler(metric="loss", mode="max"))


@pytest.mark.parametrize("policy", ["bset", "", 1.5, ["all"]])
def test_unknown_policies(policy):
    """An error that lists what there is."""
    with pytest.raises(ConfigurationError, match="all, best, last"):
        wandb_trial(project="p", upload_checkpoints=policy)


@pytest.mark.parametrize(
    ("filesystem", "cure"),
    [
        (fs.S3FileSystem(region="us-east-1"), "pip install boto3"),
        (fs.GcsFileSystem(anonymous=True), "pip install google-cloud-storage"),
    ],
    ids=["s3", "gcs"],
)
def test_references_need_a_library(filesystem, cure, monkeypatch):
    """Where wandb would fail at each checkpoint, the driver says what to install."""
    there = {"boto3", "google.cloud.storage"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in there or None)
    callback = WandbLoggerCallback(
        "p", upload_checkpoints=True, checkpoint_references=True, mode="offline"
    )
    run(callback, filesystem=filesystem)
    there.clear()
    with pytest.raises(ConfigurationError, match=cure):
        run(callback, filesystem=filesystem)
    run(callback, filesystem=fs.LocalFileSystem())


# --- The helper and wandb-core, over HTTP -----------------------------------------------


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    with WandbServer(keys={TEST_KEY}) as server:
        for name, value in server.env(tmp_path).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("WANDB_MODE", "online")
        yield server


SPEC = RunSpec(
    {"id": "run", "entity": "entity", "project": "project", "resume": "allow", "tags": ["mine"]},
    config={"lr": 1},
    settings={"silent": True, "console": "off", "finish_timeout": 20}
    | {f"x_file_transfer_retry_wait_{end}_seconds": 1 for end in ("min", "max")}
    | {"x_file_transfer_retry_max": 1, "finish_timeout_raises": False},
)
KEY = ("entity", "project", "run")


def saved_in(folder: Path, number: int, **more: Any) -> SavedCheckpoint:
    """A checkpoint that was copied."""
    copy = folder / f"copy{number}"
    copy.mkdir()
    (copy / "model").write_text(f"weights {number}")
    more = {"folder": str(copy), "metadata": {"training_iteration": number}} | more
    return SavedCheckpoint("checkpoint_trial", f"checkpoint_{number:06}", **more)


def deliver(
    tmp_path: Path, in_time: list[SavedCheckpoint], late: list[SavedCheckpoint], **settings: Any
) -> None:
    """A failed run with checkpoints before its end, each with a row, and after it."""
    settings = {**SPEC.settings, **settings}
    spec = RunSpec({**SPEC.init, "dir": str(tmp_path)}, SPEC.config, settings)
    failed = Outcome(Kind.FAILED, error_type="ValueError")
    tags = ["mine", *failed.tags]
    reopen = Reopen(RunSpec({**spec.init, "tags": tags}, settings=spec.settings), failed.exit_code)
    writer, secret = Writer(), Secret(TEST_KEY)
    writer.launch(tmp_path / "helper.log")
    writer.start("run", spec, Router(), secret)
    for number, saved in enumerate(in_time):
        writer.log("run", {"loss": 1.0, "training_iteration": number})
        writer.upload("run", saved, lambda: reopen, secret)
    writer.end("run", failed)
    for saved in late:
        writer.upload("run", saved, lambda: reopen, secret)
    assert writer.close(60)
    assert not any(Path(str(saved.folder)).exists() for saved in [*in_time, *late])


@pytest.mark.parametrize("late", [False, True])
def test_versions_arrive(late, server, tmp_path, caplog):
    """Type, files, metadata; `latest` and `best` move; a late one leaves its run as it was."""
    latest, best = ("latest",), ("latest", "best")
    saved = [
        saved_in(tmp_path, number, aliases=aliases)
        for number, aliases in enumerate([best, latest, best, latest])
    ]
    deliver(tmp_path, saved[:2] if late else saved, saved[2:] if late else [])
    assert [a.aliases for a in server.artifacts] == [[], [], ["best"], ["latest"]]
    for number, artifact in enumerate(server.artifacts):
        assert (artifact.type, artifact.name) == ("model", "checkpoint_trial")
        assert artifact.committed
        assert artifact.files == {"model": f"weights {number}".encode()}
        assert artifact.metadata["training_iteration"] == number
        assert artifact.run_id == "run"
    run = server.runs[KEY]
    assert (run.exit_code, len(run.rows), run.tags) == (1, 2 if late else 4, ["mine", "failed"])
    assert (run.summary["wbtune/outcome"], run.summary["wbtune/dropped"]) == ("failed", 0)
    assert run.config == {"lr": 1}
    assert server.refusals == []
    assert caplog.text == ""


@pytest.mark.parametrize("late", [False, True])
def test_a_failed_upload_is_said(late, server, tmp_path, caplog):
    """By the driver, with the checkpoint's name; the run itself is complete."""
    server.order(Fault(status=403, match="/storage/artifact"))
    saved = [saved_in(tmp_path, 5)]
    deliver(tmp_path, [] if late else saved, saved if late else [])
    assert "checkpoint_000005 (checkpoint_trial) was not uploaded" in caplog.text
    assert not any(artifact.committed for artifact in server.artifacts)
    assert server.runs[KEY].exit_code == 1


def test_the_wait_for_an_upload_is_bounded(server, tmp_path, caplog):
    """W&B's storage is in trouble for good: after the timeout that is said, and the run ends."""
    server.order(Fault(status=500, match="/storage/artifact"))
    deliver(tmp_path, [saved_in(tmp_path, 1), saved_in(tmp_path, 2)], [], finish_timeout=2)
    for number in (1, 2):
        assert f"checkpoint_{number:06} (checkpoint_trial) was not uploaded" in caplog.text


def test_a_reference_arrives(server, tmp_path, caplog):
    """The artifact names the place in the storage, and holds no file."""
    saved = SavedCheckpoint("checkpoint_trial", "checkpoint_000001", reference="s3://bucket/c")
    deliver(tmp_path, [saved], [])
    [artifact] = server.artifacts
    [(name, entry)] = json.loads(artifact.manifest)["contents"].items()
    assert (name, entry["ref"], artifact.files) == ("checkpoint_000001", "s3://bucket/c", {})
    assert artifact.committed
    assert caplog.text == ""


# --- Real Ray ---------------------------------------------------------------------------

REPORTED = [3.0, 1.0, 2.0]


def function(config):
    for i, loss in enumerate(REPORTED):
        with tempfile.TemporaryDirectory() as folder:
            for name in "abc":
                Path(folder, name).write_text(f"{name} of {i}")
            checkpoint = tune.Checkpoint.from_directory(folder)
            tune.report({"loss": loss}, checkpoint=checkpoint)


class Trained(tune.Trainable):
    def setup(self, config):
        self.i = -1

    def step(self):
        self.i += 1
        return {"loss": REPORTED[self.i], "done": self.i == len(REPORTED) - 1}

    def save_checkpoint(self, checkpoint_dir):
        for name in "abc":
            Path(checkpoint_dir, name).write_text(f"{name} of {self.i}")


@pytest.mark.parametrize("kind", ["function", "class", "function with its own run", "S3"])
def test_on_ray(kind, ray, server, moto, tmp_path, caplog):
    """Each checkpoint is a whole version of the trial's artifact, though Tune keeps only one."""
    # Over 40 lines: one experiment, and all that it shows.
    key_file = tmp_path / "key"
    key_file.write_text(TEST_KEY)
    here = {"project": "project", "entity": "entity", "mode": "online"}
    here |= {"settings": {"base_url": server.url}, "api_key_file": str(key_file)}
    trainable = {"class": Trained, "function with its own run": wandb_trial(function)}
    remote = {"storage_filesystem": moto[0]} if kind == "S3" else {}
    config = run_config(
        "bucket" if remote else tmp_path,
        kind.replace(" ", "-"),
        checkpoint_config=tune.CheckpointConfig(
            num_to_keep=1, checkpoint_frequency=int(kind == "class")
        ),
        **remote,
    )
    [result] = wandb_tuner(
        trainable.get(kind, function),
        tune_config=tune.TuneConfig(metric="loss", mode="min"),
        run_config=config,
        upload_checkpoints=True,
        **here,
    ).fit()
    assert result.error is None
    warnings = "".join(record.getMessage() for record in caplog.records if record.name == "wbtune")
    # Of a remote storage a quick trial's may be gone before it is fetched; that is said.
    whole = [i for i in range(3) if f"checkpoint_{i:06} of" not in warnings]
    assert len(whole) == 3 - warnings.count("is lost")
    assert not warnings or (kind == "S3" and 2 in whole)
    best = min(whole, key=lambda i: REPORTED[i])
    assert [a.aliases for a in server.artifacts] == [
        ["latest"] * (i == 2) + ["best"] * (i == best) for i in whole
    ]
    for i, artifact in zip(whole, server.artifacts, strict=True):
        written = {name: text for name, text in artifact.files.items() if name in set("abc")}
        assert written == {name: f"{name} of {i}".encode() for name in "abc"}
        assert artifact.committed
        assert artifact.name.endswith(result.metrics["trial_id"])
        metadata = [artifact.metadata[name] for name in ("loss", "training_iteration", "trial_id")]
        assert metadata == [REPORTED[i], i + 1, result.metrics["trial_id"]]
    [run] = server.runs.values()
    assert (run.state, [row["loss"] for row in run.rows]) == ("finished", REPORTED)
    assert run.summary["wbtune/outcome"] == "finished"
    assert server.refusals == []
