"""Open a trial's run, or a disabled one if that fails: trouble with W&B never ends a trial."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from wbtune._data import timeouts
from wbtune._place import credentials, handover, identity, trial_login
from wbtune._run import opening, run_files, run_spec
from wbtune._upstream import wandb_settings

if TYPE_CHECKING:
    from wandb import Run

    from wbtune._trial.run_plan import RunPlan

logger = logging.getLogger("wbtune")


class WrittenByDriverError(Exception):
    """The driver's callback writes this trial's run."""


class StartedRun(NamedTuple):
    """A run that was opened, or a disabled one.

    Attributes:
        run: the run.
        spec: the spec that it was opened with.
        attempt: how many times the trial has started, including this time.
    """

    run: Run
    spec: run_spec.RunSpec
    attempt: int = 1


def start_run(
    public_name: str, plan: RunPlan, trial: identity.Identity, on_stop: Callable[[], None] | None
) -> StartedRun:
    """Open the planned run, or a disabled one with one warning.

    Args:
        public_name: what the user called, for messages.
        plan: how the run is to be opened.
        trial: the trial.
        on_stop: called when somebody presses "Stop run" at W&B; None if the trial can't be stopped.
    """
    wandb_settings.follow_mode(None)
    started = _started(public_name, plan, trial, on_stop)
    if not started.spec.plain:  # nobody tells when such a run has ended
        wandb_settings.follow_mode(started.run)
    return started


def _started(
    public_name: str, plan: RunPlan, trial: identity.Identity, on_stop: Callable[[], None] | None
) -> StartedRun:
    try:
        return _start(public_name, plan, trial, on_stop)
    except WrittenByDriverError:
        logger.warning(
            "%s: the driver (WandbLoggerCallback or wandb_tuner) writes the run of trial %s "
            "already, because %s was called too late: after the first result, or %.0f s after "
            "the start. What the trial logs itself is dropped. Call it at the function's "
            "beginning, or use @wandb_trial.",
            *(public_name, trial.trial_name, public_name, timeouts.CLAIM_S),
        )
    except Exception as error:  # noqa: BLE001 - W&B's trouble is not the trial's
        # Cause: W&B could not open the run.
        # Cure: Correct what the error names. What is reported is in Tune's result.json: wbtune
        #   import DIR.
        logger.warning(
            "%s: trial %s has no run at W&B: %s: %s. The trial continues without it.",
            *(public_name, trial.trial_name, type(error).__name__, error),
        )
    return StartedRun(opening.disabled_run(), plan.spec)


def _start(
    public_name: str, plan: RunPlan, trial: identity.Identity, on_stop: Callable[[], None] | None
) -> StartedRun:
    spec, login, trouble = plan.spec, plan.login, plan.trouble
    claim_trouble = _claim(trial)
    if credentials.needs_key(spec.init.get("mode") or spec.settings.get("mode")):
        trouble = trouble or claim_trouble
    if trouble:
        spec, login = run_spec.offline(spec), trial_login.OFFLINE
    attempt = _attempt(trial, spec)
    run = opening.open_run(spec, login.secret, on_stop=on_stop)
    if trouble:
        _warn_of_offline(public_name, run, trouble)
    return StartedRun(run, spec, attempt)


def _claim(trial: identity.Identity) -> str:
    """Claim the trial's run, if a callback may want to write it.

    Returns:
        Why the claim could not be made; empty if it was made.

    Raises:
        WrittenByDriverError: if the callback has claimed it.
    """
    if not trial.contested:
        return ""
    try:
        owner = handover.claim(trial.claim, "trial")
    except handover.StoreError as error:
        return f"{error}, which knows whether a callback writes the run"
    if owner != "trial":
        raise WrittenByDriverError
    return ""


def _attempt(trial: identity.Identity, spec: run_spec.RunSpec) -> int:
    """The number of this attempt at the trial, counted from what earlier ones left on disk."""
    if trial.trial_id is None or trial.directory is None:
        return 1
    if trial.remote is not None:
        trial.remote.fetch(trial.directory, trial.trial_id)
    return 1 + sum(run_files.attempts(trial.directory, run_id) for run_id in spec.ids)


def _warn_of_offline(public_name: str, run: Run, trouble: str) -> None:
    """Warn that a run which should be uploaded is kept on disk, and why."""
    folder = Path(run.dir).parent
    run_files.note_not_uploaded(folder)
    logger.warning(
        "%s: %s Run %s is kept on disk meanwhile; send it by: wandb sync %s",
        *(public_name, trouble if trouble.endswith(".") else f"{trouble}.", run.id),
        shlex.quote(str(folder)),
    )
