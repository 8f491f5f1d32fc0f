"""It is printed once where runs can be viewed, and the printed commands work."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import strategies_functions as functions
from wandb_server import TEST_KEY, WandbServer

from wbtune import setup_wandb, wandb_trial
from wbtune._data.options import RunOptions
from wbtune._data.secret import Secret
from wbtune._place.credentials import Login
from wbtune._run import links


def by_hand(way, folder):
    """A run outside Tune; the folder that it is in."""
    settings = {"root_dir": str(folder)}  # wandb has the test session's working directory
    if way == "wandb_trial":

        @wandb_trial(project="p", settings=settings)
        def train(config, run):
            run.log({"loss": config["lr"]})

        train({"lr": 0.1})
    else:
        run = setup_wandb({"lr": 0.1}, project="p", settings=settings)
        run.log({"loss": 0.1})
        run.finish()
    (folder,) = (folder / "wandb").glob("offline-run-*")
    return folder


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_standard_output_that_takes_nothing_ends_nothing(is_closed, monkeypatch, caplog):
    """It is closed, or can't hold the project's name: the line is in the log instead."""
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    if is_closed:
        output.close()
    monkeypatch.setattr(sys, "stdout", output)
    links.print_line("wbtune: project Größe")
    assert caplog.messages == ["wbtune: project Größe"]


@pytest.mark.parametrize("way", ["wandb_trial", "setup_wandb"])
def test_a_run_by_hand_says_its_folder_and_how_to_upload_it(way, tmp_path, capsys):
    """In one line, with a command that uploads just this run."""
    folder = by_hand(way, tmp_path)
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "wbtune" in line)
    assert f" in {folder}; upload it by: " in line
    with WandbServer(keys={TEST_KEY}) as server:
        uploaded(line, server, tmp_path)
        (run,) = server.runs.values()
        assert [row["loss"] for row in run.rows] == [0.1]


def uploaded(line, server, folder):
    """What the command of a line does, in a shell of somebody who is logged in."""
    env = functions.clean_env(folder) | {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": TEST_KEY}
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", "")])
    command = line.partition(" by: ")[2]
    subprocess.run(["bash", "-c", command], env=env, cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize("folder", ["results", "it's two words"])
def test_the_command_works_from_where_its_reader_stands(folder, tmp_path, monkeypatch, capsys):
    """By a short path below the working directory, and a whole one elsewhere, quoted."""
    place, elsewhere = tmp_path / folder, tmp_path / "elsewhere"
    place.mkdir()
    elsewhere.mkdir()
    run = by_hand("setup_wandb", place)
    capsys.readouterr()
    for here, shown in ((tmp_path, folder), (elsewhere, str(tmp_path))):
        monkeypatch.chdir(here)
        command = links.sync_command(place / "wandb")
        words = subprocess.check_output(["bash", "-c", f"echo {command}"], text=True)
        assert words.startswith(f"wandb sync {shown}")
        assert words.rstrip().endswith(run.name)
    monkeypatch.chdir(tmp_path)
    for command in (links.sync_command(place / "wandb"), links.command("sync", place)):
        with WandbServer(keys={TEST_KEY}) as server:
            uploaded(f"upload them by: {command}", server, tmp_path)
            assert len(server.runs) == 1
        for marker in place.rglob("*.synced"):
            marker.unlink()


def test_a_run_online_says_its_url(tmp_path, capsys):
    """Once; and a password in the server's address is no part of it."""
    with WandbServer(keys={TEST_KEY}) as server:
        settings = {"base_url": server.url, "root_dir": str(tmp_path)}
        given = {"project": "p", "id": "abc", "mode": "online", "settings": settings}
        setup_wandb({}, TEST_KEY, **given).finish()
        output = capsys.readouterr().out
        assert (
            output.count("wbtune: run") == output.count(f": {server.url}/entity/p/runs/abc\n") == 1
        )
    login = Login(None, {"base_url": "https://me:secret@wandb.corp", "entity": "e"})
    login = login._replace(secret=Secret(TEST_KEY))
    place = links.of_experiment(RunOptions(project="p"), login, "sweep")
    assert place.group_url == "https://wandb.corp/e/p/groups/sweep/workspace"


def test_the_entity_is_the_keys_own_where_none_is_given():
    """As the server says; without a server, or without a login, there is no link."""
    options = RunOptions(project="p", group="my group")
    with WandbServer(keys={TEST_KEY}, entity="somebody") as server:
        login = Login(Secret(TEST_KEY), {"base_url": server.url})
        place = links.of_experiment(options, login, "sweep")
        assert place.project_url == f"{server.url}/somebody/p"
        assert place.group_url.endswith("/somebody/p/groups/my%20group/workspace")
        wrong = Login(Secret("f" * 40), {"base_url": server.url})
        assert links.of_experiment(options, wrong, "sweep") is None
    assert links.of_experiment(options, Login(settings={"mode": "offline"}), "sweep") is None


@pytest.mark.parametrize("kernel", [object(), None])
def test_a_link_in_a_notebook_can_be_clicked(kernel, monkeypatch, capsys):
    """With a kernel, IPython displays HTML; in IPython's terminal it stays text."""
    shown = []
    display = ModuleType("IPython.display")
    display.HTML, display.display = str, shown.append
    ipython = ModuleType("IPython")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=kernel)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    links.print_line("wbtune: run a<b: https://wandb.ai/e/p/runs/a")
    text = capsys.readouterr().out
    if kernel is None:
        assert (shown, text) == ([], "wbtune: run a<b: https://wandb.ai/e/p/runs/a\n")
    else:
        (html,) = shown
        assert '<a href="https://wandb.ai/e/p/runs/a" target="_blank">' in html
        assert "a&lt;b" in html and text == ""
