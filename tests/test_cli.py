"""The command line as a whole: help, exit codes, JSON, progress."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from wbtune._cli import main as cli
from wbtune._cli import output
from wbtune.errors import ConfigurationError, CredentialsError, ServerUnreachableError

COMMANDS = ("run", "import", "sync", "overview", "doctor")


def run(*args: str) -> click.testing.Result:
    return CliRunner().invoke(cli.main, args)


def test_help_lists_the_commands():
    """`wbtune` alone, and `-h`, say what there is, and what exit codes mean."""
    for args in ((), ("-h",), ("--help",)):
        result = run(*args)
        assert result.exit_code in {0, 2}  # without a command, click's newer releases say 2
        assert all(f"  {name} " in result.output for name in COMMANDS)
        assert "Exit codes: 0 all was done, 1 something is left, 2 wrong use." in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command(name):
    """Each has an example, besides how it is used, and `--json`."""
    result = run(name, "--help")
    assert result.exit_code == 0
    assert f"wbtune {name}" in result.output.partition("Example")[2]
    assert "--json" in result.output


@pytest.mark.parametrize("args", [("nope",), ("--nope",), ("import",), ("sync", "--nope")])
def test_wrong_use(args):
    """Click's own errors are 2."""
    assert run(*args).exit_code == output.WRONG_USE == 2


def test_as_a_module_and_as_a_script():
    """`python -m wbtune` is the same; neither Ray nor wandb is imported to say how it is used."""
    code = (
        "import runpy, sys, atexit\n"
        "atexit.register(lambda: print(sorted({'ray', 'wandb'} & set(sys.modules))))\n"
        "sys.argv = ['wbtune', '--help']\n"
        "runpy.run_module('wbtune', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("Usage: wbtune [OPTIONS]")
    assert done.stdout.endswith("[]\n")


@pytest.fixture
def failing(monkeypatch):
    """A command that raises what the test says."""
    raised: list[BaseException] = []

    @click.command("failing")
    def command():
        raise raised[0]

    monkeypatch.setattr(cli._Commands, "get_command", lambda *_: command)
    return raised


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("bad"), 2),
        (CredentialsError("no key"), 2),
        (ServerUnreachableError("away"), 1),
        (PermissionError(13, "Permission denied", "/x"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_are_one_line(error, code, failing):
    """What a user can mend ends with one line on stderr, and no traceback."""
    failing.append(error)
    result = run("failing")
    assert result.exit_code == code
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("wbtune: ")


def test_an_error_has_no_secret(failing):
    """Whatever its text is made of."""
    failing.append(
        OSError("HTTP 403 for https://me:hidden@host/x, Authorization: Bearer hidden-0123456789")
    )
    assert "hidden" not in run("failing").output


def test_a_fault_of_ours_is_not_hidden(failing):
    """A traceback is for what nobody expected."""
    failing.append(AttributeError("ours"))
    assert isinstance(run("failing").exception, AttributeError)


def test_json_is_alone_on_stdout(capsys):
    """Lines for people are left out, warnings are on stderr and in the object."""
    out = output.Output(as_json=True)
    out.line("for people")
    out.warn("left out: x")
    out.end({"rows": 3})
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"rows": 3, "warnings": ["left out: x"]}
    assert printed.err == "wbtune: left out: x\n"


def test_text_is_for_people(capsys):
    """Without `--json` there is none."""
    out = output.Output(as_json=False)
    out.line("3 rows")
    out.end({"rows": 3})
    assert capsys.readouterr().out == "3 rows\n"


def test_progress_in_lines(capsys, monkeypatch):
    """Where there is no terminal, a line tells every ten seconds."""
    now = [0.0]
    monkeypatch.setattr(output.time, "monotonic", lambda: now[0])
    with output.Output(as_json=True).progress("trials", 1500) as advance:
        for _ in range(15):
            now[0] += 4.0
            advance(100)
    assert capsys.readouterr().err.splitlines() == [
        "wbtune: trials: 300 of 1,500",
        "wbtune: trials: 600 of 1,500",
        "wbtune: trials: 900 of 1,500",
        "wbtune: trials: 1,200 of 1,500",
        "wbtune: trials: 1,500 of 1,500",
    ]


def test_progress_on_a_terminal(capsys, monkeypatch):
    """A bar, on stderr."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with output.Output(as_json=False).progress("trials", 10) as advance:
        advance(10)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "trials" in printed.err and "100%" in printed.err
