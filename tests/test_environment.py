"""`system_metrics=True`: what a run of the driver says of its program and its trial's process."""

from __future__ import annotations

import json
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray import tune
from wandb.proto.wandb_internal_pb2 import Record

from wbtune import wandb_tuner
from wbtune._run.environment import command_line, masked
from wbtune._run.log_file import payloads

SECRET = "hunter2-s3cr3t"


def hungry(config):
    """Go on until its memory was measured: a slow machine opens the run late."""
    sys.held = b"x" * (400 * 2**20)  # as long as the process lives
    until = time.monotonic() + 60
    while time.monotonic() < until and max(memory(config["storage"])) < 400:
        tune.report({"loss": 1})
        time.sleep(0.5)


def records(storage):
    """All that was written of the only run."""
    found = [*storage.glob("e/wandb/offline-run-*/run-*.wandb")]
    return [Record.FromString(payload) for path in found for payload in payloads(path)]


def memory(storage):
    """What was measured of the trial's process, in MB."""
    items = [item for record in records(storage) for item in record.stats.item]
    found = [json.loads(item.value_json) for item in items if item.key == "proc.memory.rssMB"]
    return [0, *found]


def test_a_run_of_the_driver_has_what_a_trials_own_run_has(ray, tmp_path, monkeypatch):
    """Git, command line less its secrets, packages, machine; its trial's process is measured."""
    monkeypatch.setattr(
        sys, "argv", ["train.py", f"--api_key={SECRET}", "--token", SECRET, "--lr=1"]
    )
    results = wandb_tuner(
        hungry,
        {"storage": tmp_path},
        project="p",
        system_metrics=True,
        settings={"x_stats_sampling_interval": 0.5},
        run_config=tune.RunConfig(name="e", storage_path=str(tmp_path), verbose=0),
    ).fit()
    assert not results.errors
    (path,) = tmp_path.glob("e/wandb/offline-run-*/run-*.wandb")
    environments = [
        one.environment
        for one in records(tmp_path)
        if one.WhichOneof("record_type") == "environment"
    ]
    assert [*environments[0].args] == ["--api_key=****", "--token", "****", "--lr=1"]
    assert environments[0].program and environments[0].host and environments[0].python
    assert any(one.cpu_count for one in environments)
    assert max(memory(tmp_path)) > 400  # the trial's; the helper's has a quarter of that
    assert "wandb" in (path.parent / "files" / "requirements.txt").read_text()
    kept = [file for file in path.parent.rglob("*") if file.is_file()]
    assert not any(SECRET.encode() in file.read_bytes() for file in kept)


plain = st.text("abcxyz/.01", min_size=1, max_size=8)


@given(
    st.lists(plain), st.sampled_from(["api_key", "token", "db.password", "wandb-api-key"]), plain
)
def test_a_command_line_keeps_all_but_its_secrets(arguments, name, lr):
    """In each way to write one; what stands beside it is shown as it is."""
    for given_as in ([f"--{name}={SECRET}"], [f"--{name}", SECRET], [f"{name}={SECRET}"]):
        shown = masked([*arguments, *given_as, f"--lr={lr}"])
        assert SECRET not in " ".join(shown)
        assert shown[: len(arguments)] == arguments
        assert shown[-1] == f"--lr={lr}"
        assert len(shown) == len(arguments) + len(given_as) + 1


@pytest.mark.parametrize("argv", [[], ["-c"], ["train.py", "--lr", "1"]])
def test_there_is_always_a_program(argv, monkeypatch):
    """Whatever the driver was started by."""
    monkeypatch.setattr(sys, "argv", argv or [""])
    program, *arguments = command_line()
    assert program
    assert arguments == argv[1:]
