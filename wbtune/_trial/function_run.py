"""Open and close a run around one call of a decorated function."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from wbtune._data.outcomes import FINISHED, Kind, Outcome
from wbtune._place import identity
from wbtune._run import opening
from wbtune._trial.caller import run_of_caller
from wbtune._upstream import ray_trial

if TYPE_CHECKING:
    from wandb import Run

    from wbtune._data.options import RunOptions
    from wbtune._trial.trial_run import TrialRun


@contextlib.contextmanager
def around_function(
    public_name: str,
    options: RunOptions,
    config: Mapping[str, Any] | None,
    sent_by: identity.Identity | None = None,
) -> Iterator[Run]:
    """Open a run for one call of a decorated function, and close it after the call.

    It is closed, with all its rows, before Tune learns that the function returned. Outside Tune
    each call has a run of its own.

    Args:
        public_name: what the user called, for messages.
        options: the declaration.
        config: the config that the function is called with.
        sent_by: the trial that sent the function to Ray Train's workers, as their training loop.
    """
    only = options.rank_zero_only is not False
    if only and identity.rank():
        yield opening.disabled_run()
        return
    trial_run, trial = run_of_caller(public_name, options, only=only, sent_by=sent_by)
    trial_run.options, trial_run.keeps_open = options, True
    trial_run.has_trained = True
    run = trial_run.open(trial, config)
    try:
        yield run
    except BaseException as error:
        trial_run.close(_outcome(error, trial_run))
        raise
    else:
        trial_run.function_returned()


def _outcome(error: BaseException, trial_run: TrialRun) -> Outcome:
    """The outcome of a decorated function that raised this error."""
    if isinstance(error, GeneratorExit) or ray_trial.is_tunes_stop(error):
        return trial_run.stopped()
    if not trial_run.can_stop:  # called directly, like any function of a program
        if isinstance(error, KeyboardInterrupt):
            return Outcome(Kind.INTERRUPTED, "KeyboardInterrupt")
        if isinstance(error, SystemExit) and not error.code:
            return FINISHED
    return Outcome.failed(error)
