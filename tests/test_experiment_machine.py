"""The driver's view of an experiment, driven with arbitrary interleavings of Tune's events."""

# Over 250 lines: one machine, its model, and the examples that it once found.

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
import wandb
from fakes import FakeTrial, OwnsItsRun
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from lives import wait_until
from ray import tune
from ray.exceptions import RayActorError
from ray.tune.logger import LoggerCallback
from ray.tune.trainable import FunctionTrainable
from strategies import examples

from wbtune import callback
from wbtune._data import options
from wbtune._data.outcomes import EXIT_CODES, FINISHED, Kind, Outcome
from wbtune._data.secret import Secret
from wbtune._driver import experiment, experiment_start, trial_runs
from wbtune._place import handover
from wbtune._place.credentials import Login
from wbtune._run import closing, run_files, run_log
from wbtune._upstream import ray_stops


class RecordingWriter:
    """A writer that holds its callers to the contract: nothing for a run that is not open."""

    def __init__(self):
        self.open = {}
        self.rows = {}
        self.configs = {}
        self.ends = {}
        self.uploads = []
        self.stops = set()
        self.closed = False

    def launch(self, log_file=None):
        assert not self.closed

    def start(self, key, spec, router, secret):
        assert key not in self.open, "opened twice"
        self.open[key] = spec
        self.configs.setdefault(key, {}).update(spec.config)

    def log(self, key, result):
        assert key in self.open
        self.rows.setdefault(key, []).append(dict(result))

    def log_all(self, key, results):
        assert key in self.open
        for result in results():
            self.log(key, result)

    def configure(self, key, config):
        assert key in self.open
        self.configs[key].update(config)

    def upload(self, key, checkpoint, reopen, secret):
        assert Path(checkpoint.folder).is_dir()
        assert reopen().spec.init["id"] == key
        self.uploads.append((key, key in self.open))
        checkpoint.discard()

    def end(self, key, outcome, notes=None):
        del self.open[key]
        self.ends.setdefault(key, []).append((outcome, dict(notes or {})))

    def close(self, timeout, is_interrupted=bool):
        assert not self.open, "left open"
        self.closed = True
        return True


class IsAFunction(FunctionTrainable):
    """What Tune makes of a function: it has some time to claim its run."""


class TuneLoop:
    """The caller whose locals tell who said ``done``; its class is the scheduler's owner."""

    def __init__(self, scheduler):
        self._scheduler_alg = type(scheduler, (), {})()

    def _process_trial_result(self, watching, trial, result, said_done):
        flat_result = {"done": said_done}
        watching.result(trial, result)
        return flat_result


@dataclass
class Life:
    """What the events so far imply for one trial's run."""

    due: float | None = None
    owner: str = ""
    is_open: bool = False
    attempt: int = 1
    rows: list = field(default_factory=list)
    announced: Kind | None = None
    ended: Kind | None = None
    unbuilt: bool = False
    ends: list = field(default_factory=list)
    changes: int = 0
    saved: int = 0

    def open(self, claimed):
        self.due = None
        self.owner = self.owner or claimed
        self.is_open = self.owner == "driver"

    def end(self, kind, claimed):
        if self.ended is not None:
            return
        self.open(claimed)
        self.ended = self.announced = kind
        if self.is_open:
            self.ends.append((kind, self.attempt))
        self.is_open = False


ENDINGS = ["finished", "signal", "exception"]
NAMES = "abcdef"
BOUND = 7


class ExperimentMachine(RuleBasedStateMachine):
    """Several trials at once: classes, functions, and trials that own their run."""

    names = st.sampled_from(NAMES)

    @initialize(ending=st.sampled_from(ENDINGS), budget=st.sampled_from([None, 9]))
    def build(self, ending, budget):
        """An experiment, and how it is going to end."""
        self.ending, self.budget, self.now = ending, budget, 1.0
        self.folder = Path(tempfile.mkdtemp())
        self.claims, self.on_disk, self.uploads = {}, {}, []
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(handover, "claim", self.claim)
        self.patch.setattr(trial_runs, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.patch.setattr(run_files, "ends", lambda folder: dict(self.on_disk))
        self.writer = RecordingWriter()
        self.stops = ray_stops.Stops()
        self.experiment = experiment.Experiment(
            "machine",
            options.RunOptions(project="p", upload_checkpoints=True),
            writer=self.writer,
            stops=self.stops,
        )
        kinds = {"b": OwnsItsRun, "e": IsAFunction, "f": IsAFunction}
        self.trials = {
            name: FakeTrial(name, self.folder, kinds.get(name, tune.Trainable)) for name in NAMES
        }
        for trial in self.trials.values():
            trial.checkpoint = None
        self.trials["c"].stopping_criterion = {"training_iteration": BOUND}
        self.lives = {}

    def claim(self, name, owner, seconds=0.0):
        return self.claims.setdefault(name.rpartition("/")[2], owner)

    def claimed(self, name):
        return self.claims.get(name, "driver")

    def life(self, name):
        owner = "trial" if name == "b" else ""
        return self.lives.setdefault(name, Life(owner=owner))

    # --- rules ---

    @rule(name=names)
    def start(self, name):
        """A trial starts, or starts again after a pause; also twice in a row."""
        trial, known = self.trials[name], name in self.lives
        trial.status = "RUNNING"
        life = self.life(name)
        if not known:
            life.due = None if name == "b" else self.now + 10 * (name in "ef")
        self.experiment.start(trial)
        if not known and name != "b":
            self.overdue()
        elif known:
            life.attempt = max(life.attempt, 1 + trial.num_failures)
            life.announced, life.unbuilt = None, False
            if life.ended is not None:
                life.ended = None
                life.open(self.claimed(name))

    @rule(name=names)
    def retry(self, name):
        """Tune counts a failure and starts the trial again."""
        self.trials[name].num_failures += name in self.lives
        self.start(name)

    @rule(name=names, lr=st.floats(0.1, 9.0))
    def perturb(self, name, lr):
        """A scheduler changes the config and starts the trial again."""
        trial = self.trials[name]
        if name in self.lives:
            self.lives[name].changes += trial.config["lr"] != lr
        trial.config = {"lr": lr}
        self.start(name)

    @rule(
        name=names,
        iteration=st.integers(0, 9),
        done=st.sampled_from([None, None, "trial", "FIFOScheduler", "AsyncHyperBandScheduler"]),
    )
    def result(self, name, iteration, done):
        """A result arrives, also out of order, unannounced, or after the end."""
        trial, life = self.trials[name], self.life(name)
        result = {"training_iteration": iteration, "number": len(life.rows)}
        if done is not None:
            result["done"] = True
        trial.last_result = result
        if done is None:
            self.experiment.result(trial, result)
        else:
            TuneLoop(done)._process_trial_result(self.experiment, trial, result, done == "trial")
        if not life.is_open:
            life.open(self.claimed(name))
        if life.ended is not None:  # it goes on, whatever was said before
            life.ended = life.announced = None
        if done is not None:
            life.announced = Kind.FINISHED if done == "trial" else Kind.STOPPED
        if life.owner == "driver":
            life.rows.append(life.attempt)

    @precondition(lambda self: self.lives)
    @rule(data=st.data(), again=st.booleans())
    def checkpoint(self, data, again):
        """A trial saved a checkpoint, perhaps after its end; or the one that it had once more."""
        name = data.draw(st.sampled_from(sorted(self.lives)))
        life, trial = self.lives[name], self.trials[name]
        if not again or trial.checkpoint is None:
            folder = self.folder / f"{name}{life.saved}"
            folder.mkdir()
            trial.checkpoint = tune.Checkpoint(str(folder))
            life.saved += 1
        else:
            again = None
        self.experiment.save(trial)
        if again is None:
            return
        if life.ended is None:
            life.open(self.claimed(name))
        self.uploads.append((name, life.is_open))

    @rule(name=names, returned=st.booleans())
    def end(self, name, returned):
        """A trial ends well; also twice, or without a start.

        Its function returned, which Tune notes in the last result; or it was paused, and
        its scheduler does not take it up again.
        """
        trial, life = self.trials[name], self.life(name)
        trial.status = "TERMINATED"
        if returned:
            trial.last_result["done"] = True
        self.experiment.end(trial, failed=False)
        last = trial.last_result
        by_itself = last.get("done") or not last.get("training_iteration")
        kind = life.announced or (Kind.FINISHED if by_itself else Kind.STOPPED)
        life.end(kind, self.claimed(name))

    @rule(name=names, error=st.sampled_from([ValueError("boom"), None, RayActorError()]))
    def fail(self, name, error):
        """A trial raised, or its process died; also one that was never started."""
        self.trials[name].status, self.trials[name].error = "ERROR", error
        self.experiment.end(self.trials[name], failed=True)
        unbuilt = name not in self.lives
        life = self.life(name)
        life.unbuilt = life.unbuilt or unbuilt
        life.end(self.failure(name), self.claimed(name))

    def failure(self, name):
        died = isinstance(self.trials[name].error, RayActorError)
        return Kind.LOST if died else Kind.FAILED

    @rule(seconds=st.sampled_from([1, 6, 11]))
    def loop(self, seconds):
        """Tune's loop turns, some time later."""
        self.now += seconds
        self.experiment.step_end([])
        self.overdue()

    def overdue(self):
        for name, life in self.lives.items():
            if life.due is not None and life.due <= self.now:
                life.open(self.claimed(name))

    @rule(name=st.sampled_from("bef"))
    def own_process_opens(self, name):
        """A trial opens its run itself, if its class owns it or it comes before the driver."""
        if name in self.lives and (name == "b" or self.claim(name, "trial") == "trial"):
            self.on_disk[name] = None

    @precondition(lambda self: self.on_disk)
    @rule(data=st.data(), code=st.sampled_from([0, 1]))
    def own_process_closes(self, data, code):
        """And closes it, as far as it knows."""
        self.on_disk[data.draw(st.sampled_from(sorted(self.on_disk)))] = code

    @invariant()
    def every_row_went_out_in_order(self):
        """Rows out are rows in, each with its attempt, for the trials that the driver writes."""
        for name, life in self.lives.items():
            sent = self.writer.rows.get(name, [])
            assert [row.get("wbtune/attempt", 1) for row in sent] == life.rows
            assert [row["number"] for row in sent] == list(range(len(sent)))
            assert (name in self.writer.open) == life.is_open

    # --- the end ---

    def close(self):
        trials = list(self.trials.values())
        experiment_interrupted_event = threading.Event()  # where Tune has it: in the caller
        if self.ending == "signal":
            experiment_interrupted_event.set()
        if self.ending == "finished" and self.budget is not None:
            self.stops.all = f"time_budget_s={self.budget}"
        if self.ending != "exception":
            self.experiment.close(trials)
            return
        try:
            raise_in_tunes_loop()
        except KeyError:
            self.experiment.close(trials)

    def teardown(self):
        """Every run was closed once for each opening, and each time with the truth."""
        if not hasattr(self, "patch"):
            return
        try:
            if sys.exception() is None:  # else a rule has failed: that is what to report
                self.close()
                self.compare()
        finally:
            self.patch.undo()
            shutil.rmtree(self.folder)

    def compare(self):
        assert self.writer.closed
        waited = [upload for upload in self.uploads if self.lives[upload[0]].owner == "trial"]
        at_once = [upload for upload in self.uploads if upload not in waited]
        assert self.writer.uploads[: len(at_once)] == at_once
        assert sorted(self.writer.uploads[len(at_once) :]) == sorted(waited)
        assert not list(self.folder.rglob(".checkpoint-*"))
        rest = Kind.STOPPED if self.ending == "finished" else Kind.INTERRUPTED
        self.life("b")  # is spoken for even if Tune never said a word of it
        for name, life in self.lives.items():
            open_ended = life.ended is None and life.announced is None
            failed = self.trials[name].status == "ERROR"
            life.end(self.failure(name) if failed else life.announced or rest, self.claimed(name))
            if life.owner == "trial" and (name in self.on_disk or life.unbuilt):
                self.speaks_up(life, self.on_disk.get(name))
            ended = self.writer.ends.get(name, [])
            assert [(o.kind, notes.get("wbtune/attempt", 1)) for o, notes in ended] == life.ends
            if ended and open_ended and rest is Kind.STOPPED and not failed:
                budget = self.budget is not None
                assert ("time_budget_s=9" in ended[-1][0].reason) == budget or life.owner == "trial"
            if life.ends:
                perturbations = self.writer.configs[name].get("wbtune/perturbations", [])
                assert len(perturbations) == life.changes
        assert set(self.writer.ends) <= set(self.lives)

    @staticmethod
    def speaks_up(life, code):
        """Of a run that its own process wrote: only what that could not say."""
        well = EXIT_CODES[life.ended] == 0
        if code is not None and (code == 0) == well and not life.changes:
            return
        life.ends.append((Kind.LOST if code is None and well else life.ended, life.attempt))


def raise_in_tunes_loop():
    raise KeyError("a searcher's")


TestExperiment = ExperimentMachine.TestCase
TestExperiment.settings = settings(
    max_examples=examples(150), stateful_step_count=30, derandomize=True
)


def test_a_checkpoint_that_comes_after_the_end(tmp_path):
    """Tune's word on a save may come late: the run opens again, and stays as the trial ended."""
    (tmp_path / "model").mkdir()
    writer = RecordingWriter()
    declared = options.RunOptions(project="p", upload_checkpoints=True)
    watching = experiment.Experiment("who", declared, writer=writer)
    trial = FakeTrial("a", tmp_path)
    trial.checkpoint = tune.Checkpoint(str(tmp_path / "model"))
    watching.start(trial)
    watching.end(trial, failed=True)
    watching.save(trial)
    watching.close([trial])
    assert [outcome.kind for outcome, _ in writer.ends["a"]] == [Kind.FAILED]
    assert writer.uploads == [("a", False)]


class FailingExperiment:
    """One that raises, whatever it is asked to do."""

    def __init__(self, *args, **kwargs):
        pass

    def __getattr__(self, name):
        raise ValueError(f"no {name} today")


TRIAL = FakeTrial("a", "nowhere")
HOOKS = {
    "on_step_end": (1, [TRIAL]),
    "log_trial_start": (TRIAL,),
    "log_trial_result": (1, TRIAL, {"loss": 1.0}),
    "log_trial_save": (TRIAL,),
    "log_trial_end": (TRIAL,),
    "on_experiment_end": ([TRIAL],),
}


@pytest.fixture
def failing_callback(monkeypatch):
    monkeypatch.setattr(experiment_start, "Experiment", FailingExperiment)
    way = callback.WandbLoggerCallback(project="p", upload_checkpoints=True)
    way.setup()
    return way


@pytest.mark.parametrize("hook", HOOKS)
def test_hooks_never_raise(hook, failing_callback, caplog):
    """An exception in a hook is logged, and does not reach Tune."""
    getattr(failing_callback, hook)(*HOOKS[hook])
    assert f"{hook} failed; the experiment goes on" in caplog.text
    assert "ValueError: no " in caplog.text


def test_every_hook_is_one_that_never_raises():
    """But `setup`, which Tune calls before any trial: what it raises is meant for the user."""
    hooks = {name for name in dir(LoggerCallback) if name.startswith(("on_", "log_"))}
    assert hooks & vars(callback.WandbLoggerCallback).keys() == set(HOOKS)


@pytest.mark.parametrize(
    ("before", "logs", "expected"),
    [
        (None, False, Kind.LOST),
        (FINISHED, False, Kind.FINISHED),
        (FINISHED, True, Kind.LOST),
        (Outcome(Kind.STOPPED, reason="paused"), False, Kind.LOST),
    ],
    ids=["nothing", "finished", "finished, and rows after it", "paused"],
)
def test_a_silent_trial_is_spoken_for(before, logs, expected, tmp_path, capsys):
    """A trial that owns its run and left no exit record is closed by the driver, as lost.

    Unless its process had finished it: then Tune has killed an actor that came too late.
    """
    silent = b""
    if before is not None:
        run = wandb.init(project="p", id="a", dir=tmp_path, mode="offline")
        run.log({"loss": 1.0})
        [path] = run_files.logs(tmp_path, "a")
        wait_until(lambda: run_log.read(path).rows)
        silent = path.read_bytes() if logs else b""
        closing.close_run(run, before)
        assert run_files.wait_for_end(path)
        capsys.readouterr()
    writer = RecordingWriter()
    watching = experiment.Experiment("who", options.RunOptions(project="p"), writer=writer)
    trial = FakeTrial("a", tmp_path, OwnsItsRun)
    watching.start(trial)
    folder = tmp_path / "wandb" / "offline-run-29990101_000000-a"
    folder.mkdir(parents=True)
    (folder / "run-a.wandb").write_bytes(silent)
    watching.end(trial, failed=False)
    watching.close([trial])
    [(outcome, _)] = writer.ends["a"]
    assert outcome.kind is expected
    assert run_files.ends(tmp_path) == {"a": None}
    assert capsys.readouterr().out.startswith("wbtune: 1 run in")


@pytest.mark.parametrize("mode", ["fork", "never"])
def test_state_round_trip(mode, tmp_path):
    """What a restored experiment is told: attempts and perturbations go on."""
    trial = FakeTrial("a", tmp_path)
    before = experiment.Experiment("w", options.RunOptions(project="p"), writer=RecordingWriter())
    before.start(trial)
    trial.num_failures = 2 if mode == "fork" else 0
    trial.config = {"lr": 5.0}
    before.start(trial)
    state = before.state()
    writer = RecordingWriter()
    after = experiment.Experiment(
        "w", options.RunOptions(project="p"), writer=writer, restored=state
    )
    after.start(trial)
    after.result(trial, {"training_iteration": 1})
    assert len(writer.configs["a"]["wbtune/perturbations"]) == 1
    assert writer.rows["a"][0].get("wbtune/attempt", 1) == (3 if mode == "fork" else 1)


def test_what_a_restored_experiment_knows_is_kept_for_the_next_restore(tmp_path):
    """Also of trials that Tune has not come to when it is interrupted again."""
    declared, trial = options.RunOptions(project="p"), FakeTrial("a", tmp_path)
    before = experiment.Experiment("w", declared, writer=RecordingWriter())
    before.start(trial)
    state = before.state()
    again = experiment.Experiment("w", declared, writer=RecordingWriter(), restored=state)
    assert again.state() == state
    again.start(FakeTrial("b", tmp_path))
    assert [*again.state()] == ["a", "b"]


def test_a_trial_that_is_offline_needs_no_key(tmp_path):
    """Its own ``config["wandb"]`` keeps it on disk: no process that writes it gets the key."""
    secrets = {}

    class Writer(RecordingWriter):
        def start(self, key, spec, router, secret):
            super().start(key, spec, router, secret)
            secrets[key] = secret

    secret = Secret("k" * 40)
    watching = experiment.Experiment(
        "w", options.RunOptions(project="p"), Login(secret), writer=Writer()
    )
    for name, inner in {"a": {"mode": "offline"}, "b": {"mode": "online"}, "c": {}}.items():
        trial = FakeTrial(name, tmp_path)
        trial.config = {"lr": 1, "wandb": inner}
        watching.start(trial)
        watching.result(trial, {"training_iteration": 1})
    assert secrets == {"a": None, "b": secret, "c": secret}


def test_one_id_for_several_trials(tmp_path, caplog):
    """The first trial has the id, the others one made from it; said once, and kept on restore."""

    def begin(order, state=None):
        writer = RecordingWriter()
        declared = options.RunOptions(project="p", init_kwargs={"id": "one"})
        watching = experiment.Experiment("who", declared, writer=writer, restored=state)
        for name in order:
            trial = FakeTrial(name, tmp_path)
            watching.start(trial)
            watching.result(trial, {"name": name})
        return {key: [row["name"] for row in rows] for key, rows in writer.rows.items()}, watching

    rows, before = begin("abc")
    assert rows == {"one": ["a"], "one-b": ["b"], "one-c": ["c"]}
    assert len(caplog.messages) == 1
    assert "id='one' is one run's" in caplog.messages[0]
    rows, _ = begin("dcba", before.state())
    assert rows == {"one": ["a"], "one-b": ["b"], "one-c": ["c"], "one-d": ["d"]}
    caplog.clear()
    rows, _ = begin("a")
    assert (rows, caplog.messages) == ({"one": ["a"]}, [])


@pytest.mark.parametrize(
    ("inner", "says"),
    [({"grop": "g"}, "Did you mean group="), ({"mode": "offlin"}, "got 'offlin'")],
)
def test_what_a_sampled_config_says_wrongly(inner, says, tmp_path, caplog):
    """A bad ``config["wandb"]`` is said once, with its cure; its trial is logged all the same."""
    writer = RecordingWriter()
    watching = experiment.Experiment("who", options.RunOptions(project="p"), writer=writer)
    trial = FakeTrial("a", tmp_path)
    trial.config = {"lr": 1.0, "wandb": inner}
    watching.start(trial)
    for i in range(1, 4):
        watching.result(trial, {"training_iteration": i, "config": trial.config})
        watching.start(trial)  # it was paused
    watching.end(trial, failed=False)
    assert [row["training_iteration"] for row in writer.rows["a"]] == [1, 2, 3]
    assert [outcome.kind for outcome, _ in writer.ends["a"]] == [Kind.FINISHED]
    assert len(caplog.messages) == 1
    assert says in caplog.text and "trial_a is logged without it" in caplog.text
    # A trial that writes its own run raises it: it has none, and this would not be true.
    own = FakeTrial("b", tmp_path, OwnsItsRun)
    own.config = trial.config
    watching.start(own)
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("complete", [True, False])
def test_the_closing_line(complete, tmp_path, capsys):
    """Says where the runs are, by a command that a shell understands; nothing without runs."""
    folder = tmp_path / "it's here"
    folder.mkdir()
    printed_lines = []
    for run in (None, folder / "wandb" / "offline-run-20260101_000000-a"):
        if run is not None:
            run.mkdir(parents=True)
            (run / "run-a.wandb").touch()
        writer = RecordingWriter()
        writer.close = lambda timeout, is_interrupted: complete
        offline = options.RunOptions(project="p", init_kwargs={"mode": "offline"})
        watching = experiment.Experiment("who", offline, writer=writer)
        trial = FakeTrial("a", folder)
        watching.start(trial)
        watching.close([trial])
        printed_lines.append(capsys.readouterr().out.splitlines())
    assert printed_lines[0] == []
    assert printed_lines[1][0] == f"wbtune: 1 run in {folder / 'wandb'}"
    assert len(printed_lines[1]) == 2
    command = printed_lines[1][1].partition(" by: ")[2]
    words = subprocess.check_output(["bash", "-c", f"printf '%s\\n' {command}"], text=True)
    assert words.splitlines()[-1] == str(folder)
    assert "--include-online" not in command  # an offline run is not late, complete or not


def test_what_is_excluded_is_in_no_artifact(tmp_path):
    """An artifact's metadata are the trial's last result, less what `excludes` keeps out."""
    (tmp_path / "model").mkdir()
    saved, writer = [], RecordingWriter()
    writer.upload = lambda key, checkpoint, *rest: saved.append(checkpoint.metadata)
    declared = options.RunOptions(project="p", upload_checkpoints=True, excludes=("secret", "lr"))
    watching = experiment.Experiment("who", declared, writer=writer)
    trial = FakeTrial("a", tmp_path)
    trial.checkpoint = tune.Checkpoint(str(tmp_path / "model"))
    trial.last_result = {
        "loss": 1,
        "secret": {"x": 2},
        "config": {"lr": 3},
        "experiment_tag": "1_lr=3",
    }
    watching.start(trial)
    watching.save(trial)
    assert saved == [{"loss": 1}]
    watching.close([trial])
