"""The run of the trial that a process works on: opened, given rows, closed with the outcome.

What makes it follow a `Trainable`'s life is in :mod:`wbtune.lifecycle`. A tracker's trouble
never ends a trial: when a run can't be opened or closed, that is said once and the trial
goes on with a disabled run.
"""

# Over 250 lines: the life of one run, from before it is opened until after it is closed.

from __future__ import annotations

import functools
import logging
import shlex
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from wbtune import _compat, credentials, handover, identity, links, media, runlog, runs, sanitize
from wbtune.filtering import Router, excludes_of
from wbtune.options import RunOptions, take_from_config
from wbtune.outcomes import FINISHED, STOPPED_AT_WANDB, Kind, Outcome

if TYPE_CHECKING:
    from ray.tune import Trainable
    from wandb import Run

logger = logging.getLogger("wbtune")

P = ParamSpec("P")
R = TypeVar("R")

#: Seconds that the copy of its run to a remote storage may take; then it goes on alone.
DELIVER_S: Final = 10.0

ATTEMPT: Final = "wbtune/attempt"

#: A trial's own process is not told why.
STOPPED: Final = Outcome(
    Kind.STOPPED, reason="unknown: Tune stopped the trial, and does not tell its process why"
)


class OwnsRun:
    """Marks a trainable class that opens its own run; the callback leaves it alone."""

    __slots__ = ()


class TrialRun:
    """The run of the trial that this process works on, and of the next, if it is reused.

    Attributes:
        run: the open run, or the last one.
        stop_asked: somebody pressed "Stop run" at W&B.
        can_stop: there is a `Trainable` whose results can end the trial.
    """

    def __init__(
        self,
        who: str,
        options: RunOptions,
        api_key: str | None = None,
        *,
        declared: bool = True,
    ) -> None:
        self.who = who
        self.options = options
        self.run: Run | None = None
        self._api_key = api_key
        self._declared = declared
        self.stop_asked = self.can_stop = False
        self._router = Router()
        self._spec = runs.RunSpec({})
        self._steps = runs.Steps()
        self._dropped = 0
        self._left_out: set[str] = set()
        self._attempt = 1
        self._returned = False
        self._mirrors = self._left_open = False
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._open = False
        self._who_am_i = identity.Identity()

    @property
    def is_open(self) -> bool:
        """Is the run open?"""
        return self._open

    def open(self, who_am_i: identity.Identity, config: Mapping[str, Any] | None) -> Run:
        """Open the run of one trial; a run that is still open is closed first.

        Args:
            who_am_i: the trial.
            config: its config, as Tune gave it.

        Raises:
            WbtuneError: for a declaration that can't work. W&B's own trouble is logged,
                and the run is a disabled one.
        """
        self.close(FINISHED if self._left_open else STOPPED)
        inner, rest, inner_key = take_from_config(self.who, config, _compat.init_parameters())
        options = runs.locate(self.who, inner | self.options)
        if self._api_key:  # an argument comes before what config["wandb"] says
            options = replace(options, api_key_file=None)
        api_key = self._api_key or (None if options.api_key_file else inner_key)
        login, trouble = credentials.of_trial_or_offline(
            *(self.who, options, who_am_i, api_key), declared=self._declared
        )
        excludes = excludes_of(options.excludes, options.unmask)
        self._router = Router(excludes, log_config=bool(options.log_config))
        spec = runs.spec(options, who_am_i, excludes.config(rest), login.settings)
        self._spec = spec._replace(objective=login.objective)
        self._dropped, self._returned, self._error = 0, False, None
        self.stop_asked = self._left_open = False
        self._mirrors = bool(options.log_results)
        try:
            unclaimed = _claim(who_am_i)
            if credentials.needs_key(options.mode or login.settings.get("mode")):
                trouble = trouble or unclaimed
            if trouble:
                self._spec, login = runs.offline(self._spec), credentials.OFFLINE
            self._attempt = _attempt(who_am_i, self._spec)
            on_stop = self._stop_is_asked if self.can_stop else None
            run = runs.open_run(self._spec, login.secret, on_stop=on_stop)
            if trouble:
                self._is_on_disk(run, trouble)
        except Exception as error:  # noqa: BLE001 - W&B's trouble is not the trial's
            logger.warning(
                "%s: trial %s has no run at W&B: %s: %s. It goes on without.",
                *(self.who, who_am_i.trial_name, type(error).__name__, error),
            )
            run = runs.disabled_run()
        self._steps = runs.Steps(run.starting_step)
        self.run, self._open, self._who_am_i = run, True, who_am_i
        self._prepare(run)
        links.say_run(run)
        return run

    def _is_on_disk(self, run: Run, trouble: str) -> None:
        """Say that a run which was to be uploaded is kept on disk, and why."""
        folder = Path(run.dir).parent
        runlog.mark_not_uploaded(folder)
        logger.warning(
            "%s: %s Run %s is kept on disk meanwhile; send it by: wandb sync %s",
            *(self.who, trouble if trouble.endswith(".") else f"{trouble}.", run.id),
            shlex.quote(str(folder)),
        )

    def _stop_is_asked(self) -> None:
        self.stop_asked = True  # by wandb's own thread; the next result ends the trial

    def _prepare(self, run: Run) -> None:
        # Apart from opening it: a run that refuses this is open all the same.
        try:
            runs.define_metrics(run, self._spec, mirrors=self._mirrors)
            if self._attempt > 1 and not self._mirrors:
                # Not a row of its own: it joins the next that the trial logs.
                run.log({ATTEMPT: self._attempt}, commit=False)
        except Exception as error:  # noqa: BLE001 - W&B's trouble is not the trial's
            logger.warning("%s: could not prepare run %s: %s", self.who, run.id, error)

    def function_returned(self) -> None:
        """A decorated function did: close its run, unless what it returned is a row of it.

        Then Tune reports that, or refuses it, and says when it has heard of the end.
        """
        if self._mirrors and self.can_stop:
            self._left_open = True
            _compat.on_training_error(self.error)
        else:
            self.close(FINISHED)

    def error(self, error: BaseException) -> None:
        """Note that the trial raised this; the first is the user's, Tune wraps it."""
        if self._error is None:
            self._error = error

    def watched(self, method: Callable[P, R]) -> Callable[P, R]:
        """The method, with its errors noted."""

        @functools.wraps(method)
        def noting(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return method(*args, **kwargs)
            except Exception as error:
                self.error(error)
                raise

        return noting

    def result(self, result: Mapping[str, Any]) -> None:
        """Note one of Tune's results; log it, if that was asked for."""
        self._returned = self._returned or bool(result.get("done"))
        run = self.run
        if run is None or not self._open or not self._mirrors:
            return
        try:
            self.run = runs.go_on(run)
            if self.run is not run:
                run = self.run
                self._prepare(run)
            # Not the user's own objects: Tune, which gets them next, could not pickle them.
            row, config = self._router.route(self._router.snapshot(result, media.take))
            if self._attempt > 1:
                row[ATTEMPT] = self._attempt
            step = self._steps.next(row.get(runs.X_AXIS), at_least=runs.next_step(run))
            row, left_out = media.into_run(run, row, self._spec, step)
            for key in left_out.keys() - self._left_out:
                logger.warning("%s: left out %s (%s)", self.who, key, left_out[key])
            self._left_out |= left_out.keys()
            if config:
                runs.update_config(run, config)
            run.log(row, step=step, commit=True)
        except BaseException as error:
            if sanitize.is_of_a_signal(error):
                raise
            self._dropped += 1
            if self._dropped == 1:
                logger.warning("%s: could not log a result: %s", self.who, error)

    def outcome(self, trainable: Trainable | None = None) -> Outcome:
        """How the trial ended, as far as its own process knows."""
        if self._error is not None:
            return Outcome.failed(self._error)
        if self.stop_asked:
            return STOPPED_AT_WANDB
        returned = self._returned or (
            trainable is not None and _compat.function_returned(trainable)
        )
        return FINISHED if returned else self.stopped()

    def stopped(self) -> Outcome:
        """Tune stops the trial: because everything was interrupted, or that is not known here."""
        if self.stop_asked:
            return STOPPED_AT_WANDB
        reason = handover.interruption(self._who_am_i.fit)
        return Outcome(Kind.INTERRUPTED, reason) if reason else STOPPED

    def close(self, outcome: Outcome) -> None:
        """Close the run, if it is open; from whichever thread comes first."""
        if self.run is not None and not runs.is_ours(self.run):
            return  # in a forked child, where the lock may be held for ever
        with self._lock:
            if not self._open or self.run is None:
                return
            self._open = False
            try:
                notes = {"wbtune/dropped": self._dropped}
                if self._attempt > 1:
                    notes[ATTEMPT] = self._attempt
                runs.close_run(self.run, outcome, notes)
            except Exception as error:  # noqa: BLE001 - W&B's trouble is not the trial's
                logger.warning("%s: could not close run %s: %s", self.who, self.run.id, error)
            remote, directory = self._who_am_i.remote, self._who_am_i.directory
            if remote is not None and directory is not None:
                for newest in runlog.parts(directory, self.run.id)[-1:]:
                    runlog.wait_for_end(newest)
                remote.deliver(directory, self.run.id, seconds=DELIVER_S)


def _claim(who_am_i: identity.Identity) -> str:
    """Claim the trial's run, if a callback may want to write it; what went wrong in asking.

    Raises:
        RuntimeError: when the callback has it.
    """
    if not who_am_i.contested:
        return ""
    try:
        owner = handover.claim(who_am_i.claim, "trial")
    except handover.StoreError as error:
        return f"{error}, which knows whether a callback writes the run"
    if owner != "trial":
        msg = "the experiment's WandbLoggerCallback writes it already"
        raise RuntimeError(msg)
    return ""


def _attempt(who_am_i: identity.Identity, spec: runs.RunSpec) -> int:
    """Which attempt at this trial it is, by what the earlier ones left on disk."""
    if who_am_i.trial_id is None or who_am_i.directory is None:
        return 1
    if who_am_i.remote is not None:
        who_am_i.remote.fetch(who_am_i.directory, who_am_i.trial_id)
    return 1 + sum(runlog.attempts(who_am_i.directory, run_id) for run_id in spec.ids)
