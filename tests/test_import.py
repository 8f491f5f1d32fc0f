"""``wbtune import``: an experiment that never saw W&B becomes runs, once and completely."""

# Over 250 lines: the folders that there may be, and each place where the runs may be already.

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import made_folders
import pytest
from click.testing import CliRunner, Result
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_folders import BEGAN, Trial, results

from wbtune._cli.importing.results import InLogs, with_stamps
from wbtune._cli.main import main
from wbtune._cli.syncing.memory import only_one
from wbtune._place import file_lock
from wbtune._run import run_files, run_log
from wbtune._tune_files import experiment_files
from wbtune._tune_files.folder import folder_of

RECORDED = Path(__file__).with_name("tune_folders")


def imported(folder: Path | str, *more: str, code: int | None = 0) -> Result:
    """Import into project p, by the command; the exit code is looked at, unless it is None."""
    done = CliRunner().invoke(main, ["import", str(folder), "-p", "p", *more])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert code is None or done.exit_code == code, done.output
    return done


def as_json(folder: Path | str, *more: str, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(imported(folder, "--json", *more, code=code).stdout)
    return found


def rows_of(folder: Path, run_id: str) -> list[int]:
    """The iterations of a run's rows, over all of its segments."""
    return [row["training_iteration"] for row in run_log.read_runs(folder)[run_id].rows]


# --- what becomes of an experiment ---------------------------------------------------------


def test_a_trial_becomes_a_run(tmp_path):
    """Parameters, every result with its own time, outcome, error text; and no secret."""
    trials = [
        Trial("a", results(3), params={"lr": 0.1, "api_key": "sk-hidden", "db": {"note": 1}}),
        Trial("b", results(2), "ERROR", error='  File "x"\nValueError: too high', failures=1),
        Trial("c", [*results(1), *results(1, 2, done=True)]),
    ]
    folder = made_folders.experiment(tmp_path / "tuned", trials)
    done = imported(folder, "--excludes", "note", "--tags", "one")
    assert "tuned: 7 rows added to 3 runs (1 finished, 1 failed, 1 stopped)" in done.stdout
    runs = run_log.read_runs(folder)
    a, b, c = (runs[run_id] for run_id in "abc")
    assert (a.name, a.group, a.project, a.tags) == ("train_a", "tuned", "p", ["one"])
    assert (a.config["lr"], a.config["api_key"], a.config["db"]) == (0.1, "****", {})
    assert [row["loss"] for row in a.rows] == [1, 1 / 2, 1 / 3]
    assert [row["_step"] for row in a.rows] == [1, 2, 3]
    assert [int(row["_timestamp"]) for row in a.rows] == [BEGAN, BEGAN + 1, BEGAN + 1]
    assert [round(row["_runtime"], 3) for row in a.rows] == [0.5, 1.5, 1.5]
    assert a.started == BEGAN - 0.5
    assert (a.exit_code, a.summary["wbtune/outcome"], a.summary["loss"]) == (0, "finished", 1 / 3)
    assert (b.exit_code, b.tags) == (1, ["one", "failed"])
    assert b.summary["wbtune/error"] == "ValueError"
    assert b.summary["wbtune/error_message"] == "too high"
    assert "wbtune/attempt" not in b.summary
    assert (c.exit_code, c.tags) == (0, ["one", "stopped"])
    for path in (folder / "wandb").rglob("*"):
        assert path.is_dir() or b"sk-hidden" not in path.read_bytes()


@pytest.mark.parametrize(
    "name",
    sorted(path.name for path in RECORDED.iterdir() if path.is_dir() and path.name[0] != "_"),
)
def test_real_folders(name, tmp_path):
    """Of Ray 2.7, 2.41 and 2.60, and of RLlib: every result is a row, in order, once."""
    folder = Path(shutil.copytree(RECORDED / name, tmp_path / name))
    trials = experiment_files.read(folder_of(str(folder))).trials
    left = int(name.endswith(("killed", "cut")))
    for rows in (sum(len(list(trial.results())) for trial in trials), 0):
        assert as_json(folder, code=left)["rows_added"] == rows
    runs = run_log.read_runs(folder)
    for trial in trials:
        expected = [result["training_iteration"] for result in trial.results()]
        if expected:
            run = runs[trial.trial_id]
            assert rows_of(folder, trial.trial_id) == expected
            assert (run.name, run.group) == (trial.name, name)
            assert run.config["lr"] == trial.config()[0]["lr"]
        else:
            assert trial.trial_id not in runs
    if name.endswith("done"):
        codes = [runs[trial.trial_id].exit_code for trial in trials]
        assert codes == [0, 0, 1, 0]


def test_trials_of_one_id_have_a_run_each(tmp_path):
    """Tune makes no such ids; whatever made them, no row is lost, and it is said."""
    folder = made_folders.experiment(
        tmp_path / "e", [Trial("a", results(3)), Trial("b", results(5))]
    )
    (state,) = folder.glob("experiment_state-*.json")
    text = state.read_text(encoding="utf-8")
    state.write_text(text.replace('\\"trial_id\\": \\"b\\"', '\\"trial_id\\": \\"a\\"'), "utf-8")
    done = imported(folder)
    assert "has no id of its own; it is called a-2" in done.stderr
    assert (rows_of(folder, "a"), rows_of(folder, "a-2")) == ([1, 2, 3], [1, 2, 3, 4, 5])
    assert as_json(folder)["rows_added"] == 0


@pytest.mark.parametrize("timestamp", ["1790000000", None, math.nan, 1e300])
def test_a_timestamp_of_the_trials_own(timestamp, tmp_path):
    """Tune's text says when it was, in local time."""
    lines = [
        json.dumps({"loss": 1, "timestamp": timestamp, "date": f"2026-01-02_03-04-0{second}"})
        for second in (5, 6, 6)
    ]
    folder = made_folders.experiment(tmp_path / "e", [Trial("a", lines)])
    imported(folder)
    at = datetime(2026, 1, 2, 3, 4, 5).timestamp()  # noqa: DTZ001 - as Tune writes it
    stamps = [row["_timestamp"] for row in run_log.read_runs(folder)["a"].rows]
    assert stamps == pytest.approx([at, at + 1, at + 1], abs=1e-4)
    assert len(set(stamps)) == 3


def test_another_entity_is_refused(tmp_path):
    """Rows of one run at two places would be mixed, and a sweep would be at neither."""
    folder = made_folders.experiment(tmp_path / "e", [Trial("a", results(3))])
    imported(folder, "--entity", "me")
    done = imported(folder, "--entity", "you", code=2)
    assert "runs of this experiment in project 'me/p'" in done.stderr
    assert imported(folder).exit_code == imported(folder, "--entity", "me").exit_code == 0


def test_again_only_what_is_new_is_added(tmp_path):
    """Nothing twice; a trial that was running gets its new rows, and its outcome."""
    folder = tmp_path / "e"
    running = Trial("b", results(2), "RUNNING")
    made_folders.experiment(folder, [Trial("a", results(3)), running, Trial("c", None, "PENDING")])
    first = imported(folder, code=1)
    assert "2 trials have not ended" in first.stdout
    assert "without results: 1 trial (train_c)" in first.stderr
    assert run_log.read_runs(folder)["b"].tags == ["interrupted"]
    assert "c" not in run_log.read_runs(folder)
    before = sorted(path.name for path in (folder / "wandb").iterdir())
    assert as_json(folder, code=1)["rows_added"] == 0
    assert sorted(path.name for path in (folder / "wandb").iterdir()) == before
    made_folders.experiment(
        folder,
        [Trial("a", results(3)), Trial("b", results(4)), Trial("c", results(1), "ERROR")],
    )
    content = as_json(folder)
    states = {run["run"]: (run["state"], run["rows_added"]) for run in content["runs"]}
    assert states == {"a": ("complete", 0), "b": ("added", 2), "c": ("added", 1)}
    assert rows_of(folder, "b") == [1, 2, 3, 4]
    b = run_log.read_runs(folder)["b"]
    assert (b.exit_code, b.tags, b.summary["wbtune/outcome"]) == (0, [], "finished")
    assert "wbtune/reason" not in b.summary


def test_an_ended_trial_without_results_is_a_run(tmp_path):
    """Its outcome is all that there is of it."""
    trials = [Trial("a", None, "ERROR", error="ValueError: no"), Trial("b", [])]
    folder = made_folders.experiment(tmp_path / "e", trials)
    done = imported(folder)
    assert "without results: 2 trials (train_a, train_b)" in done.stderr
    assert {key: run.exit_code for key, run in run_log.read_runs(folder).items()} == {
        "a": 1,
        "b": 0,
    }
    assert as_json(folder)["runs_complete"] == 2


BROKEN = [b"{", b'{"loss": 1', b"\xff\xfe{}", b"[1]", b"null", b"7", b"[" * 2000, b"9" * 5000]


def test_what_cannot_be_read_is_left_out_said_and_counted(tmp_path):
    """One line of each kind; exit 0 if that is all."""
    lines = [one for pair in zip(results(8), BROKEN, strict=True) for one in pair]
    trials = [
        Trial("a", lines),
        Trial("b", results(2), params=None),
        Trial("c", results(1), params='{"lr": '),
    ]
    folder = made_folders.experiment(tmp_path / "e", trials)
    done = imported(folder)
    assert "8 lines of result.json can't be read, and left out, in 1 trial (train_a)" in done.stderr
    assert "params.json can't be read in 2 trials (train_b, train_c)" in done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert rows_of(folder, "a") == list(range(1, 9))
    assert run_log.read_runs(folder)["b"].config["lr"] == 0.1
    content = as_json(folder)
    assert (content["broken_lines"], content["trials_without_params"]) == (8, 2)


def test_a_file_that_is_none(tmp_path):
    """The other trials are imported; the exit code says that something is left."""
    folder = made_folders.experiment(tmp_path / "e", [Trial("a", None), Trial("b", results(2))])
    (folder / Trial("a").folder / "result.json").mkdir()
    done = imported(folder, code=1)
    assert "the results of train_a can't be read" in done.stderr
    assert rows_of(folder, "b") == [1, 2]


def test_half_a_line_follows_when_it_is_whole(tmp_path):
    """The last line of a trial that runs may be still being written."""
    lines = results(3)
    folder = tmp_path / "e"
    made_folders.experiment(folder, [Trial("a", [*lines[:2], lines[2][:30]], "RUNNING")])
    imported(folder, code=1)
    assert rows_of(folder, "a") == [1, 2]
    made_folders.experiment(folder, [Trial("a", results(4))])
    imported(folder)
    assert rows_of(folder, "a") == [1, 2, 3, 4]


def test_without_a_state(tmp_path):
    """The trials' folders alone: nobody knows how they ended."""
    trials = [Trial("a", results(2, trial_id="a"), "", params={"lr": 1})]
    folder = made_folders.experiment(tmp_path / "e", trials, state=False)
    imported(folder, code=1)
    run = run_log.read_runs(folder)["a"]
    assert (run.config["lr"], len(run.rows), run.tags) == (1, 2, ["interrupted"])


def test_a_searchers_trial_that_a_state_knows_later(tmp_path):
    """It has one run, by the trial's id; its folder's name brings no parameter past `excludes`."""
    tag = "1_api_key=sk-hidden,user=bob_2026-01-01_00-00-00"
    folder = tmp_path / "e"
    trial = Trial("a1b2c3d4", None, params={"lr": 1, "api_key": "sk-hidden", "user": "bob"})
    made_folders.experiment(folder, [trial])
    (folder / trial.folder).rename(folder / f"train_a1b2c3d4_{tag}")
    (folder / f"train_a1b2c3d4_{tag}" / "error.txt").write_text("ValueError: 1", encoding="utf-8")
    (state,) = folder.glob("experiment_state-*")
    known = state.read_text(encoding="utf-8").replace(trial.folder, f"train_a1b2c3d4_{tag}")
    state.unlink()
    imported(folder, "--excludes", "user", code=None)
    state.write_text(known, encoding="utf-8")
    imported(folder, "--excludes", "user", code=None)
    ((run_id, run),) = run_log.read_runs(folder).items()
    assert (run_id, run.name) == ("a1b2c3d4", "train_a1b2c3d4")
    for log in run_files.logs(folder):
        assert not any(value in log.read_bytes() for value in (b"sk-hidden", b"user=bob"))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
LINES = st.one_of(
    st.fixed_dictionaries(
        {"n": st.integers(0, 9)},
        optional={
            "training_iteration": st.integers(-1, 4) | st.none() | st.just(10**30),
            "time_total_s": st.floats(0, 9) | st.text(max_size=2),
            "timestamp": st.integers(0, 3).map(lambda s: BEGAN + s) | VALUES,
            "other": VALUES,
        },
    ).map(lambda one: json.dumps(one).encode()),
    st.sampled_from([*BROKEN, b""]),
)


@given(lines=st.lists(LINES, max_size=12), cut=st.integers(0, 12))
@settings(max_examples=40)
@example(lines=[b'{"n": 1}', b'{"n": 1}'], cut=1)
@example(lines=[b'{"n": 1, "timestamp": NaN}', b'{"n": 2, "timestamp": 1e300}'], cut=0)
def test_whatever_can_be_read_arrives_once_and_in_order(tmp_path_factory, lines, cut):
    """Any results, with broken lines between them, and imported while they are written."""
    folder = tmp_path_factory.mktemp("any") / "e"
    made_folders.experiment(folder, [Trial("a", lines[:cut], "RUNNING")])
    imported(folder, code=1)
    made_folders.experiment(folder, [Trial("a", lines)])
    imported(folder)
    imported(folder)
    expected = []
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            one = json.loads(line)
            expected += [one["n"]] if isinstance(one, dict) else []
    rows = run_log.read_runs(folder)["a"].rows
    assert [row["n"] for row in rows] == expected
    stamps = [row["_timestamp"] for row in rows]
    assert stamps == sorted(set(stamps))


@given(st.lists(st.integers(0, 5) | st.sampled_from([None, math.nan, -1, "3", True]), max_size=9))
def test_times_do_not_depend_on_what_follows(times):
    """And no two are the same: the next import knows its rows by them."""
    lines = [{"timestamp": one} for one in times]
    stamps = [stamp for _, stamp in with_stamps(lines)]
    assert stamps == sorted(set(stamps))
    for end in range(len(lines)):
        assert [stamp for _, stamp in with_stamps(lines[:end])] == stamps[:end]


def test_excludes_may_leave_out_what_identifies_a_row(tmp_path):
    """Without iteration and time in the run, nothing is added twice."""
    folder = tmp_path / "e"
    made_folders.experiment(folder, [Trial("a", results(2), "RUNNING")])
    hidden = ["--excludes", "t*", "--excludes", "loss"]
    imported(folder, *hidden, code=1)
    made_folders.experiment(folder, [Trial("a", results(5))])
    assert as_json(folder, *hidden)["rows_added"] == 3
    rows = run_log.read_runs(folder)["a"].rows
    assert len(rows) == 5
    assert "loss" not in rows[0]


def test_what_wbtune_has_logged_itself_is_not_added(tmp_path):
    """Runs of a driver, whose rows have other times: known by their iteration and time."""
    folder = made_folders.experiment(tmp_path / "e", [Trial("a", results(4))])
    imported(folder)
    [log] = run_files.logs(folder, "a")
    (log.parent / "wbtune-imported").unlink()
    made_folders.experiment(folder, [Trial("a", results(6))])
    assert as_json(folder)["rows_added"] == 2
    assert rows_of(folder, "a") == [1, 2, 3, 4, 5, 6]


def test_a_run_that_is_being_written_is_left_alone(tmp_path):
    """By the experiment's own driver, which may write nothing for minutes, while Tune does."""
    folder = made_folders.experiment(tmp_path / "e", [Trial("a", results(2), "RUNNING")])
    imported(folder, code=1)
    [log] = run_files.logs(folder, "a")
    log.write_bytes(log.read_bytes()[:-40])  # its exit record
    made_folders.experiment(folder, [Trial("a", results(3), "RUNNING")])
    (log.parent / "wbtune-imported").rename(log.parent / "kept")
    grow_older(log.parent, by=300)
    done = imported(folder, code=1)
    assert "within the last ten minutes: 1 trial (train_a)" in done.stderr
    grow_older(folder, by=1000)
    os.utime(log)
    assert as_json(folder, code=1)["rows_added"] == 0
    grow_older(folder, by=1000)
    assert as_json(folder, code=1)["rows_added"] == 1


def grow_older(folder: Path, by: float) -> None:
    for path in folder.rglob("*"):
        os.utime(path, (path.stat().st_mtime - by,) * 2)


@pytest.mark.parametrize(
    ("lock", "command"), [("import", "wbtune import"), ("sync", "wbtune sync")]
)
def test_two_at_once_do_not_write_the_same_rows(tmp_path, lock, command):
    """The second says who is there, writes nothing, and leaves it to be run again."""
    folder = made_folders.experiment(tmp_path / "e", [Trial("a", results(2))])
    (folder / "wandb").mkdir()
    with file_lock.held(folder / "wandb" / f"wbtune-{lock}.lock") as other:
        assert other is None
        done = imported(folder, "--json", code=1)
    assert f"a `{command}` (process {os.getpid()} on " in done.stderr
    assert json.loads(done.stdout)["warnings"]
    assert not run_files.run_ids(folder)
    imported(folder)
    assert rows_of(folder, "a") == [1, 2]


def test_the_lock_of_sync_is_the_one_that_sync_takes(tmp_path):
    """Its name stands in two places."""
    folder = made_folders.experiment(tmp_path / "e", [Trial("a", results(2))])
    (folder / "wandb").mkdir()
    with only_one(folder / "wandb", str(folder)):
        imported(folder, code=1)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EBADF, None])
def test_file_systems_without_locks(tmp_path, monkeypatch, number):
    """Lustre without flock, and Windows: an import goes on, the second too."""
    folder = made_folders.experiment(tmp_path / "e", [Trial("a", results(2), "RUNNING")])

    def refuse(*_: Any) -> None:
        raise OSError(number, "no locks")

    if number is None:
        monkeypatch.setitem(sys.modules, "fcntl", None)
    else:
        monkeypatch.setattr(fcntl, "flock", refuse)
    for rows in (2, 0):
        assert as_json(folder, code=1)["rows_added"] == rows


def test_a_lock_is_of_a_file_that_is_open_for_writing(tmp_path, monkeypatch):
    """NFS locks no other."""
    folder = made_folders.experiment(tmp_path / "e", [Trial("a", results(2))])
    flock, modes = fcntl.flock, []

    def as_on_nfs(file: Any, how: int) -> None:
        modes.append(fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE)
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", as_on_nfs)
    imported(folder)
    imported(folder)
    assert modes
    assert os.O_RDONLY not in modes


def test_help_has_an_example():
    """And needs neither Ray nor wandb."""
    done = CliRunner().invoke(main, ["import", "--help"])
    assert (done.exit_code, "wbtune import ~/ray_results" in done.output) == (0, True)


def test_wrong_use(tmp_path):
    """One line that says what to do, and exit code 2."""
    folder = made_folders.experiment(tmp_path / "e", [Trial("a", results(1))], metric="loss")
    run = CliRunner()
    for arguments, text in [
        ([str(folder)], "no project. Give --project"),
        ([str(tmp_path), "-p", "p"], 'There is one in each of these folders of it: "e"'),
        ([str(tmp_path / "no"), "-p", "p"], "does not exist"),
        ([str(folder), "-p", "a/b"], "a project's name has no '/'"),
        ([str(folder), "-p", "p", "--upload-checkpoints", "best"], "Give --goal (of loss)"),
        ([str(folder), "-p", "p", "--mode", "disabled"], "Invalid value for '--mode'"),
        ([str(folder), "-p", "p", "--dir", "/proc/none"], "Give another folder: --dir"),
    ]:
        done = run.invoke(main, ["import", *arguments])
        assert (done.exit_code, text in done.stderr) == (2, True), done.output
        assert "Traceback" not in done.output
    imported(folder)
    done = run.invoke(main, ["import", str(folder), "-p", "q"])
    assert (done.exit_code, "in project 'p'" in done.stderr) == (2, True)
    imported(folder, "--dir", str(tmp_path / "other"))
    assert rows_of(tmp_path / "other", "a") == [1]


# --- killed, long, elsewhere ----------------------------------------------------------------


@pytest.mark.slow
def test_killed_in_the_middle(tmp_path):
    """The next import adds the rest: every row is there once."""
    count = 60_000
    folder = made_folders.experiment(tmp_path / "e", [Trial("a", results(count)), Trial("b", [])])
    command = [sys.executable, "-m", "wbtune", "import", str(folder), "-p", "p"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not any(path.stat().st_size > 100_000 for path in run_files.logs(folder, "a")):
        assert first.poll() is None
        time.sleep(0.01)  # until some of it is written
    first.send_signal(signal.SIGKILL)
    first.wait()
    done = InLogs(run_files.logs(folder, "a")).next_step
    assert 0 < done < count
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert rows_of(folder, "a") == list(range(1, count + 1))


@pytest.mark.slow
def test_interrupted(tmp_path):
    """Ctrl-C keeps what is done, and closes the run that was being written."""
    count = 60_000
    folder = made_folders.experiment(tmp_path / "e", [Trial("a", results(count))])
    command = [sys.executable, "-m", "wbtune", "import", str(folder), "-p", "p"]
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not any(path.stat().st_size > 100_000 for path in run_files.logs(folder, "a")):
        assert first.poll() is None
        time.sleep(0.01)  # until some of it is written
    first.send_signal(signal.SIGINT)
    _, said = first.communicate()
    assert (first.returncode, "run it again to go on" in said) == (130, True)
    [log] = run_files.logs(folder, "a")
    assert run_files.exit_code(log) == 130
    assert as_json(folder)["rows_added"] < count
    assert rows_of(folder, "a") == list(range(1, count + 1))


#: `ru_maxrss` would include what the parent had.
PROGRAM = """
import pathlib, sys
from click.testing import CliRunner
from wbtune._cli.main import main
done = CliRunner().invoke(main, ["import", sys.argv[1], "-p", "p"])
assert done.exit_code == 0, done.output
status = pathlib.Path("/proc/self/status").read_text()
print("ray" in sys.modules, status.partition("VmHWM:")[2].split()[0])
"""


@pytest.mark.slow
def test_memory_is_flat_and_ray_is_not_imported(tmp_path):
    """A hundred thousand results take no more than a few; nothing of Ray is needed."""
    found = []
    for count in (10, 100_000):
        folder = made_folders.experiment(tmp_path / str(count), [Trial("a", results(count))])
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(folder)], capture_output=True, text=True, check=True
        )
        with_ray, kilobytes = done.stdout.split()
        assert with_ray == "False"
        found.append(int(kilobytes))
    assert len(rows_of(folder, "a")) == 100_000
    assert found[1] < found[0] + 30_000


@pytest.mark.slow
def test_from_s3(moto, tmp_path, monkeypatch):
    """The runs are put into the current folder; the address's key is shown nowhere."""
    from pyarrow import fs

    filesystem, more = moto
    folder = made_folders.experiment(tmp_path / "e", [Trial("a", results(5))])
    fs.copy_files(
        str(folder),
        "bucket/tune/e",
        source_filesystem=fs.LocalFileSystem(),
        destination_filesystem=filesystem,
        use_threads=False,
    )
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    address = f"s3://any:hidden-key@bucket/tune/e{more}"
    done = imported(address)
    assert "Send them by: wbtune sync .\n" in done.stdout
    assert rows_of(tmp_path / "here", "a") == [1, 2, 3, 4, 5]
    assert run_log.read_runs(tmp_path / "here")["a"].group == "e"
    assert as_json(address)["rows_added"] == 0
    assert "hidden-key" not in done.output


@pytest.mark.slow
def test_runs_that_are_in_s3_already(moto, tmp_path, monkeypatch):
    """Those that an experiment's own driver, or somebody else, has put there are continued."""
    from pyarrow import fs

    filesystem, more = moto
    folder = made_folders.experiment(tmp_path / "e", [Trial("a", results(3))])
    imported(folder)
    made_folders.experiment(folder, [Trial("a", results(5))])
    fs.copy_files(
        str(folder),
        "bucket/there/e",
        source_filesystem=fs.LocalFileSystem(),
        destination_filesystem=filesystem,
        use_threads=False,
    )
    monkeypatch.chdir(tmp_path)
    address = f"s3://any:hidden-key@bucket/there/e{more}"
    assert as_json(address, "--dir", "elsewhere")["rows_added"] == 2
    assert rows_of(tmp_path / "elsewhere", "a") == [1, 2, 3, 4, 5]
