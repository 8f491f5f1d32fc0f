"""`wbtune doctor`: each check finds what it is for, names the cure, and shows no key."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from wandb_server import TEST_KEY, Fault, WandbServer, nobody_listens

from wbtune._cli.doctor import environment, examination, login, releases, storage
from wbtune._cli.doctor.examination import examine
from wbtune._cli.doctor.findings import Check, Context, Finding, Level, note, ok, problem
from wbtune._cli.main import main
from wbtune._run import run_files
from wbtune._upstream import capabilities
from wbtune._upstream.wandb_records import RECORDS

pytestmark = pytest.mark.usefixtures("measured")

#: It has no part in common with anything else that is printed.
KEY = "q7x9zk2mv4w8" + "j5h3t6" * 5


def of(check: Check, environ: Mapping[str, str] | None = None, **more: Any) -> list[Finding]:
    return list(check(Context(environ or {}, **more)))


def levels(findings: list[Finding]) -> list[str]:
    return [one.level.value for one in findings]


# --- How checks are made --------------------------------------------------------------------


def test_a_check_that_raises_is_a_finding() -> None:
    """It ends no other, and is not silent."""

    def broken(_: Context) -> Iterator[Finding]:
        """The colour of the moon."""
        yield ok("so far")
        raise SystemExit("no moon")

    found = [
        one.finding for one in examine(Context({}), {"sky": [broken, lambda _: iter([ok("x")])]})
    ]
    assert levels(found) == ["ok", "problem", "ok"]
    assert found[1].what == (
        "The colour of the moon: this could not be looked at: SystemExit: no moon"
    )


def test_a_check_that_hangs_is_a_finding() -> None:
    """The others are shown in time."""
    over = threading.Event()

    def hangs(_: Context) -> Iterator[Finding]:
        """The file system."""
        yield ok("so far")
        over.wait()

    began = time.monotonic()
    checks = {"a": [hangs], "b": [lambda _: iter([ok("x")])]}
    found = [one.finding for one in examine(Context({}), checks, 0.3)]
    assert time.monotonic() - began < 3
    assert levels(found) == ["ok", "note", "ok"]
    assert "The file system: this was not done within" in found[1].what
    over.set()


@given(st.text(max_size=30), st.integers(0, 34), st.integers(8, 42), st.text(max_size=30))
def test_no_part_of_a_key_is_shown(before: str, at: int, length: int, after: str) -> None:
    """Whatever the text around it; eight characters are a part."""
    part = KEY[at : at + length]
    text = f"{before} {part} {after}"

    def check(context: Context) -> Iterator[Finding]:
        context.keys.add(KEY)
        yield problem(text, text)

    [one] = examine(Context({}), {"x": [check]})
    for shown in one.finding[1:]:
        assert not any(part[i : i + 8] in shown for i in range(len(part) - 7))


def test_each_check_says_what_it_is() -> None:
    """Its docstring is shown if it fails."""
    checks = [check for of_subject in examination.CHECKS.values() for check in of_subject]
    assert all((check.__doc__ or "").strip() for check in checks)


# --- Releases -------------------------------------------------------------------------------


def test_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    """All five, and what each capability lost, with the release that has it."""
    [versions] = of(releases.versions)
    for name in ("Python 3.", "ray ", "wandb ", "wbtune ", "wrapt "):
        assert name in versions.what
    assert levels(of(releases.capability)) == ["ok"]
    monkeypatch.setattr(RECORDS, "_trouble", "gone")
    [lost] = of(releases.capability)
    assert (lost.level, lost.what) == (Level.NOTE, RECORDS.without)
    monkeypatch.setattr(capabilities, "version", lambda package: f"{package} 0.1")
    assert of(releases.capability)[0].cure == "upgrade to wandb 0.22"


@pytest.mark.parametrize("package", ["ray", "wandb"])
def test_a_package_that_cannot_be_imported(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, and nothing else is guessed."""
    monkeypatch.setitem(sys.modules, package, None)
    [found] = of(releases.capability)
    assert found.level is Level.PROBLEM and package in found.what and "pip install" in found.cure


# --- Environment ----------------------------------------------------------------------------

CASES: list[tuple[Check, dict[str, str], str, str]] = [
    (environment.mode, {"WANDB_MODE": "disabled"}, "problem", "nothing is logged"),
    (environment.mode, {"WANDB_MODE": "offline"}, "note", "kept on disk"),
    (environment.mode, {"WANDB_MODE": "dryrun"}, "note", "kept on disk"),
    (environment.mode, {"WANDB_DISABLED": "true"}, "note", "wandb ignores it"),
    (environment.one_run, {"WANDB_SWEEP_ID": "s"}, "problem", "WANDB_SWEEP_ID=s"),
    (
        environment.one_run,
        {"WANDB_SWEEP_ID": "s", "WANDB_SWEEP_PARAM_PATH": "p"},
        "note",
        "an agent",
    ),
    (environment.one_run, {"WANDB_LAUNCH": "true"}, "note", "W&B Launch"),
    (environment.one_run, {"WANDB_RUN_ID": "r"}, "note", "WANDB_RUN_ID=r"),
    (environment.one_run, {"WANDB_RESUME": "must"}, "note", "WANDB_RESUME=must"),
    (environment.service, {"WANDB_SERVICE": "x"}, "problem", "no address"),
    (environment.service, {"WANDB_SERVICE": "3-1-unix-/no/x"}, "problem", "nobody answers"),
    (environment.refused, {"WANDB_MODE": "onlin"}, "problem", "WANDB_MODE"),
    (environment.refused, {"WANDB_RESUME": "yes"}, "problem", "WANDB_RESUME"),
    (environment.refused, {"WANDB_BASE_URL": "here"}, "problem", "WANDB_BASE_URL"),
    (environment.refused, {"WANDB_PROJCT": "p"}, "note", "WANDB_PROJCT"),
    (environment.base_url, {"WANDB_BASE_URL": "https://x/?a=1"}, "problem", "more than"),
    (environment.base_url, {"WANDB_BASE_URL": "https://x "}, "problem", "more than"),
    (environment.base_url, {"WANDB_BASE_URL": "https://u:p@x"}, "problem", "more than"),
    (environment.named, {"WANDB_RUN_GROUP": "g"}, "note", "WANDB_RUN_GROUP=g"),
    (
        environment.named,
        {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"},
        "note",
        "Tune writes no result.json",
    ),
]


@pytest.mark.parametrize(("check", "environ", "level", "what"), CASES)
def test_variables_that_hurt(check: Check, environ: dict[str, str], level: str, what: str) -> None:
    """One finding each, and without them none."""
    [found] = of(check, environ)
    assert (found.level.value, what in found.what) == (level, True)
    if found.level is Level.PROBLEM:
        assert found.cure
    assert of(check, {}) == []


@pytest.mark.parametrize(
    "environ",
    [
        {"WANDB_MODE": "online"},
        {"WANDB_BASE_URL": "https://wandb.example.com/path"},
        {"WANDB_X_DISABLE_STATS": "true", "WANDB__DISABLE_META": "true", "WANDB_SILENT": "true"},
        {"WANDB_SETUP_API_KEY_HOOK": "a:b", "WANDB_WATCH": "all", "WANDB_SOMETHING_ELSE": "1"},
        {"WANDB_API_KEY": "short"},  # that is the login's
    ],
)
def test_variables_that_do_not_hurt(environ: dict[str, str]) -> None:
    """They are not mentioned."""
    for check in (environment.mode, environment.refused, environment.base_url):
        assert of(check, environ) == []


def test_a_service_that_answers() -> None:
    """A wandb-core of another process is only noted, by a port or a socket."""
    with socket.create_server(("localhost", 0)) as server:
        address = f"3-1-tcp-localhost-{server.getsockname()[1]}"
        assert levels(of(environment.service, {"WANDB_SERVICE": address})) == ["note"]
    assert levels(of(environment.service, {"WANDB_SERVICE": address})) == ["problem"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[default\nhidden", "can't be read"),
        ("[default]\nmode = onlin", "wandb refuses mode"),
        ("\xff", "can't be read"),
    ],
)
def test_settings_files(text: str, what: str, tmp_path: Path) -> None:
    """What wandb leaves out of them is said, but not repeated."""
    (tmp_path / "settings").write_bytes(text.encode("latin-1"))
    environ = {"WANDB_CONFIG_DIR": str(tmp_path), "WANDB_DIR": str(tmp_path)}
    [found] = of(environment.settings_files, environ)
    assert found.level is Level.PROBLEM and what in found.what
    assert "hidden" not in found.what
    (tmp_path / "settings").write_text("[default]\nmode = offline\n")
    assert of(environment.settings_files, environ) == []


def test_folders_that_cannot_be_written_to(tmp_path: Path) -> None:
    """A file is in the way."""
    (tmp_path / "file").touch()
    [found] = of(environment.folders, {"WANDB_DIR": str(tmp_path / "file" / "x")})
    assert found.level is Level.PROBLEM and "WANDB_DIR" in found.cure
    assert of(environment.folders, {"WANDB_DIR": str(tmp_path / "new" / "one")}) == []


@pytest.mark.parametrize(("limit", "level"), [(200, "problem"), (65_536, "ok")])
def test_open_files(limit: int, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hard limit counts."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, limit))
    assert levels(of(environment.open_files)) == [level]


# --- Storage --------------------------------------------------------------------------------


def test_a_folder(tmp_path: Path) -> None:
    """Its space; a folder that is not there is a problem."""
    assert levels(of(storage.temporary)) == ["ok"]
    assert levels(of(storage.folder, directory=str(tmp_path))) == ["ok"]
    [gone] = of(storage.folder, directory=str(tmp_path / "gone"))
    assert gone.level is Level.PROBLEM and "does not exist" in gone.what
    assert of(storage.folder) == of(storage.unsent) == []
    assert of(storage.unsent, directory=str(tmp_path / "gone")) == []


@pytest.mark.parametrize(
    ("changed", "level", "what"),
    [
        ({"f_bavail": 1}, "problem", "0.0 GB free"),
        ({"f_bavail": (1 << 30) // 4096}, "note", "1.0 GB free"),
        ({"f_files": 10**6, "f_favail": 3}, "problem", "only 3 more files"),
        ({"f_flag": os.ST_RDONLY}, "problem", "can't be written to"),
    ],
)
def test_a_disk(
    changed: dict[str, int],
    level: str,
    what: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Space, inodes, and a mount that is read-only."""
    numbers = {"f_bavail": 10**9, "f_frsize": 4096, "f_files": 0, "f_favail": 0, "f_flag": 0}

    class Disk:
        vars().update(numbers | changed)

    monkeypatch.setattr(os, "statvfs", lambda _: Disk)
    [found] = of(storage.folder, directory=str(tmp_path))
    assert (found.level.value, what in found.what) == (level, True)


def test_runs_that_wait(tmp_path: Path) -> None:
    """At any depth of a storage_path; a run of two segments is one, one that was sent none."""
    directory, experiment = str(tmp_path), tmp_path / "results" / "exp"
    assert levels(of(storage.unsent, directory=directory)) == ["ok"]
    folders = {
        name: experiment / "wandb" / name
        for name in ("offline-run-1-a", "offline-run-2-a", "offline-run-1-b", "run-1-c", "run-1-d")
    }
    for name, folder in folders.items():
        folder.mkdir(parents=True)
        (folder / f"run-{name[-1]}.wandb").touch()
    (folders["offline-run-1-b"] / "run-b.wandb.synced").touch()
    [found] = of(storage.unsent, directory=directory)
    assert (found.level, found.cure) == (Level.NOTE, f"wbtune sync {experiment}")
    assert found.what == f"1 run of {experiment} is offline, and not sent"
    run_files.note_not_uploaded(folders["run-1-c"])
    late, _ = of(storage.unsent, directory=str(experiment))
    assert late.level is Level.PROBLEM and "1 run" in late.what


# --- The login, and all of it ---------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with WandbServer(keys={KEY}) as server:
        yield server


_KEPT = ("PATH", "PYTHONPATH", "COVERAGE_PROCESS_CONFIG")


def doctor(tmp_path: Path, environ: Mapping[str, str], *arguments: str) -> Any:
    """Run it as a process of its own, as people do, with nothing else in the environment."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    bare = {name: os.environ[name] for name in _KEPT if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "wbtune", "doctor", "--json", "--timeout", "100", *arguments],
        env={**bare, "HOME": str(home), **environ},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    for at in range(len(KEY) - 7):
        assert KEY[at : at + 8] not in done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert done.returncode == bool(found["problems"])
    return {
        subject: [one for one in found["findings"] if one["subject"] == subject]
        for subject in examination.CHECKS
    }


def logged_in(server_url: str, key: str = KEY) -> dict[str, str]:
    return {"WANDB_BASE_URL": server_url, "WANDB_API_KEY": key}


@pytest.mark.slow
def test_a_good_key(server: WandbServer, tmp_path: Path) -> None:
    """Whose it is; the server is asked once; nothing is left behind."""
    found = doctor(tmp_path, logged_in(server.url))["login"]
    assert [one["level"] for one in found] == ["ok", "ok"]
    assert found[0]["what"] == f"a key for {server.url}, from WANDB_API_KEY"
    assert "entity's" in found[1]["what"]
    assert len(server.received("/graphql")) == 1
    assert [*(tmp_path / "home").rglob("*wandb*")] == []


@pytest.mark.slow
def test_a_key_of_netrc(server: WandbServer, tmp_path: Path) -> None:
    """Where it is; that others may read it."""
    path = tmp_path / "home" / ".netrc"
    path.parent.mkdir()
    host = server.url.removeprefix("http://")
    path.write_text(f"machine {host} login user password {KEY}\n")
    path.chmod(0o644)
    found = doctor(tmp_path, {"WANDB_BASE_URL": server.url})["login"]
    assert [one["level"] for one in found] == ["note", "ok", "ok"]
    assert found[0]["cure"] == f"chmod 600 {path}" and str(path) in found[1]["what"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "what"),
    [
        (f"machine x login u password {KEY[:20]} {KEY[20:]}", "line 1, is malformed"),
        (f"machine other login u password {KEY}", "has no entry for"),
    ],
)
def test_a_netrc_without_a_key(
    text: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong with it, in no word of its own; wandb's warning would have some."""
    path = tmp_path / "home" / ".netrc"
    path.parent.mkdir()
    path.write_text(text)
    path.chmod(0o600)
    first, second = doctor(tmp_path, {})["login"]
    assert what in first["what"] and first["cure"]
    assert second["what"] == "no W&B API key found"


@pytest.mark.slow
def test_a_refused_key(server: WandbServer, tmp_path: Path) -> None:
    """The cures are those of a login."""
    found = doctor(tmp_path, logged_in(server.url, TEST_KEY))["login"]
    assert found[-1]["level"] == "problem" and "wandb login" in found[-1]["cure"]


@pytest.mark.slow
def test_a_key_of_the_wrong_form(tmp_path: Path) -> None:
    """The server is not asked."""
    [found] = doctor(tmp_path, logged_in("http://127.0.0.1:9", KEY[:15]))["login"]
    assert found["level"] == "problem" and "has 15" in found["what"]


@pytest.mark.slow
def test_a_server_that_is_away(tmp_path: Path) -> None:
    """The network, the proxy and the address may be wrong."""
    with nobody_listens() as url:
        found = doctor(tmp_path, {**logged_in(url), "HTTPS_PROXY": "http://me:hunter22@x"})
    assert found["login"][-1]["level"] == "problem"
    assert "can't be reached" in found["login"][-1]["what"]
    assert "hunter22" not in json.dumps(found)


def test_a_slow_server(server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for."""
    server.order(Fault(delay=30))
    began = time.monotonic()
    found = list(login._server(server.url, KEY))
    assert time.monotonic() - began < 8
    assert levels(found) == ["problem"] and "no whole answer" in found[0].what


@pytest.mark.parametrize(("status", "what"), [(404, "HTTP 404"), (500, "HTTP 500")])
def test_no_server_of_wandb(status: int, what: str, server: WandbServer) -> None:
    """It answers, but not as one."""
    server.order(Fault(status=status))
    [found] = login._server(server.url, KEY)
    assert found.level is Level.PROBLEM and what in found.what


@pytest.mark.slow
def test_it_does_not_wait_for_ever(tmp_path: Path) -> None:
    """What is not done in time is said; here, nothing is."""
    found = doctor(tmp_path, {}, "--timeout", "0")
    assert found["releases"][-1]["cure"] == "give it longer: --timeout 60"


@pytest.mark.slow
def test_an_empty_home_and_a_broken_environment(tmp_path: Path) -> None:
    """Everything at once: each is said, none ends it."""
    found = doctor(
        tmp_path,
        {"HOME": "/nonexistent", "WANDB_MODE": "onlin", "WANDB_SERVICE": "?", "NETRC": "/proc"},
        str(tmp_path / "gone"),
    )
    problems = [one["what"] for part in found.values() for one in part if one["level"] == "problem"]
    assert any("WANDB_MODE" in what for what in problems)
    assert any("WANDB_SERVICE" in what for what in problems)
    assert any("does not exist" in what for what in problems)


def test_what_people_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Subjects, aligned findings, cures below them; the last line counts."""
    checks: dict[str, list[Check]] = {
        "one": [lambda _: iter([ok("fine"), note("odd", "look")])],
        "two": [lambda _: iter([problem("bad", "mend it")])],
    }
    monkeypatch.setattr(
        "wbtune._cli.doctor_command.examine", lambda context, **_: examine(context, checks)
    )
    done = CliRunner().invoke(main, ["doctor"])
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "one",
        "  ok       fine",
        "  note     odd",
        "           -> look",
        "two",
        "  problem  bad",
        "           -> mend it",
        "1 problem, 1 note",
    ]
    checks.pop("two")
    assert CliRunner().invoke(main, ["doctor"]).exit_code == 0
