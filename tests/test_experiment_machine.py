"""The driver's view of an experiment, driven with arbitrary interleavings of Tune's events."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from fakes import FakeTrial, OwnsItsRun
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wbtune import experiment, options, runlog
from wbtune.outcomes import Kind


class RecordingWriter:
    """A writer that holds orders to their contract: nothing for a run that is not open."""

    def __init__(self):
        self.open = {}
        self.rows = {}
        self.configs = {}
        self.ends = {}
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

    def configure(self, key, config):
        assert key in self.open
        self.configs[key].update(config)

    def end(self, key, outcome, notes=None):
        del self.open[key]
        self.ends.setdefault(key, []).append((outcome, dict(notes or {})))

    def close(self, timeout):
        assert not self.open, "left open"
        self.closed = True
        return True


class ExperimentMachine(RuleBasedStateMachine):
    """Several trials at once; the model is a list of rows and the last word on each."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.writer = RecordingWriter()
        self.experiment = experiment.Experiment(
            "machine", options.RunOptions(project="p"), writer=self.writer, time_budget=9
        )
        kinds = {"b": OwnsItsRun}
        self.trials = {
            name: FakeTrial(name, self.folder, *([kinds[name]] if name in kinds else []))
            for name in "abcd"
        }
        self.rows = {name: [] for name in self.trials}
        self.known = set()
        self.ended = {}
        self.said = {}
        self.changes = dict.fromkeys(self.trials, 0)

    names = st.sampled_from("abcd")

    @rule(name=names)
    def start(self, name):
        """A trial starts, or starts again after a pause; also twice in a row."""
        self.experiment.start(self.trials[name])
        self.known.add(name)
        self.ended.pop(name, None)
        self.said.pop(name, None)

    @rule(name=names)
    def retry(self, name):
        """Tune counts a failure and starts the trial again."""
        self.trials[name].num_failures += 1
        self.start(name)

    @precondition(lambda self: self.known)
    @rule(name=names, lr=st.floats(0.1, 9.0))
    def perturb(self, name, lr):
        """A scheduler changes the config and starts the trial again."""
        trial = self.trials[name]
        if name in self.known and trial.config["lr"] != lr:
            self.changes[name] += 1
        trial.config = {"lr": lr}
        self.start(name)

    @rule(name=names, iteration=st.integers(0, 9), done=st.booleans())
    def result(self, name, iteration, done):
        """A result arrives, also out of order, unannounced, or after the end."""
        result = {"training_iteration": iteration, "loss": float(len(self.rows[name]))}
        if done:
            result["done"] = True
            self.said[name] = Kind.FINISHED
        elif name in self.ended:
            self.said.pop(name, None)
        self.ended.pop(name, None)  # it goes on, whatever was said before
        self.trials[name].last_result = result
        self.experiment.result(self.trials[name], result)
        self.known.add(name)
        self.rows[name].append(result["loss"])

    @rule(name=names)
    def end(self, name):
        """A trial ends well; also twice."""
        self.experiment.end(self.trials[name], failed=False)
        self._ended(name, Kind.FINISHED)

    @rule(name=names)
    def fail(self, name):
        """A trial fails; also one that was never started."""
        self.trials[name].error = ValueError("boom")
        self.experiment.end(self.trials[name], failed=True)
        self._ended(name, Kind.FAILED)

    def _ended(self, name, kind):
        self.known.add(name)
        if name not in self.ended:
            self.ended[name] = kind

    @rule()
    def loop(self):
        """Tune's loop turns."""
        self.experiment.open_overdue()

    @invariant()
    def every_row_went_out_in_order(self):
        """Rows out are rows in, for the trials that the driver writes."""
        for name, rows in self.rows.items():
            sent = [row["loss"] for row in self.writer.rows.get(name, [])]
            assert sent == ([] if name == "b" else rows)

    def teardown(self):
        """The experiment ends: every run was closed once for each time it was opened."""
        interrupted = len(self.known) % 2

        if interrupted:
            try:
                raise_in_tunes_loop()
            except KeyError:
                self.experiment.close(list(self.trials.values()))
        else:
            self.experiment.close(list(self.trials.values()))
        assert self.writer.closed
        rest = Kind.INTERRUPTED if interrupted else Kind.STOPPED
        for name in self.known - {"b"}:
            outcome, notes = self.writer.ends[name][-1]
            assert outcome.kind is self.ended.get(name, self.said.get(name, rest))
            failures = self.trials[name].num_failures
            assert notes.get("wbtune/attempt", 1) <= 1 + failures
            perturbations = self.writer.configs[name].get("wbtune/perturbations", [])
            assert len(perturbations) == self.changes[name]
        assert "b" not in self.writer.ends
        assert set(self.writer.ends) <= self.known


def raise_in_tunes_loop():
    raise KeyError("a searcher's")


TestExperiment = ExperimentMachine.TestCase
TestExperiment.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


def test_hooks_never_raise(caplog):
    """An exception in a hook is said, and does not reach Tune."""

    @experiment.never_raises
    def on_step_end():
        raise ValueError("mine")

    on_step_end()
    assert "on_step_end failed" in caplog.text


def test_a_silent_trial_is_spoken_for(tmp_path, capsys):
    """A trial that owns its run and left no exit record is closed by the driver, as lost."""
    writer = RecordingWriter()
    watching = experiment.Experiment("who", options.RunOptions(project="p"), writer=writer)
    trial = FakeTrial("a", tmp_path, OwnsItsRun)
    watching.start(trial)
    folder = tmp_path / "wandb" / "offline-run-20260101_000000-a"
    folder.mkdir(parents=True)
    (folder / "run-a.wandb").write_bytes(b"")
    watching.end(trial, failed=False)
    watching.close([trial])
    [(outcome, _)] = writer.ends["a"]
    assert outcome.kind is Kind.LOST
    assert runlog.ends(tmp_path) == {"a": None}
    assert capsys.readouterr().out.startswith("wbtune: 1 runs in")


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
