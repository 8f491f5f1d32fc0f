"""A Trainable's life in its own process, driven with arbitrary interleavings of its events."""

from __future__ import annotations

import logging
import sys

import pytest
from fakes import FakeRun
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from ray import tune

from wbtune._data import options
from wbtune._place import identity
from wbtune._run import closing, guard, opening
from wbtune._trial import tune_hooks
from wbtune._trial.trial_run import TrialRun


class BoomError(Exception):
    """The user's own."""


class Train(tune.Trainable):
    """Does what the machine told it to do next."""

    def setup(self, config):
        self.next = None
        self.breaks = False

    def step(self):
        if isinstance(self.next, Exception):
            raise self.next
        return dict(self.next)

    def reset_config(self, new_config):
        return True

    def cleanup(self):
        if self.breaks:
            self.breaks = False
            raise BoomError("cleanup")


class Record:
    """The attributes of a run."""


class Listener(logging.Handler):
    """Keeps what wbtune says."""

    def __init__(self):
        super().__init__()
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


#: What W&B does wrong with one run: nothing most of the time.
troubles = st.sampled_from(["", "", "", "open", "log", "finish"])


class LifecycleMachine(RuleBasedStateMachine):
    """One actor, several trials one after the other (``reuse_actors=True``)."""

    @initialize(mirrors=st.booleans(), reopens=st.booleans(), trouble=troubles)
    def build(self, mirrors, reopens, trouble):
        """The actor is built, and the first trial's run opened, or not."""
        self.patch = pytest.MonkeyPatch()
        self.opened, self.disabled, self.cores = [], [], 0
        self.mirrors, self.reopens, self.trouble = mirrors, reopens, trouble
        self.patch.setattr(opening, "open_run", self.open_run)
        self.patch.setattr(opening, "disabled_run", self.disabled_run)
        self.patch.setattr(closing, "end_core", self.end_core)
        self.patch.setattr(guard, "of", lambda run: None)
        self.listener = Listener()
        logging.getLogger("wbtune").addHandler(self.listener)
        self.expected, self.error, self.done, self.over = [], None, False, False
        self.trainable = Train(config={"lr": 1.0})
        declared = options.RunOptions(log_results=mirrors, init_kwargs={"mode": "offline"})
        self.trial_run = TrialRun("machine", declared)
        tune_hooks.attach(self.trainable, self.trial_run, reopens=reopens)
        self.kept = self.trial_run.open(identity.Identity(), {"lr": 1.0})

    def open_run(self, spec, secret=None, **how):
        self.expected.append({"rows": [], "outcome": None, "lost": 0, "trouble": self.trouble})
        if self.trouble == "open":
            self.opened.append(None)
            raise OSError("no server")
        run = FakeRun(str(len(self.opened)), {self.trouble} - {""})
        self.opened.append(self.record(run))
        return run

    def record(self, run):
        """What becomes of this run; its object goes on as the next trial's."""
        record = Record()
        record.__dict__ = vars(run)
        return record

    def disabled_run(self):
        run = FakeRun("disabled")
        self.disabled.append(self.record(run))
        return run

    def end_core(self, end_by=None):
        self.cores += 1

    def kind(self):
        if self.error is not None:
            return ("failed", 1)
        return ("finished", 0) if self.done else ("stopped", 0)

    @precondition(lambda self: not self.over)
    @rule(iteration=st.integers(0, 5), done=st.booleans())
    def result(self, iteration, done):
        """A step returns a result; iterations may go back, as after a restore."""
        loss = float(iteration)
        self.trainable.next = {"loss": loss, "done": done, "training_iteration": iteration}
        self.trainable.train()
        self.done = self.done or done
        if self.mirrors and self.trouble == "log":
            self.expected[-1]["lost"] += 1
        elif self.mirrors:
            self.expected[-1]["rows"].append(loss)

    @precondition(lambda self: not self.over and self.trouble != "log")
    @rule()
    def user_logs(self):
        """The user logs a row between two results."""
        self.trial_run.run.log({"loss": -1.0})
        self.expected[-1]["rows"].append(-1.0)

    @precondition(lambda self: not self.over)
    @rule()
    def boom(self):
        """A step raises; Tune sees the user's exception (of which it makes a copy)."""
        self.trainable.next = BoomError("mine")
        with pytest.raises(BoomError) as caught:
            self.trainable.train()
        assert caught.value.args == ("mine",)
        self.error = self.error or caught.value

    @precondition(lambda self: not self.over)
    @rule(trouble=troubles, by=st.sampled_from(["setup_wandb", "the kept object", "a result"]))
    def reused(self, trouble, by):
        """The next trial takes over the actor; its run is opened by who needs it first."""
        self.expected[-1]["outcome"] = self.kind()
        self.trouble = trouble
        assert self.trainable.reset({"lr": 2.0})
        self.error, self.done = None, False
        assert self.trial_run.is_open == self.reopens
        if by == "setup_wandb" and not self.reopens:
            self.trial_run.open(identity.Identity(), {"lr": 2.0})
        elif by == "the kept object":
            assert self.kept.tags == ()
        else:
            self.result(1, done=False)
        assert self.trial_run.is_open and self.trial_run.run is self.kept

    @rule(breaks=st.booleans())
    def stop(self, breaks):
        """Tune stops the trainable; also twice, and also one whose own cleanup raises."""
        if not self.over:
            self.expected[-1]["outcome"] = self.kind()
        self.over = True
        self.trainable.breaks = breaks
        if breaks:
            with pytest.raises(BoomError, match="cleanup"):
                self.trainable.stop()
        else:
            self.trainable.stop()
        assert not self.trial_run.is_open

    def teardown(self):
        """Each run was closed once, with the outcome that the events imply, and all its rows."""
        if not hasattr(self, "patch"):
            return
        try:
            if sys.exception() is None:  # else a rule has failed: that is what to report
                self.stop(breaks=False)
                self.compare()
        finally:
            logging.getLogger("wbtune").removeHandler(self.listener)
            self.patch.undo()

    def compare(self):
        warnings, disabled = [], iter(self.disabled)
        for opened, expected in zip(self.opened, self.expected, strict=True):
            run = next(disabled) if opened is None else opened
            outcome, code = expected["outcome"]
            assert run.exit_codes == ([] if expected["trouble"] == "finish" else [code])
            assert run.summary["wbtune/outcome"] == outcome
            assert run.summary["wbtune/dropped"] == expected["lost"]
            assert [row["loss"] for _, row in run.rows] == expected["rows"]
            steps = [step for step, _ in run.rows]
            assert steps == sorted(set(steps))
            assert not run.dropped
            match expected["trouble"]:
                case "open":
                    warnings.append("has no run at W&B")
                case "finish":
                    warnings.append("could not close")
                case "log" if expected["lost"]:
                    warnings.append("could not log")
        assert next(disabled, None) is None
        assert len(self.listener.messages) == len(warnings), self.listener.messages
        assert all(w in text for w, text in zip(warnings, self.listener.messages, strict=True))
        assert self.cores


TestLifecycle = LifecycleMachine.TestCase
TestLifecycle.settings = settings(stateful_step_count=20, derandomize=True)
