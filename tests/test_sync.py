"""``wbtune sync``: what was only kept on disk is at the server, each row once."""

# Over 250 lines: one command, by real wandb-core against the stand-in, in all its situations.

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
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
from wandb_server import HISTORY, TEST_KEY, Fault, WandbServer, nobody_listens

from wbtune import wandb_tuner
from wbtune._cli.syncing.runs import Extent, ForeignRunError, LocalRun, Segment, extent
from wbtune._cli.syncing.watch import Watch
from wbtune._place.arrivals import Arrival
from wbtune._run import log_rows, run_files, run_log
from wbtune._run.relay import NO_EXIT, Left, Relay
from wbtune._tune_files.folder import folder_of

pytestmark = pytest.mark.usefixtures("measured")

#: Writes offline runs: `rows` logs, `opened` opens, `closed` closes.
WRITER = """
import os, sys, time
from wbtune._run import closing, opening, run_spec
from wbtune._place.identity import Identity
from wbtune._data.options import RunOptions
from wbtune._data.outcomes import FINISHED, Kind, Outcome

FOLDER = sys.argv[1]

def opened(run_id, config=None, **init):
    options = RunOptions(project="p", group="exp", init_kwargs={"mode": "offline"})
    who = Identity(run_id, f"trial {run_id}", "exp", FOLDER)
    spec = run_spec.spec(options, who, {"lr": 1} if config is None else config)
    spec = spec._replace(init={**spec.init, **init})
    return opening.open_run(spec, for_trial_elsewhere=True)

def rows(run, first, last, pause=0.0):
    for number in range(first, last):
        run.log({"loss": number, "training_iteration": number})
        time.sleep(pause)

def closed(run, outcome=FINISHED, **notes):
    closing.close_run(run, outcome, notes)

def killed():
    time.sleep(1.5)  # until that is on disk
    os._exit(0)
"""


def written(folder: Path, home: Path, code: str) -> None:
    functions.program(functions.clean_env(home), folder, "-c", WRITER + code, str(folder))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs on disk: `a` was killed, and continued in a second segment; `b` has one."""
    folder = tmp_path_factory.mktemp("kept")
    written(folder, folder, "run = opened('a'); rows(run, 0, 60); killed()")
    written(
        folder,
        folder,
        "run = opened('a'); rows(run, 60, 90); closed(run)\n"
        "run = opened('b'); rows(run, 0, 2000); closed(run)\nclosing.end_core()",
    )
    return folder


@pytest.fixture
def folder(kept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kept, tmp_path / "exp"))


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with WandbServer(keys={TEST_KEY}) as server:
        yield server


def started(server: WandbServer, home: Path, *args: str, **env: str) -> subprocess.Popen[str]:
    """The command in a process of its own, where the cluster's settings say "offline"."""
    environment = functions.clean_env(home) | server.env(home) | {"WANDB_MODE": "offline"} | env
    return subprocess.Popen(
        [sys.executable, "-m", "wbtune", "sync", *args],
        env=environment,
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def synced(server: WandbServer, home: Path, *args: str, **env: str) -> tuple[int, str, str]:
    process = started(server, home, *args, **env)
    out, err = process.communicate(timeout=240)
    assert "Traceback" not in err
    assert TEST_KEY not in out + err
    return process.returncode, out, err


def losses(server: WandbServer, run_id: str) -> list[tuple[int, int]]:
    run = server.runs["entity", "p", run_id]
    return [(row["_step"], row["loss"]) for row in run.rows]


def numbered(count: int) -> list[tuple[int, int]]:
    return [(number, number) for number in range(count)]


def was_sent_once(server: WandbServer) -> None:
    """Every row, in order, and no line of a history a second time."""
    assert losses(server, "a") == numbered(90)
    assert losses(server, "b") == numbered(2000)
    assert {len(run.lines[HISTORY]) for run in server.runs.values()} == {90, 2000}
    assert server.refusals == []


# --- whole runs --------------------------------------------------------------------------


def test_all_arrives_and_again_nothing_is_sent(server, folder, tmp_path):
    """Segments in their order, rows counted, wandb's markers; the second time only questions."""
    code, out, _ = synced(server, tmp_path, str(folder))
    assert code == 0
    assert out.startswith("2 runs, 2,090 rows: all arrived\n")
    assert f"Project {server.url}/entity/p group {server.url}/entity/p/groups/exp" in out
    was_sent_once(server)
    run = server.runs["entity", "p", "a"]
    assert (run.state, run.group, run.config) == ("finished", "exp", {"lr": 1})
    assert len(list(folder.glob("wandb/*/*.wandb.synced"))) == 3
    before = len(server.requests)
    # By the folder of the runs, and with output for machines.
    code, out, err = synced(server, tmp_path, str(folder / "wandb"), "--json")
    again = [request.operation for request in server.requests[before:]]
    assert (code, err) == (0, "")
    assert {*again} == {"Viewer", "RunResumeStatus"}
    found = json.loads(out)
    assert (found["rows"], found["arrived"], found["sent"]) == (2090, 2090, 0)
    assert [one["id"] for one in found["runs"]] == ["a", "b"]


def test_dry_run_asks_nobody(folder, tmp_path):
    """It needs no login and no server, and changes nothing."""
    before = sorted(folder.rglob("*"))
    with nobody_listens() as url:
        env = {"WANDB_BASE_URL": url, "WANDB_API_KEY": ""}
        with WandbServer() as server:
            code, out, err = synced(server, tmp_path, str(folder), "--dry-run", **env)
            _, machine, _ = synced(server, tmp_path, str(folder), "--dry-run", "--json", **env)
            assert server.requests == []
    assert (code, out, err) == (0, "Would send 2 runs with 2,090 rows to project p.\n", "")
    assert json.loads(machine)["rows_to_send"] == 2090
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("sent_by", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("arrived", [5, 65])
def test_interrupted_and_repeated(sent_by, arrived, server, folder, tmp_path):
    """What has arrived before is not sent again, in whichever segment it was interrupted."""
    slow = server.order(Fault(delay=0.3, match="/a/file_stream"))
    process = started(server, tmp_path, str(folder))
    key = ("entity", "p", "a")
    server.wait_for(lambda: key in server.runs and len(server.runs[key].rows) >= arrived, 120)
    process.send_signal(sent_by)
    _, err = process.communicate(timeout=60)
    assert process.returncode in {-signal.SIGKILL, 130}
    assert "Traceback" not in err
    server.heal(slow)
    code, out, _ = synced(server, tmp_path, str(folder))
    assert code == 0 and "2 runs, 2,090 rows: all arrived" in out
    was_sent_once(server)


def test_a_server_that_loses_its_answers(server, folder, tmp_path):
    """wandb-core repeats what has arrived, in the same place."""
    server.order(Fault(cut="after", match="file_stream", times=3))
    assert synced(server, tmp_path, str(folder))[0] == 0
    was_sent_once(server)


def test_after_wandb_sync(server, folder, tmp_path):
    """What plain `wandb sync` has sent is not sent again; a segment that came later is."""
    second = max(folder.glob("wandb/offline-run-*-a"))
    hidden = tmp_path / "hidden"
    second.rename(hidden)
    subprocess.run(
        [sys.executable, "-m", "wandb", "sync", *map(str, folder.glob("wandb/offline-run-*"))],
        env=functions.clean_env(tmp_path) | server.env(tmp_path / "home"),
        check=True,
        capture_output=True,
        timeout=120,
    )
    assert losses(server, "a") == numbered(60)
    hidden.rename(second)
    code, out, _ = synced(server, tmp_path, str(folder))
    assert (code, out.splitlines()[0]) == (0, "2 runs, 2,090 rows: all arrived (30 of them now)")
    was_sent_once(server)


def test_what_an_online_run_has_left(server, folder, tmp_path):
    """A run that was not uploaded in time is sent; one that was is left alone."""
    left, uploaded = (
        max(folder.glob("wandb/offline-run-*-b")),
        min(folder.glob("wandb/offline-run-*-a")),
    )
    for online in (left, uploaded):
        online.rename(online.with_name(online.name.removeprefix("offline-")))
    run_files.note_not_uploaded(left.with_name(left.name.removeprefix("offline-")))
    shutil.rmtree(max(folder.glob("wandb/offline-run-*-a")))
    code, out, _ = synced(server, tmp_path, str(folder))
    assert (code, out.splitlines()[0]) == (0, "1 run, 2,000 rows: all arrived")
    assert [key[2] for key in server.runs] == ["b"]


# --- what can't be sent ------------------------------------------------------------------


def test_a_run_of_another_experiment_is_left_alone(server, folder, tmp_path):
    """Where the server has other rows under the same id, none is added to them."""
    other = tmp_path / "other"
    other.mkdir()
    written(other, tmp_path, "run = opened('a'); rows(run, 0, 5); closed(run)\nclosing.end_core()")
    assert synced(server, tmp_path, str(other))[0] == 0
    code, out, err = synced(server, tmp_path, str(folder))
    assert code == 1
    assert (
        "run a: the server lacks 90 of 90 rows; the run of this id in entity/p has other rows"
        in err
    )
    assert out.startswith("2 runs, 2,090 rows: 2,000 arrived")
    assert losses(server, "a") == numbered(5)


def test_rows_that_do_not_arrive_are_said(server, folder, tmp_path):
    """A server that takes rows and loses them: exit 1, and which run lacks how many."""
    server.order(Fault(status=404, match="/b/file_stream"))
    code, out, err = synced(server, tmp_path, str(folder))
    assert code == 1
    assert (
        "run b: the server lacks 2,000 of 2,000 rows; [p/b] Fatal error while uploading data" in err
    )
    assert out.startswith("2 runs, 2,090 rows: 90 arrived")
    server.heal()
    assert synced(server, tmp_path, str(folder))[0] == 0
    assert losses(server, "b") == numbered(2000)


def test_no_login_no_server_a_wrong_key(folder, tmp_path):
    """One line each, and the exit code that a script needs."""
    with WandbServer(keys={TEST_KEY}) as server:
        code, out, err = synced(server, tmp_path, str(folder), WANDB_API_KEY="")
        assert (code, out) == (2, "")
        assert err == (
            "wbtune: no W&B API key found. Run `wandb login`, or set the environment variable "
            "WANDB_API_KEY.\n"
        )
        code, _, err = synced(server, tmp_path, str(folder), WANDB_API_KEY="f" * 40)
        assert (code, err.count("\n")) == (2, 1)
        assert "refuses the API key" in err and "f" * 40 not in err
        assert "api_key_file" not in err and "mode=" not in err  # which the command has not
        with nobody_listens() as url:
            code, _, err = synced(server, tmp_path, str(folder), WANDB_BASE_URL=url)
        assert (code, err.count("\n")) == (1, 1)
        assert "can't be reached" in err and "mode=" not in err


def test_wrong_folders(kept, server, tmp_path):
    """Each is told what it is, and which folder is meant."""
    (tmp_path / "results").mkdir()
    shutil.copytree(kept, tmp_path / "results" / "exp")
    run = next((tmp_path / "results/exp/wandb").glob("offline-run-*"))
    (tmp_path / "never" / "trial").mkdir(parents=True)
    (tmp_path / "never" / "experiment_state-1.json").touch()
    (tmp_path / "never" / "trial" / "result.json").touch()
    for named, told in (
        ("never", "Its results never saw W&B: wbtune import DIR --project NAME"),
        ("never/trial", "It is a trial's folder; give the one above it."),
        ("nope", "nope does not exist."),
        ("results", 'These folders in it have: "exp". Give one of them.'),
        (str(run), "It is a run's folder; give the experiment's, two above it."),
        (".", "Give <storage_path>/<name>, as RunConfig had them."),
    ):
        code, out, err = synced(server, tmp_path, named)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert told in err


def test_two_at_once_are_refused(server, folder, tmp_path):
    """They would send the same rows."""
    slow = server.order(Fault(delay=100, match="file_stream"))
    first = started(server, tmp_path, str(folder))
    server.wait_for(lambda: slow.hits, 60)
    code, _, err = synced(server, tmp_path, str(folder))
    assert (code, err.count("\n")) == (2, 1)
    assert "another `wbtune sync`" in err
    server.heal()
    assert first.wait(120) == 0
    first.communicate()


# --- watching ----------------------------------------------------------------------------


class Arrivals:
    """When each row of a run arrived, compared with when it was logged."""

    def __init__(self, server: WandbServer) -> None:
        self.late: dict[str, list[float]] = {}
        self._server = server

    def __call__(self) -> bool:
        now = time.time()
        for (_, _, run_id), run in self._server.runs.items():
            late = self.late.setdefault(run_id, [])
            late += [now - row["_timestamp"] for row in run.rows[len(late) :]]
        return False


def test_watch_follows_an_experiment(server, tmp_path):
    """Runs are live, a new segment comes after the old, and it ends with the experiment."""
    folder = tmp_path / "exp"
    folder.mkdir()
    env, at = functions.clean_env(tmp_path), str(folder)
    watch = started(server, tmp_path, at, "--watch")
    whole = (
        "whole = opened('sweep-1', {'space': {'lr': {'value': 1}}, 'method': 'random',"
        "'metric': 'loss', 'mode': 'min', 'sweep': None}, job_type='sweep', name='exp')\n"
    )
    first = "run = opened('a'); rows(run, 0, 60, 0.1); killed()"
    lives = whole + (
        "b = opened('b'); rows(b, 0, 100, 0.1)\n"
        "closed(b)\na = opened('a'); rows(a, 60, 100, 0.1); closed(a)\n"
        "closed(whole, **{'best/run': 'b'})\nclosing.end_core()"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER + code, at], env=env)
        for code in (first, lives)
    ]
    arrivals = Arrivals(server)
    key = ("entity", "p", "b")
    server.wait_for(lambda: arrivals() or (key in server.runs and server.runs[key].rows), 60)
    assert writers[1].poll() is None, "it is still being written"
    assert server.runs[key].state == "running"
    while watch.poll() is None:
        with contextlib.suppress(TimeoutError):  # it is asked after each request
            server.wait_for(arrivals, 1)
    out, err = watch.communicate(timeout=90)
    assert [writer.wait() for writer in writers] == [0, 0]
    assert watch.returncode == 0, err
    assert losses(server, "a") == losses(server, "b") == numbered(100)
    assert max(max(late) for late in arrivals.late.values() if late) < 20
    (sweep,) = server.sweeps
    assert (sweep.name, sweep.states) == ("exp", ["PENDING", "FINISHED"])
    runs = {run_id: server.runs["entity", "p", run_id] for run_id in ("a", "b", "sweep-1")}
    assert [run.sweep for run in runs.values()] == [sweep.id, sweep.id, None]
    assert runs["b"].tags == ["best"] and {run.state for run in runs.values()} == {"finished"}
    assert out.startswith("3 runs, 200 rows: all arrived\n")  # sent this time, by several uploads
    assert server.refusals == []
    assert len(server.received("/file_stream")) < 200  # in batches


def test_watch_of_a_killed_driver(server, folder, tmp_path):
    """When nothing changes any more, what there is was sent, and it says so."""
    for log in sorted(folder.glob("wandb/*-a/*.wandb"))[1:]:
        shutil.rmtree(log.parent)
    code, out, err = synced(server, tmp_path, str(folder), "--watch", "--idle", "0.1")
    assert code == 1
    assert "nothing has changed for too long, so the experiment was probably killed" in err
    assert out.startswith("2 runs, 2,060 rows: all arrived\n")
    assert server.runs["entity", "p", "a"].state == "failed"


class TestWatch:
    """When a watched experiment is over."""

    def runs(self, folder: Path, **codes: int | None) -> dict[str, LocalRun]:
        for run_id, code in codes.items():
            log = folder / "wandb" / f"offline-run-20260101_000000-{run_id}" / f"run-{run_id}.wandb"
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_bytes(log_of_rows([{"loss": 1}], code))
        logs = {run_id: next(folder.glob(f"wandb/*-{run_id}/*.wandb")) for run_id in codes}
        return {
            run_id: LocalRun(run_log.RunLog(id=run_id), [Segment(log, True)])
            for run_id, log in logs.items()
        }

    def test_without_tunes_word_only_silence_ends_it(self, tmp_path):
        """All runs are closed, but a search may yet make trials."""
        watch = Watch(folder_of(str(tmp_path)), 100.0, 0.0)
        watch.look(self.runs(tmp_path, a=0), 1.0)
        watch.look(self.runs(tmp_path, a=0), 100.5)
        assert not watch.is_over
        watch.look(self.runs(tmp_path, a=0), 101.5)
        assert (watch.is_over, watch.is_idle, watch.has_ended) == (True, True, False)

    def test_a_change_is_life(self, tmp_path):
        """A row, however late."""
        watch = Watch(folder_of(str(tmp_path)), 100.0, 0.0)
        watch.look(self.runs(tmp_path, a=None), 1.0)
        runs = self.runs(tmp_path, a=None)
        with runs["a"].logs[0].open("ab") as file:
            file.write(b"more")
        watch.look(runs, 99.0)
        watch.look(runs, 198.0)
        assert not watch.is_over

    def test_the_run_for_the_whole_says_it(self, tmp_path):
        """It is closed last, so nothing has to be waited for."""
        runs = self.runs(tmp_path, a=0, whole=0)
        runs["whole"].head.job_type, runs["whole"].head.config = "sweep", {"space": {}}
        watch = Watch(folder_of(str(tmp_path)), 100.0, 0.0)
        watch.look(runs, 1.0)
        assert watch.has_ended


# --- a sweep, on real Ray ----------------------------------------------------------------


def train(config: dict[str, Any]) -> None:
    for number in range(5):
        tune.report({"loss": config["lr"] * (5 - number)})


@pytest.fixture(scope="module")
def declared(ray: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An offline experiment with ``sweep=True``: its folder, and its best trial's run."""
    folder = tmp_path_factory.mktemp("declared")
    tuner = wandb_tuner(
        train,
        {"lr": tune.grid_search([0.3, 0.1, 0.2])},
        project="p",
        sweep=True,
        mode="offline",
        tune_config=tune.TuneConfig(metric="loss", mode="min"),
        run_config=tune.RunConfig(name="exp", storage_path=str(folder), verbose=0),
    )
    return folder / "exp", tuner.fit().get_best_result().metrics["trial_id"]


@pytest.fixture
def swept(declared: tuple[Path, str], tmp_path: Path) -> Path:
    return Path(shutil.copytree(declared[0], tmp_path / "exp"))


def test_a_declared_sweep_is_made(server, declared, swept, tmp_path):
    """Its runs are members, the best is tagged, it is finished; and there is never a second."""
    code, out, _ = synced(server, tmp_path, str(swept), "--dry-run")
    assert (code, out.splitlines()[1]) == (0, "Would make the sweep 'exp', and attach its runs.")
    server.order(Fault(status=500, match="file_stream"))
    process = started(server, tmp_path, str(swept))
    server.wait_for(lambda: server.received("file_stream"), 60)
    process.kill()
    process.communicate()
    server.heal()
    code, out, _ = synced(server, tmp_path, str(swept))
    (sweep,) = server.sweeps
    assert code == 0 and f"Sweep {server.url}/entity/p/sweeps/{sweep.id}\n" in out
    assert (sweep.name, sweep.state, sweep.config["method"]) == ("exp", "FINISHED", "grid")
    assert sweep.config["metric"] == {"name": "loss.min", "goal": "minimize"}
    assert sweep.config["parameters"] == {"lr": {"values": [0.3, 0.1, 0.2]}}
    whole = [run for run in server.runs.values() if run.job_type == "sweep"]
    trials = [run for run in server.runs.values() if run.job_type != "sweep"]
    assert [(run.sweep, run.config["sweep"]) for run in whole] == [(None, sweep.id)]
    assert [run.sweep for run in trials] == [sweep.id] * 3
    assert [run.key[2] for run in trials if run.tags == ["best"]] == [declared[1]]
    assert all(len(run.rows) == 5 for run in trials)
    assert TEST_KEY not in (swept / "wandb" / "wbtune-sync.json").read_text()
    before = len(server.requests)
    assert synced(server, tmp_path, str(swept))[0] == 0
    assert {one.operation for one in server.requests[before:]} == {"Viewer", "RunResumeStatus"}


def test_runs_that_were_sent_without_a_sweep_are_attached(server, swept, tmp_path):
    """By `wandb sync`, say: no row is sent for it."""
    subprocess.run(
        [sys.executable, "-m", "wandb", "sync", *map(str, swept.glob("wandb/offline-run-*"))],
        env=functions.clean_env(tmp_path) | server.env(tmp_path / "home"),
        check=True,
        capture_output=True,
        timeout=120,
    )
    before = {key: list(run.lines[HISTORY]) for key, run in server.runs.items()}
    assert {run.sweep for run in server.runs.values()} == {None}
    assert synced(server, tmp_path, str(swept))[0] == 0
    (sweep,) = server.sweeps
    assert sum(run.sweep == sweep.id for run in server.runs.values()) == 3
    assert {key: run.lines[HISTORY] for key, run in server.runs.items()} == before


def test_a_server_that_makes_no_sweep(server, swept, tmp_path):
    """The runs are sent without one, and something is left."""
    refused = server.order(Fault(status=400, match="UpsertSweep"))
    code, out, err = synced(server, tmp_path, str(swept))
    assert code == 1 and "all arrived" in out
    assert "the experiment has no sweep at W&B" in err
    server.heal(refused)
    assert synced(server, tmp_path, str(swept))[0] == 0
    (sweep,) = server.sweeps
    assert sum(run.sweep == sweep.id for run in server.runs.values()) == 3


# --- a remote storage --------------------------------------------------------------------


def test_from_s3(server, folder, moto, tmp_path):
    """Runs are sent from there, with the markers and what is remembered put there."""
    s3, query = moto
    fs.copy_files(str(folder), "bucket/exp", destination_filesystem=s3, use_threads=False)
    address = f"s3://any:any@bucket/exp{query}"
    code, out, err = synced(server, tmp_path, address)
    assert code == 0, err
    assert out.startswith("2 runs, 2,090 rows: all arrived\n")
    was_sent_once(server)
    found = s3.get_file_info(fs.FileSelector("bucket/exp/wandb", recursive=True))
    assert sum(info.path.endswith(".wandb.synced") for info in found) == 3
    before = len(server.requests)
    assert synced(server, tmp_path, address)[0] == 0
    assert {one.operation for one in server.requests[before:]} == {"Viewer", "RunResumeStatus"}


# --- the log that is sent ----------------------------------------------------------------


def relayed(log: Path, folder: Path, left: Left, change: Callable[[Any], None] = id) -> Path:
    folder.mkdir()
    relay = Relay(log, folder, left, change)
    while relay.pump(3):
        pass
    relay.end()
    return relay.path


@given(st.data())
def test_a_relay_has_the_rest(tmp_path_factory, data):
    """Whatever has arrived: both together have each row once, with the merged run's steps."""
    folder = tmp_path_factory.mktemp("relay")
    sizes = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=3))
    logs = []
    for number, size in enumerate(sizes):
        log = folder / f"{number}" / "run-a.wandb"
        log.parent.mkdir()
        log.write_bytes(log_of_rows([{"loss": i} for i in range(size)]))
        logs.append(log)
    whole = list(log_rows.rows(logs))
    arrived = data.draw(st.integers(0, len(whole)))
    left = Left(rows=arrived)
    sent = [relayed(log, folder / f"sent-{n}", left) for n, log in enumerate(logs)]
    assert [row for log in sent for row in log_rows.rows([log])] == whole[arrived:]
    assert left.copied == len(whole) - arrived
    assert [run_files.exit_code(log) for log in sent] == [NO_EXIT] * len(sent)


def test_a_relay_follows_a_log_that_grows(tmp_path):
    """Whatever part of it is there at each look: cut anywhere, nothing is lost or twice."""
    data = log_of_rows([{"text": "x" * 1000, "loss": i} for i in range(200)], 0)
    log = tmp_path / "log" / "run-a.wandb"
    log.parent.mkdir()
    log.write_bytes(b"")
    (tmp_path / "sent").mkdir()
    relay = Relay(log, tmp_path / "sent", Left(), id)
    for end in range(0, len(data) + 4999, 4999):
        log.write_bytes(data[:end])
        while relay.pump():
            pass
    assert relay.has_ended
    relay.end()
    assert list(log_rows.rows([relay.path])) == list(log_rows.rows([log]))
    assert run_files.exit_code(relay.path) == 0


def stamped(folder: Path, times: list[float]) -> LocalRun:
    rows = [{log_rows.STAMP: at, "_step": n} for n, at in enumerate(times)]
    log = folder / "run-a.wandb"
    log.write_bytes(log_of_rows(rows))
    return LocalRun(run_log.RunLog(id="a"), [Segment(log, True)])


def test_what_has_arrived_is_found_by_the_last_row(tmp_path):
    """The server's count may include lines that it does not show."""
    run = stamped(tmp_path, [1.5, 2.5, 3.5])
    assert extent(run) == Extent((3,), (3,), (0,))
    assert extent(run, Arrival(rows=0)).arrived == 0
    assert extent(run, Arrival(rows=5, last={log_rows.STAMP: 2.5})).arrived == 2
    assert extent(run, Arrival(rows=2, last={})).arrived == 2
    with pytest.raises(ForeignRunError):
        extent(run, Arrival(rows=2, last={log_rows.STAMP: 9.5}))
