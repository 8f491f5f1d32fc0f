"""The driver is interrupted or killed: what is on disk is true, and a restore goes on with it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from crash_program import ITERATIONS, TRAINABLES
from wandb_server import TEST_KEY, WandbServer

from wbtune import restore_wandb_tuner
from wbtune._run import run_log

PROGRAM = Path(__file__).with_name("crash_program.py")
ENOUGH = 7


def start(folder, way, more=None):
    environment = {
        **os.environ,
        **(more or {}),
        "TUNE_GLOBAL_CHECKPOINT_S": "0.5",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "0",  # Tune's own copy of the results
    }
    with Path(folder, "run.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, str(PROGRAM), str(folder), way],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def experiment_in(folder):
    """The experiment's folder; each way's has a name of its own.

    Ray keeps what experiments of the same name and the same second write in one folder, also after
    they are restored.
    """
    return next(folder.glob("crash-*"), folder / "crash")


def logs(folder):
    found = run_log.read_runs(experiment_in(folder)).values()
    return {log.config.get("trial"): log for log in found}


def whole(folder):
    """The run for the whole experiment."""
    return logs(folder)[None]


def wait_until(condition, process, folder):
    deadline = time.monotonic() + 120
    while not condition():
        output = Path(folder, "run.log").read_text()
        assert process.poll() is None, output
        assert time.monotonic() < deadline, output
        time.sleep(0.1)


def reached_tune(folder):
    """How many results the loop has had of the trial that is not done, by Tune's own copy."""
    (path,) = experiment_in(folder).glob("*trial=1*/result.json")
    return len(path.read_text().splitlines())


def enough_rows(folder):
    found = logs(folder)
    done = 0 in found and found[0].exit_code == 0
    return done and 1 in found and len(found[1].rows) >= ENOUGH and is_noted(folder)


def is_noted(folder):
    """Tune's own state, by which it restores, says that the first trial is done."""
    states = sorted(experiment_in(folder).glob("experiment_state-*.json"))
    return bool(states) and r"\"status\": \"TERMINATED\"" in states[-1].read_text()


def family(process):
    return psutil.Process(process.pid).children(recursive=True)


def nobody_left(processes):
    """Ray ends its own in its own time; ours have to end as well."""
    ours = [process for process in processes if is_ours(process)]
    _, left = psutil.wait_procs(ours, timeout=30)
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return not left


def is_ours(process):
    try:
        return "wandb-core" in process.name() or "wbtune._helper" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


# SIGTERM ends the driver and its Ray at once: only the helper is left to say so.
INTERRUPTS = [*((way, "SIGINT") for way in TRAINABLES), ("callback", "SIGTERM")]


def begin(cases, tmp_path, environment=None):
    """Start one driver for each case, all at once, and wait until each is in the middle."""
    folders = {case: tmp_path / "-".join(case) for case in cases}
    for folder in folders.values():
        folder.mkdir()
    drivers = {case: start(folder, case[0], environment) for case, folder in folders.items()}
    for case, driver in drivers.items():
        wait_until(lambda folder=folders[case]: enough_rows(folder), driver, folders[case])
    children = {case: family(driver) for case, driver in drivers.items()}
    return folders, drivers, children


def test_interrupt(tmp_path):
    """Ctrl-C and SIGTERM: `fit` ends soon, the unfinished runs say so, no result is missing."""
    with WandbServer(keys={TEST_KEY}) as server:
        interrupt(tmp_path, server.env(tmp_path / "client"))
        assert [sweep.state for sweep in server.sweeps] == ["FINISHED"] * len(INTERRUPTS)
        runs = [run for run in server.runs.values() if run.job_type == "sweep"]
        assert [run.exit_code for run in runs] == [130] * len(INTERRUPTS)
        assert server.refusals == []


def interrupt(tmp_path, environment):
    folders, drivers, children = begin(INTERRUPTS, tmp_path, environment)
    begun = time.monotonic()
    for case, driver in drivers.items():
        driver.send_signal(signal.Signals[case[1]])
    for case, driver in drivers.items():
        folder = folders[case]
        driver.wait(60)
        took = time.monotonic() - begun
        assert nobody_left(children[case])

        output = Path(folder, "run.log").read_text()
        if case[1] == "SIGINT":
            assert "fit returned" in output
            assert took < 15 + 10  # 15 s for `fit`; the rest is `ray.shutdown`
        assert "wandb:" not in output
        found = logs(folder)
        assert found[0].exit_code == 0
        log = found[1]
        assert log.exit_code == 130
        experiment = whole(folder)
        assert (experiment.exit_code, experiment.name) == (130, f"crash-{case[0]}")
        assert experiment.summary["wbtune/outcome"] == "interrupted"
        if case[1] == "SIGINT":
            assert Path(experiment_in(folder), "overview.html").exists()
            assert experiment.summary["trials/interrupted"] == 1
        if case[1] == "SIGINT":  # each trial has heard of it: nobody has to correct it
            assert len(log.paths) == 1
        assert log.summary["wbtune/outcome"] == "interrupted"
        assert "interrupted" in log.tags
        seen = [row["i"] for row in log.rows]
        assert seen == list(range(1, len(seen) + 1))
        # At SIGTERM the driver's last messages may not have left it.
        assert len(seen) >= reached_tune(folder) - (case[1] == "SIGTERM") >= ENOUGH - 1


def test_killed_driver_and_restore(ray, tmp_path):
    """SIGKILL the driver, restore: the same runs, no row missing, none twice, all finished."""
    folders, drivers, children = begin([(way,) for way in TRAINABLES], tmp_path)
    for driver in drivers.values():
        driver.kill()
        driver.wait()
    for case in drivers:
        assert nobody_left(children[case])
    before = {case: logs(folder) for case, folder in folders.items()}
    for case, folder in folders.items():
        (folder / "restored").touch()
        results = restore_wandb_tuner(str(experiment_in(folder)), TRAINABLES[case[0]]).fit()
        assert not results.errors
        after = logs(folder)
        assert {log.id for log in after.values()} == {log.id for log in before[case].values()}
        experiment = whole(folder)
        assert (experiment.exit_code, experiment.summary["trials/finished"]) == (0, 2)
        assert experiment.summary["best/trial"] == after[1].id
        assert {log.id for log in after.values() if "best" in log.tags} == {after[1].id}
        assert Path(experiment_in(folder), "overview.html").exists()
        # The trial that was done stays as it was.
        assert after[0].paths == before[case][0].paths
        for trial in (0, 1):
            log = after[trial]
            assert (log.exit_code, log.summary["wbtune/outcome"]) == (0, "finished")
            seen = [row["i"] for row in log.rows]
            assert set(seen) == set(range(1, ITERATIONS + 1))
            marks = [(row["i"], row["time_total_s"]) for row in log.rows]
            assert len(set(marks)) == len(marks)
            steps = [row["_step"] for row in log.rows]
            assert steps == sorted(set(steps))
