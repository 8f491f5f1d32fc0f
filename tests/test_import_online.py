"""``wbtune import`` against the stand-in for W&B's server: real wandb-core."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import made_folders
import pytest
from made_folders import BEGAN, Trial, results
from test_sync import synced, written
from wandb_server import TEST_KEY, Fault, WandbServer

from wbtune._run import run_files

pytestmark = pytest.mark.usefixtures("measured")


@pytest.fixture
def server():
    with WandbServer(keys={TEST_KEY}) as server:
        yield server


@pytest.fixture
def client(server, tmp_path):
    """Runs the command as somebody who is logged in; what it prints never has the key."""
    env = os.environ | server.env(tmp_path / "client")

    def run(folder: Path, *more: str, code: int = 0) -> dict[str, Any]:
        command = [sys.executable, "-m", "wbtune", "import", str(folder), "-p", "p", "--json"]
        done = subprocess.run(
            [*command, *more], env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        assert TEST_KEY not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return run


def iterations(server: WandbServer, run_id: str) -> list[int]:
    return [row["training_iteration"] for row in server.runs["entity", "p", run_id].rows]


def test_the_runs_are_sent(server, client, tmp_path):
    """Each with its rows, their times, its config and outcome; the page is named."""
    trials = [
        Trial("a", results(20), params={"lr": 0.1, "api_key": "hidden"}),
        Trial("b", results(3, loss=float("nan")), "ERROR", error="ValueError: too high"),
    ]
    folder = made_folders.experiment(tmp_path / "tuned", trials)
    content = client(folder)
    assert content["not_sent"] == []
    assert content["url"].endswith("/entity/p/groups/tuned/workspace")
    assert server.refusals == []
    a, b = server.runs["entity", "p", "a"], server.runs["entity", "p", "b"]
    assert (a.name, a.group, a.state, a.tags) == ("train_a", "tuned", "finished", [])
    assert iterations(server, "a") == list(range(1, 21))
    assert [row["_step"] for row in a.rows] == list(range(1, 21))
    assert [int(row["_timestamp"]) for row in a.rows] == [BEGAN + n // 2 for n in range(1, 21)]
    assert [round(row["_runtime"], 3) for row in a.rows][:3] == [0.5, 1.5, 1.5]
    assert (a.config["lr"], a.config["api_key"]) == (0.1, "****")
    assert (a.summary["wbtune/outcome"], a.summary["_wandb"]["runtime"]) == ("finished", 10)
    assert (b.state, b.tags, b.summary["wbtune/error"]) == ("failed", ["failed"], "ValueError")
    assert not any(request.contains("hidden") for request in server.requests)
    before = len(server.received("UpsertBucket"))
    assert client(folder)["rows_added"] == 0
    assert len(server.received("UpsertBucket")) == before


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_trial_that_has_ended_since(server, client, tmp_path, elsewhere):
    """Its new rows follow, and its new outcome takes the place of the old one.

    Also from another machine, which has no files of W&B's: the server knows how far the run is.
    """
    folder = tmp_path / "e"
    made_folders.experiment(folder, [Trial("a", results(4), "RUNNING"), Trial("b", results(2))])
    client(folder, code=1)
    run = server.runs["entity", "p", "a"]
    assert (run.tags, run.summary["wbtune/outcome"]) == (["interrupted"], "interrupted")
    if elsewhere:
        shutil.rmtree(folder / "wandb")
        (tmp_path / "copied").mkdir()
        folder = folder.rename(tmp_path / "copied" / "e")
        assert client(folder, code=1)["rows_added"] == 0
        assert not run_files.run_ids(folder)
    made_folders.experiment(folder, [Trial("a", results(7)), Trial("b", results(2))])
    content = client(folder)
    assert (content["rows_added"], content["runs_complete"]) == (3, 1)
    assert iterations(server, "a") == [1, 2, 3, 4, 5, 6, 7]
    assert (run.tags, run.state, run.summary["wbtune/outcome"]) == ([], "finished", "finished")
    assert "wbtune/reason" not in run.summary
    assert run.summary["loss"] == 1 / 7
    assert server.refusals == []


def test_another_experiments_run_is_left_alone(server, client, tmp_path):
    """The id is taken, in another group: this one's run gets another id, and keeps it."""
    one = made_folders.experiment(tmp_path / "one", [Trial("a", results(2))])
    other = made_folders.experiment(tmp_path / "other", [Trial("a", results(3))])
    client(one)
    [run] = client(other)["runs"]
    assert run["run"].startswith("a-")
    assert iterations(server, "a") == [1, 2]
    assert iterations(server, run["run"]) == [1, 2, 3]
    assert client(other)["runs_complete"] == 1
    shutil.rmtree(other / "wandb")
    assert client(other)["runs_complete"] == 1
    assert server.refusals == []


def test_first_offline(server, client, tmp_path):
    """What was written to disk only is sent by the next import, and not again."""
    folder = made_folders.experiment(tmp_path / "e", [Trial("a", results(3))])
    client(folder, "--mode", "offline")
    assert server.requests == []
    client(folder)
    client(folder)
    assert iterations(server, "a") == [1, 2, 3]
    assert server.refusals == []


def test_a_killed_driver_whose_runs_were_sent(server, client, tmp_path):
    """Its segment without an end counts as sent; what it lacks, and its outcome, follow."""
    folder = tmp_path / "e"
    folder.mkdir()
    written(folder, tmp_path, "run = opened('a'); rows(run, 1, 4); killed()")
    assert synced(server, tmp_path, str(folder))[0] == 0
    made_folders.experiment(folder, [Trial("a", results(5))])
    for added in (2, 0):
        content = client(folder)
        assert (content["rows_added"], content["not_sent"]) == (added, [])
    run = server.runs["entity", "p", "a"]
    assert (iterations(server, "a"), run.state, run.tags) == ([1, 2, 3, 4, 5], "finished", [])
    assert server.refusals == []


def test_the_server_goes_away(server, client, tmp_path):
    """What could not be sent is on disk, and sent by the next import; exit 1 says so."""
    folder = made_folders.experiment(tmp_path / "e", [Trial("a", results(3))])
    fault = server.order(Fault(status=403, match="UpsertBucket"))
    content = client(folder, code=1)
    assert len(content["not_sent"]) == 1
    assert any("could not be sent" in text for text in content["warnings"])
    server.heal(fault)
    assert client(folder)["rows_added"] == 0
    assert iterations(server, "a") == [1, 2, 3]


def test_as_a_sweep(server, client, tmp_path):
    """The runs are in one sweep, which says what was searched; the best one is tagged."""
    # Over 40 lines: the experiment while it is running, and when it has ended.
    folder = tmp_path / "e"
    sampled = {"lr": 0, "net/depth": 0}

    def trial(name: str, lr: float, count: int, status: str = "TERMINATED") -> Trial:
        params = {"lr": lr, "net": {"depth": count}, "seed": 1, "token": "hidden"}
        return Trial(name, results(count), status, params, sampled=sampled)

    asked = ["--sweep", "--goal", "minimize"]
    made_folders.experiment(folder, [trial("a", 0.1, 2), trial("b", 0.3, 3, "RUNNING")], "loss")
    content = client(folder, *asked, code=1)
    [sweep] = server.sweeps
    assert (content["sweep"], sweep.name, sweep.state) == (sweep.id, "e", "RUNNING")
    assert sweep.config["metric"] == {"name": "loss.min", "goal": "minimize"}
    assert sweep.config["parameters"] == {
        "lr": {"distribution": "uniform", "min": 0.1, "max": 0.3},
        "net": {"parameters": {"depth": {"distribution": "int_uniform", "min": 2, "max": 3}}},
    }
    assert [server.runs["entity", "p", name].sweep for name in "ab"] == [sweep.id] * 2
    assert server.runs["entity", "p", "b"].tags == ["interrupted", "best"]
    assert server.runs["entity", "p", "a"].summary["loss"] == {"min": 0.5}
    made_folders.experiment(folder, [trial("a", 0.1, 2), trial("b", 0.3, 3), trial("c", 1, 5)])
    client(folder, *asked, "--metric", "loss")
    assert [one.state for one in server.sweeps] == ["FINISHED"]
    assert [server.runs["entity", "p", name].sweep for name in "abc"] == [sweep.id] * 3
    assert [server.runs["entity", "p", name].tags for name in "abc"] == [[], [], ["best"]]
    [whole] = [run for run in server.runs.values() if run.job_type == "sweep"]
    assert (whole.sweep, whole.summary["best/run"], whole.state) == (None, "c", "finished")
    before = len(server.runs), len(server.received("UpsertBucket"))
    client(folder, *asked, "--metric", "loss")
    assert (len(server.runs), len(server.received("UpsertBucket"))) == before
    assert server.refusals == []
    assert not any(request.contains("hidden") for request in server.requests)


def test_one_sweep_wherever_it_is_made(server, client, tmp_path):
    """By an import, by `wbtune sync` of runs on disk; looked for here, elsewhere, at the server."""
    one = made_folders.experiment(
        tmp_path / "one", [Trial("a", results(2)), Trial("b", results(1))]
    )
    client(one, "--sweep", "--mode", "offline")
    env = os.environ | server.env(tmp_path / "client")
    subprocess.run([sys.executable, "-m", "wbtune", "sync", str(one)], env=env, check=True)
    [sweep] = server.sweeps
    assert client(one, "--sweep")["sweep"] == sweep.id
    assert client(one, "--sweep", "--dir", str(tmp_path / "elsewhere"))["sweep"] == sweep.id
    moved = tmp_path / "moved" / "one"
    shutil.copytree(one, moved, ignore=shutil.ignore_patterns("wandb"))
    assert client(moved, "--sweep")["sweep"] == sweep.id
    assert [found.id for found in server.sweeps] == [sweep.id]
    assert [server.runs["entity", "p", name].sweep for name in "ab"] == [sweep.id] * 2
    assert [iterations(server, name) for name in "ab"] == [[1, 2], [1]]
    assert sum(run.job_type == "sweep" for run in server.runs.values()) == 1
    assert server.refusals == []


def test_one_sweep_of_what_was_first_offline(server, client, tmp_path):
    """The import that has a server makes it, and no later sync another."""
    folder = made_folders.experiment(tmp_path / "e", [Trial("a", results(2), "RUNNING")])
    client(folder, "--sweep", "--mode", "offline", code=1)
    found = client(folder, "--sweep", code=1)["sweep"]
    assert [(one.id, one.state) for one in server.sweeps] == [(found, "RUNNING")]
    made_folders.experiment(folder, [Trial("a", results(3))])
    client(folder, "--sweep", "--mode", "offline")
    env = os.environ | server.env(tmp_path / "client")
    subprocess.run([sys.executable, "-m", "wbtune", "sync", str(folder)], env=env, check=True)
    assert client(folder, "--sweep")["sweep"] == found
    assert [(one.id, one.state) for one in server.sweeps] == [(found, "FINISHED")]
    assert server.runs["entity", "p", "a"].sweep == found
    assert server.refusals == []


def test_two_experiments_in_one_folder_have_two_sweeps(server, client, tmp_path):
    """As those in a remote storage have, which are imported into the current folder."""
    ids = []
    for name in ("one", "two"):
        folder = made_folders.experiment(tmp_path / name, [Trial(name, results(2))])
        ids.append(client(folder, "--sweep", "--dir", str(tmp_path / "all"))["sweep"])
        assert server.runs["entity", "p", name].sweep == ids[-1]
    third = made_folders.experiment(tmp_path / "three", [Trial("three", results(2))])
    client(third, "--dir", str(tmp_path / "all"))
    assert server.runs["entity", "p", "three"].sweep in {None, ""}
    assert len(set(ids)) == len(server.sweeps) == 2


def test_a_refused_key(server, client, tmp_path):
    """The ways out that are named are the command's own."""
    folder = made_folders.experiment(tmp_path / "e", [Trial("a", results(1))])
    server.keys = {"another"}
    env = os.environ | server.env(tmp_path / "client")
    command = [sys.executable, "-m", "wbtune", "import", str(folder), "-p", "p"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--mode offline" in done.stderr
    assert "api_key_file" not in done.stderr
    assert "mode=" not in done.stderr


def test_a_sweep_of_runs_that_are_there_already(server, client, tmp_path):
    """Nothing is added to them but that they belong to it."""
    folder = made_folders.experiment(tmp_path / "e", [Trial("a", results(2))])
    client(folder)
    assert client(folder, "--sweep")["rows_added"] == 0
    run = server.runs["entity", "p", "a"]
    assert (run.sweep, run.state, len(run.rows)) == (server.sweeps[0].id, "finished", 2)
    assert (server.sweeps[0].state, server.refusals) == ("FINISHED", [])


@pytest.mark.parametrize(
    ("policy", "versions"),
    [
        ("last", [("w3", {"latest"})]),
        ("best", [("w2", {"latest", "best"})]),
        ("all", [("w1", set()), ("w2", {"best"}), ("w3", {"latest"})]),
    ],
)
def test_checkpoints(server, client, tmp_path, policy, versions):
    """Those that are asked for become versions of the trial's artifact; again, none does."""
    names = [f"checkpoint_00000{number}" for number in range(3)]
    losses = [3.0, 1.0, 2.0]
    lines = [
        made_folders.result(number, loss=loss, checkpoint_dir_name=name)
        for number, (name, loss) in enumerate(zip(names, losses, strict=True), 1)
    ]
    files = {name: {"model.txt": f"w{number}"} for number, name in enumerate(names, 1)}
    folder = made_folders.experiment(tmp_path / "e", [Trial("a", lines, checkpoints=files)])
    asked = ["--upload-checkpoints", policy, "--metric", "loss", "--goal", "minimize"]
    assert client(folder, *asked)["checkpoints"] == len(versions)
    found = [
        (one.files["model.txt"].decode(), set(one.aliases), one.metadata["loss"])
        for one in server.artifacts
    ]
    assert [one[:2] for one in found] == versions
    assert all(loss == losses[int(text[1]) - 1] for text, _, loss in found)
    run = server.runs["entity", "p", "a"]
    assert (run.state, run.summary["wbtune/outcome"], len(run.rows)) == ("finished", "finished", 3)
    assert client(folder, *asked)["checkpoints"] == 0
    assert server.refusals == []


@pytest.mark.parametrize(
    ("status", "outcome", "tags"), [("TERMINATED", "finished", []), ("ERROR", "failed", ["failed"])]
)
def test_a_checkpoint_that_cannot_be_copied(status, outcome, tags, server, client, tmp_path):
    """It is said; the run is closed as its trial ended, and what was logged is not logged again."""
    names = [f"checkpoint_00000{number}" for number in range(3)]
    files = {name: {"model.txt": name} for name in names}
    error = "ValueError: x" if status == "ERROR" else ""
    trial = Trial("a", results(3), status, error=error, checkpoints=files)
    folder = made_folders.experiment(tmp_path / "e", [trial])
    second, aside = folder / trial.folder / names[1], tmp_path / "aside"
    second.rename(aside)
    second.write_text("no folder", encoding="utf-8")
    for count in (1, 0):
        content = client(folder, "--upload-checkpoints", "all", code=1)
        assert content["checkpoints"] == count
        assert any("checkpoints of train_a are not uploaded" in one for one in content["warnings"])
        assert [one.files["model.txt"].decode() for one in server.artifacts] == names[:1]
        run = server.runs["entity", "p", "a"]
        assert (run.state, run.summary["wbtune/outcome"], run.tags) == (outcome, outcome, tags)
    second.unlink()
    aside.rename(second)
    assert client(folder, "--upload-checkpoints", "all")["checkpoints"] == 2
    assert [one.files["model.txt"].decode() for one in server.artifacts] == names
    assert (run.state, server.refusals) == (outcome, [])


def test_the_best_checkpoint_may_not_be_known(server, client, tmp_path):
    """Of class trainables and RLlib: it is said, and the last is logged; an only one is the best.

    What cannot be read of one trial does not keep the others from theirs.
    """

    def trial(name: str, count: int) -> Trial:
        files = {f"checkpoint_00000{one}": {"model.txt": f"{name}{one}"} for one in range(count)}
        lines = [json.dumps({"loss": one, "training_iteration": one}) for one in range(1, 4)]
        return Trial(name, lines, checkpoints=files)

    folder = made_folders.experiment(tmp_path / "e", [trial("a", 2), trial("b", 1), trial("c", 2)])
    results_file = folder / Trial("c").folder / "result.json"
    results_file.unlink()
    results_file.mkdir()
    asked = ["--upload-checkpoints", "best", "--metric", "loss", "--goal", "minimize"]
    content = client(folder, *asked, code=1)
    assert content["trials_without_known_best"] == 1
    [text] = [text for text in content["warnings"] if "best checkpoint" in text]
    assert text.startswith("the best checkpoint is not known for 1 trial (train_a)")
    assert any("checkpoints of train_c are not uploaded" in text for text in content["warnings"])
    found = [(one.files["model.txt"].decode(), set(one.aliases)) for one in server.artifacts]
    assert found == [("a1", {"latest"}), ("b0", {"latest", "best"})]
    assert server.runs["entity", "p", "a"].state == "finished"
    assert server.refusals == []
