"""A run that was opened again: after ``wandb sync`` of all its segments, nothing is missing."""

from __future__ import annotations

import subprocess
import sys

from strategies_functions import clean_env, program
from wandb_server import WandbServer

from wbtune._run import run_files, run_log

#: Opens one run four times: it fails; it is tried again, and its core dies; a checkpoint is
#: uploaded after its end; and its end is corrected.
PROGRAM = """
import os, sys, time, psutil, signal, threading
from wbtune._run import closing
from wbtune._run import opening
from wbtune._run import run_spec
from wbtune._place.identity import Identity
from wbtune._data.options import RunOptions
from wbtune._data.outcomes import FINISHED, Kind, Outcome

def spec(**given):
    options = RunOptions(project="p", group="g", init_kwargs={"mode": "offline", **given})
    who = Identity("a", "trial a", "experiment", sys.argv[1], experiment_key="123456")
    return run_spec.spec(options, who, {"lr": 1})

def opened(**given):
    return opening.open_run(spec(**given), for_trial_elsewhere=True)

first = opened(tags=["declared"], notes="declared")
first.define_metric("loss", summary="min")
first.define_metric("acc*", summary="max")
first.log({"loss": 1, "acc_a": 9, "only": "early", "deep": {"x": 1, "y": 2}})
first.log({"loss": 5, "acc_a": 3})
first.summary["mine"] = {"a": {"b": 1}}
first.summary.update({"gone": 1, "dotted.key": 2})
del first.summary["gone"]
first.tags = (*first.tags, "added")
first.name, first.notes = "renamed", "changed"
closing.close_run(first, Outcome(Kind.FAILED, error_type="Boom"), {"wbtune/dropped": 0})

second = opened(tags=["declared"], notes="declared")
second.define_metric("loss", summary="min")
second.define_metric("acc*", summary="max")
second.log({"loss": 7, "acc_a": 1, "deep": {"x": 3}})
time.sleep(float(sys.argv[2]))  # until that is on disk
for core in psutil.Process().children(recursive=True):
    if "wandb-core" in " ".join(core.cmdline()):
        core.kill()
        core.wait()
second.log({"loss": 8, "last": True})
second.summary["theirs"] = [1, 2]
closing.close_run(second, FINISHED, {"wbtune/dropped": 0})

reopen = opened()
closing.close_reopened(reopen, 0)

corrected = opened()
closing.close_run(corrected, Outcome(Kind.INTERRUPTED, "Ctrl-C"))
closing.end_core()
"""


def test_the_last_segment_says_it_all(tmp_path):
    """Of summaries, tags, name and notes the last sent counts: it has those of all before it."""
    environment = clean_env(tmp_path)
    program(environment, tmp_path, "-c", PROGRAM, str(tmp_path), "0.8")
    parts = run_files.logs(tmp_path, "a")
    assert len(parts) == 5  # one for each time that it was opened, and for the new core
    with WandbServer() as server:
        subprocess.run(
            [sys.executable, "-m", "wandb", "sync", *(str(part.parent) for part in parts)],
            env=environment | server.env(tmp_path / "home"),
            check=True,
            capture_output=True,
            timeout=120,
        )
        [run] = server.runs.values()
    assert [row["loss"] for row in run.rows] == [1, 5, 7, 8]
    summary = {key: run.summary[key] for key in run.summary if not key.startswith("_")}
    assert summary == {
        "loss": {"min": 1},
        "acc_a": {"max": 9},
        "only": "early",
        "deep": {"x": 3, "y": 2},
        "last": True,
        "mine": {"a": {"b": 1}},
        "dotted.key": 2,
        "theirs": [1, 2],
        "wbtune/outcome": "interrupted",
        "wbtune/reason": "Ctrl-C",
        "wbtune/dropped": 0,
    }
    assert (run.config, run.exit_code) == ({"lr": 1}, 130)
    assert (set(run.tags), run.notes) == ({"declared", "added", "interrupted"}, "changed")
    assert run_log.read_runs(tmp_path)["a"].name == "renamed"
    reopened = run_log.read(parts[3])
    assert (reopened.exit_code, reopened.summary["wbtune/outcome"]) == (0, "finished")
