"""A trial's program ends with its trial, however either of them ends; and its log is followed."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logs import BLOCK, log_of, log_of_rows

from wbtune._data import timeouts
from wbtune._data.secret import Secret
from wbtune._data.sweep_command import Start
from wbtune._run import log_file
from wbtune._run.log_tail import RowTail
from wbtune._trial.program_environment import RunPlace, written
from wbtune._trial.program_process import ProgramFailedError, ProgramProcess
from wbtune._trial.program_trial import Program, results, trainable

pytestmark = pytest.mark.usefixtures("measured")

LONG_S = 30.0


def started(program: str, folder: Path) -> ProgramProcess:
    arguments = [sys.executable, "-c", textwrap.dedent(program)]
    return ProgramProcess(arguments, os.environ, folder)


def by_a_shell(program: str, folder: Path) -> ProgramProcess:
    (folder / "train.py").write_text(textwrap.dedent(program), encoding="utf-8")
    # With a command after it, a shell does not become the program.
    (folder / "train.sh").write_text(f"{sys.executable} train.py\n:\n", encoding="utf-8")
    return ProgramProcess(["/bin/sh", "train.sh"], os.environ, folder)


def is_alive(pid: int) -> bool:
    """Whether a process is there, and no zombie that its new parent has not yet seen."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return False


def pid_in(file: Path) -> int:
    until = time.monotonic() + LONG_S
    while not (file.exists() and file.read_text(encoding="utf-8")):
        assert time.monotonic() < until, f"nothing has written {file.name}"
        time.sleep(0.01)
    return int(file.read_text(encoding="utf-8"))


def ends(pid: int) -> bool:
    until = time.monotonic() + LONG_S
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return not is_alive(pid)


#: Writes its process id, and then does not end.
HANGS = """
    import os, pathlib, signal, subprocess, sys, time
    {before}
    pathlib.Path("pid.part").write_text(str(os.getpid()))
    os.rename("pid.part", "pid")
    time.sleep(1000)
"""


# --- the process ---------------------------------------------------------------------------------


def test_a_program_that_ends_well(tmp_path):
    """In its folder; and nothing can be read from its stdin."""
    with started("import sys; open('said', 'w').write(repr(sys.stdin.read()))", tmp_path) as one:
        assert one.wait(LONG_S)
        one.check()
    assert (tmp_path / "said").read_text(encoding="utf-8") == "''"


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("raise SystemExit(3)", "the program ended with exit code 3"),
        ("import os, signal; os.kill(os.getpid(), 9)", "the program was ended by SIGKILL"),
    ],
)
def test_a_program_that_fails(program, problem, tmp_path):
    with started(program, tmp_path) as one:
        assert one.wait(LONG_S)
        with pytest.raises(ProgramFailedError, match=problem):
            one.check()


def test_a_program_that_is_not_there(tmp_path):
    with ProgramProcess(["/no/such/program"], os.environ, tmp_path) as one:
        assert one.wait(LONG_S)
        with pytest.raises(ProgramFailedError, match="No such file or directory"):
            one.check()


def test_a_program_is_asked_to_end(tmp_path):
    """By SIGTERM, and what it does then is waited for."""
    before = "signal.signal(15, lambda *_: (open('asked', 'w').close(), sys.exit()))"
    with started(HANGS.format(before=before), tmp_path) as one:
        pid = pid_in(tmp_path / "pid")
        assert not one.wait(0)
    assert (tmp_path / "asked").exists()
    assert ends(pid)


def test_a_program_that_does_not_want_to_end_is_killed(tmp_path):
    """And what it has started, too."""
    before = "signal.signal(15, signal.SIG_IGN); child = subprocess.Popen(['sleep', '1000'])"
    before += "; open('child', 'w').write(str(child.pid))"
    begun = 0.0
    with started(HANGS.format(before=before), tmp_path):
        pid, child = pid_in(tmp_path / "pid"), pid_in(tmp_path / "child")
        begun = time.monotonic()
    assert ends(pid)
    assert ends(child)
    assert time.monotonic() - begun >= timeouts.PROGRAM_ENDS_S


def test_what_a_shell_has_started_does_not_outlive_it(tmp_path):
    """The shell ends by SIGTERM at once; its child, which does not want to, has the same time."""
    before = "signal.signal(15, lambda *_: open('asked', 'w'))"
    with by_a_shell(HANGS.format(before=before), tmp_path):
        pid = pid_in(tmp_path / "pid")
        begun = time.monotonic()
    assert time.monotonic() - begun >= timeouts.PROGRAM_ENDS_S
    assert not is_alive(pid)
    assert (tmp_path / "asked").exists()


def test_a_trial_waits_no_longer_than_the_last_process_of_its_program(tmp_path):
    """It needs a second for its checkpoint, say, and is not killed; the shell is gone at once."""
    before = "signal.signal(15, lambda *_: (time.sleep(1), open('saved', 'w'), sys.exit()))"
    with by_a_shell(HANGS.format(before=before), tmp_path):
        pid = pid_in(tmp_path / "pid")
        begun = time.monotonic()
    assert time.monotonic() - begun < timeouts.PROGRAM_ENDS_S
    assert not is_alive(pid)
    assert (tmp_path / "saved").exists()


def test_what_a_program_leaves_behind_does_not_keep_its_trial(tmp_path):
    """A program that ends by itself has ended, and what it has started goes on."""
    program = """
        import subprocess
        child = subprocess.Popen(["sleep", "1000"])
        open("child", "w").write(str(child.pid))
    """
    with started(program, tmp_path) as one:
        assert one.wait(LONG_S)
        one.check()
    child = pid_in(tmp_path / "child")
    assert is_alive(child)
    os.kill(child, signal.SIGKILL)


def test_a_program_does_not_outlive_its_trial(tmp_path):
    """Although the trial was killed and could do nothing."""
    program = textwrap.dedent(HANGS.format(before=""))
    trial = f"""
        import os, pathlib, sys
        from wbtune._trial.program_process import ProgramProcess
        arguments = [sys.executable, "-c", {program!r}]
        ProgramProcess(arguments, os.environ, pathlib.Path.cwd()).wait(1000)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(trial)], cwd=tmp_path)
    pid = pid_in(tmp_path / "pid")
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert ends(pid)


def test_the_key_is_only_in_the_programs_environment(tmp_path):
    """What describes the run can be printed, and can't be pickled."""
    place = RunPlace(tmp_path, "a", "https://host", {"WANDB_RUN_ID": "a"}, Secret("k" * 40))
    assert "kkkk" not in repr(place)
    with pytest.raises(TypeError):
        pickle.dumps(place)
    start = Start("train.py", {"lr": 0.1}, sys.executable, str(tmp_path / "config.json"))
    assert written(place, start, tmp_path)["WANDB_API_KEY"] == "k" * 40


def test_a_program_keeps_where_wandbs_settings_are(tmp_path, monkeypatch):
    """Their names begin like those of a Launch job's config, which the program does not get."""
    settings = {"WANDB_CONFIG_DIR": "/settings", "WANDB_CONFIG_PATHS": "a.yaml,b.yaml"}
    for name, value in {**settings, "WANDB_CONFIG": "{}", "WANDB_CONFIG_0": "{"}.items():
        monkeypatch.setenv(name, value)
    start = Start("train.py", {}, sys.executable, str(tmp_path / "config.json"))
    given = written(RunPlace(tmp_path, "a", "", {}), start, tmp_path)
    kept = {name: value for name, value in given.items() if name.startswith("WANDB_CONFIG")}
    assert kept == settings


@pytest.mark.parametrize(
    ("words", "program", "name"),
    [
        (("${env}", "${interpreter}", "${program}", "${args}"), "src/train.py", "train"),
        (("${env}", "python", "-m", "pkg.train", "${args}"), "", "train"),
        (("${env}", "python3.11", "-u", "src/train.py", "${args}"), "", "train"),
        (("bash", "train.sh", "${args}"), "", "train"),
        (("${envvar:HOME}/bin/solve", "--fast", "${args_json}"), "", "solve"),
        (("${envvar:SOLVER}", "${args}"), "", "program"),
    ],
)
def test_trials_are_named_after_the_program(words, program, name):
    """Not after a macro, nor after what starts the program."""
    assert trainable(Program(words, program, "/")).__name__ == name


# --- its log -------------------------------------------------------------------------------------


@given(
    st.lists(st.binary(max_size=40) | st.integers(BLOCK - 60, 2 * BLOCK).map(bytes), max_size=8),
    st.lists(st.integers(0, 8 * BLOCK), max_size=8),
)
def test_a_growing_log_is_read_once(tmp_path_factory, payloads, sizes):
    """Wherever the writer was when somebody looked."""
    data, _ = log_of(payloads)
    path = tmp_path_factory.mktemp("log") / "run-a.wandb"
    at, seen = 0, []
    for size in (*sorted(sizes), len(data)):
        path.write_bytes(data[:size])
        found = list(log_file.growing(path, at))
        seen += [payload for payload, _ in found]
        at = found[-1][1] if found else at
    assert seen == payloads


def test_the_rows_of_later_segments_are_followed(tmp_path):
    """Not those of the segment that was there; numbers only, by W&B's names for them."""
    old, new, last = (
        tmp_path / "wandb" / f"run-2026010{day}_000000-a" / "run-a.wandb" for day in (1, 2, 3)
    )
    for path in (old, new, last):
        path.parent.mkdir(parents=True)
    old.write_bytes(log_of_rows([{"loss": 0}]))
    tail = RowTail(tmp_path, "a")
    assert (tail.logs(), [*tail.new_rows()]) == ([], [])
    row = {"loss": 1.5, "val": {"acc": 2}, "text": "x", "_step": 7, "inf": "Infinity", "on": True}
    data = log_of_rows([row, {"image": {"_type": "image-file", "size": 3}}])
    new.write_bytes(data[:20])
    assert [*tail.new_rows()] == []
    new.write_bytes(data)
    assert [*tail.new_rows()] == [
        {"loss": 1.5, "val.acc": 2, "inf": float("inf"), "on": True},
        {"image.size": 3},
    ]
    last.write_bytes(log_of_rows([{"loss": 3}], exit_code=0))
    assert [*tail.new_rows()] == [{"loss": 3}]
    assert tail.logs() == [new, last]


def test_a_result_is_a_row_with_the_metric():
    """As W&B's hyperband counts; with the last of the others, and none of Tune's own names."""
    rows = [{"lr": 1}, {"loss": 5, "done": 1}, {"acc": 2}, {"loss": 4, "pid": 7}, {"lr": 9}]
    assert [*results(iter(rows), "loss")] == [{"lr": 1, "loss": 5}, {"lr": 1, "loss": 4, "acc": 2}]
    assert [*results(iter(rows[:2]), None)] == [{"lr": 1}, {"lr": 1, "loss": 5}]
