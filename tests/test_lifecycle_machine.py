"""A Trainable's life in its own process, driven with arbitrary interleavings of its events."""

from __future__ import annotations

import pytest
from fakes import FakeRun
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from ray import tune

from wbtune import guard, identity, lifecycle, options, runs


class BoomError(Exception):
    """The user's own."""


class Train(tune.Trainable):
    """Does what the machine told it to do next."""

    def setup(self, config):
        self.next = None

    def step(self):
        if isinstance(self.next, Exception):
            raise self.next
        return dict(self.next)

    def reset_config(self, new_config):
        return True


class LifecycleMachine(RuleBasedStateMachine):
    """One actor, several trials one after the other (``reuse_actors=True``)."""

    @initialize(mirrors=st.booleans(), fails=st.booleans())
    def build(self, mirrors, fails):
        """The actor is built, and the first trial's run opened, or not."""
        self.patch = pytest.MonkeyPatch()
        self.opened, self.disabled, self.cores = [], [], 0
        self.mirrors, self.fails = mirrors, fails
        self.patch.setattr(runs, "open_run", self.open_run)
        self.patch.setattr(runs, "disabled_run", self.disabled_run)
        self.patch.setattr(runs, "end_core", self.end_core)
        self.patch.setattr(guard, "of", lambda run: None)
        self.expected, self.error, self.done, self.over = [], None, False, False
        self.trainable = Train(config={"lr": 1.0})
        declared = options.RunOptions(log_results=mirrors, init_kwargs={"mode": "offline"})
        self.trial_run = lifecycle.TrialRun("machine", declared)
        lifecycle.attach(self.trainable, self.trial_run, reopens=True)
        self.trial_run.open(identity.Identity(), {"lr": 1.0})

    def open_run(self, spec, secret=None):
        if self.fails:
            raise OSError("no server")
        self.opened.append(FakeRun(str(len(self.opened))))
        self.expected.append({"rows": [], "outcome": None})
        return self.opened[-1]

    def disabled_run(self):
        self.disabled.append(FakeRun("disabled"))
        return self.disabled[-1]

    def end_core(self):
        self.cores += 1

    @property
    def run(self):
        return self.trial_run.run

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
        if self.mirrors and not self.fails:
            self.expected[-1]["rows"].append(loss)

    @precondition(lambda self: not self.over)
    @rule()
    def user_logs(self):
        """The user logs a row between two results."""
        self.run.log({"loss": -1.0})
        if not self.fails:
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
    @rule()
    def reused(self):
        """The next trial takes over the actor."""
        self.close_expected()
        assert self.trainable.reset({"lr": 2.0})
        self.error, self.done = None, False

    @rule()
    def stop(self):
        """Tune stops the trainable; also twice."""
        if not self.over:
            self.close_expected()
        self.over = True
        self.trainable.stop()

    def close_expected(self):
        if self.expected:
            self.expected[-1]["outcome"] = self.kind()

    def teardown(self):
        """Each run was closed once, with the outcome that the events imply, and all its rows."""
        if not hasattr(self, "patch"):
            return
        try:
            self.stop()
            assert len(self.opened) == len(self.expected)
            for run, expected in zip(self.opened, self.expected, strict=True):
                outcome, code = expected["outcome"]
                assert run.exit_codes == [code]
                assert run.summary["wbtune/outcome"] == outcome
                assert [row["loss"] for _, row in run.rows] == expected["rows"]
                assert not run.dropped
            assert all(len(run.exit_codes) == 1 for run in self.disabled)
            assert self.cores
        finally:
            self.patch.undo()


TestLifecycle = LifecycleMachine.TestCase
TestLifecycle.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
