"""``wbtune sync`` of what goes on: runs that are opened again or still written, servers that leave.

By real wandb-core against the stand-in, as in `test_sync`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import strategies_functions as functions
from click.testing import CliRunner
from logs import log_of_rows
from ray import tune
from test_sync import WRITER, losses, numbered, started, synced, train, written
from wandb_server import HISTORY, TEST_KEY, Fault, WandbServer

from wbtune import wandb_tuner
from wbtune._cli.doctor import storage
from wbtune._cli.doctor.findings import Context
from wbtune._cli.main import main
from wbtune._cli.syncing.mirror import Mirror
from wbtune._cli.syncing.runs import LocalRun, Runs, Segment, extent
from wbtune._cli.syncing.source import opened
from wbtune._cli.syncing.watch import Watch
from wbtune._data import timeouts
from wbtune._data.sweep_source import read
from wbtune._place.arrivals import Arrival
from wbtune._run import log_rows, run_files, run_log
from wbtune._tune_files.folder import Folder, folder_of
from wbtune.errors import ConfigurationError

#: The command, where something of wbtune's is replaced before.
COMMAND = "from wbtune._cli.main import main; main(prog_name='wbtune')"
SWEEP_FILE = Path(__file__).with_name("sweep_files") / "quickstart.yaml"


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with WandbServer(keys={TEST_KEY}) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "exp"
    folder.mkdir()
    return folder


def run_of(server: WandbServer, run_id: str = "a") -> Any:
    return server.runs["entity", "p", run_id]


def begun(server: WandbServer, home: Path, prepare: str, *args: str) -> subprocess.Popen[str]:
    """The command, after `prepare` in the same process."""
    return subprocess.Popen(
        [sys.executable, "-c", f"{prepare}\n{COMMAND}", "sync", *args],
        env=functions.clean_env(home) | server.env(home),
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str], timeout: float = 120) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    assert "Traceback" not in err
    return process.returncode, out, err


def segment_of(folder: Path, home: Path, code: str, *, hidden: Path | None = None) -> Path:
    """Write one more segment of a run; put it elsewhere for now, perhaps."""
    before = {*folder.glob("wandb/offline-run-*")}
    time.sleep(1.1)  # a segment's folder is named by the second
    written(folder, home, code)
    (new,) = {*folder.glob("wandb/offline-run-*")} - before
    return new if hidden is None else Path(shutil.move(new, hidden / new.name))


def made_online(segment: Path) -> Path:
    """Make a segment one that its driver has sent: no marker, and another name."""
    for marker in segment.glob("*.synced"):
        marker.unlink()
    return segment.rename(segment.with_name(segment.name.removeprefix("offline-")))


# --- a run that is still being written ---------------------------------------------------


@pytest.mark.parametrize("args", [(), ("--watch", "--idle", "0.1")])
def test_an_ending_that_came_later_arrives(args, server, folder, tmp_path):
    """A run that only closes after it was sent: its outcome and its tags are sent by the next."""
    code = (
        "run = opened('a'); rows(run, 0, 10); time.sleep(1.5)\n"
        "while not os.path.exists(FOLDER + '/go'): time.sleep(0.1)\n"
        "run.tags = ('late',); run.summary['n'] = 1; closed(run); closing.end_core()"
    )
    env = functions.clean_env(tmp_path)
    writer = subprocess.Popen([sys.executable, "-c", WRITER + code, str(folder)], env=env)
    try:
        log = until_written(folder, 10)
        synced(server, tmp_path, str(folder), *args)
        assert run_of(server).state == "failed"
        assert not log.with_suffix(".wandb.synced").exists()  # plain `wandb sync` would believe it
        again = synced(server, tmp_path, str(folder))[1]
        assert "(none was missing)" in again
        before = len(server.requests)
        assert synced(server, tmp_path, str(folder), "--dry-run")[1].startswith("Nothing to send")
        (folder / "go").touch()
        assert writer.wait(60) == 0
    finally:
        writer.kill()
    assert synced(server, tmp_path, str(folder))[0] == 0
    assert server.received("file_stream")[-1:] != server.requests[:before][-1:]
    run = run_of(server)
    assert (run.state, run.tags, run.summary["n"]) == ("finished", ["late"], 1)
    assert losses(server, "a") == numbered(10)
    assert log.with_suffix(".wandb.synced").exists()
    assert server.refusals == []


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_a_later_attempt_that_ends_well_leaves_no_error(mode, server, folder, tmp_path):
    """Neither when it writes to the server nor when its segment is sent after the first."""
    env = functions.clean_env(tmp_path) | server.env(tmp_path, TEST_KEY) | {"WANDB_MODE": mode}
    writer = WRITER.replace('"offline"', repr(mode))
    outcomes = ("Outcome.failed(ValueError('no luck'))", "FINISHED")
    for outcome, seen in zip(outcomes, ("ValueError", None), strict=True):
        code = f"run = opened('a'); rows(run, 0, 3); closed(run, {outcome}); closing.end_core()"
        functions.program(env, folder, "-c", writer + code, str(folder))
        if mode == "offline":
            synced(server, tmp_path, str(folder))
        assert run_of(server).summary.get("wbtune/error") == seen
    left = {key for key in run_of(server).summary if key.startswith("wbtune/")}
    assert left == {"wbtune/outcome"}


def until_written(folder: Path, rows: int) -> Path:
    """Wait until a run has so many rows on disk."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for log in folder.glob("wandb/*/*.wandb"):
            if sum(1 for _ in log_rows.stamped(log)) >= rows:
                return log
        time.sleep(0.2)
    raise TimeoutError


def test_a_segment_that_comes_while_the_rows_are_counted(server, folder, tmp_path):
    """It is sent, too, even if it only closes the run."""
    segment_of(folder, tmp_path, "run = opened('a'); rows(run, 0, 30); killed()")
    later = segment_of(
        folder, tmp_path, "run = opened('a'); closed(run); closing.end_core()", hidden=tmp_path
    )
    watch = started(server, tmp_path, str(folder), "--watch", "--idle", "0.3")
    key = ("entity", "p", "a")
    server.wait_for(lambda: key in server.runs and len(server.runs[key].rows) == 30, 60)
    away = server.order(Fault(status=500, match="RunResumeStatus"))
    server.wait_for(lambda: away.hits, 60)  # it asks for the count: all is uploaded
    time.sleep(1)
    shutil.move(later, folder / "wandb" / later.name)
    time.sleep(timeouts.SYNC_DISCOVERS_S + 2)
    server.heal(away)
    ended(watch)
    assert run_of(server).state == "finished"
    assert losses(server, "a") == numbered(30)


def test_a_marker_older_than_its_log_is_none(folder):
    """Somebody has marked a log, by `wandb sync` say, that went on afterwards."""
    log = folder / "run-a.wandb"
    log.write_bytes(log_of_rows([{"loss": 1}]))
    marker = folder / "run-a.wandb.synced"
    marker.touch()
    os.utime(log, (100.0, 100.0))
    assert Segment(log, True).is_synced
    os.utime(marker, (50.0, 50.0))
    assert not Segment(log, True).is_synced


@pytest.mark.parametrize("is_late", [False, True])
def test_a_killed_drivers_runs_wait_no_longer_when_they_are_sent(is_late, server, folder, tmp_path):
    """The doctor has nothing to send, as sync hasn't; until the log goes on."""
    segment = segment_of(folder, tmp_path, "run = opened('a'); rows(run, 0, 5); killed()")
    if is_late:  # as an online run's that was not uploaded in time
        segment = made_online(segment)
        run_files.note_not_uploaded(segment)
    assert waiting(folder) == (["problem"] if is_late else ["note"])
    assert synced(server, tmp_path, str(folder))[0] == 0
    assert losses(server, "a") == numbered(5)
    assert waiting(folder) == ["ok"]
    assert not (segment / "run-a.wandb.synced").exists()  # plain `wandb sync` would believe it
    with (segment / "run-a.wandb").open("ab") as log:
        log.write(b"more")
    assert waiting(folder) == (["problem"] if is_late else ["note"])


def test_sent_runs_in_a_storage_wait_no_longer(server, folder, moto, tmp_path):
    """Those of a killed driver there are told by their size, too."""
    segment_of(folder, tmp_path, "run = opened('a'); rows(run, 0, 5); killed()")
    s3, query = moto
    copy_to(s3, folder, "bucket/waiting")
    address = f"s3://any:any@bucket/waiting{query}"
    assert waiting(address) == ["note"]
    assert synced(server, tmp_path, address)[0] == 0
    assert waiting(address) == []


def waiting(folder: Path | str) -> list[str]:
    """What `wbtune doctor` finds of runs that wait to be sent."""
    return [one.level.value for one in storage.unsent(Context({}, directory=str(folder)))]


# --- segments that were sent in another order --------------------------------------------


def an_older_unsent_one(server: WandbServer, folder: Path, home: Path, end: str) -> Path:
    """Rows 0-9 only on disk, rows 10-19 sent by their driver; return the log of the latter."""
    older = segment_of(folder, home, "run = opened('a'); rows(run, 0, 10); killed()")
    online = segment_of(folder, home, f"run = opened('a'); rows(run, 10, 20); {end}")
    hidden = Path(shutil.move(older, home / older.name))
    synced(server, home, str(folder))
    assert len(losses(server, "a")) == 10
    online = made_online(online)
    shutil.move(hidden, folder / "wandb" / hidden.name)
    return next(online.glob("*.wandb"))


def test_an_older_segment_is_sent_after_a_newer_one(server, folder, tmp_path):
    """A driver restored online has sent its rows; those from before are not taken as arrived."""
    an_older_unsent_one(server, folder, tmp_path, "closed(run); closing.end_core()")
    code, out, err = synced(server, tmp_path, str(folder))
    assert code == 0, err
    assert out.startswith("1 run, 20 rows: all arrived (10 of them now)")
    assert sorted(loss for _, loss in losses(server, "a")) == list(range(20))
    assert len(run_of(server).lines[HISTORY]) == 20
    assert (server.refusals, run_of(server).state) == ([], "finished")
    code, out, _ = synced(server, tmp_path, str(folder))
    assert (code, out.splitlines()[0]) == (0, "1 run, 20 rows: all arrived (none was missing)")


def test_a_segment_that_its_driver_sends_is_left_alone(server, folder, tmp_path):
    """It has two writers otherwise: nothing is sent until it has ended, or its driver is dead."""
    log = an_older_unsent_one(server, folder, tmp_path, "killed()")
    before = len(server.received("file_stream"))
    code, _, err = synced(server, tmp_path, str(folder))
    assert code == 1
    assert "run a: the server lacks 10 of 20 rows; its driver is sending its newest rows" in err
    assert len(server.received("file_stream")) == before
    os.utime(log, (time.time() - 10_000,) * 2)
    code, out, err = synced(server, tmp_path, str(folder))
    assert code == 0, err
    assert out.startswith("1 run, 20 rows: all arrived (10 of them now)")
    assert len(run_of(server).lines[HISTORY]) == 20
    assert server.refusals == []


def stamped(folder: Path, *segments: tuple[bool, list[float]]) -> LocalRun:
    run = LocalRun(run_log.RunLog(id="a"))
    for number, (is_kept, times) in enumerate(segments):
        log = folder / str(number) / "run-a.wandb"
        log.parent.mkdir()
        log.write_bytes(log_of_rows([{log_rows.STAMP: at, "_step": 0} for at in times]))
        run.segments.append(Segment(log, is_kept))
    return run


@pytest.mark.parametrize(
    ("arrival", "have"),
    [
        (Arrival(0), (0, 0)),
        (Arrival(2, {log_rows.STAMP: 4.5}), (0, 2)),  # none of the older one
        (Arrival(3, {log_rows.STAMP: 4.5}), (1, 2)),  # its upload was interrupted before
        (Arrival(3, {log_rows.STAMP: 1.5}), (1, 2)),  # and afterwards
        (Arrival(4, {log_rows.STAMP: 2.5}), (2, 2)),  # it came last
        (Arrival(4, {log_rows.STAMP: 4.5}), (2, 2)),
        (Arrival(2, {log_rows.STAMP: 2.5}), (2, 0)),  # not all of the newer was really sent
    ],
)
def test_what_has_arrived_of_each_segment(arrival, have, tmp_path):
    """By the last row and the number of rows: the newer segment was sent by its driver."""
    run = stamped(tmp_path, (True, [1.5, 2.5]), (False, [3.5, 4.5]))
    assert extent(run, arrival).have == have


# --- the end of a watch ------------------------------------------------------------------


def test_a_remote_experiment_has_to_be_quiet_when_it_has_ended(tmp_path):
    """The run for the whole may be copied there before those of the trials."""
    log = tmp_path / "wandb" / "offline-run-1-a" / "run-a.wandb"
    log.parent.mkdir(parents=True)
    log.write_bytes(log_of_rows([{"loss": 1}], 0))
    head = run_log.RunLog(id="a", job_type="sweep", config={"space": {}})
    runs = {"a": LocalRun(head, [Segment(log, True)])}
    watch = Watch(folder_of(str(tmp_path))._replace(is_local=False), 100.0, 0.0)
    watch.look(runs, 1.0)
    assert not watch.has_ended
    watch.look(runs, 2.0 + timeouts.SYNC_QUIET_S)
    assert watch.has_ended


class Counting:
    """A file system that counts how often it is asked for what is in a folder."""

    def __init__(self, inner: Any) -> None:
        self.asked = 0
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def get_file_info(self, selector: Any) -> Any:
        self.asked += 1
        return self._inner.get_file_info(selector)


def test_a_mirror_asks_once(folder, tmp_path):
    """However many runs there are; and a copy is as old as what it was copied from."""
    for name in ("a", "b", "c"):
        log = folder / "wandb" / f"run-1-{name}" / f"run-{name}.wandb"
        (log.parent / "files").mkdir(parents=True)
        (log.parent / "files" / "x.txt").write_text(name)
        log.write_bytes(log_of_rows([]))
        os.utime(log, (100.0, 100.0))
    remote = folder_of(str(folder))
    counting = Counting(remote.filesystem)
    mirror = Mirror(Folder(counting, remote.path, remote.shown, False), tmp_path / "copy")
    mirror.fetch()
    assert counting.asked == 1
    copied = tmp_path / "copy" / "wandb" / "run-1-b"
    assert (copied / "files" / "x.txt").read_text() == "b"
    assert (copied / "run-b.wandb").stat().st_mtime == 100.0


# --- servers and storages that fail ------------------------------------------------------


STUCK = """
import psutil
from wbtune._data import timeouts
from wbtune._upstream.wandb_sync import LogUpload
timeouts.SYNC_CORE_ANSWERS_S = 0.5
start = LogUpload._start
async def start_with_a_stuck_core(*args, **options):
    (core,) = psutil.Process().children()
    core.suspend()
    try:
        await start(*args, **options)
    finally:
        core.resume()
LogUpload._start = start_with_a_stuck_core
"""


def test_a_core_that_does_not_answer_in_time(server, folder, tmp_path):
    """It is one run's problem: the report comes, and the exit code is 1."""
    written(folder, tmp_path, "run = opened('a'); rows(run, 0, 5); closed(run); closing.end_core()")
    code, out, err = ended(begun(server, tmp_path, STUCK, str(folder)))
    assert code == 1
    assert out.startswith("1 run, 5 rows: 0 arrived")
    assert "run a: the server lacks 5 of 5 rows; wandb-core did not answer" in err


IMPATIENT = """
from wbtune._data import timeouts
timeouts.SYNC_STALLS_S, timeouts.SYNC_ARRIVES_S = 2.0, 3.0
"""


def test_a_server_that_goes_away_meanwhile(server, folder, tmp_path):
    """It is not waited for without end: the report says what has not arrived."""
    written(folder, tmp_path, "run = opened('a'); rows(run, 0, 9); closed(run); closing.end_core()")
    server.order(Fault(status=500, match="file_stream"))
    process = begun(server, tmp_path, IMPATIENT, str(folder))
    server.wait_for(lambda: server.received("file_stream"), 60)
    with server.away():
        code, out, err = ended(process)
    assert code == 1
    assert out.startswith("1 run, 9 rows: 0 arrived")
    assert "can't be reached" in err


def test_an_upload_that_stalls_is_said_once(server, folder, tmp_path):
    """The server answers, but takes no rows: one warning, and on it goes when it is well."""
    written(folder, tmp_path, "run = opened('a'); rows(run, 0, 9); closed(run); closing.end_core()")
    broken = server.order(Fault(status=500, match="file_stream"))
    process = begun(server, tmp_path, IMPATIENT, str(folder))
    server.wait_for(lambda: server.received("file_stream"), 60)
    time.sleep(9)
    server.heal(broken)
    code, _, err = ended(process)
    assert (code, err.count("run a: nothing has arrived for")) == (0, 1)
    assert losses(server, "a") == numbered(9)


READ_ONLY = """
from wbtune._tune_files.folder import Folder
def refuse(*_):
    raise PermissionError("Access Denied")
Folder.write = refuse
"""


def test_a_storage_that_may_only_be_read(server, folder, moto, tmp_path):
    """Markers can't be put there: a warning, and the runs are sent and reported."""
    written(folder, tmp_path, "run = opened('a'); rows(run, 0, 9); closed(run); closing.end_core()")
    s3, query = moto
    copy_to(s3, folder, "bucket/read-only")
    address = f"s3://any:any@bucket/read-only{query}"
    code, out, err = ended(begun(server, tmp_path, READ_ONLY, address))
    assert code == 0
    assert out.startswith("1 run, 9 rows: all arrived\n")
    assert err.count("Access Denied") == 1
    assert losses(server, "a") == numbered(9)


OUTAGE = """
from wbtune._cli.syncing.mirror import Mirror
fetch, looks = Mirror.fetch, []
def failing(mirror):
    looks.append(mirror)
    if 1 < len(looks) < 5:
        raise OSError(f"away, request {len(looks)}")
    fetch(mirror)
Mirror.fetch = failing
from wbtune._data import timeouts
timeouts.SYNC_DISCOVERS_S = 0.5
"""


def test_an_outage_of_the_storage_is_said_once(server, folder, moto, tmp_path):
    """Not at every look."""
    written(folder, tmp_path, "run = opened('a'); rows(run, 0, 9); closed(run); closing.end_core()")
    s3, query = moto
    copy_to(s3, folder, "bucket/outage")
    address = f"s3://any:any@bucket/outage{query}"
    _, out, err = ended(begun(server, tmp_path, OUTAGE, address, "--watch", "--idle", "0.2"))
    assert out.startswith("1 run, 9 rows: all arrived")
    assert err.count("can't be read: away") == 1


def copy_to(s3: Any, folder: Path, target: str) -> None:
    from pyarrow import fs

    fs.copy_files(str(folder), target, destination_filesystem=s3, use_threads=False)


def test_a_storage_has_no_lock_and_the_help_says_so(folder, moto):
    """The second of two is kept out of a local folder, not out of a storage."""
    log = folder / "wandb" / "offline-run-1-a" / "run-a.wandb"
    log.parent.mkdir(parents=True)
    log.write_bytes(log_of_rows([]))
    s3, query = moto
    copy_to(s3, folder, "bucket/two")
    with opened(str(folder), alone=True), pytest.raises(ConfigurationError, match="another"):
        contextlib.ExitStack().enter_context(opened(str(folder), alone=True))
    address = f"s3://any:any@bucket/two{query}"
    with opened(address, alone=True), opened(address, alone=True):
        pass
    said = " ".join(CliRunner().invoke(main, ["sync", "--help"]).output.split())
    assert "Start one at a time" in said and "a remote storage has none" in said


# --- sweeps ------------------------------------------------------------------------------


def test_a_sweep_in_a_later_segment(server, folder, tmp_path):
    """An experiment begun offline and restored online has its sweep: none is to be made."""
    whole = "run = opened('sweep-1', {{'space': {{}}, 'sweep': {}}}, job_type='sweep'); "
    whole += "closed(run); closing.end_core()"
    segment_of(folder, tmp_path, whole.format(None))
    _, out, _ = synced(server, tmp_path, str(folder), "--dry-run", "--json")
    assert json.loads(out)["makes_sweep"]
    segment_of(folder, tmp_path, whole.format("'s1'"))
    _, out, _ = synced(server, tmp_path, str(folder), "--dry-run", "--json")
    assert not json.loads(out)["makes_sweep"]
    assert Runs(folder).look()["sweep-1"].head.config["sweep"] == "s1"


@pytest.mark.parametrize(
    ("job_type", "config", "is_whole"),
    [
        ("sweep", {"space": {"lr": {"value": 1}}}, True),
        ("sweep", {"space": {}}, True),
        ("sweep", {"lr": 1}, False),  # a user's own job type
        ("sweep", {"space": "large"}, False),
        ("", {"space": {}}, False),  # a user's parameter
    ],
)
def test_the_run_for_the_whole(job_type, config, is_whole):
    """By its job type and by what it says was searched."""
    assert run_log.is_whole(run_log.RunLog(job_type=job_type, config=config)) == is_whole


def test_a_sweep_file_offline(ray, server, tmp_path):
    """The sweep that is made afterwards has exactly the file's config."""
    tuner = wandb_tuner(
        train_by_file,
        sweep=SWEEP_FILE,
        project="p",
        mode="offline",
        run_config=tune.RunConfig(name="exp", storage_path=str(tmp_path), verbose=0),
    )
    tuner.fit()
    code, _, err = synced(server, tmp_path, str(tmp_path / "exp"))
    assert code == 0, err
    (sweep,) = server.sweeps
    given = read("f", SWEEP_FILE).config
    assert sweep.config == given
    assert list(sweep.config) == list(given)


def train_by_file(config: dict[str, Any]) -> None:
    with contextlib.suppress(KeyError):
        config["lr"] = config["learning_rate"]
    train({"lr": 1.0})
