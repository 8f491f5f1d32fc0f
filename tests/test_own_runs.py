"""A trial's own run, in whichever way its code opens, keeps, finishes or leaves it."""

# Over 250 lines: the programs, each with the way in which it treats its run.

from __future__ import annotations

import functools
import sys
import threading

import pytest
import wandb
from programs import run_config
from ray import tune

from wbtune import WandbMixin, setup_wandb, wandb_trial, wandb_tuner
from wbtune._data.options import RunOptions
from wbtune._data.outcomes import FINISHED
from wbtune._place.identity import Identity
from wbtune._run import ownership, run_files, run_log
from wbtune._trial import tune_hooks
from wbtune._trial.trial_run import TrialRun
from wbtune._upstream import wandb_settings

PROJECT = "own"
STEPS = 3


def logs_of(folder, key):
    """The experiment's runs, by this key of their configs."""
    return {log.config[key]: log for log in run_log.read_runs(folder).values()}


# --- an actor that is reused ---


class Reused(tune.Trainable):
    """Gets its run in the way that its trial is told to."""

    def setup(self, config):
        self.wandb = setup_wandb(config, project=PROJECT, id=self.trial_id, name=self.trial_name)
        self.begin(config)

    def begin(self, config):
        self.config, self.at = config, 0

    def reset_config(self, config):
        self.begin(config)
        if config["way"] == "again":
            self.wandb = setup_wandb(config, project=PROJECT, tags=["again"])
        if config["way"] == "touched":
            self.wandb.config.update({"touched": True})
        return True

    def step(self):
        self.at += 1
        match self.config["way"]:
            case "each step":
                setup_wandb(self.config, project=PROJECT).log({"mine": self.at})
            case "wandb.log":
                wandb.log({"mine": self.at})
            case "nothing":
                pass
            case _:
                self.wandb.log({"mine": self.at})
        return {"loss": self.at, "done": self.at >= STEPS}

    def save_checkpoint(self, folder):
        return {}

    def load_checkpoint(self, checkpoint):
        pass


WAYS = ["kept", "again", "touched", "each step", "wandb.log", "nothing", "kept again"]


def test_a_reused_actor(ray, tmp_path):
    """With ``reuse_actors=True`` each trial has one run, its own, however its class gets it."""
    results = tune.Tuner(
        Reused,
        param_space={"way": tune.grid_search(WAYS)},
        tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=1),
        run_config=run_config(tmp_path, "reused"),
    ).fit()
    assert not results.errors
    logs = logs_of(tmp_path / "reused", "way")
    for result in results:
        way = result.config["way"]
        log = logs.pop(way)
        assert log.id == result.metrics["trial_id"]
        assert log.name == f"Reused_{log.id}"
        mine = [row["mine"] for row in log.rows]
        assert mine == ([] if way == "nothing" else [1, 2, 3])
        assert (log.exit_code, log.summary["wbtune/outcome"]) == (0, "finished")
        assert len(log.paths) == 1
        assert log.config.get("touched", False) is (way == "touched")
        # Who does not say it again has what was said last.
        assert log.tags == (["again"] if way in {"again", "touched"} else [])
    assert not logs


# --- `finish` of its user's own ---


def finishing(config, run):
    """Log, finish in one of the ways, log again."""
    run.log({"mine": 1})
    run.summary["best"] = 1
    match config["how"]:
        case "run.finish":
            run.finish()
        case "with a code":
            run.finish(exit_code=3)
        case "wandb.finish":
            wandb.finish()
        case "with":
            with run:
                run.log({"within": 1})
        case "reinit":
            wandb.init(reinit=True, mode="disabled").finish()
        case _:
            wandb.init(project="other").finish()
    run.log({"mine": 2})
    wandb.run.log({"mine": 3}) if wandb.run is not None else run.log({"mine": 3})
    run.finish()


HOWS = ["run.finish", "with a code", "wandb.finish", "with", "reinit", "wandb.init"]


def by_setup_wandb(config):
    finishing(config, setup_wandb(config, project=PROJECT))
    tune.report({"loss": 1.0})
    if config["how"] == "with":
        raise ValueError("after it was finished")


@wandb_trial(project=PROJECT)
def by_wandb_trial(config, run):
    finishing(config, run)
    tune.report({"loss": 1.0})
    if config["how"] == "with":
        raise ValueError("after it was finished")


class ByMixin(WandbMixin, tune.Trainable, project=PROJECT):
    def step(self):
        finishing(self.config, self.run)
        if self.config["how"] == "with":
            raise ValueError("after it was finished")
        return {"loss": 1.0, "done": True}

    def reset_config(self, config):
        return True

    def save_checkpoint(self, folder):
        return {}


@pytest.mark.parametrize("way", [by_setup_wandb, by_wandb_trial, ByMixin])
def test_finish_in_the_middle(way, ray, tmp_path):
    """A user's ``finish`` ends nothing: one segment, all rows, the summary, the trial's outcome."""
    tune.Tuner(
        way,
        param_space={"how": tune.grid_search(HOWS)},
        tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=2),
        run_config=run_config(tmp_path, "finish"),
    ).fit()
    logs = logs_of(tmp_path / "finish", "how")
    assert set(logs) == set(HOWS)
    for how, log in logs.items():
        # Tune may reset an actor twice for its trial, before the function has logged anything: that
        # segment is empty.
        assert sum(bool(run_log.read(path).rows) for path in log.paths) == 1
        assert [row["mine"] for row in log.rows if "mine" in row] == [1, 2, 3]
        assert log.summary["best"] == 1
        ended = (1, "failed") if how == "with" else (0, "finished")
        assert (log.exit_code, log.summary["wbtune/outcome"]) == ended
        assert log.summary.get("wbtune/exit_code") == (3 if how == "with a code" else None)


class Plain(tune.Trainable):
    def step(self):
        return {"loss": 1.0, "done": True}


@pytest.mark.parametrize("says", ["nothing", "a summary", "after another program"])
def test_an_actor_that_came_too_late(says, tmp_path):
    """Tune builds an actor, gives its trial to another, and stops it, unused: no trace is left."""
    trial = Identity("t1", "Plain_t1", "e", str(tmp_path), fit="f")

    def actor():
        run = TrialRun("WandbMixin", RunOptions(project=PROJECT))
        trainable = Plain()
        tune_hooks.attach(trainable, run)
        run.open(trial, {"lr": 1})
        return trainable

    used = actor()
    wandb.run.log({"mine": 1})
    wandb.run.summary["best"] = 1
    used.log_result(used.step())
    used.cleanup()
    if says == "after another program":  # which says nothing of an outcome
        wandb.init(project=PROJECT, id="t1", dir=tmp_path, mode="offline").finish()
    late = actor()
    if says != "nothing":
        wandb.run.summary["late"] = 1
    late.cleanup()
    log = run_log.read_runs(tmp_path)["t1"]
    assert len(log.paths) == {"nothing": 1, "a summary": 2, "after another program": 3}[says]
    assert (log.exit_code, log.summary["wbtune/outcome"]) == (0, "finished")
    assert (log.summary["best"], log.tags) == (1, [])


def test_finish_where_nobody_else_closes_the_run(tmp_path, monkeypatch):
    """Outside of a trial `setup_wandb` gives a plain run, which ``finish`` finishes."""
    monkeypatch.chdir(tmp_path)
    run = setup_wandb({"lr": 1}, project=PROJECT, dir=tmp_path, id="by-hand", resume="allow")
    run.log({"mine": 1})
    run.finish(exit_code=3)
    assert wandb.run is None
    assert run_files.wait_for_end(*run_files.logs(tmp_path, "by-hand"))
    log = run_log.read_runs(tmp_path)["by-hand"]
    assert log.exit_code == 3


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_wandb_init_without_a_login(mode, tmp_path, monkeypatch, caplog):
    """In a trial with a run that needs no login it gives that run, and does not ask for one."""
    settings = wandb_settings.of_process()
    monkeypatch.setattr(settings, "mode", "online")
    trial_run = TrialRun("wandb_trial", RunOptions(project=PROJECT, init_kwargs={"mode": mode}))
    run = trial_run.open(Identity("t1", "t1", "e", str(tmp_path), fit="f"), {"lr": 1})
    own = wandb.init(project="other")
    assert own.disabled if mode == "disabled" else own is run
    trial_run.close(FINISHED)
    assert settings.mode == "online"
    assert "could not be closed" not in caplog.text


def test_a_run_outside_of_a_trial_leaves_the_mode_alone(tmp_path, monkeypatch):
    """What the program opens next is its own affair."""
    monkeypatch.chdir(tmp_path)
    settings = wandb_settings.of_process()
    monkeypatch.setattr(settings, "mode", "online")
    run = setup_wandb({"lr": 1}, project=PROJECT, mode="offline")
    assert settings.mode == "online"
    run.finish()


def test_save_code_is_not_silent(tmp_path, caplog):
    """W&B would save Ray's program: one line says so, and what to do instead."""
    options = RunOptions(project=PROJECT, init_kwargs={"mode": "disabled", "save_code": True})
    trial_run = TrialRun("wandb_trial", options)
    trial_run.open(Identity("t1", "t1", "e", str(tmp_path), fit="f"), {"lr": 1})
    trial_run.close(FINISHED)
    assert "wandb_trial: save_code=True has no effect in a trial" in caplog.text
    assert "run.log_code(FOLDER)" in caplog.text


# --- what is no ordinary exception ---


class OddError(BaseException):
    """The user's own, and no Exception."""


ODD = {
    "exit 3": lambda: sys.exit(3),
    "exit 0": lambda: sys.exit(0),
    "odd": lambda: (_ for _ in ()).throw(OddError("odd")),
}


def odd_function(config):
    setup_wandb(config, project=PROJECT).log({"mine": 1})
    tune.report({"loss": 1.0})
    ODD[config["odd"]]()


@wandb_trial
def odd_decorated(config, run):
    run.log({"mine": 1})
    tune.report({"loss": 1.0})
    ODD[config["odd"]]()


class OddMixed(WandbMixin, tune.Trainable):
    def step(self):
        self.run.log({"mine": 1})
        ODD[self.config["odd"]]()

    def save_checkpoint(self, folder):
        return {}


@pytest.mark.parametrize(
    ("way", "odd"),
    [
        (odd_function, ["exit 3", "exit 0", "odd"]),
        (odd_decorated, ["exit 3", "exit 0"]),
        (OddMixed, ["exit 3", "odd"]),
    ],
)
def test_no_ordinary_exception(way, odd, ray, tmp_path):
    """Tune fails a trial for any ``sys.exit`` of its own; so does its run, with what it raised."""
    wandb_tuner(
        way,
        project=PROJECT,
        param_space={"odd": tune.grid_search(odd)},
        run_config=run_config(tmp_path, "odd"),
        log_results=False,
    ).fit()
    logs = logs_of(tmp_path / "odd", "odd")
    assert set(logs) == set(odd)
    for what, log in logs.items():
        assert [row["mine"] for row in log.rows] == [1]
        assert (log.exit_code, log.summary["wbtune/outcome"]) == (1, "failed")
        assert len(log.paths) == 1
        if way is not odd_function or what != "exit 0":  # there, Tune's own error is known
            error = "OddError" if what == "odd" else "SystemExit"
            assert log.summary["wbtune/error"] == error
            assert "in <lambda>" in log.summary["wbtune/traceback"]


# --- threads, and trainables that do not know their trial ---


class Forgetful(tune.Trainable):
    """As an RLlib algorithm: another signature, and Tune's information is dropped."""

    def __init__(self, config=None, env=None, **kwargs):
        assert env is None
        super().__init__({k: v for k, v in config.items() if k != "__trial_info__"}, **kwargs)

    def setup(self, config):
        together = threading.Barrier(6)
        opened = []

        def ask():
            together.wait()
            opened.append(setup_wandb({"lr": config["lr"]}, project=PROJECT))

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (self.wandb,) = {id(run): run for run in opened}.values()

    def step(self):
        self.wandb.log({"mine": 1})
        return {"loss": 1.0, "done": True}

    def save_checkpoint(self, folder):
        return {}


class Mixed(WandbMixin, Forgetful, project=PROJECT):
    """Its mixin has the information before it is dropped."""

    def setup(self, config):
        self.wandb = self.run


@pytest.mark.parametrize("trainable", [Forgetful, Mixed])
def test_a_trainable_that_does_not_know_its_trial(trainable, ray, tmp_path):
    """It is told by its folder; and six threads that ask at once get the one run."""
    results = tune.Tuner(
        trainable, param_space={"lr": 1}, run_config=run_config(tmp_path, "forgetful")
    ).fit()
    assert not results.errors
    ((trial_id, log),) = run_log.read_runs(tmp_path / "forgetful").items()
    assert results[0].path.split("/")[-1].startswith(f"{trainable.__name__}_{trial_id}_")
    assert (log.name, log.group) == (f"{trainable.__name__}_{trial_id}", "forgetful")
    assert (len(log.paths), len(log.rows), log.exit_code) == (1, 1, 0)


def test_run_of_a_plain_function_inside_with_parameters(no_cluster):
    """Decorated from outside, it gets its run and its parameters all the same."""

    def train(config, data, run):
        return {"loss": data, "offline": run.disabled}

    trainable = wandb_trial(mode="disabled")(tune.with_parameters(train, data=5))
    assert trainable({"lr": 1}) == {"loss": 5, "offline": True}
    assert issubclass(trainable.__mixins__[0], ownership.OwnsRun)


# --- one writer, and a metric once ---


def inner(config):
    run = setup_wandb(config, project="inner")
    for i in range(1, STEPS + 1):
        if config["first"] == "log":
            run.log({"loss": i / 2})
        tune.report({"loss": i / 2, "secret": 1})
        if config["first"] == "report":
            run.log({"loss": i / 2})


@wandb_trial(project="declared")
def parametrized(config, run, steps):
    for i in range(1, steps + 1):
        run.log({"loss": i / 2, "mine": i})
        tune.report({"loss": i / 2, "secret": 1})


@pytest.mark.parametrize("kind", ["lambda", "partial", "with_parameters"])
def test_a_function_that_calls_a_decorated_one_under_the_tuner(kind, ray, tmp_path):
    """Its run has the tuner's options where the declaration says nothing, and each result once."""
    decorated, steps = parametrized, STEPS
    trainable = {
        "lambda": lambda config: decorated(config, steps=steps),
        "partial": functools.partial(parametrized, steps=steps),
        "with_parameters": tune.with_parameters(parametrized, steps=steps),
    }[kind]
    results = wandb_tuner(
        trainable,
        project="outer",
        group="g",
        tags=["a"],
        excludes=["secret"],
        run_config=run_config(tmp_path, "calls"),
    ).fit()
    assert not results.errors
    ((trial_id, log),) = run_log.read_runs(tmp_path / "calls").items()
    assert (log.project, log.group, log.tags) == ("declared", "g", ["a"])
    assert log.name == f"{'lambda' if kind == 'lambda' else 'parametrized'}_{trial_id}"
    rows = [(row["training_iteration"], row["loss"], row["mine"]) for row in log.rows]
    assert rows == [(1, 0.5, 1), (2, 1.0, 2), (3, 1.5, 3)]
    assert all("secret" not in row and "time_total_s" in row for row in log.rows)
    assert (len(log.paths), log.exit_code) == (1, 0)


def too_late(config):
    tune.report({"loss": 0.5})
    setup_wandb(config).log({"mine": 1})
    tune.report({"loss": 1.0})


def test_setup_wandb_under_the_tuner(ray, tmp_path):
    """The tuner's options hold where `setup_wandb` says nothing; each result is logged once."""
    wandb_tuner(
        inner,
        project="outer",
        tags=["a"],
        excludes=["secret"],
        param_space={"first": tune.grid_search(["log", "report"])},
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=run_config(tmp_path, "inner"),
    ).fit()
    for log in logs_of(tmp_path / "inner", "first").values():
        assert (log.project, log.group, log.tags) == ("inner", "inner", ["a"])
        rows = [(row["training_iteration"], row["loss"]) for row in log.rows]
        assert rows == [(1, 0.5), (2, 1.0), (3, 1.5)]
        assert all("secret" not in row and "time_total_s" in row for row in log.rows)
        assert len(log.paths) == 1


def test_setup_wandb_too_late(ray, tmp_path):
    """When the driver writes the run already, the trial goes on, and its run has the results."""
    results = wandb_tuner(too_late, project="outer", run_config=run_config(tmp_path, "late")).fit()
    assert not results.errors
    (log,) = run_log.read_runs(tmp_path / "late").values()
    assert [row["loss"] for row in log.rows] == [0.5, 1.0]
