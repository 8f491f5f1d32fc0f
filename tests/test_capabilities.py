"""What needs private names of Ray and wandb: each is declared, and has something in its place."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import both_writers
import gone
import pytest
import wandb

import wbtune
from wbtune._data.deadline import Waiting
from wbtune._run import guard, media, opening, replay, run_files, run_log, watchdog
from wbtune._upstream import (
    capabilities,
    wandb_auth,
    wandb_media,
    wandb_records,
    wandb_run,
    wandb_settings,
)
from wbtune._upstream.capabilities import Capability, uses

UPSTREAM = Path(capabilities.__file__).parent


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> Capability:
    capability = Capability(
        "a thing", without="it is lost", since="wandb 9.9", needs=("nothing:here",)
    )
    monkeypatch.setattr(capabilities, "every", lambda: [capability])
    monkeypatch.setattr(capabilities, "warn_of_lost", capabilities.warn_of_lost.__wrapped__)
    return capability


@pytest.mark.parametrize("capability", wbtune.capabilities(), ids=lambda one: one.name)
def test_all_is_there_with_the_newest_releases(capability):
    """With the releases that CI has, nothing is lost: a release that drops a name is seen here."""
    assert capability.missing == ()
    assert capability.since.startswith(("ray ", "wandb "))


@pytest.mark.parametrize("module", sorted(UPSTREAM.glob("[!_]*.py")), ids=lambda path: path.stem)
def test_each_private_name_is_declared(module):
    """A private name that is used and not declared would never be missed by `make gone`."""
    needs = {
        part
        for one in wbtune.capabilities()
        for name in one.needs
        for part in name.replace(":", ".").replace(" | ", ".").split(".")
    }
    assert sorted(_private_names(ast.parse(module.read_text(encoding="utf-8"))) - needs) == []


def _private_names(tree: ast.AST) -> set[str]:
    """The attributes with an underscore that are read of others, and those asked for as text."""
    own = {
        node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not _is_self(node.value):
            found.add(node.attr)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"getattr", "hasattr"}:
            found |= {one.value for one in node.args[1:2] if isinstance(one, ast.Constant)}
    return {name for name in found - own if name.startswith("_") and not name.startswith("__")} - {
        "_replace",
        "_asdict",
        "_getframe",
        "_current_frames",
    }


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def test_without_it_something_else_is_done(lost):
    @uses(lost, otherwise=lambda number: -number)
    def double(number):
        raise AssertionError

    assert double(2) == -2
    assert not lost.is_here
    assert lost.reason == "no nothing:here"


@pytest.mark.parametrize("error", [AttributeError, ImportError, TypeError, KeyError])
def test_a_name_that_is_there_and_does_not_work(error, caplog):
    """The names are there, and one takes other arguments: the first time, a warning says it."""
    moved = Capability("a thing", without="it is lost", since="wandb 9.9", needs=("os:getpid",))

    @uses(moved, otherwise=lambda: "instead")
    def thing():
        raise error("moved")

    assert moved.is_here
    assert thing() == "instead"
    assert not moved.is_here
    assert "it is lost" in caplog.text
    caplog.clear()
    assert thing() == "instead"
    assert caplog.text == ""


def test_an_error_of_another_kind_is_passed_on():
    here = Capability("a thing", without="it is lost", since="wandb 9.9", needs=("os:getpid",))

    @uses(here, otherwise=lambda: "instead")
    def thing():
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        thing()
    assert here.is_here


def test_what_is_lost_is_said_in_words(lost, caplog):
    capabilities.warn_of_lost()
    (record,) = caplog.records
    assert "it is lost (wandb 9.9 has it)" in record.message
    assert "every row is logged with wandb 0." in record.message


def test_either_of_two_names_will_do():
    either = Capability("", without="", since="wandb 1", needs=("os:gone | os:getpid",))
    assert either.is_here


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("json", True),
        ("json.gone", False),
        ("json:dumps", True),
        ("json:dumps.skipkeys", True),  # an argument
        ("json:dump.chunk", True),  # a local
        ("json:dump.gone", False),
        ("json:JSONEncoder.default", True),
        ("threading:Thread._target", True),  # set on `self`
        ("threading:Thread._ident", True),
        ("threading:Thread.acquire", False),  # a method that its methods call
        ("wandb:Settings.x_disable_meta", True),
        ("wandb:Settings.x_disable_gone", False),
    ],
)
def test_names_are_found_where_they_are(name, there):
    assert capabilities.is_there(name) is there


@pytest.mark.slow
def test_every_row_without_any_private_name_of_wandb(tmp_path):
    """A wandb that has renamed all of them at once: what is public is enough for both writers."""
    path = gone.without(gone.private_names()["wandb"], tmp_path / "gone")
    environment = {
        **os.environ,
        "WANDB_SERVICE": "3-1-unix-/nowhere/socket",  # of a script that has ended
        "PYTHONPATH": os.pathsep.join([str(path), str(Path(__file__).parent)]),
    }
    done = subprocess.run(
        [sys.executable, both_writers.__file__, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "closed both" in done.stdout, done.stdout + done.stderr
    for run_id in ("driver", "trial"):
        log = run_log.merged(run_files.logs(tmp_path, run_id))
        assert [row["i"] for row in log.rows if "i" in row] == list(range(both_writers.ROWS))
        assert log.config["lr"] == 0.1
        assert log.summary["wbtune/outcome"] == "finished"
        assert log.exit_code == 0
        assert log.rows[-1]["loss"] == (both_writers.ROWS - 1) / 2


def test_what_a_guard_that_fails_has_done_is_undone(tmp_path, monkeypatch):
    """A wandb that has all the names, and takes one in another way: the run logs as wandb's own."""

    def moved(run, send):
        raise TypeError("unexpected keyword argument")

    monkeypatch.setattr(wandb_run, "send_updates_by", moved)
    monkeypatch.setattr(wandb_run.GUARD, "_trouble", "")
    run = opening.open_run(both_writers.spec_of(tmp_path, "plain"))
    assert guard.of(run) is None
    assert not wandb_run.GUARD.is_here
    assert not {"_partial_history_callback", "_metric_callback"} & vars(run).keys()
    run.log({"i": 1})
    run.finish()
    (path,) = run_files.logs(tmp_path, "plain")
    assert run_files.wait_for_end(path)
    assert [row["i"] for row in run_log.read(path).rows] == [1]


@pytest.mark.parametrize(("is_here", "seconds"), [(True, 1.5), (False, 20)])
def test_memory_follows_the_disk(is_here, seconds, tmp_path, monkeypatch):
    """Where wandb-core writes its log every 15 s, what was sent in the last 20 s is remembered."""
    monkeypatch.setattr(wandb_settings.FLUSH, "_trouble", "" if is_here else "gone")
    now = 100.0
    monkeypatch.setattr(replay, "monotonic", lambda: now)
    progress = watchdog.Progress(tmp_path, now)
    buffer = replay.ReplayBuffer(0, lambda: progress.safe)
    for i in range(300):
        buffer.add_row({"i": i}, None, True, core_counts=False)
        now += 0.1
        # The log grows all the time: what was written may be a part of what was sent.
        (tmp_path / "run-t.wandb").write_bytes(bytes(i + 1))
        progress.look(now, buffer.newest)
    remembered = now - buffer.entries[0].at
    assert seconds < remembered < seconds + 1.5


def test_a_core_that_can_not_be_asked_has_answered(tmp_path, monkeypatch):
    """Else the watchdog would take it to hang, and kill it."""
    run = opening.open_run(both_writers.spec_of(tmp_path, "asked"))
    monkeypatch.setattr(wandb_run.STEPS, "_trouble", "gone")
    assert Waiting(guard.of(run).answers).done_within(5)
    run.finish()


def test_the_key_of_the_environment_is_for_its_server_alone(monkeypatch):
    monkeypatch.setattr(wandb_auth.CREDENTIALS, "_trouble", "gone")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    base_url = wandb_settings.wandb_setting("base_url")
    assert wandb_auth.found_key(base_url) == "a" * 40
    assert wandb_auth.found_key("https://another.example") is None


def test_a_netrc_file_is_read_without_wandb(tmp_path, monkeypatch):
    monkeypatch.setattr(wandb_auth.CREDENTIALS, "_trouble", "gone")
    file = tmp_path / "netrc"
    file.write_text("machine wandb.corp login user password " + "b" * 40)
    monkeypatch.setenv("NETRC", str(file))
    assert wandb_auth.found_key("https://wandb.corp") == "b" * 40


def test_a_log_that_can_not_be_read_says_nothing_of_its_end(tmp_path, monkeypatch):
    """A run that the trial has closed is not taken to be lost, and the next is no retry."""
    run = opening.open_run(both_writers.spec_of(tmp_path, "t"))
    run.finish(exit_code=1)
    assert run_files.wait_for_end(*run_files.logs(tmp_path, "t"))
    assert run_files.ends(tmp_path) == {"t": 1}
    monkeypatch.setattr(wandb_records.RECORDS, "_trouble", "gone")
    assert run_files.ends(tmp_path) == {}
    assert run_files.attempts(tmp_path, "t") == 0
    assert run_files.wait_for_end(run_files.logs(tmp_path, "t")[0])


def test_a_users_object_that_raises_does_not_cost_a_capability(tmp_path, monkeypatch):
    def refuse(run, key, value, **more):
        raise TypeError("not JSON serializable")

    monkeypatch.setattr("wandb.sdk.data_types.utils.val_to_json", refuse)
    spec = both_writers.spec_of(tmp_path, "t")
    run = opening.open_run(spec)
    row, left_out = media.log_media(run, {"table": wandb.Table(["a"], [[1]]), "i": 1}, spec, 0)
    run.finish()
    assert row == {"table": "Table (not logged)", "i": 1}
    assert "not JSON serializable" in left_out["table"]
    assert wandb_media.MEDIA.is_here


def test_to_look_for_a_name_never_raises(tmp_path, monkeypatch):
    (tmp_path / "raises_when_imported.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(tmp_path)
    assert not capabilities.is_there("raises_when_imported:name")


@pytest.mark.parametrize(
    ("installed", "newer"), [("0.30.1", True), ("0.31.0", False), ("1.0", False)]
)
def test_an_older_release_lacks_it(installed, newer, monkeypatch):
    monkeypatch.setattr(capabilities, "version", lambda package: f"{package} {installed}")
    assert capabilities.is_newer("wandb 0.31") is newer


def test_only_settings_that_wandb_knows_are_given():
    assert wandb_settings.known({"silent": True, "x_of_tomorrow": 1}) == {"silent": True}
