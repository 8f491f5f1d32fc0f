"""The runs of one experiment on the driver: what the callback's hooks do.

For each trial there is one `TrialState`. Either the driver writes its run (through the
`Writer`), or the trial's own process does, because it is a decorated function or a
`WandbMixin`, or because it called `setup_wandb` first. In that case the driver only tracks the
trial, and at the end it corrects the run if the trial's process could not: because it was killed,
or could not know why it was stopped.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wbtune._data.checkpoint import Objective
from wbtune._data.options import RunOptions
from wbtune._data.outcomes import STOPPED_AT_WANDB, Kind, Outcome
from wbtune._driver import endings
from wbtune._driver.artifacts import Artifacts
from wbtune._driver.experiment_end import ExperimentEnd
from wbtune._driver.trial_runs import TrialRuns
from wbtune._driver.trial_state import TrialState
from wbtune._driver.trials import Trials
from wbtune._driver.writer import Writer
from wbtune._place import handover
from wbtune._place.credentials import Login
from wbtune._run import environment, links, media
from wbtune._upstream import ray_loop, ray_stops, ray_storage

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

    from wbtune._driver.experiment_run import ExperimentRun
    from wbtune._driver.sweep_start import Whole

logger = logging.getLogger("wbtune")


class Experiment:
    """The runs of one experiment.

    Runs on: driver.

    Args:
        public_name: what the user called, for messages.
        options: located and checked.
        login: the key and the server.
        given: the options before they were located, which ``config["wandb"]`` does not override.
        objective: which checkpoint is the best.
        stops: what ``stop=`` and the time budget have decided; None if that can't be known.
        restored: what `state` returned before the driver ended; None for a new experiment.
        writer: writes the runs.
        place: where the runs are at W&B, if that is known.
        whole: the experiment as one thing, with ``sweep=True``.
    """

    def __init__(
        self,
        public_name: str,
        options: RunOptions,
        login: Login | None = None,
        *,
        given: RunOptions | None = None,
        objective: Objective | None = None,
        stops: ray_stops.Stops | None = None,
        restored: Mapping[str, Any] | None = None,
        writer: Writer | None = None,
        place: links.Place | None = None,
        whole: Whole | None = None,
    ) -> None:
        self._options = options
        self._stops = stops
        self._place = place
        self._writer = Writer() if writer is None else writer
        login = login or Login()
        self._trials = Trials(
            public_name, options, login, given=given, objective=objective, restored=restored
        )
        self._runs = TrialRuns(self._trials, self._writer)
        self._artifacts = Artifacts(self._trials, self._runs, self._writer)
        self._whole: ExperimentRun | None = None
        if whole is not None:
            from wbtune._driver.experiment_run import (  # noqa: PLC0415 - only with sweep=True
                ExperimentRun,
            )

            self._whole = ExperimentRun(self._trials, self._writer, whole)
        self._interrupted: threading.Event | None = None
        self._passed_end_on = False

    def state(self) -> dict[str, Any]:
        """What a restored experiment needs: plain data, without secrets."""
        return self._trials.for_restoring()

    def state_of_whole(self) -> dict[str, Any]:
        """The same for the run for the whole experiment; empty without ``sweep=True``."""
        return {} if self._whole is None else self._whole.for_restoring()

    def begin_sweep(self, directory: str | None) -> None:
        """Print the page of the experiment's sweep, and start the helper, which will end it.

        Args:
            directory: the experiment's folder, if it is one of this machine.
        """
        if self._whole is not None:
            self._whole.begin(self._place, directory)

    def _add(self, trial: Trial) -> TrialState:
        state = self._runs.add(trial)
        if self._whole is not None:
            self._whole.open(trial, state)
        return state

    def start(self, trial: Trial) -> None:
        """Note that a trial starts, or starts again."""
        state = self._trials.get(trial)
        if state is None:
            self._runs.open_when_due(trial, self._add(trial))
            return
        state.attempt = max(state.attempt, 1 + trial.num_failures)
        state.outcome, state.failed_to_start = None, False
        self._runs.perturb(trial, state)
        if state.ended:  # a trial that had ended has been resumed
            state.ended = False
            self._runs.open(state)

    def result(self, trial: Trial, result: Mapping[str, Any]) -> None:
        """Log a trial's result."""
        self._stop_if_asked(trial)
        state = self._trials.get(trial)
        if state is None:
            state = self._add(trial)
        delivered = state.delivered  # another thread sets this to None at some point
        if delivered is not None:
            delivered.note(result)
        if not state.is_open and not state.owns_run:
            if self._options.system_metrics:
                here = ray_storage.node_address()
                state.spec = environment.of_process(state.spec, result, here)
            self._runs.open(state)
        if state.ended:  # it continues, so it had not really ended
            state.ended, state.outcome = False, None
        if not state.owns_run:
            row = state.router.snapshot(result, media.detached_copy)
            if state.attempt > 1:
                row["wbtune/attempt"] = state.attempt
            self._writer.log(state.key, row)
        # Only now: if a value can't be compared with a bound, the row is logged already.
        if result.get("done"):
            asked = state.key in self._writer.stops
            state.outcome = (
                STOPPED_AT_WANDB if asked else endings.after_result(trial, result, self._stops)
            )
        if self._whole is not None:
            self._whole.result(trial, result)

    def _stop_if_asked(self, trial: Trial) -> None:
        """If somebody pressed "Stop run" at W&B, make the trial's next result its last.

        When a callback gets a result, Tune has already decided whether to continue; this changes
        the criterion by which it decides on the next one.
        """
        if self._writer.stops:
            state = self._trials.get(trial)
            if state is not None and state.key in self._writer.stops:
                trial.stopping_criterion = {**endings.criteria(trial), "training_iteration": 0}

    def save(self, trial: Trial) -> None:
        """Upload the checkpoint that a trial has just saved, if the policy wants it."""
        self._artifacts.save(trial)

    def end(self, trial: Trial, *, failed: bool) -> None:
        """Close the run of a trial that ended."""
        state = self._trials.get(trial)
        if state is None:  # its actor could not be built
            state = self._add(trial)
            state.failed_to_start = failed
        if not state.ended:
            outcome = endings.failure(trial) if failed else state.outcome
            self._runs.end(state, outcome or endings.between_results(trial))

    def step_end(self, tune_trials: Sequence[Trial]) -> None:
        """Open the runs that their trials have had enough time to claim; count the trials."""
        self._runs.open_overdue()
        if self._whole is not None:
            self._whole.count_when_due(tune_trials)

    def pass_end_on(self, fit: str) -> None:
        """Inform the trials that write their own runs of what has ended the experiment.

        After Ctrl-C, Tune has not stopped them yet; by ``stop=`` or a time budget, just now.

        Otherwise the driver would have to correct their outcomes, with another segment of each run.

        Args:
            fit: the name under which the trials look for it.
        """
        if self._interrupted is None:  # looked up once, in Tune's loop
            self._interrupted = ray_loop.interruption_event() or threading.Event()
        if self._passed_end_on:
            return
        if self._stops is not None and self._stops.all:
            outcome = Outcome(Kind.STOPPED, self._stops.all)
        elif self._interrupted.is_set():
            outcome = Outcome(Kind.INTERRUPTED, endings.SIGNAL)
        else:
            return
        self._passed_end_on = True
        try:
            handover.announce_end(fit, outcome)
        except handover.StoreError as error:
            logger.info("wbtune: can't tell the trials of the experiment's end: %s", error)

    def close(self, trials: list[Trial]) -> None:
        """Close what is still open, wait for uploads, and print where the runs are."""
        end = ExperimentEnd(
            self._trials,
            self._runs,
            self._artifacts,
            self._writer,
            stops=self._stops,
            place=self._place,
            whole=self._whole,
        )
        end.close(trials)
