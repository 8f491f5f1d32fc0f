"""The run of the trial that a process works on: opened, given rows, closed with the outcome.

What makes it follow a `Trainable`'s life is in :mod:`wbtune._trial.lifecycle`. A tracker's trouble
never ends a trial: when a run can't be opened or closed, that is said once and the trial
goes on with a disabled run.
"""

# Over 250 lines: the life of one run, from before it is opened until after it is closed.

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shlex
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from wbtune._data import signals, timeouts
from wbtune._data.config_keys import CURES as KEY_CURES
from wbtune._data.filtering import excludes_of
from wbtune._data.options import RunOptions, take_from_config
from wbtune._data.outcomes import FINISHED, STOPPED_AT_WANDB, Kind, Outcome
from wbtune._data.routing import Router
from wbtune._place import credentials, driver_options, handover, identity, outer_job, trial_login
from wbtune._run import (
    closing,
    links,
    media,
    opening,
    run_files,
    run_spec,
    segments,
    steps,
)
from wbtune._trial.mirror import Mirror
from wbtune._upstream import ray_trial, wandb_run, wandb_settings
from wbtune.errors import WbtuneError

if TYPE_CHECKING:
    from ray.tune import Trainable
    from wandb import Run

logger = logging.getLogger("wbtune")

P = ParamSpec("P")
R = TypeVar("R")


ATTEMPT: Final = "wbtune/attempt"

#: What the trial itself gave to ``finish``, if that was not 0.
EXIT_CODE: Final = "wbtune/exit_code"

#: A trial's own process is not told why.
STOPPED: Final = Outcome(
    Kind.STOPPED, reason="unknown: Tune stopped the trial, and does not tell its process why"
)


class WrittenByDriverError(Exception):
    """The driver's callback writes this trial's run."""


class ProcessLock:
    """A lock that a forked child does not inherit: who holds it may not be in there."""

    def __init__(self) -> None:
        self._locks: dict[int, threading.RLock] = {}

    def __enter__(self) -> None:
        pid = os.getpid()
        lock = self._locks.get(pid)
        if lock is None:
            lock = self._locks.setdefault(pid, threading.RLock())
        lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._locks[os.getpid()].release()


class TrialRun:
    """The run of the trial that this process works on, and of the next, if it is reused.

    Attributes:
        run: the open run, or the last one.
        stop_asked: somebody pressed "Stop run" at W&B.
        can_stop: there is a `Trainable` whose results can end the trial.
        keeps_open: somebody closes the run when the trial ends, so that its user's ``finish``
            is too early.
        iteration: says how many results the trial has had; None where nobody knows.
        trains: the trial has begun to train, or may have without our hearing of it.
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
        self.stop_asked = self.can_stop = self.keeps_open = False
        self.trains = True
        self.iteration: Callable[[], int] | None = None
        self._mirror: Mirror | None = None
        self._router = Router()
        self._spec = run_spec.RunSpec({})
        self._steps = steps.Steps()
        self._dropped = 0
        self._left_out: set[str] = set()
        self._attempt = 1
        self._returned = False
        self._mirrors = self._left_open = False
        self._error: BaseException | None = None
        self._lock = ProcessLock()
        self._open = False
        self._who_am_i = identity.Identity()
        self._finished_with: int | None = None
        self._given: Mapping[str, Any] | None = None
        # Of the trial that comes to this actor, until its run is opened.
        self._expected: tuple[identity.Identity, Mapping[str, Any]] | None = None

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
        with self._lock:
            return self._opened(who_am_i, config)

    def opened(
        self, options: RunOptions, who_am_i: identity.Identity, config: Mapping[str, Any] | None
    ) -> Run:
        """The run, if it is open, or else a new one: the same for all threads that ask."""
        with self._lock:
            if self._open and self.run is not None:
                return self.run
            self.options = options
            return self._opened(who_am_i, config)

    def _opened(self, who_am_i: identity.Identity, config: Mapping[str, Any] | None) -> Run:
        self.close(FINISHED if self._left_open else STOPPED)
        last = self._forget_expected()
        inner, rest, inner_key = take_from_config(
            self.who, config, wandb_settings.init_parameters()
        )
        drivers = RunOptions() if self._declared else driver_options.handed_over(who_am_i)
        driver_options.warn_of_overrides(self.who, who_am_i, drivers, inner | self.options)
        options = run_spec.locate(self.who, drivers | inner | self.options)
        if self._api_key:  # an argument comes before what config["wandb"] says
            options = replace(options, api_key_file=None)
        api_key = self._api_key or (None if options.api_key_file else inner_key)
        if who_am_i.trial_id is not None:
            self._warn_of(options, inner_key)
        login, trouble = trial_login.log_in_or_offline(
            *(self.who, options, who_am_i, api_key), declared=self._declared
        )
        _say_where_nobody_has(self.who, who_am_i, options)
        excludes = excludes_of(options.excludes, options.unmask)
        self._router = Router(excludes, log_config=bool(options.log_config))
        spec = run_spec.spec(options, who_am_i, excludes.config(rest), login.settings)
        self._spec = spec._replace(objective=login.objective)
        self._dropped, self._returned, self._error = 0, False, None
        self.stop_asked = self._left_open = False
        self._given, self._finished_with = config, None
        self._mirrors = bool(options.log_results)
        run = self._started(who_am_i, login, trouble)
        if last is not None:
            wandb_run.replace_ended(last, run)
            run = last
        if self.keeps_open:
            wandb_run.keep_open(run, self._finished)
        self._steps = steps.Steps(run.starting_step)
        self.run, self._open, self._who_am_i = run, True, who_am_i
        self._prepare(run)
        try:
            links.print_run(run)
        except Exception as error:  # noqa: BLE001 - a wandb that nobody has read yet
            logger.warning("%s: can't say where run %s is: %s", self.who, run.id, error)
        return run

    def _started(self, who_am_i: identity.Identity, login: credentials.Login, trouble: str) -> Run:
        """The run, or a disabled one: W&B's trouble is not the trial's."""
        try:
            unclaimed = _claim(who_am_i)
            if credentials.needs_key(
                self._spec.init.get("mode") or self._spec.settings.get("mode")
            ):
                trouble = trouble or unclaimed
            if trouble:
                self._spec, login = run_spec.offline(self._spec), trial_login.OFFLINE
            self._attempt = _attempt(who_am_i, self._spec)
            on_stop = self._stop_is_asked if self.can_stop else None
            run = opening.open_run(self._spec, login.secret, on_stop=on_stop)
            if trouble:
                self._is_on_disk(run, trouble)
        except WrittenByDriverError:
            logger.warning(
                "%s: the driver (WandbLoggerCallback or wandb_tuner) writes the run of trial %s "
                "already, because %s was called too late: after the first result, or %.0f s after "
                "the start. What the trial logs itself is dropped. Call it at the function's "
                "beginning, or use @wandb_trial.",
                *(self.who, who_am_i.trial_name, self.who, timeouts.CLAIM_S),
            )
        except Exception as error:  # noqa: BLE001 - W&B's trouble is not the trial's
            logger.warning(
                "%s: trial %s has no run at W&B: %s: %s. The trial continues without it.",
                *(self.who, who_am_i.trial_name, type(error).__name__, error),
            )
        else:
            return run
        return opening.disabled_run()

    def _warn_of(self, options: RunOptions, inner_key: str | None) -> None:
        """Say what no driver could refuse before there was a trial."""
        if not options.project and not wandb_settings.wandb_setting("project"):
            logger.warning(
                "%s W&B puts this trial's run into the project 'uncategorized'.",
                run_spec.no_project(self.who),
            )
        if inner_key is not None and identity.rank() is None:
            logger.warning(
                '%s: config["wandb"] has an API key, and Tune has written it into the '
                "experiment's storage, in clear. %s.",
                *(self.who, KEY_CURES),
            )

    def _is_on_disk(self, run: Run, trouble: str) -> None:
        """Say that a run which was to be uploaded is kept on disk, and why."""
        folder = Path(run.dir).parent
        run_files.mark_not_uploaded(folder)
        logger.warning(
            "%s: %s Run %s is kept on disk meanwhile; send it by: wandb sync %s",
            *(self.who, trouble if trouble.endswith(".") else f"{trouble}.", run.id),
            shlex.quote(str(folder)),
        )

    def _finished(self, exit_code: int | None) -> None:
        # The run's user finished it; the trial goes on.
        self._finished_with = exit_code or self._finished_with

    # --- an actor that is reused ---

    def goes_on(self, who_am_i: identity.Identity, config: Mapping[str, Any]) -> bool:
        """Is it the same trial that comes, with another config? Then its run stays open."""
        same = who_am_i.trial_id is not None and who_am_i.trial_id == self._who_am_i.trial_id
        if not same or not self._open or self.run is None:
            return False
        kept = excludes_of(self.options.excludes, self.options.unmask).config(config)
        try:
            opening.update_config(self.run, {k: v for k, v in kept.items() if k != "wandb"})
        except Exception as error:  # noqa: BLE001 - W&B's trouble is not the trial's
            logger.warning("%s: could not update the config: %s", self.who, error)
        return True

    def expect(self, who_am_i: identity.Identity, config: Mapping[str, Any]) -> None:
        """Another trial comes to this actor: its run is opened as soon as somebody needs it.

        That is `setup_wandb`, if it is called again; or whoever uses the object that was the
        last trial's run (``self.wandb``), which goes on as the next one's; or else the first
        result.
        """
        with self._lock:
            self._forget_expected()
            if self.run is None or self._open:
                return
            given = {} if self._given is None else self._given
            if not set(config) <= set(given):  # it was given a part of the trial's config
                config = {key: config.get(key, value) for key, value in given.items()}
            self._expected = who_am_i, config
            wandb_run.before_next_use(self.run, self.open_expected)

    def open_expected(self) -> None:
        """Open the run of the trial that has come, if it is not open yet."""
        with self._lock:
            if self._expected is None:
                return
            who_am_i, config = self._expected
            self.options = _of_next(self.options, self._who_am_i, who_am_i)
            try:
                self._opened(who_am_i, config)
            except WbtuneError as error:
                logger.warning("%s Trial %s goes on without a run.", error, who_am_i.trial_name)
                if self.run is not None:  # whoever holds it may go on to use it
                    wandb_run.replace_ended(self.run, opening.disabled_run())
                    self._open = True

    def _forget_expected(self) -> Run | None:
        """The object of the last run, which its user may still hold; None if none comes."""
        expected, self._expected = self._expected, None
        if expected is None or self.run is None:
            return None
        wandb_run.restore_class(self.run)
        return self.run

    def _stop_is_asked(self) -> None:
        self.stop_asked = True  # by wandb's own thread; the next result ends the trial

    def _prepare(self, run: Run) -> None:
        # Apart from opening it: a run that refuses this is open all the same.
        try:
            if self._mirror is not None:
                self._mirror.close()
            self._mirror = None
            if self._mirrors and self.iteration is not None:
                self._mirror = Mirror(run, run_spec.X_AXIS, self.iteration)
            opening.define_metrics(run, self._spec, logs_results=self._mirrors)
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
            ray_trial.on_training_error(self.error)
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
            except BaseException as error:
                self.error(error)
                if _ends_the_process(error):
                    self.close(Outcome.failed(self._error or error))
                    closing.end_core()
                raise

        return noting

    def result(self, result: Mapping[str, Any]) -> None:
        """Note one of Tune's results; log it, if that was asked for."""
        self._returned = self._returned or bool(result.get("done"))
        run = self.run
        if run is None or not self._open or not self._mirrors:
            return
        try:
            self.run = closing.reopen_if_finished(run)
            if self.run is not run:
                run = self.run
                self._prepare(run)
            # Not the user's own objects: Tune, which gets them next, could not pickle them.
            row, config = self._router.route(self._router.snapshot(result, media.detached_copy))
            if self._attempt > 1:
                row[ATTEMPT] = self._attempt
            if config:
                opening.update_config(run, config)
            with self._joining(row) as (rest, joins):
                at = None if joins else row.get(run_spec.X_AXIS)
                step = self._steps.next(at, at_least=closing.next_step(run))
                new, left_out = media.log_media(run, rest, self._spec, step)
                for key in left_out.keys() - self._left_out:
                    logger.warning("%s: left out %s (%s)", self.who, key, left_out[key])
                self._left_out |= left_out.keys()
                run.log(new, step=step, commit=True)
        except BaseException as error:
            if signals.is_of_a_signal(error):
                raise
            self._dropped += 1
            if self._dropped == 1:
                logger.warning("%s: could not log a result: %s", self.who, error)

    def _joining(
        self, row: dict[str, Any]
    ) -> contextlib.AbstractContextManager[tuple[dict[str, Any], bool]]:
        mirror = self._mirror
        return contextlib.nullcontext((row, False)) if mirror is None else mirror.result(row)

    def outcome(self, trainable: Trainable | None = None) -> Outcome:
        """How the trial ended, as far as its own process knows."""
        if self._error is not None:
            return Outcome.failed(self._error)
        if self.stop_asked:
            return STOPPED_AT_WANDB
        returned = self._returned or (
            trainable is not None and ray_trial.function_returned(trainable)
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
        if self.run is not None and not closing.is_ours(self.run):
            return  # in a forked child, where the lock may be held for ever
        with self._lock:
            if not self._open or self.run is None:
                return
            self._open = False
            # Tune may have had another actor for the trial, which has its run, too.
            unused = outcome.kind is Kind.STOPPED and not self.trains and self._error is None
            try:
                if unused:
                    outcome = segments.ended_well(self.run) or outcome
                if self._mirror is not None:
                    self._mirror.close()
                closing.close_run(self.run, outcome, self._notes())
            except Exception as error:  # noqa: BLE001 - W&B's trouble is not the trial's
                logger.warning("%s: could not close run %s: %s", self.who, self.run.id, error)
            if unused and closing.discard_unused(self.run):
                return
            remote, directory = self._who_am_i.remote, self._who_am_i.directory
            if remote is not None and directory is not None:
                for newest in run_files.logs(directory, self.run.id)[-1:]:
                    run_files.wait_for_end(newest)
                remote.deliver(directory, self.run.id, seconds=timeouts.TRIAL_COPY_S)

    def _notes(self) -> dict[str, int]:
        """What the summary says beside the outcome."""
        notes = {"wbtune/dropped": self._dropped}
        if self._attempt > 1:
            notes[ATTEMPT] = self._attempt
        if self._finished_with:
            notes[EXIT_CODE] = self._finished_with
        return notes


def _claim(who_am_i: identity.Identity) -> str:
    """Claim the trial's run, if a callback may want to write it; what went wrong in asking.

    Raises:
        WrittenByDriverError: when the callback has it.
    """
    if not who_am_i.contested:
        return ""
    try:
        owner = handover.claim(who_am_i.claim, "trial")
    except handover.StoreError as error:
        return f"{error}, which knows whether a callback writes the run"
    if owner != "trial":
        raise WrittenByDriverError
    return ""


def _ends_the_process(error: BaseException | None) -> bool:
    """Is it, or what it was raised from, one for which Ray ends the trial's process?

    ``SystemExit`` and ``KeyboardInterrupt``, say: nobody calls ``cleanup`` then.
    """
    while error is not None and isinstance(error, Exception):
        error = error.__cause__
    return error is not None


def _of_next(options: RunOptions, last: identity.Identity, coming: identity.Identity) -> RunOptions:
    """The options of the last trial's run for the one that comes: what named it names that."""
    given = dict(options.init_kwargs)
    named = ((last.trial_name, coming.trial_name), (last.trial_id, coming.trial_id))
    for option in ("id", "name"):
        text = given.get(option)
        if not isinstance(text, str):
            continue
        for old, new in named:
            text = text.replace(old, new) if old and new else text
        if option == "id" and text == given["id"]:  # one run's: the next has its own
            text = f"{text}-{coming.trial_id}"
        given[option] = text
    return replace(options, init_kwargs=given)


def _say_where_nobody_has(who: str, who_am_i: identity.Identity, options: RunOptions) -> None:
    """Whose run a trial's is not, unless a callback on the driver has said it."""
    if who_am_i != identity.Identity() and not who_am_i.fit:
        outer_job.warn_once(who, options.group or who_am_i.experiment)


def _attempt(who_am_i: identity.Identity, spec: run_spec.RunSpec) -> int:
    """Which attempt at this trial it is, by what the earlier ones left on disk."""
    if who_am_i.trial_id is None or who_am_i.directory is None:
        return 1
    if who_am_i.remote is not None:
        who_am_i.remote.fetch(who_am_i.directory, who_am_i.trial_id)
    return 1 + sum(run_files.attempts(who_am_i.directory, run_id) for run_id in spec.ids)
