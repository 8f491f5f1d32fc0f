"""Find out on the driver how a trial ended or continues.

Tune's callbacks are told *that* a trial ended; this finds out *how*: the trial's error, what
stopped it, what ended the whole experiment, and what a population-based scheduler changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wbtune._data.outcomes import FINISHED, Kind, Outcome
from wbtune._data.sanitize import plain
from wbtune._upstream import ray_failures, ray_functions, ray_loop, ray_stops, ray_trials

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

#: The reason in a run's summary if it can't be known; a guess would be worse.
UNKNOWN: Final = "unknown"

#: Why Tune's loop ended, when a signal ended it.
SIGNAL: Final = "a signal (Ctrl-C)"


def failure(trial: Trial) -> Outcome:
    """The outcome of a trial whose status in Tune is an error."""
    error = _error(trial)
    if error is None:
        return Outcome(Kind.FAILED, reason="Tune reports an error without an exception")
    return _of_error(error)


def _of_error(error: BaseException) -> Outcome:
    own = ray_failures.own_exit(error)
    if own is not None:
        # Ray's text does not say where in the code a process exited.
        return Outcome.failed(own, text="" if isinstance(own, SystemExit) else str(error))
    if ray_failures.is_actor_death(error):
        # Nothing was raised: the process is gone. W&B calls that crashed.
        text = str(error).splitlines()
        return Outcome(
            Kind.LOST,
            reason="the trial's process died",
            error_type=type(error).__name__,
            error_message=text[0] if text else "",
        )
    # Ray wraps the user's error: `cause` is the error itself, and the text is its traceback.
    cause = getattr(error, "cause", None)
    return Outcome.failed(cause if isinstance(cause, BaseException) else error, text=str(error))


def _error(trial: Trial) -> BaseException | None:
    """The error that Tune was given."""
    from ray import cloudpickle  # noqa: PLC0415 - the command line imports no Ray

    try:
        path = ray_failures.error_file(trial)
        if path is not None:
            error = cloudpickle.loads(path.read_bytes())
        else:
            error = ray_failures.error_elsewhere(trial)
    except Exception as broken:  # noqa: BLE001 - unpickling a user's exception runs its code
        return RuntimeError(f"the trial's error can't be unpickled: {broken}")
    return error if isinstance(error, BaseException) else None


def after_result(
    trial: Trial, result: Mapping[str, Any], stops: ray_stops.Stops | None = None
) -> Outcome:
    """The outcome that a result with ``done`` announces: finished by itself, or stopped.

    Tune also sets ``done`` in the results of trials that it stops, so the result alone
    does not show which it is.

    Args:
        trial: the trial.
        result: its result.
        stops: what the experiment's ``stop=`` has decided; None if that can't be known.
    """
    decision = ray_stops.decision_on_result()
    if decision is not None and decision.trial_was_done:
        return FINISHED
    if stops is not None and stops.trial:
        return Outcome(Kind.STOPPED, reason=stops.trial)
    flat = result if decision is None else decision.result
    for metric, bound in criteria(trial).items():
        if metric in flat and flat[metric] >= bound:
            return Outcome(Kind.STOPPED, reason=f"stop={{{metric!r}: {bound!r}}}")
    if decision is None:
        # A function hardly ever says `done` itself.
        of_function = ray_functions.is_function(ray_trials.class_of(trial))
        own = Outcome(Kind.FINISHED, reason=f"{UNKNOWN}: the trial's own word, or Tune's")
        return Outcome(Kind.STOPPED, reason=UNKNOWN) if of_function else own
    if decision.scheduler == "FIFOScheduler":  # which stops nothing
        return Outcome(Kind.STOPPED, reason="stop= of the RunConfig")
    return Outcome(Kind.STOPPED, reason=UNKNOWN if stops is None else decision.scheduler)


def between_results(trial: Trial) -> Outcome:
    """The outcome of a trial that ended without a result that announced it.

    Either its function returned (Tune notes that in the last result, if there is one), or its
    scheduler had paused it and never resumed it, as synchronous HyperBand does.
    """
    last = trial.last_result
    if last.get("done"):
        return FINISHED
    stopped_by = ray_stops.stopped_by()
    if stopped_by is None and not last.get("training_iteration"):
        return FINISHED
    return Outcome(Kind.STOPPED, reason=stopped_by or UNKNOWN)


def criteria(trial: Trial) -> dict[str, Any]:
    """The bounds of ``stop={...}``."""
    criteria = trial.stopping_criterion
    return dict(criteria) if isinstance(criteria, Mapping) else {}


def for_unended_trials(stops: ray_stops.Stops | None) -> tuple[Outcome, dict[str, Outcome]]:
    """The outcomes of the trials that had not ended when the experiment did.

    Args:
        stops: what ``stop=`` and the time budget have decided; None if that can't be known.

    Returns:
        ``(rest, failures)``: ``failures`` has the outcomes, by trial id, of trials whose error
        ended the experiment; ``rest`` is the outcome of all others.
    """
    end = ray_loop.end_of_loop()
    if stops is not None and stops.all:  # Tune has stopped them, whatever happened afterwards
        return Outcome(Kind.STOPPED, reason=stops.all), {}
    if end.error is not None and end.trial is not None:
        reason = f'fail_fast="raise": trial {end.trial} failed'
        return Outcome(Kind.INTERRUPTED, reason), {end.trial.trial_id: _of_error(end.error)}
    if end.error is not None:
        *_, last = str(end.error).strip().splitlines() or [""]
        reason = f"Tune's loop raised {type(end.error).__name__}: {last}"
        return Outcome(Kind.INTERRUPTED, reason), {}
    if end.signal:
        return Outcome(Kind.INTERRUPTED, reason=SIGNAL), {}
    if end.failed_fast:
        return Outcome(Kind.INTERRUPTED, reason="fail_fast=True: another trial failed"), {}
    reason = "Tune was asked to stop the experiment" if end.asked else UNKNOWN
    return Outcome(Kind.STOPPED, reason=reason), {}


@dataclass(frozen=True, slots=True)
class Perturbation:
    """What a population-based scheduler did to one trial.

    Attributes:
        iteration: the trial's iteration after which it happened; 1-based.
        from_trial: the trial whose state was taken over: its id, or Tune's tag.
        old: the changed hyperparameters before.
        new: the same hyperparameters after.
    """

    iteration: int
    from_trial: str
    old: dict[str, Any]
    new: dict[str, Any]

    def plain(self) -> dict[str, Any]:
        """Its form in the run's config."""
        return {
            "iteration": self.iteration,
            "from_trial": self.from_trial,
            "old": self.old,
            "new": self.new,
        }


def perturbation(
    trial: Trial, before: Mapping[str, Any], after: Mapping[str, Any], tags: Mapping[str, str]
) -> Perturbation | None:
    """Compare a trial's config with the one that it was last started with.

    Args:
        trial: the trial, which is being started again.
        before: its config then, filtered.
        after: its config now, filtered.
        tags: the ids of the experiment's trials, by each trial's first tag.

    Returns:
        What changed, or None.
    """
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    if not changed:
        return None
    source = _source(trial)
    return Perturbation(
        iteration=int(trial.last_result.get("training_iteration", 0)),
        from_trial=tags.get(source, source),
        old={key: plain(before.get(key)) for key in changed},
        new={key: plain(after.get(key)) for key in changed},
    )


def _source(trial: Trial) -> str:
    """The tag of the trial that was cloned, read from its policy log."""
    written = Path(getattr(trial, "local_path", None) or "").parent  # not yet in the storage
    policy = written / f"pbt_policy_{trial.trial_id}.txt"
    try:
        lines = policy.read_text(encoding="utf-8").splitlines()
        return str(json.loads(lines[-1])[1])
    except (OSError, ValueError, IndexError):
        return "unknown"  # another scheduler, or one with log_config=False
