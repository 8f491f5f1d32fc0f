"""The run that a trial's own process opens, logs to, and closes with the trial's outcome.

The hooks that call it are in :mod:`wbtune._trial.tune_hooks` and
:mod:`wbtune._trial.train_hooks`. Trouble with W&B never ends a trial: when a run can't be
opened or closed, one warning says so and the trial continues with a disabled run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from wbtune._data.deadline import NO_DEADLINE
from wbtune._data.filtering import excludes_of
from wbtune._data.options import RunOptions
from wbtune._data.outcomes import FINISHED, Kind, Outcome
from wbtune._place import identity
from wbtune._run import closing, links, live_copies, opening, segments
from wbtune._trial.actor_reuse import config_for_next, options_for_next
from wbtune._trial.outcome_tracker import STOPPED, OutcomeTracker
from wbtune._trial.process_lock import ProcessLock
from wbtune._trial.result_log import ResultLog
from wbtune._trial.run_plan import plan_run
from wbtune._trial.run_start import start_run
from wbtune._upstream import ray_trial, wandb_finish, wandb_run

if TYPE_CHECKING:
    from ray.tune import Trainable
    from wandb import Run

logger = logging.getLogger("wbtune")

# Cure: Nothing to do: the run is open.
_NOT_SHOWN: Final = "%s: can't say where run %s is: %s"
# Cause: W&B refuses a value.
# Cure: Correct what the error names; the rows are not affected.
_NOT_UPDATED: Final = "%s: could not update the config: %s"
# Cause: W&B could not open the run of the actor's next trial.
# Cure: Correct what the error names.
_WITHOUT_RUN: Final = "%s Trial %s goes on without a run."
# Cause: W&B raised an error at the run's end.
# Cure: What was logged is on disk: `wandb sync`.
_NOT_CLOSED: Final = "%s: could not close run %s: %s"

#: The exit code that the trial itself gave to ``finish``, unless it was 0.
EXIT_CODE: Final = "wbtune/exit_code"


class TrialRun:
    """The run of this process's trial, and then of the next trial if the actor is reused.

    Args:
        public_name: what the user called, for messages.
        options: the declaration, or the arguments of the call.
        api_key: the argument of that name, if it was given.
        declared: the options are a declaration, not arguments of a call in the trial.

    Attributes:
        public_name: what the user called, for messages.
        options: those of the open run, or of the last one.
        can_stop: there is a `Trainable` whose results can end the trial.
        keeps_open: the run stays open until the trial ends, even if the user calls ``finish``.
        iteration: returns how many results the trial has had; None where that is unknown.
        tuner_options: those of a `wandb_tuner`, where the options do not contain them.
        has_trained: the trial has begun to train, or may have without a hook being called.
        end_by: when the trial's process may be killed; set when Tune asks it to end.
    """

    def __init__(
        self,
        public_name: str,
        options: RunOptions,
        api_key: str | None = None,
        *,
        declared: bool = True,
    ) -> None:
        self.public_name = public_name
        self.options = options
        self.can_stop = self.keeps_open = False
        self.has_trained = True
        self.end_by = NO_DEADLINE
        self.iteration: Callable[[], int] | None = None
        self.tuner_options = RunOptions()
        self._api_key = api_key
        self._declared = declared
        self._lock = ProcessLock()
        self._trial = identity.Identity()
        self._config: Mapping[str, Any] | None = None
        self._results: ResultLog | None = None
        self._ending = OutcomeTracker()
        self._copies = live_copies.LiveCopies()
        self._is_open = self._left_open = False
        self._finished_with: int | None = None
        self._warned_keys: set[str] = set()
        # The next trial in this actor and its config, until its run is opened.
        self._next: tuple[identity.Identity, Mapping[str, Any]] | None = None

    @property
    def run(self) -> Run | None:
        """The open run, or the last one."""
        return None if self._results is None else self._results.run

    @property
    def is_open(self) -> bool:
        """Whether the run is open."""
        return self._is_open

    @property
    def stop_asked(self) -> bool:
        """Whether somebody pressed "Stop run" at W&B."""
        return self._ending.stop_asked

    # --- opening ---

    def open(self, trial: identity.Identity, config: Mapping[str, Any] | None) -> Run:
        """Open the run of one trial; a run that is still open is closed first.

        Args:
            trial: the trial.
            config: its config, as Tune gave it.

        Raises:
            WbtuneError: for a declaration that can't work. If W&B fails instead, that is logged,
                and the run is a disabled one.
        """
        with self._lock:
            return self._open(trial, config)

    def open_once(
        self, options: RunOptions, trial: identity.Identity, config: Mapping[str, Any] | None
    ) -> Run:
        """The open run, or a new one if none is open; every thread that calls gets the same."""
        with self._lock:
            if self._is_open and self.run is not None:
                return self.run
            self.options = options
            return self._open(trial, config)

    def _open(self, trial: identity.Identity, config: Mapping[str, Any] | None) -> Run:
        self.close(FINISHED if self._left_open else STOPPED)
        last = self._forget_next()
        plan = plan_run(
            *(self.public_name, self.options, self._api_key, trial, config),
            declared=self._declared,
            tuner_options=self.tuner_options,
        )
        self._ending, self._left_open = OutcomeTracker(trial.fit), False
        self._config, self._finished_with = config, None
        started = start_run(
            self.public_name, plan, trial, self._ask_to_stop if self.can_stop else None
        )
        if last is not None:
            wandb_run.replace_ended(last, started.run)
            started = started._replace(run=last)
        run = started.run
        if self.keeps_open:
            wandb_finish.keep_open(run, self._note_finish)
        self._results = ResultLog(
            self.public_name, started, plan.router, self.iteration, self._warned_keys
        )
        self._is_open, self._trial = True, trial
        self._results.prepare()
        self._copies = live_copies.of_trial(trial, run, lambda: self.has_trained)
        try:
            links.print_run(run)
        except Exception as error:  # noqa: BLE001 - a newer wandb may raise anything here
            logger.warning(_NOT_SHOWN, self.public_name, run.id, error)
        return run

    def _ask_to_stop(self) -> None:
        self._ending.stop_asked = True  # set in wandb's thread; the next result ends the trial

    def _note_finish(self, exit_code: int | None) -> None:
        # The user finished the run; the trial continues.
        self._finished_with = exit_code or self._finished_with

    # --- an actor that is reused ---

    def continue_with(self, trial: identity.Identity, config: Mapping[str, Any]) -> bool:
        """Keep the run open if the next trial is the same one with another config.

        Returns:
            Whether it is.
        """
        same = trial.trial_id is not None and trial.trial_id == self._trial.trial_id
        if not same or not self._is_open or self.run is None:
            return False
        kept = excludes_of(self.options.excludes, self.options.unmask).config(config)
        try:
            opening.update_config(self.run, {k: v for k, v in kept.items() if k != "wandb"})
        except Exception as error:  # noqa: BLE001 - W&B's trouble is not the trial's
            logger.warning(_NOT_UPDATED, self.public_name, error)
        return True

    def open_when_needed(self, trial: identity.Identity, config: Mapping[str, Any]) -> None:
        """Open the run of the next trial in this actor as soon as it is needed.

        It is needed when `setup_wandb` is called again, when the user's code uses the object that
        was the last trial's run (``self.wandb``), which then becomes the next one's, or else at
        the first result.
        """
        with self._lock:
            self._forget_next()
            if self.run is None or self._is_open:
                return
            self._next = trial, config_for_next(config, self._config or {})
            wandb_run.before_next_use(self.run, self.open_next)

    def open_next(self) -> None:
        """Open the next trial's run, if it is not open yet."""
        with self._lock:
            if self._next is None:
                return
            trial, config = self._next
            self.options = options_for_next(self.options, self._trial, trial)
            try:
                self._open(trial, config)
            except Exception as error:  # noqa: BLE001 - W&B's trouble is not the trial's
                logger.warning(_WITHOUT_RUN, error, trial.trial_name)
                if self.run is not None:  # the user's code may still hold it and use it
                    wandb_run.replace_ended(self.run, opening.disabled_run())
                    self._is_open = True

    def _forget_next(self) -> Run | None:
        """Forget the next trial.

        Returns:
            The object of the last run, which the user's code may still hold; None if there was no
            next trial.
        """
        coming, self._next = self._next, None
        if coming is None or self.run is None:
            return None
        wandb_run.restore_class(self.run)
        return self.run

    # --- what the trial does ---

    def note_error(self, error: BaseException) -> None:
        """Note that the trial raised this."""
        self._ending.note_error(error)

    def result(self, result: Mapping[str, Any]) -> None:
        """Note one of Tune's results, and log it if the options ask for that."""
        self._ending.note_result(result)
        if self._results is not None and self._is_open:
            self._results.log(result)

    def function_returned(self) -> None:
        """Close the run of a decorated function, unless what it returned becomes a row of the run.

        In that case Tune reports or refuses that row first, and a hook closes the run.
        """
        if self.can_stop and self._results is not None and self._results.is_on:
            self._left_open = True
            ray_trial.on_training_error(self.note_error)
        else:
            self.close(FINISHED)

    def outcome(self, trainable: Trainable | None = None) -> Outcome:
        """How the trial ended, as far as its own process knows."""
        return self._ending.outcome(trainable)

    def stopped(self) -> Outcome:
        """The outcome when Tune stops the trial."""
        return self._ending.stopped()

    # --- closing ---

    def close(self, outcome: Outcome) -> None:
        """Close the run if it is open; the first thread that calls this closes it."""
        if self.run is not None and not closing.is_ours(self.run):
            return  # in a forked child
        with self._lock:
            results = self._results
            if not self._is_open or results is None:
                return
            self._is_open = False
            run = results.run
            # Tune may have started another actor for the trial, which has the trial's run too.
            unused = outcome.kind is Kind.STOPPED and not self.has_trained
            unused = unused and self._ending.error is None
            self._copies.stop()
            try:
                if unused:
                    outcome = segments.ended_well(run) or outcome
                results.close()
                closing.close_run(run, outcome, self._notes(results), self.end_by)
            except Exception as error:  # noqa: BLE001 - W&B's trouble is not the trial's
                logger.warning(_NOT_CLOSED, self.public_name, run.id, error)
            if not (unused and closing.discard_unused(run)):
                live_copies.deliver(self._trial, run, self._copies, self.end_by)

    def _notes(self, results: ResultLog) -> dict[str, int]:
        """The entries of the summary besides the outcome."""
        finish = {EXIT_CODE: self._finished_with} if self._finished_with else {}
        return results.notes() | finish
