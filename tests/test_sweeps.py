"""The experiment as one thing at W&B: its sweep, its best run, the run for the whole.

Real Ray and real wandb-core, against the stand-in for W&B's server, or offline.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import signal
import subprocess
import sys
from typing import Any

import crash_program
import pytest
import test_crashes
from fakes import FakeTrial
from pyarrow.fs import LocalFileSystem
from ray import tune
from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining
from wandb_server import TEST_KEY, Fault, WandbServer

from wbtune import (
    WandbLoggerCallback,
    WandbMixin,
    restore_wandb_tuner,
    setup_wandb,
    wandb_trial,
    wandb_tuner,
)
from wbtune._data.checkpoint import Objective
from wbtune._data.filtering import Excludes
from wbtune._data.options import RunOptions
from wbtune._data.secret import Secret
from wbtune._data.sweep import Sweep as KnownSweep
from wbtune._driver.conclusion import table_of
from wbtune._driver.description import Description, describe
from wbtune._driver.experiment import Experiment
from wbtune._driver.sweep_end import BEST
from wbtune._driver.sweep_start import Whole, begin, describe_whole
from wbtune._helper.messages import ChangeSweep, Request, TagRun
from wbtune._helper.requests import make_requests
from wbtune._overview.record import ExperimentRecord, TrialRecord
from wbtune._place import sweeps, trial_login
from wbtune._place.credentials import Login
from wbtune._place.identity import Identity
from wbtune._place.server import RefusedError, Server
from wbtune._place.storage import Remote
from wbtune._run import run_log, run_spec, without_core
from wbtune._upstream import capabilities
from wbtune._upstream.ray_loop import Sweep

ENTITY = "entity"


@pytest.fixture
def server():
    with WandbServer(keys={TEST_KEY}) as server:
        yield server


@pytest.fixture
def online(server, tmp_path, monkeypatch):
    """The environment of a driver that is logged in to the server."""
    for name, value in server.env(tmp_path / "client").items():
        if name != "HOME":
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "0")  # the overview reads Tune's files
    return server


def life(config, log):
    for i in range(1, 7):
        log(config["lr"] * (7 - i) + config["model"]["layers"])
        if config["how"] == "raises" and i == 3:
            raise ValueError("no </script> good")
        if config["how"] == "killed" and i == 3:
            os.kill(os.getpid(), signal.SIGKILL)


def function(config):
    life(config, lambda loss: tune.report({"loss": loss}))


@wandb_trial
def decorated(config, run):
    life(config, lambda loss: tune.report({"loss": loss}))


def by_setup(config):
    run = setup_wandb(config)

    def log(loss):
        run.log({"own": loss})
        tune.report({"loss": loss})

    life(config, log)


class Mixed(WandbMixin, tune.Trainable, project="p", excludes=["left_out"]):
    def setup(self, config):
        self.i = 0

    def step(self):
        self.i += 1
        loss = self.config["lr"] * (7 - self.i) + self.config["model"]["layers"]
        return {"loss": loss, "done": self.i == 6}

    def save_checkpoint(self, checkpoint_dir):
        return {"i": self.i}

    def load_checkpoint(self, checkpoint):
        self.i = checkpoint["i"]


def space(*hows):
    """Of the trials that are alike, the first is the best: later ones only tie with it."""
    return {
        "how": tune.grid_search(list(hows)),
        "lr": tune.choice([0.25]),
        "model": {"layers": tune.randint(1, 2), "width": 64},
        "api_token": "sentinel-token",
        "left_out": tune.uniform(0, 1),
    }


PARAMETERS = {
    "how": {"values": ["returns", "raises", "killed"]},
    "lr": {"values": [0.25]},
    "model": {"parameters": {"layers": {"value": 1}, "width": {"value": 64}}},
}


def run_config(folder, name, **more):
    return tune.RunConfig(name=name, storage_path=str(folder), verbose=0, **more)


def best_config(**more):
    return tune.TuneConfig(metric="loss", mode="min", **more)


def by_callback(trainable, hows, folder, tune_config):
    callback = WandbLoggerCallback(project="p", sweep=True, excludes=["left_out"])
    return tune.Tuner(
        trainable,
        param_space=space(*hows),
        run_config=run_config(folder, "tuned", callbacks=[callback]),
        tune_config=tune_config,
    )


def by_tuner(trainable, hows, folder, tune_config):
    return wandb_tuner(
        trainable,
        space(*hows),
        project="p",
        sweep=True,
        excludes=["left_out"],
        run_config=run_config(folder, "tuned"),
        tune_config=tune_config,
    )


MIXED_ENDS = ("returns", "raises", "killed")
WAYS = {
    "wandb_tuner": (by_tuner, function, MIXED_ENDS, {"scheduler": ASHAScheduler(grace_period=6)}),
    "wandb_trial": (by_tuner, decorated, MIXED_ENDS, {}),
    "WandbMixin": (by_callback, Mixed, ("returns",), {}),
    "setup_wandb": (by_callback, by_setup, ("returns",), {}),
}


def experiment_run(runs):
    """The run for the whole, and the trials' runs by their ids."""
    trials = dict(runs)
    (whole,) = [run for run in runs.values() if run.job_type == "sweep"]
    del trials[whole.key[2]]
    return whole, trials


@pytest.mark.parametrize("way", WAYS)
def test_every_way_makes_a_sweep(way, ray, online, tmp_path, capfd):
    """One sweep, finished; every trial's run in it, else as without one; the best is tagged."""
    make, trainable, hows, tuned = WAYS[way]
    before = wandbs_environment()
    results = make(trainable, hows, tmp_path, best_config(**tuned)).fit()
    assert wandbs_environment() == before
    best = results.get_best_result()
    best_id = best.metrics["trial_id"]
    assert online.refusals == []

    (sweep,) = online.sweeps
    assert (sweep.name, sweep.project, sweep.states[0]) == ("tuned", "p", "PENDING")
    assert sweep.state == "FINISHED"
    assert sweep.config["metric"] == {"name": "loss.min", "goal": "minimize"}
    expected = {**PARAMETERS, "how": {"values": list(hows)}}
    assert sweep.config["parameters"] == expected

    runs = {key[2]: run for key, run in online.runs.items()}
    whole, trials = experiment_run(runs)
    assert set(trials) == {result.metrics["trial_id"] for result in results}
    for trial_id, run in trials.items():
        assert (run.sweep, run.group, run.key[:2]) == (sweep.id, "tuned", (ENTITY, "p"))
        assert run.name.endswith(trial_id)
        assert run.config["lr"] == 0.25
        assert run.config["model"] == {"layers": 1, "width": 64}
    assert {run.key[2] for run in trials.values() if BEST in run.tags} == {best_id}
    assert whole_is_complete(whole, trials, best_id, online)

    page = tmp_path / "tuned" / "overview.html"
    assert {"sentinel-token", "left_out"}.isdisjoint(words_of(page))
    assert not any(request.contains("sentinel-token") for request in online.requests)
    assert not any(one.contains("left_out") for one in online.received("UpsertSweep"))
    assert "left_out" not in json.dumps([whole.config, whole.summary])
    lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith("wbtune: ")]
    assert f"wbtune: sweep {online.url}/entity/p/sweeps/{sweep.id}" in lines
    said = f"(loss={best.metrics['loss']:.6g}; how={hows[0]}, lr=0.25, model.layers=1)"
    (line,) = [line for line in lines if "best trial" in line]
    assert said in line
    assert line.endswith(f": {online.url}/entity/p/runs/{best_id}")
    assert f"wbtune: overview: {page}" in lines


def wandbs_environment():
    return {name: value for name, value in os.environ.items() if name.startswith("WANDB_")}


def words_of(page):
    text = page.read_text(encoding="utf-8")
    return {word for word in ("sentinel-token", "left_out", "lr", "model.layers") if word in text}


def whole_is_complete(whole, trials, best_id, server):
    """The run for the whole: what it says of the experiment."""
    assert (whole.name, whole.group, whole.sweep, whole.state) == (
        "tuned",
        "tuned",
        None,
        "finished",
    )
    assert whole.tags == []
    assert whole.config["space"]["lr"] == {"values": [0.25]}
    assert {"ray", "wandb", "wbtune", "python"} == set(whole.config["versions"])
    assert {"scheduler", "search_alg", "metric", "mode", "num_samples"} <= set(whole.config)
    done = {"finished": "finished", "failed": "failed", "crashed": "lost"}
    ended = [done[run.state] for run in trials.values()]
    for kind in ("finished", "failed", "lost"):
        assert whole.summary[f"trials/{kind}"] == ended.count(kind)
    assert whole.summary["trials/pending"] == whole.summary["trials/running"] == 0
    assert whole.summary["best/trial"] == best_id
    best = [row["best/loss"] for row in whole.rows if "best/loss" in row]
    assert best == sorted(set(best), reverse=True)
    assert best[-1] == whole.summary["best/loss"]
    assert whole.summary["best/config"]["lr"] == 0.25
    (table,) = [json.loads(file) for name, file in whole.files.items() if "/table/" in name]
    assert [row[0] for row in table["data"]] == sorted(trials)
    assert {"trial", "outcome", "iterations", "seconds", "lr", "model.layers", "loss"} <= set(
        table["columns"]
    )
    (html,) = [file for name, file in whole.files.items() if "/html/" in name]
    assert b"<html" in html
    return True


class Population(tune.Trainable):
    """The worse of two takes over from the better one."""

    def setup(self, config):
        self.score = 0.0

    def step(self):
        self.score += self.config["lr"]
        return {"score": self.score, "done": self.iteration >= 7}

    def save_checkpoint(self, checkpoint_dir):
        return {"score": self.score}

    def load_checkpoint(self, checkpoint):
        self.score = checkpoint["score"]


@pytest.mark.filterwarnings("ignore:Consider boosting PBT:UserWarning")
def test_a_population(ray, online, tmp_path):
    """The best run is tagged, and the overview has the perturbations."""
    scheduler = PopulationBasedTraining(
        time_attr="training_iteration",
        perturbation_interval=4,
        hyperparam_mutations={"lr": [0.1, 1.0, 2.0]},
        quantile_fraction=0.5,
        resample_probability=0.0,
        synch=True,
    )
    results = tune.Tuner(
        Population,
        param_space={"lr": tune.grid_search([0.1, 2.0])},
        run_config=run_config(
            tmp_path,
            "population",
            callbacks=[WandbLoggerCallback(project="p", sweep=True)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=4),
        ),
        tune_config=tune.TuneConfig(metric="score", mode="max", scheduler=scheduler),
    ).fit()
    assert not results.errors
    assert online.refusals == []
    (sweep,) = online.sweeps
    assert sweep.config["metric"] == {"name": "score.max", "goal": "maximize"}
    whole, trials = experiment_run({key[2]: run for key, run in online.runs.items()})
    assert whole.config["scheduler"]["name"] == "PopulationBasedTraining"
    best = results.get_best_result().metrics["trial_id"]
    assert [run.key[2] for run in trials.values() if BEST in run.tags] == [best]
    perturbed = [run for run in trials.values() if "wbtune/perturbations" in run.config]
    assert perturbed
    assert 'id="lineage"' in (tmp_path / "population" / "overview.html").read_text("utf-8")


class OfItsOwn(tune.search.Searcher):
    """A search that knows its space by itself."""

    def suggest(self, trial_id):
        self.given = getattr(self, "given", 0) + 1
        return {"lr": 0.25 * self.given, "model": {"layers": 1}, "how": "returns"}

    def on_trial_complete(self, trial_id, result=None, error=False):
        pass

    def save(self, checkpoint_path):
        pass

    def restore(self, checkpoint_path):
        pass


def test_a_search_without_a_space(ray, online, tmp_path):
    """The sweep's parameters are those of the first trial, and then those of all."""
    wandb_tuner(
        function,
        project="p",
        sweep=True,
        run_config=run_config(tmp_path, "searched"),
        tune_config=best_config(search_alg=OfItsOwn("loss", "min"), num_samples=2),
    ).fit()
    (sweep,) = online.sweeps
    assert sweep.config["method"] == "custom"
    unknown, first, last = [config["parameters"] for config in sweep.configs]
    assert "lr" not in unknown
    assert first["lr"] == {"value": 0.25}
    assert last["lr"] == {"distribution": "uniform", "min": 0.25, "max": 0.5}
    assert last["model"] == {"parameters": {"layers": {"value": 1}}}
    assert online.refusals == []
    whole, _ = experiment_run({key[2]: run for key, run in online.runs.items()})
    assert whole.config["search_alg"] == {"name": "OfItsOwn", "metric": "loss", "mode": "min"}


def test_a_server_that_has_no_sweeps_costs_one_warning(ray, online, tmp_path, caplog):
    """Everything else is there."""
    online.order(Fault(status=400, match="UpsertSweep"))
    callback = WandbLoggerCallback(project="p", sweep=True)
    results = tune.Tuner(
        function,
        param_space=space("returns"),
        run_config=run_config(tmp_path, "tuned", callbacks=[callback]),
        tune_config=best_config(),
    ).fit()
    assert not results.errors
    (warning,) = [text for text in caplog.messages if "sweep" in text]
    assert "has no sweep at W&B" in warning
    whole, trials = experiment_run({key[2]: run for key, run in online.runs.items()})
    assert [run.sweep for run in trials.values()] == [None]
    assert [run.tags for run in trials.values()] == [[BEST]]
    assert whole.state == "finished"
    assert (tmp_path / "tuned" / "overview.html").exists()


def test_offline_all_of_it_is_on_disk(ray, tmp_path, monkeypatch, capfd):
    """The tag, the run for the whole, its table, and the overview; no server is asked."""
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "0")
    results = by_tuner(decorated, ("returns", "raises"), tmp_path, best_config()).fit()
    best = results.get_best_result().metrics["trial_id"]
    logs = run_log.read_runs(tmp_path / "tuned")
    (whole,) = [log for log in logs.values() if log.id.startswith("sweep-")]
    assert {log.id for log in logs.values() if BEST in log.tags} == {best}
    assert (whole.name, whole.group, whole.exit_code) == ("tuned", "tuned", 0)
    assert whole.summary["best/trial"] == best
    assert whole.summary["trials/failed"] == 1
    media = [path.name for path in whole.paths[0].parent.rglob("media/**/*") if path.is_file()]
    assert sorted(name.partition("_")[0] for name in media) == ["overview", "trials"]
    page = tmp_path / "tuned" / "overview.html"
    lines = capfd.readouterr().out.splitlines()
    assert f"wbtune: overview: {page}" in lines
    assert any(line.startswith("wbtune: best trial") and "lr=0.25" in line for line in lines)
    assert "no &lt;/script&gt; good" in page.read_text("utf-8")


def test_a_restored_experiment_goes_on_in_the_same_sweep(ray, online, tmp_path):
    """The driver is killed, which ends the sweep; the restored one is in it, and ends it again."""
    driver = test_crashes.start(tmp_path, "callback", online.env(tmp_path / "client"))

    def trials():
        runs = [run for run in online.runs.values() if run.job_type != "sweep"]
        return {run.config.get("trial"): run for run in runs}

    def is_in_the_middle():
        found = trials()
        return {0, 1} <= found.keys() and found[0].complete and len(found[1].rows) >= 6

    online.wait_for(lambda: is_in_the_middle() or driver.poll() is not None, 180)
    children = test_crashes.family(driver)
    test_crashes.wait_until(lambda: test_crashes.is_noted(tmp_path), driver, tmp_path)
    driver.kill()
    driver.wait()
    online.wait_for(lambda: online.sweeps[0].state == "FINISHED", 60)
    assert test_crashes.nobody_left(children)
    before = {key: run.sweep for key, run in online.runs.items()}
    (tmp_path / "restored").touch()
    path = str(tmp_path / "crash-callback")
    tuner = restore_wandb_tuner(path, crash_program.TRAINABLES["callback"])
    assert not tuner.fit().errors
    (sweep,) = online.sweeps
    assert sweep.states == ["PENDING", "RUNNING", "FINISHED", "RUNNING", "FINISHED"]
    assert {key: run.sweep for key, run in online.runs.items()} == before
    assert [run.tags for _, run in sorted(trials().items())] == [[], [BEST]]
    (whole,) = [run for run in online.runs.values() if run.job_type == "sweep"]
    assert (whole.sweep, whole.state, whole.summary["trials/finished"]) == (None, "finished", 2)
    best = [row["best/score"] for row in whole.rows if "best/score" in row]
    assert best == sorted(set(best))
    assert online.refusals == []


DRIVER = """
import os, sys
from pathlib import Path
from wbtune._data.secret import Secret
from wbtune._data.sweep import Sweep as KnownSweep
from wbtune._data.sweep import Sweep
from wbtune._driver.writer import Writer
from wbtune._helper.messages import ChangeSweep, Request
from wbtune._place import sweeps, trial_login
from wbtune._place.server import Server

url, key = sys.argv[1], os.environ["WANDB_API_KEY"]
sweep, _ = sweeps.create(Server(url, Secret(key), 0.0), None, "p", "n", {
    "method": "random", "parameters": {"lr": {"min": 0.0, "max": 1.0}}})
writer = Writer()
writer.request(ChangeSweep(Request(url, {}, key), sweep, state="FINISHED"))
writer.launch(Path(sys.argv[2]))
while not writer._queue.is_empty or not writer._supervisor.helper.is_ready:
    pass
print("sent", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_a_killed_driver_leaves_no_running_sweep(server, tmp_path):
    """The helper outlives it, and ends the sweep."""
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, server.url, str(tmp_path / "wbtune.log")],
        env=os.environ | server.env(tmp_path / "client"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert driver.stdout is not None
    assert driver.stdout.readline() == b"sent\n"
    driver.kill()
    driver.communicate()
    server.wait_for(lambda: server.sweeps[0].state == "FINISHED", 60)
    assert server.refusals == []


# --- the requests, without Ray ---------------------------------------------------------------


def client(server, key=TEST_KEY):
    return Server(server.url, Secret(key), 0.0)


CONFIG = {"method": "random", "parameters": {"lr": {"min": 1e-5, "max": 1.0}}}


def test_a_sweep_is_made_once(server):
    """If no answer arrives, it may have been made: nobody asks again."""
    server.order(Fault(cut="after", match="UpsertSweep", times=1))
    with pytest.raises(ConnectionError):
        sweeps.create(client(server), None, "p", "n", CONFIG)
    assert len(server.sweeps) == 1


def test_what_the_server_refuses_is_said_in_its_words(server):
    with pytest.raises(RefusedError, match="is a required property"):
        sweeps.create(client(server), None, "p", "n", {"parameters": {}})
    sweep, _ = sweeps.create(client(server), None, "p", "n", CONFIG)
    sweeps.change(client(server), sweep, state="FINISHED")
    with pytest.raises(RefusedError, match="FINISHED can't become FINISHED"):
        sweeps.change(client(server), sweep, state="FINISHED")
    with pytest.raises(RefusedError, match="no run other in entity/p"):
        sweeps.tag(client(server), ("entity", "p", "other"), {BEST})


@pytest.mark.parametrize("text", ["1e-05", "008", "no", "null", "ß\ud83d\ude00"[:1], "a: b", "- x"])
def test_text_stays_text(text, server):
    """Whatever a version of YAML would make of it."""
    config = {**CONFIG, "description": text, "parameters": {"x": {"values": [text, 1e-05, 3]}}}
    sweeps.create(client(server), None, "p", "n", config)
    assert server.sweeps[0].config == config


def test_tags_of_others_stay(server):
    from wandb_server import ServerRun

    key = ("entity", "p", "r")
    server.runs[key] = ServerRun(key, "internal", tags=["theirs", BEST])
    sweeps.tag(client(server), key, {"new"}, {BEST})
    assert server.runs[key].tags == ["theirs", "new"]


# --- what could go wrong with an experiment as a whole, without Ray ---------------------------


class Asked:
    """An experiment with ``sweep=True``, and what its writer was asked for."""

    def __init__(self, folder, *, login=None, total=None, description=None, place=None):
        self.orders: list[tuple[Any, ...]] = []
        self.stops: set[str] = set()
        self.folder = folder
        description = description or Description({"lr": {"values": [1.0]}})
        self.experiment = Experiment(
            "w",
            RunOptions(project="p"),
            login,
            objective=Objective("loss", "min"),
            writer=self,
            place=place,
            whole=Whole(description, "tuned", total),
        )

    def __getattr__(self, name):
        return lambda *args: self.orders.append((name, *args)) or True

    def of(self, name):
        return [order[1:] for order in self.orders if order[0] == name]

    def trial(self, trial_id, loss):
        trial = FakeTrial(trial_id, self.folder)
        self.experiment.start(trial)
        self.experiment.result(trial, {"loss": loss, "training_iteration": 1})
        trial.metric_analysis = {"loss": {"last": loss, "min": loss}}
        trial.status = "TERMINATED"
        self.experiment.end(trial, failed=False)
        return trial


def test_the_best_offline_run_is_tagged_before_anything_is_on_disk(tmp_path):
    """The helper may not have begun with it: nobody looks for its files."""
    whole = Asked(tmp_path)
    trials = [whole.trial("a", 2.0), whole.trial("b", 1.0), whole.trial("c", 1.0)]
    whole.experiment.close(trials)
    tagged = [spec for key, spec, *_ in whole.of("start") if BEST in spec.init.get("tags", ())]
    assert [spec.init["id"] for spec in tagged] == ["b"]


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "text", 10**400])
def test_a_value_that_is_none_costs_no_row(value, tmp_path):
    """And is never the best."""
    whole = Asked(tmp_path)
    trials = [whole.trial("a", value), whole.trial("b", 3.0)]
    assert [row["loss"] for key, row in whole.of("log") if "loss" in row] == [value, 3.0]
    best = [row for _, row in whole.of("log") if "best/loss" in row]
    assert best == [{"best/loss": 3.0, "best/trial": "b"}]
    whole.experiment.close(trials)
    assert [len(order) for order in whole.of("conclude")] == [4]


@pytest.mark.parametrize(("total", "pending"), [(None, 0), (5, 3), (sys.maxsize, 0)])
def test_trials_that_tune_has_not_made_are_pending(total, pending, tmp_path):
    """If it is known how many there will be."""
    whole = Asked(tmp_path, total=total)
    trials = [FakeTrial("a", tmp_path), FakeTrial("b", tmp_path)]
    for trial in trials:
        whole.experiment.start(trial)
    whole.experiment.step_end(trials)
    whole.experiment.step_end(trials)  # not due yet
    (counts,) = [row for _, row in whole.of("log")]
    assert (counts["trials/pending"], counts["trials/running"]) == (pending, 2)


def test_parameters_named_like_columns(tmp_path):
    """The table has no two columns of one name."""
    trials = [TrialRecord("a", "a", "finished", params={"seconds": 1, "loss": 2, "lr": 3})]
    columns, (row,) = table_of(ExperimentRecord("e", trials, metric="loss", mode="min"))
    assert len(set(columns)) == len(columns) == len(row)
    assert row[columns.index("config.seconds")] == 1
    assert row[columns.index("lr")] == 3


def test_options_of_another_release_can_be_restored():
    """They are pickled by name: what is new there is not given, what is unknown is left out."""
    options = RunOptions(project="p", init_kwargs={"tags": ["a"]})
    assert pickle.loads(pickle.dumps(options)) == options
    old = RunOptions.__new__(RunOptions)
    old.__setstate__({"project": "p", "init_kwargs": {"tags": ["a"]}, "gone": 1})
    assert old == options


def test_a_callback_that_is_used_again_does_not_go_on_with_the_experiment_before(monkeypatch):
    """What Tune restored is of the next `setup` only, and in no pickle."""
    taken: list[Any] = []

    def start(public_name, options, key, **given):
        taken.append(given["whole_restored"])
        return None, options, ""

    monkeypatch.setattr("wbtune._driver.experiment_start.start_experiment", start)
    callback = WandbLoggerCallback(project="p", sweep=True)
    callback.set_state({"wbtune": {}, "wbtune/experiment": {"run": "sweep-1"}})
    pickle.loads(pickle.dumps(callback)).setup()
    callback.setup()
    callback.setup()
    assert taken == [{}, {"run": "sweep-1"}, {}]


def test_what_another_release_knew_of_the_experiment():
    """Its fields may be others."""
    before = {"description": {"parameters": {"lr": {"value": 1}}, "gone": 1}}
    whole = describe_whole(RunOptions(project="p"), Sweep(), None, {}, before)
    assert whole.description.parameters == {"lr": {"value": 1}}
    whole = describe_whole(RunOptions(project="p"), Sweep(), None, {}, {"description": "?"})
    assert whole.description.parameters == {}


def test_a_package_without_metadata(monkeypatch):
    """A nightly Ray has another name; the experiment is described anyway."""
    monkeypatch.setattr(capabilities, "version", lambda package: package)
    assert describe(Excludes(), space=None).config["versions"]["ray"] == "unknown"


def requests(server, *messages):
    warnings: list[str] = []
    make_requests(messages, lambda _, text: warnings.append(text))
    return warnings


def test_the_order_of_the_last_requests(server):
    """A sweep's config before its end; the end before the tags, which cost least if time is up."""
    request = Request(server.url, {"x_extra_http_headers": {"a": "hidden"}}, TEST_KEY)
    assert "hidden" not in repr(request) and TEST_KEY not in repr(request)
    sweep, _ = sweeps.create(client(server), None, "p", "n", CONFIG)
    end = ChangeSweep(request, sweep, state="FINISHED")
    tag = TagRun(request, ("entity", "p", "r"), add=(BEST,))
    warnings = requests(server, tag, end, ChangeSweep(request, sweep, config=CONFIG), end)
    assert len(server.sweeps[0].configs) == 2
    assert server.sweeps[0].state == "FINISHED"
    assert [text for text in warnings if "tags of run r" not in text] == []
    operations = [one.operation for one in server.received("UpsertSweep")]
    assert len(operations) == 4  # made, described, ended, and refused the second time


def test_a_server_that_is_gone_is_asked_once(server):
    """It may take seconds each time."""
    request = Request(server.url, {}, TEST_KEY)
    tags = [TagRun(request, ("entity", "p", str(i)), add=(BEST,)) for i in range(50)]
    server.leave()
    first, rest = requests(server, *tags)
    assert "can't be reached" in first
    assert rest.startswith("49 more")


@pytest.mark.parametrize("there", [True, False])
def test_a_restored_sweep_that_was_deleted(there, server, caplog):
    """Another one is made; one that is there goes on."""
    first, _ = sweeps.create(client(server), None, "p", "n", CONFIG)
    if not there:
        server.sweeps.clear()
    login = Login(Secret(TEST_KEY), {"base_url": server.url})
    found = begin(RunOptions(project="p"), login, "n", CONFIG, first)
    assert len(server.sweeps) == 1
    assert (found == first) or not there
    assert bool(caplog.messages) is not there


@pytest.mark.parametrize("iterations", [math.nan, math.inf, "many", None])
def test_odd_results_cost_no_experiment(iterations, tmp_path):
    whole = Asked(tmp_path)
    trial = whole.trial("a", 1.0)
    trial.last_result = {"training_iteration": iterations, "time_total_s": math.inf}
    whole.experiment.close([trial])
    ((_, _, (row,), _),) = whole.of("conclude")
    assert row[:4] == ["a", "finished", 0, None]


def test_the_overview_is_copied_to_a_remote_storage(tmp_path, caplog):
    """Beside the folder of the runs; if that fails, a warning says so."""
    page = tmp_path / "overview.html"
    page.write_text("page")
    remote = Remote(LocalFileSystem(), str(tmp_path / "bucket" / "tuned" / "wandb"))
    assert remote.put(page) == f"local://{tmp_path}/bucket/tuned/overview.html"
    assert (tmp_path / "bucket" / "tuned" / "overview.html").read_text() == "page"
    assert remote.put(tmp_path / "none.html") is None
    assert "none.html is not copied" in caplog.text


HANDED = Login(Secret(TEST_KEY), {"base_url": "https://a"}, sweep=KnownSweep("s", "n", "e", "p"))


@pytest.mark.parametrize(
    ("login", "entity", "expected"),
    [
        (Login(settings={"mode": "offline"}), None, True),
        (Login(Secret(TEST_KEY), {"base_url": "https://a"}), None, True),
        (Login(Secret(TEST_KEY), {"base_url": "https://b"}), None, False),
        (Login(Secret("f" * 40), {"base_url": "https://a"}), None, False),
        (Login(Secret("f" * 40), {"base_url": "https://a"}), "e", True),
    ],
)
def test_which_logins_of_trials_reach_the_drivers_sweep(login, entity, expected, monkeypatch):
    """Not those of another server, nor somebody else's."""
    monkeypatch.setattr(trial_login, "handed_over", lambda trial: HANDED)
    monkeypatch.setattr(trial_login, "log_in", lambda *_, **__: login)
    options = RunOptions(project="p", init_kwargs={"entity": entity} if entity else {})
    got, _ = trial_login.log_in_or_offline("w", options, Identity("t"), declared=True)
    assert (got.sweep is not None) is expected


def test_a_thread_in_place_of_the_helper_keeps_the_membership(tmp_path):
    """It writes the run's log itself."""
    spec = run_spec.RunSpec({"id": "a", "project": "p", "dir": str(tmp_path)}, settings={})
    spec = run_spec.in_sweep(spec, KnownSweep("swp-of-thread", "n", "e", "p"))
    without_core.open_run(spec).end(0)
    (log,) = tmp_path.rglob("*.wandb")
    assert b"swp-of-thread" in log.read_bytes()
