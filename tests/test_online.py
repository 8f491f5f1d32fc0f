"""wbtune against a W&B server: what arrives there, through outages, and who may know the key.

The server is a stand-in (tests/wandb_server.py), what talks to it is the real wandb-core.
"""

# Over 250 lines: one server and one way to read it for everything that is online.

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest
import wandb
from fakes import FakeTrial
from ray import tune
from wandb_server import TEST_KEY, Fault, WandbServer, nobody_listens

from wbtune import (
    CredentialsError,
    ServerUnreachableError,
    WandbLoggerCallback,
    WandbMixin,
    setup_wandb,
    wandb_trial,
    wandb_tuner,
)
from wbtune._data.checkpoint import Objective, SavedCheckpoint
from wbtune._data.options import RunOptions
from wbtune._data.outcomes import FINISHED, Kind, Outcome
from wbtune._data.routing import Router
from wbtune._data.secret import Secret
from wbtune._driver.experiment import Experiment
from wbtune._driver.writer import Writer
from wbtune._helper.backend import AT_ONCE
from wbtune._helper.messages import Reopen
from wbtune._place.credentials import Login
from wbtune._place.identity import Identity
from wbtune._place.server import Server
from wbtune._place.transport import LARGEST
from wbtune._run import run_files, run_log
from wbtune._run.run_spec import EXPERIMENT_KEY, spec

pytestmark = pytest.mark.usefixtures("measured")

#: wandb-core's waits are made for the internet; cut to whole seconds, and 0 is its default.
QUICK = dict.fromkeys(
    ["x_file_stream_transmit_interval"]
    + [
        f"x_{kind}_retry_wait_{end}_seconds"
        for kind in ("file_stream", "file_transfer", "graphql")
        for end in ("min", "max")
    ],
    1,
)
HANGS_S = 120
OTHER_KEY = "f" * 40
#: wandb's client asks its core every 15 s whether somebody pressed "Stop run".
STOP_S = 17


@pytest.fixture
def server():
    with WandbServer(keys={TEST_KEY}) as server:
        yield server


def online(server, **more):
    """The options of a way that logs to this server."""
    settings = {**QUICK, "base_url": server.url, **more.pop("settings", {})}
    return {"project": "p", "mode": "online", "settings": settings, **more}


def rows(run, name="i"):
    return [row[name] for row in run.rows if name in row]


def run_config(folder, name, **more):
    return tune.RunConfig(name=name, storage_path=str(folder), verbose=0, **more)


# --- the driver's writer, without Ray -------------------------------------------------------


class Driver:
    """A `Writer` whose runs go to the server."""

    def __init__(self, server, folder, mark="ours"):
        self.server, self.folder, self.mark = server, folder, mark
        self.secret = Secret(TEST_KEY)
        self.writer = Writer()
        self.writer.launch(folder / "wandb" / "wbtune.log")

    def start(self, trial, objective=None, **settings):
        options = RunOptions(
            project="p",
            upload_timeout=settings.pop("upload_timeout", HANGS_S),
            init_kwargs={
                "mode": "online",
                "settings": {**QUICK, "base_url": self.server.url, **settings},
            },
        )
        who = Identity(trial, f"trial {trial}", "sweep", str(self.folder), experiment_key=self.mark)
        made = spec(options, who, {"lr": 0.1})
        self.writer.start(trial, made._replace(objective=objective), Router(), self.secret)

    def log(self, trial, *numbers):
        for i in numbers:
            self.writer.log(trial, {"i": i, "loss": abs(5 - i), "training_iteration": i})

    def close(self, timeout=HANGS_S):
        self.writer.upload_rest(str(self.folder), self.server.url, self.secret, timeout)
        return self.writer.close(timeout)


def results_of(trial, folder, rows):
    """Give a trial the results that Tune's logger has written."""
    folder.mkdir(parents=True)
    trial.path = str(folder)
    (folder / "result.json").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


@pytest.mark.parametrize("excluded", [(), ("training_iteration", "time_total_s")])
def test_an_experiment_that_is_restored_where_no_log_is(excluded, server, tmp_path):
    """In a new Ray, with a remote storage: only the server knows what the run has."""
    rows = [{"training_iteration": n, "time_total_s": n / 8, "i": n} for n in range(1, 7)]
    options = RunOptions(
        project="p",
        excludes=excluded,
        init_kwargs={"mode": "online", "settings": {**QUICK, "base_url": server.url}},
    )
    login, state = Login(Secret(TEST_KEY), {"base_url": server.url}), None
    for folder, new in (("first", rows[:4]), ("second", rows[5:])):
        watching = Experiment("w", options, login, restored=state)
        trial = FakeTrial("a", tmp_path / folder)
        results_of(trial, tmp_path / folder / "a", rows)
        watching.start(trial)
        for row in new:
            watching.result(trial, row)
        watching.end(trial, failed=False)
        state = watching.state()
        watching.close([trial])
    (run,) = server.runs.values()
    assert [row["i"] for row in run.rows if "i" in row] == [1, 2, 3, 4, 5, 6]


@pytest.fixture
def driver(server, tmp_path):
    driver = Driver(server, tmp_path)
    yield driver
    driver.writer.close(1)


def test_a_run_arrives(driver, server, caplog):
    """Rows, config, names, outcome; the best value is the summary's, over Tune's iteration."""
    driver.start("a", objective=Objective("loss", "min"))
    driver.log("a", *range(1, 9))
    driver.writer.end("a", Outcome(Kind.FAILED))
    assert driver.close()
    run = server.runs["entity", "p", "a"]
    assert rows(run) == list(range(1, 9))
    assert (run.name, run.group, run.state, run.tags) == ("trial a", "sweep", "failed", ["failed"])
    assert run.config == {"lr": 0.1, EXPERIMENT_KEY: "ours"}
    assert run.summary["loss"] == {"min": 0}
    assert run.rows[-1]["loss"] == 3
    axes = run.raw_config["_wandb"]["value"]["m"]
    assert any("training_iteration" in str(axis) for axis in axes)
    assert server.refusals == []
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("when", "fault"),
    [
        ("from the start", {"status": 500, "times": 4}),
        ("in the middle", {"status": 429, "times": 4}),
        ("in the middle", {"delay": 1.0, "times": 6}),
    ],
    ids=["500", "429", "slow"],
)
def test_a_server_that_is_ill_for_a_while(when, fault, driver, server, caplog):
    """Everything arrives, and nothing is said of it."""
    fault = Fault(**fault)
    if when == "from the start":
        server.order(fault)
    driver.start("a")
    driver.log("a", 1, 2)
    if when == "in the middle":
        server.wait_for(lambda: rows_of(server, "a") == [1, 2], HANGS_S)
        server.order(fault)
    driver.log("a", 3, 4)
    driver.writer.end("a", FINISHED)
    assert driver.close()
    assert fault.hits
    assert rows_of(server, "a") == [1, 2, 3, 4]
    assert server.runs["entity", "p", "a"].state == "finished"
    assert caplog.messages == []


def rows_of(server, trial):
    run = server.runs.get(("entity", "p", trial))
    return [] if run is None else rows(run)


def test_a_server_that_comes_back(driver, server, tmp_path, caplog):
    """Runs that began while it was away are kept on disk, and uploaded when it is back."""
    driver.start("before")
    driver.log("before", 1, 2)
    server.wait_for(lambda: rows_of(server, "before") == [1, 2], HANGS_S)
    with server.away():
        driver.start("meanwhile")
        driver.log("meanwhile", 1, 2, 3)
        driver.log("before", 3, 4)
        wait_until(lambda: run_files.not_uploaded(tmp_path))
        driver.writer.end("meanwhile", FINISHED)
    driver.writer.end("before", FINISHED)
    assert driver.close()
    assert rows_of(server, "before") == [1, 2, 3, 4]
    assert rows_of(server, "meanwhile") == [1, 2, 3]
    assert {run.state for run in server.runs.values()} == {"finished"}
    assert run_files.not_uploaded(tmp_path) == []
    assert sum("kept on disk" in text for text in caplog.messages) == 1


def wait_until(condition):
    deadline = time.monotonic() + HANGS_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Counting(WandbServer):
    """Knows how many requests that open a run it had to answer at the same time."""

    now = most = 0
    counting = threading.Lock()

    def handle(self, request):
        opens = request.operation in {"UpsertBucket", "RunResumeStatus"}
        with self.counting:
            self.now += opens
            self.most = max(self.most, self.now)
        try:
            return super().handle(request)
        finally:
            with self.counting:
                self.now -= opens


def test_many_runs_at_once(tmp_path):
    """They are opened by a few at a time, however many trials start."""
    with Counting(keys={TEST_KEY}) as server:
        server.order(Fault(delay=0.05, match="UpsertBucket"))
        driver = Driver(server, tmp_path)
        for n in range(200):
            driver.start(f"t{n}")
            driver.log(f"t{n}", n)
            driver.writer.end(f"t{n}", FINISHED)
        assert driver.close(180)
        assert [rows_of(server, f"t{n}") for n in range(200)] == [[n] for n in range(200)]
        assert 1 < server.most <= 2 * AT_ONCE


def test_two_experiments_with_the_same_trial_ids(server, tmp_path, caplog):
    """The second never writes into the first's run; a restored one goes on in its own."""
    for mark, numbers in (("one", [1, 2]), ("two", [7, 8]), ("two", [9]), ("one", [3])):
        driver = Driver(server, tmp_path / mark, mark)
        driver.start("a")
        driver.log("a", *numbers)
        driver.writer.end("a", FINISHED)
        assert driver.close()
    assert rows_of(server, "a") == [1, 2, 3]
    assert rows_of(server, "a-two") == [7, 8, 9]
    assert sum("belongs to another experiment" in text for text in caplog.messages) == 2
    assert server.refusals == []


def test_the_key_is_in_no_environment(driver, server, monkeypatch):
    """Neither in the helper's nor in its core's, nor in their arguments."""
    monkeypatch.setenv("WANDB_API_KEY", TEST_KEY)
    other = Driver(server, driver.folder / "other")
    other.start("a")
    other.log("a", 1)
    server.wait_for(lambda: rows_of(server, "a") == [1], HANGS_S)
    helper = psutil.Process(other.writer._supervisor.helper.pid)  # nobody else has it
    family = [helper, *helper.children(recursive=True)]
    assert len(family) >= 2
    for process in family:
        assert TEST_KEY not in str(process.environ())
        assert TEST_KEY not in str(process.cmdline())
    assert other.close()
    assert not any(request.contains(TEST_KEY) for request in server.requests)


def test_a_helper_that_is_killed_online(driver, server, tmp_path):
    """What it had not sent arrives with what came later: each row once, in order, and said.

    And the checkpoint that it was uploading is uploaded by the next one.
    """
    driver.start("a")
    driver.log("a", *range(10))
    server.wait_for(lambda: rows_of(server, "a") == list(range(10)), HANGS_S)
    copy = tmp_path / ".checkpoint-1"
    copy.mkdir()
    (copy / "model").write_text("weights")
    saved = SavedCheckpoint("checkpoint_a", "checkpoint_000000", str(copy))
    fault = server.order(Fault(cut="before", match="file_stream"))
    slow = server.order(Fault(status=500, match="/storage/artifact"))
    reopen = Reopen(
        spec(RunOptions(project="p"), Identity("a", "a", "sweep", str(tmp_path)), {}), 0
    )
    driver.log("a", *range(10, 20))
    driver.writer.upload("a", saved, lambda: reopen, driver.secret)
    wait_for(lambda: slow.hits and len(run_log.read_runs(tmp_path)["a"].rows) == 20)
    wait_for(lambda: not driver.writer._unacknowledged.runs["a"].sent)
    psutil.Process(driver.writer._supervisor.helper.pid).kill()
    wait_for(lambda: driver.writer._supervisor.started == 2)
    server.heal(fault, slow)
    driver.log("a", *range(20, 30))
    driver.writer.end("a", FINISHED)
    assert driver.close()
    run = server.runs["entity", "p", "a"]
    assert rows(run) == list(range(30))
    assert (run.state, run.summary["i"], run.summary["wbtune/outcome"]) == (
        "finished",
        29,
        "finished",
    )
    committed = [one for one in server.artifacts if one.committed]
    assert b"weights" in [file for one in committed for file in one.files.values()]
    assert not copy.exists()
    assert run_files.not_uploaded(tmp_path) == []


IMPATIENT = """
import sys
from pathlib import Path
import ray
from ray import tune
from wbtune import wandb_tuner

class Waits(tune.Callback):
    def on_experiment_end(self, trials, **info):
        Path(sys.argv[1], "waits").touch()

def train(config):
    for i in range(5):
        tune.report({"i": i})

ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
wandb_tuner(
    train, project="p", mode="online", settings={"base_url": sys.argv[2]}, upload_timeout=1800,
    run_config=tune.RunConfig(
        name="e", storage_path=sys.argv[1], verbose=0, callbacks=[Waits()]
    ),
).fit()
print("fit returned")
"""


def test_ctrl_c_while_uploads_are_waited_for(server, tmp_path):
    """It is heard at once: everything is on disk, and the last line is the command for it."""
    server.order(Fault(status=500, match="file_stream"))
    env = {**os.environ, **server.env(tmp_path / "home"), "WANDB_MODE": "online"}
    command = [sys.executable, "-c", IMPATIENT, str(tmp_path), server.url]
    log = tmp_path / "output"
    with log.open("wb") as out:
        driver = subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: (tmp_path / "waits").exists() or driver.poll() is not None)
        wait_for(lambda: set(run_files.ends(tmp_path / "e").values()) == {0})  # closed, not sent
        driver.send_signal(signal.SIGINT)
        begun = time.monotonic()
        wait_for(lambda: "fit returned" in log.read_text() or driver.poll() is not None)
        took = time.monotonic() - begun
        driver.wait(HANGS_S)
    finally:
        driver.kill()
    output = log.read_text()
    assert "fit returned" in output, output
    assert took < 20
    (run,) = run_log.read_runs(tmp_path / "e").values()
    assert [row["i"] for row in run.rows] == list(range(5))
    folders = {str(path) for path in run_files.not_uploaded(tmp_path / "e")}
    (line,) = (line for line in output.splitlines() if "send it by" in line)
    assert "--include-online" in line and folders and folders <= set(line.split())


def wait_for(condition):
    deadline = time.monotonic() + HANGS_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


# --- sweeps ---------------------------------------------------------------------------------


def reports(config):
    for i in range(1, config["rows"] + 1):
        wait_for_the_test(config, i)
        tune.report({"i": i, "loss": abs(5 - i) + config["lr"]})


@wandb_trial
def decorated(config, run):
    assert run is wandb.run
    reports(config)


class Mixed(WandbMixin, tune.Trainable):
    def setup(self, config):
        self.config, self.i = config, 0

    def step(self):
        self.i += 1
        wait_for_the_test(self.config, self.i)
        return {"i": self.i, "loss": abs(5 - self.i), "done": self.i >= self.config["rows"]}

    def save_checkpoint(self, checkpoint_dir):
        pass


def wait_for_the_test(config, i):
    """From the third row on, until the test has done its part."""
    if config.get("go") and i >= 3:
        Path(config["go"]).with_name("waits").touch()
        deadline = time.monotonic() + HANGS_S
        while not Path(config["go"]).exists() and time.monotonic() < deadline:
            time.sleep(0.02)


def with_setup(config):
    run = setup_wandb(config, project="p", mode="online", settings=config["wandb_settings"])
    for i in range(1, config["rows"] + 1):
        run.log({"i": i})
        tune.report({"loss": i})


WAYS = {"wandb_trial": decorated, "WandbMixin": Mixed, "wandb_tuner": reports}


@pytest.mark.parametrize("way", WAYS)
def test_a_sweep(way, ray, server, tmp_path, capfd, printed):
    """The key is an argument on the driver alone, and the trials' runs arrive with it."""
    results = wandb_tuner(
        WAYS[way],
        param_space={"rows": 6, "lr": tune.grid_search([1, 2]), "db": {"password": "hunter2"}},
        tune_config=tune.TuneConfig(metric="loss", mode="min"),
        run_config=run_config(tmp_path, "sweep"),
        api_key=TEST_KEY,
        **online(server, entity="team"),
    ).fit()
    assert not results.errors
    assert len(server.runs) == 2
    for (entity, _, _), run in server.runs.items():
        assert (entity, run.group, run.state) == ("team", "sweep", "finished")
        assert rows(run) == [1, 2, 3, 4, 5, 6]
        assert run.config["db"] == {"password": "****"}
        assert run.summary["loss"] == {"min": min(row["loss"] for row in run.rows)}
    assert server.refusals == []
    assert not any(request.contains(TEST_KEY) for request in server.requests)
    captured = capfd.readouterr()
    assert TEST_KEY not in captured.out + captured.err + printed(tmp_path / "sweep")
    project, best = f"{server.url}/team/p", results.get_best_result()
    start = f"wbtune: project {project} group {project}/groups/sweep/workspace"
    assert captured.out.count(start) == captured.out.count("wbtune: best trial ") == 1
    assert (
        f"(loss={best.metrics['loss']}): {project}/runs/{best.metrics['trial_id']}\n"
        in captured.out
    )
    assert found_in(tmp_path, TEST_KEY) == []


def found_in(folder, text):
    """The files below a folder that hold a text."""
    files = (path for path in Path(folder).rglob("*") if path.is_file())
    return [path for path in files if text.encode() in path.read_bytes()]


def test_setup_wandb_where_only_the_driver_is_logged_in(ray, server, tmp_path):
    """The callback hands the login over to `setup_wandb`, and leaves it the run."""
    tuner = tune.Tuner(
        with_setup,
        param_space={"rows": 4, "wandb_settings": QUICK},
        run_config=run_config(
            tmp_path,
            "handed",
            callbacks=[WandbLoggerCallback(api_key=TEST_KEY, **online(server))],
        ),
    )
    assert not tuner.fit().errors
    (run,) = server.runs.values()
    assert (rows(run), run.state) == ([1, 2, 3, 4], "finished")


def test_no_server(ray, tmp_path):
    """Away at the start: an error within `init_timeout`, with the cure, before any trial."""
    with nobody_listens() as url:
        tuner = wandb_tuner(
            reports,
            param_space={"rows": 1, "lr": 0},
            run_config=run_config(tmp_path, "away"),
            project="p",
            mode="online",
            api_key=TEST_KEY,
            settings={"base_url": url, "init_timeout": 2},
        )
        began = time.monotonic()
        with pytest.raises(ServerUnreachableError, match='mode="offline"'):
            tuner.fit()
        assert time.monotonic() - began < 10
    assert not list(tmp_path.rglob("*run-*"))


def test_a_key_that_the_server_refuses(ray, server, tmp_path):
    """The driver says so, with the cures and without the key."""
    tuner = wandb_tuner(
        reports,
        param_space={"rows": 1, "lr": 0},
        run_config=run_config(tmp_path, "refused"),
        api_key=OTHER_KEY,
        **online(server),
    )
    with pytest.raises(CredentialsError, match="wandb login") as caught:
        tuner.fit()
    assert OTHER_KEY not in str(caught.value)
    assert server.runs == {}


@pytest.mark.parametrize("way", ["wandb_trial", "wandb_tuner"])
def test_an_outage(way, ray, server, tmp_path, capfd):
    """The sweep goes on; the last line says how to send what is left, and that does it."""
    go = tmp_path / "go"
    tuner = wandb_tuner(
        WAYS[way],
        param_space={"rows": 6, "lr": 0, "go": str(go)},
        run_config=run_config(tmp_path, "outage"),
        api_key=TEST_KEY,
        upload_timeout=3,
        **online(server),
    )
    # `fit` wants the main thread for its signals only; here nobody sends one.
    sweep = threads_result(tuner.fit)
    wait_until((tmp_path / "waits").exists)
    server.leave()
    began = time.monotonic()
    go.touch()
    results = sweep()
    assert time.monotonic() - began < 30
    server.come_back()
    assert not results.errors
    (command,) = [
        line.partition("send it by: ")[2]
        for line in capfd.readouterr().out.splitlines()
        if "send it by: " in line
    ]
    server_is, *sync = shlex.split(command)
    assert server_is == f"WANDB_BASE_URL={server.url}"  # not that of wandb's own settings
    assert sync[:3] == ["wandb", "sync", "--include-online"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    subprocess.run(
        [sys.executable, "-m", *sync],
        env=environment | server.env(tmp_path / "home"),
        check=True,
        capture_output=True,
    )
    (run,) = server.runs.values()
    assert (rows(run), run.state) == ([1, 2, 3, 4, 5, 6], "finished")


def test_the_stop_button(ray, tmp_path):
    """Pressing it ends that trial as stopped, and only that one; at each way."""
    with contextlib.ExitStack() as stack:
        pressed = [press_for_one_of_two(way, tmp_path / way, stack) for way in WAYS]
        threading.Event().wait(STOP_S)
        for way in WAYS:
            (tmp_path / way / "go").touch()
        for server, key, sweep in pressed:
            assert not sweep().errors
            stopped = server.runs.pop(key)
            (other,) = server.runs.values()
            assert len(rows(stopped)) < 60
            assert (stopped.state, stopped.tags) == ("finished", ["stopped"])
            assert stopped.summary["wbtune/outcome"] == "stopped"
            assert "Stop run" in stopped.summary["wbtune/reason"]
            assert len(rows(other)) == 60
            assert other.summary["wbtune/outcome"] == "finished"


def press_for_one_of_two(way, folder, stack):
    """Start a sweep with a server of its own; the next begins when this one has begun."""
    folder.mkdir()
    server = stack.enter_context(WandbServer(keys={TEST_KEY}))
    tuner = wandb_tuner(
        tune.with_resources(WAYS[way], {"cpu": 0.5}),
        param_space={"rows": 60, "lr": tune.grid_search([1, 2]), "go": str(folder / "go")},
        run_config=run_config(folder, f"stop-{way}"),
        api_key=TEST_KEY,
        **online(server),
    )
    sweep = threads_result(tuner.fit)

    def is_first(run):
        return run.config.get("lr") == 1

    server.wait_for(lambda: any(map(is_first, server.runs.values())), HANGS_S)
    key = next(key for key, run in server.runs.items() if is_first(run))
    server.stop_run(key)
    return server, key, sweep


def threads_result(work):
    """Run it in a thread; what this returns waits for it."""
    done = []
    thread = threading.Thread(target=lambda: done.append(work()))
    thread.start()

    def result():
        thread.join(HANGS_S)
        return done[0]

    return result


class LikeLightning:
    """What Lightning's ``WandbLogger`` does with W&B, in its order."""

    def __init__(self):
        self.run = wandb.run if wandb.run is not None else wandb.init(reinit=True)
        self.run.define_metric("trainer/global_step")
        self.run.define_metric("*", step_metric="trainer/global_step", step_sync=True)

    def log(self, metrics, step):
        self.run.log({**metrics, "trainer/global_step": step})


class LikeHuggingFace:
    """What transformers' ``WandbCallback`` does with W&B, in its order."""

    def __init__(self):
        if wandb.run is None:
            wandb.init(project="huggingface")
        wandb.config.update({"hidden_size": 8}, allow_val_change=True)
        wandb.define_metric("train/global_step")
        wandb.define_metric("*", step_metric="train/global_step", step_sync=True)

    def log(self, metrics, step):
        wandb.log({**metrics, "train/global_step": step})


@wandb_trial(project="frameworks", mode="offline")
def with_framework(config):
    logger = {"lightning": LikeLightning, "transformers": LikeHuggingFace}[config["framework"]]()
    for step in range(5):
        logger.log({"loss": 1 / (step + 1)}, step)
        tune.report({"loss": 1 / (step + 1)})
    if config["framework"] == "transformers":
        wandb.finish()  # as its callback does when the training ends


def test_frameworks_write_into_the_trials_run(ray, tmp_path):
    """A logger that looks for the global `wandb.run` finds the trial's."""
    results = tune.Tuner(
        with_framework,
        param_space={"framework": tune.grid_search(["lightning", "transformers"])},
        run_config=run_config(tmp_path, "frameworks"),
    ).fit()
    assert not results.errors
    logs = {
        log.config["framework"]: log for log in run_log.read_runs(tmp_path / "frameworks").values()
    }
    assert set(logs) == {"lightning", "transformers"}
    for log in logs.values():
        assert len([row for row in log.rows if "loss" in row]) == 5
        assert (log.exit_code, log.project) == (0, "frameworks")
    assert logs["transformers"].config["hidden_size"] == 8


def test_no_log_of_ours_names_the_key(server, tmp_path, caplog):
    """Not even at the level for debugging."""
    caplog.set_level(logging.DEBUG)
    driver = Driver(server, tmp_path)
    driver.start("a")
    driver.log("a", 1)
    driver.writer.end("a", FINISHED)
    assert driver.close()
    assert TEST_KEY not in caplog.text
    assert found_in(tmp_path, TEST_KEY) == []


@pytest.fixture
def short_path():
    """A folder for Ray, whose sockets need short paths."""
    with tempfile.TemporaryDirectory(prefix="k") as folder:
        yield Path(folder)


PASSWORD = "hunter2-hunter2"


def test_every_way_to_give_a_key(short_path):
    """It reaches the trial whose node knows none, and is nowhere else: no file, no process."""
    folder = short_path
    letters = {"argument": "a", "file": "b", "environment": "c", "netrc": "d", "hook": "e"}
    with WandbServer(keys={letter * 40 for letter in letters.values()}) as server:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
        url = server.url.replace("//", f"//me:{PASSWORD}@")
        environment |= {
            "WANDB_DEBUG": "true",  # with which wandb-core writes all that it sends into its log
            "WANDB_ERROR_REPORTING": "false",
            "HOME": str(folder / "nobody"),
            "PYTHONPATH": str(Path(__file__).parent),
        }
        done = subprocess.run(
            [
                *(sys.executable, str(Path(__file__).with_name("keys_program.py"))),
                *(str(folder), url, "".join(letters.values())),
            ],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert "all fitted" in done.stdout, done.stderr
    by_way = {run.group: (key, run) for key, run in server.runs.items()}
    assert set(by_way) == set(letters)
    for way, (key, run) in by_way.items():
        assert (key[0], run.state) == ("team", "finished")
        assert rows(run) == [1, 2, 3]
        assert rows(run, "seen") == [0, 0, 0]
        streams = server.received(f"/{key[2]}/file_stream")
        assert {request.key for request in streams} == {letters[way] * 40}
    for secret in (PASSWORD, *(letter * 40 for letter in letters.values())):
        assert found_in(folder, secret) == []  # the storage, Ray's session, the homes
        assert secret not in done.stdout + done.stderr
        assert not any(request.contains(secret) for request in server.requests)
    assert server.refusals == []


class Odd(WandbServer):
    """Answers the questions that wbtune asks itself in an odd way."""

    answer: tuple[int, bytes] = (200, b"{")

    def handle(self, request):
        asked = b"logLineCount" not in request.body
        if request.operation in {"RunResumeStatus", "Viewer"} and asked:
            return self.answer
        return super().handle(request)


@pytest.mark.parametrize(
    "answer",
    [
        (200, b"{"),
        (200, b'{"data": {"model": {"bucket": {"config": "?"}}}}'),
        (403, b"{}"),
        (200, b"[" * 10**5),
        (200, b'{"data": {"model": ["x"]}}'),
        (200, b'"' + b"x" * (LARGEST + 1)),
    ],
    ids=["no JSON", "no config", "refused", "thousands of levels", "other types", "too long"],
)
def test_an_odd_answer_costs_no_run(answer, tmp_path):
    """Where the server can't be understood, the run is kept on disk, or opened as it is."""
    with Odd(keys={TEST_KEY}) as server:
        server.answer = answer
        driver = Driver(server, tmp_path)
        driver.start("a")
        driver.log("a", 1, 2)
        driver.writer.end("a", FINISHED)
        driver.close()
        found = run_log.read_runs(tmp_path)
        assert [row["i"] for log in found.values() for row in log.rows] == [1, 2]


class Redirects(BaseHTTPRequestHandler):
    """Sends everybody to another host."""

    to = ""

    def do_POST(self):
        self.send_response(302)
        self.send_header("Location", self.to)
        self.end_headers()

    def log_message(self, *_):
        """Print nothing."""


def test_a_redirection_does_not_take_the_key_along():
    """Another host is not the one that the key is for."""
    with WandbServer() as other, HTTPServer(("127.0.0.1", 0), Redirects) as first:
        Redirects.to = f"{other.url}/graphql"
        threading.Thread(target=first.serve_forever, daemon=True).start()
        secret = Secret(TEST_KEY)
        with contextlib.suppress(CredentialsError, ServerUnreachableError):
            Server(f"http://127.0.0.1:{first.server_port}", secret, 1).check()
        first.shutdown()
        assert other.requests
        assert {request.key for request in other.requests} == {None}
