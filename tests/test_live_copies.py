"""Offline runs reach a remote storage while they are written, whole and in few bytes."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import strategies_functions as functions
from hypothesis import given
from hypothesis import strategies as st
from logs import log_of_rows
from pyarrow import fs
from ray import tune
from wandb_server import TEST_KEY, WandbServer

from wbtune import setup_wandb, wandb_tuner
from wbtune._cli.syncing.mirror import Mirror
from wbtune._data import timeouts
from wbtune._place.storage import Remote
from wbtune._run import log_rows, run_files
from wbtune._run.live_copies import RATE, LiveCopies, Pace
from wbtune._run.relay import Left, Relay
from wbtune._tune_files.folder import Folder

FOLDER = "offline-run-20260101_000000-a"
ROWS = [{"text": "x" * 1000, "loss": i} for i in range(200)]
LOG = log_of_rows(ROWS, 0)


# --- how often -----------------------------------------------------------------------------

LOOKS = st.lists(st.tuples(st.integers(0, 50 << 20), st.floats(0, 100)), max_size=60)


@given(LOOKS)
def test_bytes_are_bounded(looks):
    """However a log grows: 4 times its final size, and `RATE` for as long as it is written."""
    pace, size, now, sent = Pace(), 0, 1000.0, 0
    for grown, seconds in looks:
        size, now = size + grown, now + seconds
        if pace.is_due(size, now):
            sent, pace = sent + size, Pace(size, now)
    assert sent <= 4 * size + RATE * (now - 1000.0) + 1


@given(copied=st.integers(0, 10 << 20), grown=st.integers(0, 10 << 20))
def test_a_small_log_is_never_late(copied, grown):
    """Up to 10 MiB, what was added is due 5 s after the last copy; without that, nothing is."""
    size = min(copied + grown, 10 << 20)
    assert Pace(copied, 0.0).is_due(size, 5.0) == (size > copied)


# --- one process, and a storage ----------------------------------------------------------


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies are made as soon as they are due."""
    monkeypatch.setattr(timeouts, "LIVE_COPIES_S", 0.01)


@pytest.fixture
def local(tmp_path: Path) -> Remote:
    (tmp_path / "remote").mkdir()
    system = fs.SubTreeFileSystem(str(tmp_path / "remote"), fs.LocalFileSystem())
    return Remote(system, "e/wandb")


def log_in(directory: Path, folder: str = FOLDER, data: bytes = b"") -> Path:
    """A run's log below a folder."""
    log = directory / "wandb" / folder / "run-a.wandb"
    (log.parent / "files").mkdir(parents=True)
    log.write_bytes(data)
    return log


def append(log: Path, data: bytes) -> None:
    with log.open("ab") as file:
        file.write(data)


def becomes(condition: Callable[[], Any], seconds: float = 60) -> bool:
    """Wait until a condition is true; return whether it is."""
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return bool(condition())


@contextlib.contextmanager
def copying(directory: Path, remote: Any, **options: Any) -> Iterator[LiveCopies]:
    copies = LiveCopies(directory, remote, **options)
    copies.add(["a"])
    try:
        yield copies
    finally:
        copies.stop()


def size_in(remote: Remote, name: str = f"{FOLDER}/run-a.wandb") -> int:
    return remote.filesystem.get_file_info(f"{remote.path}/{name}").size or 0


def test_a_log_that_grows(often, moto, tmp_path):
    """Cut anywhere, in S3: who mirrors and relays the copies has each row once, and the end."""
    s3, _ = moto
    remote, there = Remote(s3, "bucket/grows/wandb"), Folder(s3, "bucket/grows", "", False)
    here = tmp_path / "mirror"
    log, mirror = log_in(tmp_path), Mirror(there, here)
    (tmp_path / "sent").mkdir()
    relay = Relay(here / "wandb" / FOLDER / log.name, tmp_path / "sent", Left(), id)
    with copying(tmp_path, remote) as copies:
        for begin in range(0, len(LOG), 19_999):
            append(log, LOG[begin : begin + 19_999])
            assert becomes(lambda: size_in(remote) == log.stat().st_size)
            mirror.fetch()
            while relay.pump():
                pass
        assert remote.deliver(tmp_path, "a", after=copies.finish)
    assert relay.has_ended
    relay.end()
    assert list(log_rows.rows([relay.path])) == list(log_rows.rows([log]))


def test_files_come_before_the_records_that_name_them(often, local, tmp_path):
    """An image is there when its row is; one that has changed is copied again."""
    log = log_in(tmp_path)
    image = log.parent / "files" / "media" / "x.png"
    image.parent.mkdir()
    with copying(tmp_path, local):
        for content in (b"1", b"22"):
            image.write_bytes(content)
            append(log, LOG[:100])
            assert becomes(lambda: size_in(local) == log.stat().st_size)
            with local.filesystem.open_input_stream(
                f"{local.path}/{FOLDER}/files/media/x.png"
            ) as file:
                assert file.read() == content


class Slow:
    """A storage in which the first copy of a log waits to begin until it is let go."""

    type_name = "slow"

    def __init__(self, system: Any) -> None:
        self._system = system
        self.begun, self.go = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._system, name)

    def open_output_stream(self, path: str, **options: Any) -> Any:
        if path.endswith(".wandb") and not self.begun.is_set():
            self.begun.set()
            self.go.wait()
        return self._system.open_output_stream(path, **options)


def test_the_copy_of_the_closed_run_is_the_last(often, local, tmp_path):
    """It waits for a partial one that is under way, and for no longer than it may."""
    log, slow = log_in(tmp_path, data=LOG[:100]), Slow(local.filesystem)
    remote = Remote(slow, local.path)
    with copying(tmp_path, remote) as copies:
        assert slow.begun.wait(60)
        append(log, LOG[100:])
        assert not remote.deliver(tmp_path, "a", seconds=0.05, after=copies.finish)
        assert size_in(local) == 0
        slow.go.set()
        assert becomes(lambda: size_in(local) == len(LOG))
        copies.finish()
    assert size_in(local) == len(LOG)


class Failing(Slow):
    """A storage that refuses for some time."""

    def __init__(self, system: Any) -> None:
        super().__init__(system)
        self.refused = 0

    def open_output_stream(self, path: str, **options: Any) -> Any:
        if not self.go.is_set():
            self.refused += 1
            raise OSError("no such host")
        return self._system.open_output_stream(path, **options)


def test_a_storage_that_fails(often, local, tmp_path, caplog):
    """It is said once, tried again, and all is there in the end."""
    log_in(tmp_path, data=LOG)
    failing = Failing(local.filesystem)
    with (
        caplog.at_level(logging.WARNING, "wbtune"),
        copying(tmp_path, Remote(failing, local.path)) as copies,
    ):
        assert becomes(lambda: failing.refused > 3)
        failing.go.set()
        assert becomes(lambda: size_in(local) == len(LOG))
        copies.finish()
    (message,) = [record.getMessage() for record in caplog.records]
    assert "no such host" in message and "copied when they are closed" in message


def test_what_is_not_copied(often, local, tmp_path):
    """Other processes' runs, those that were to be online, and any before it is wanted."""
    log_in(tmp_path, data=LOG)
    for folder in ("run-20260101_000000-a", "offline-run-20260101_000001-a"):
        run_files.note_not_uploaded(log_in(tmp_path, folder, LOG).parent)
    log_in(tmp_path, "offline-run-20260101_000002-b", LOG).rename(
        tmp_path / "wandb" / "offline-run-20260101_000002-b" / "run-b.wandb"
    )
    wanted = threading.Event()
    asked = threading.Event()

    def may_begin() -> bool:
        asked.set()
        return wanted.is_set()

    with copying(tmp_path, local, may_begin=may_begin) as copies:
        assert asked.wait(60)
        assert local.runs() == []
        wanted.set()
        assert becomes(lambda: size_in(local) == len(LOG))
        copies.finish()
    assert local.runs() == [FOLDER]


def test_no_storage_no_thread(tmp_path):
    """Where the folder is the storage, nothing is started."""
    before = threading.active_count()
    with copying(tmp_path, None) as copies:
        copies.finish()
        assert threading.active_count() == before


def test_a_run_that_was_fetched_too_early(local, tmp_path):
    """The rest of it is fetched as well; a run that was written here is left alone."""
    there, here = log_in(tmp_path / "there", data=LOG[:1000]), tmp_path / "here"
    log = here / "wandb" / FOLDER / there.name
    assert local.deliver(tmp_path / "there")
    local.fetch(here)
    assert log.stat().st_size == 1000
    append(there, LOG[1000:])
    assert local.deliver(tmp_path / "there")
    local.fetch(here)
    assert log.read_bytes() == LOG
    log.write_bytes(b"")
    (log.parent / "files").mkdir()
    local.fetch(here)
    assert log.read_bytes() == b""


# --- a real experiment -------------------------------------------------------------------


def follows(config: dict[str, Any]) -> None:
    """Reports three results, waits until somebody has seen them, and reports two more."""
    run = setup_wandb(config, project="p", mode="offline") if config["own"] else None
    for number in range(5):
        if number == 3:
            becomes(lambda: os.path.exists(config["seen"]), 120)  # noqa: PTH110
        if run is not None:
            run.log({"loss": number})
        tune.report({"loss": number, "was_seen": os.path.exists(config["seen"])})  # noqa: PTH110


class Watcher(threading.Thread):
    """`wbtune sync --watch`, begun when the first run is in S3.

    Attributes:
        counts: the rows that the server had of each of the trials' runs before they went on.
        output: what the command has printed.
        code: its exit code.
    """

    def __init__(self, server: WandbServer, home: Path, moto: tuple[Any, str], seen: Path) -> None:
        super().__init__(daemon=True)
        self.counts: list[int] = []
        self.output, self.code = "", -1
        self._server, self._home, self._seen = server, home, seen
        self._s3, self._query = moto

    def run(self) -> None:
        def begun() -> bool:
            info = self._s3.get_file_info("bucket/exp/wandb")
            return info.type == fs.FileType.Directory

        assert becomes(begun, 120)
        process = subprocess.Popen(
            [sys.executable, "-m", "wbtune", "sync", "--watch", self.address],
            env=functions.clean_env(self._home) | self._server.env(self._home),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with contextlib.suppress(TimeoutError):
            self._server.wait_for(lambda: self._rows() == [3, 3], 100)
        self.counts = self._rows()
        self._seen.touch()
        self.output, _ = process.communicate(timeout=200)
        self.code = process.returncode

    @property
    def address(self) -> str:
        return f"s3://any:any@bucket/exp{self._query}"

    def _rows(self) -> list[int]:
        runs = self._server.runs.values()
        return [len(run.rows) for run in runs if run.job_type != "sweep"]


def test_a_watched_experiment_in_s3(ray, moto, tmp_path):
    """Rows are at W&B while their trials run: one the driver logs, and one its own process."""
    seen = tmp_path / "seen"
    with WandbServer(keys={TEST_KEY}) as server:
        watcher = Watcher(server, tmp_path, moto, seen)
        watcher.start()
        results = wandb_tuner(
            follows,
            {"own": tune.grid_search([True, False]), "seen": str(seen)},
            project="p",
            mode="offline",
            sweep=True,
            tune_config=tune.TuneConfig(metric="loss", mode="min"),
            run_config=tune.RunConfig(
                name="exp", storage_path="bucket", storage_filesystem=moto[0], verbose=0
            ),
        ).fit()
        watcher.join(200)
        assert not results.errors
        assert watcher.counts == [3, 3], watcher.output
        assert (watcher.code, server.refusals) == (0, []), watcher.output
        runs = [run for run in server.runs.values() if run.job_type != "sweep"]
        assert [[row["loss"] for row in run.rows] for run in runs] == [[0, 1, 2, 3, 4]] * 2
        assert {run.state for run in server.runs.values()} == {"finished"}
