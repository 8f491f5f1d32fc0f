"""wandb-core is killed again and again: a guarded run has every row, once, in order."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from wbtune import runlog

PROGRAM = """
import psutil, sys
import wandb
from wbtune import runs
from wbtune.outcomes import FINISHED

folder, how, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
spec = lambda name: runs.RunSpec(
    init={"project": "p", "id": name, "dir": folder, "resume": "allow"}, settings=runs._SETTINGS
)
elsewhere = count > 1
opened = [runs.open_run(spec(f"run{k}"), for_trial_elsewhere=elsewhere) for k in range(count)]
held = list(opened)
n = 0

def cores():
    children = psutil.Process().children()
    return [p for p in children if "core" in p.name() and p.status() != psutil.STATUS_ZOMBIE]

def log():
    global n
    for run in opened:
        if how == "implicit":
            run.log({"x": n})
        elif how == "explicit":
            run.log({"x": n}, step=2 * n)
        else:
            run.log({"x": n}, commit=False)
            run.log({"y": n}, commit=True)
    n += 1

for kill in range(3):
    for _ in range(40):
        log()
    [core] = cores()
    core.kill()
    psutil.wait_procs([core])
    while not cores():
        log()
log()
[core] = cores()
core.kill()
psutil.wait_procs([core])
assert all(a is b for a, b in zip(held, opened))
assert wandb.run is None or wandb.run.__dict__ is opened[0].__dict__
assert (wandb.run is None) == elsewhere
for run in opened:
    runs.close_run(run, FINISHED)
runs.end_core()
assert not cores()
print(n)
"""


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("how", ["implicit", "explicit", "in parts"])
def test_core_killed(how, count, tmp_path):
    """Every row once and in order, with steps or without, for one run or several in a process."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), how, str(count)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "WANDB_MODE": "offline"},
    )
    assert done.returncode == 0, done.stderr
    n = int(done.stdout.split()[-1])
    logs = runlog.of_experiment(tmp_path)
    assert len(logs) == count
    for log in logs.values():
        assert [row["x"] for row in log.rows] == list(range(n))
        if how == "in parts":
            assert [row["y"] for row in log.rows] == list(range(n))
        steps = [row["_step"] for row in log.rows]
        assert steps == sorted(set(steps))
        assert log.exit_code == 0
    assert "goes on in a new one" in done.stderr
    assert "Traceback" not in done.stderr
