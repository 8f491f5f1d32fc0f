"""``wbtune run``: a program that only knows wandb, run on Ray as W&B's agents would run it.

Real Ray, real wandb-core in trials and programs, against the stand-in for W&B's server.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from wandb_server import TEST_KEY, WandbServer

from wbtune._cli.main import main
from wbtune._run import run_log
from wbtune._upstream import wandb_records, wandb_settings

#: It names a project of its own, as most do, and defaults that the sampled values replace.
PROGRAM = """
import sys, time
import wandb

run = wandb.init(project="playground", config={"lr": 5.0, "epochs": 4})
assert sys.argv[1:] == [f"--how={run.config.how}", f"--model={run.config['model']}"], sys.argv
if run.config.how == "hangs":
    time.sleep(1000)
for epoch in range(run.config.epochs):
    loss = {"ok": 1.0, "worse": 2.0, "fails": 0.5, "best": -1.0}[run.config.how]
    wandb.log({"loss": loss + run.config.model["width"] / (epoch + 1), "acc": {"top1": epoch}})
    wandb.log({"epoch": epoch})
    if run.config.how == "fails":
        sys.exit(3)
    time.sleep(1.0 if run.config.how == "worse" else 0.0)
"""

SWEEP: dict[str, Any] = {
    "program": "train.py",
    "method": "grid",
    "metric": {"name": "loss", "goal": "minimize", "target": -0.5},
    "early_terminate": {"type": "hyperband", "min_iter": 2, "eta": 2},
    "parameters": {
        "how": {"values": ["hangs", "ok", "worse", "fails", "best"]},
        "model": {"parameters": {"width": {"value": 0.25}}},
    },
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with the program and the sweep's file."""
    (tmp_path / "train.py").write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(SWEEP), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def invoke(*args: str) -> Any:
    return CliRunner().invoke(main, ["run", *args])


@pytest.mark.slow
def test_a_sweep_runs_without_an_agent(ray, folder, monkeypatch):
    """One trial ends well, hyperband stops one, one fails, one reaches the target, one hangs.

    All are in the sweep, with the sampled values and what was logged.
    """
    with WandbServer(keys={TEST_KEY}) as server:
        for name, value in server.env(folder / "client").items():
            if name != "HOME":
                monkeypatch.setenv(name, value)
        storage = ["--storage-path", str(folder / "ray"), "--name", "swept"]
        done = invoke("sweep.yaml", "-p", "mnist", *storage, "--max-concurrent", "2", "--json")
        assert done.exit_code == 1, done.output
        (sweep,) = server.sweeps
        runs = {run.config["how"]: run for run in server.runs.values() if "how" in run.config}
        assert server.refusals == []

    said = json.loads(done.stdout)
    assert (said["trials"], said["failed"], said["interrupted"]) == (5, 1, 0)
    assert said["best"]["config"] == {"how": "best", "model": {"width": 0.25}}

    assert (sweep.config, sweep.states[-1]) == (SWEEP, "FINISHED")
    assert {(run.key[1], run.sweep) for run in runs.values()} == {("mnist", sweep.id)}
    ended = {how: (run.state, run.summary["wbtune/outcome"]) for how, run in runs.items()}
    assert ended == {
        "hangs": ("finished", "stopped"),
        "ok": ("finished", "finished"),
        "worse": ("finished", "stopped"),
        "fails": ("failed", "failed"),
        "best": ("finished", "stopped"),
    }
    assert "exit code 3" in runs["fails"].summary["wbtune/error_message"]
    assert runs["ok"].config["model"] == {"width": 0.25}
    assert (runs["ok"].config["lr"], runs["ok"].config["epochs"]) == (5.0, 4)
    losses = {how: [row["loss"] for row in run.rows if "loss" in row] for how, run in runs.items()}
    assert losses["ok"] == [1.25, 1.125, 1 + 0.25 / 3, 1.0625]
    assert losses["worse"][:2] == [2.25, 2.125]
    assert len(losses["worse"]) < 4
    assert (losses["hangs"], losses["fails"]) == ([], [0.75])

    written = [path for path in (folder / "ray").rglob("*") if path.is_file()]
    assert not [path for path in written if TEST_KEY.encode() in path.read_bytes()]


@pytest.mark.slow
def test_offline(ray, folder, monkeypatch):
    """The run is on disk, in the project that was given, not in the program's own.

    Each row that has the metric is a result of Tune's, once.
    """
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "0")  # Tune's files have the results
    sweep = {**SWEEP, "parameters": {**SWEEP["parameters"], "how": {"value": "ok"}}}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep), encoding="utf-8")
    storage = ["--storage-path", str(folder / "ray"), "--name", "swept"]
    done = invoke("sweep.yaml", "-p", "mnist", *storage, "--mode", "offline")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("1 trials: 1 ended well\nbest: loss=1.0625 with ")
    runs = run_log.read_runs(folder / "ray" / "swept").values()
    (run,) = (run for run in runs if "how" in run.config)
    assert (run.project, run.group, run.summary["wbtune/outcome"]) == ("mnist", "swept", "finished")
    assert len(run.rows) == 8
    (file,) = (folder / "ray" / "swept").glob("*/result.json")
    told = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [one["loss"] for one in told] == [row["loss"] for row in run.rows if "loss" in row]
    assert [one["acc.top1"] for one in told] == [0, 1, 2, 3]


#: The first trial presses Ctrl-C when the second one has begun, too; both hang.
INTERRUPTS = """
import os, pathlib, signal, time
import wandb

run = wandb.init()
run.log({{"loss": run.config.lr}})
begun = pathlib.Path("begun")
if run.config.lr == 2:
    begun.touch()
else:
    while not begun.exists():
        time.sleep(0.1)
    os.kill({driver}, signal.SIGINT)
time.sleep(1000)
"""


@pytest.mark.slow
def test_interrupted_in_s3(ray, moto, folder):
    """Trials that Ctrl-C has stopped have not ended well, wherever the experiment is."""
    (folder / "train.py").write_text(INTERRUPTS.format(driver=os.getpid()), encoding="utf-8")
    sweep = {"program": "train.py", "method": "grid", "parameters": {"lr": {"values": [1, 2]}}}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep), encoding="utf-8")
    storage = ["--storage-path", f"s3://any:any@bucket/tune{moto[1]}", "--name", "swept"]
    done = invoke("sweep.yaml", "-p", "p", *storage, "--mode", "offline", "--json")
    assert done.exit_code == 1, done.output
    said = json.loads(done.stdout)
    assert (said["trials"], said["ended_well"], said["interrupted"]) == (2, 0, 2)
    assert said["folder"] == "s3://bucket/tune/swept"


REST = {"api_key": "sk-hidden", "clip": float("inf")}
SIMPLE = """
import wandb

with wandb.init() as run:
    run.log({"loss": run.config.lr})
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "run_cap", "rate", "trials"),
    [("random", 3, {"value": 0.5}, 1), ("grid", 1, {"values": [0.5, 0.75]}, 2)],
)
def test_one_sample(method, run_cap, rate, trials, ray, folder):
    """As many trials as the option says, not run_cap; for a grid, each combination once.

    The best is shown as in its run's config: secrets are masked, and JSON can hold it.
    """
    (folder / "train.py").write_text(SIMPLE, encoding="utf-8")
    parameters = {"lr": rate, **{name: {"value": one} for name, one in REST.items()}}
    sweep = {**SWEEP, "method": method, "run_cap": run_cap, "parameters": parameters}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep), encoding="utf-8")
    storage = ["--storage-path", str(folder / "ray"), "--name", "swept"]
    one = ["--num-samples", "1", "--mode", "offline", "--json"]
    done = invoke("sweep.yaml", "-p", "p", *storage, *one)
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["trials"] == trials
    shown = {"lr": 0.5, "api_key": "****", "clip": "Infinity"}
    assert said["best"] == {"metric": 0.5, "config": shown}
    assert "sk-hidden" not in done.output


@pytest.mark.parametrize(
    ("change", "args", "problem"),
    [
        ({"method": "random"}, (), "random has no end. Write run_cap: 20, say, or give --num-samp"),
        ({}, (), "no project. Give --project, or write project: into sweep.yaml"),
        ({"program": None}, ("-p", "p"), "it has no program. Write program: train.py, say."),
        ({"command": ["${pythn}"]}, ("-p", "p"), "there is no macro ${pythn}."),
        ({"metod": "grid"}, ("-p", "p"), "Did you mean"),
        ({}, ("--num-samples", "0"), "0 is not in the range x>=1"),
    ],
)
def test_wrong_use(change, args, problem, folder):
    """One line, before any Ray is started."""
    sweep = {name: value for name, value in (SWEEP | change).items() if value is not None}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep), encoding="utf-8")
    done = invoke("sweep.yaml", *args)
    assert (done.exit_code, done.stdout) == (2, "")
    assert problem in done.stderr


def test_disabled(folder, monkeypatch):
    """By the environment: nothing would be logged, and no trial could be compared."""
    monkeypatch.setattr(wandb_settings, "wandb_setting", {"mode": "disabled"}.get)
    done = invoke("sweep.yaml", "-p", "p")
    assert (done.exit_code, "Give --mode offline" in done.stderr) == (2, True)


def test_a_wandb_whose_logs_can_not_be_read(folder, monkeypatch):
    """No result would reach Tune, so that nothing could stop a trial early or be the best."""
    monkeypatch.setattr(wandb_records.RECORDS, "_trouble", "gone")
    done = invoke("sweep.yaml", "-p", "p")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "what a program logs can't be read with this wandb (gone)" in done.stderr


def test_no_file(folder):
    done = invoke("no.yaml", "-p", "p")
    assert done.exit_code == 2
    assert "no.yaml" in done.stderr
