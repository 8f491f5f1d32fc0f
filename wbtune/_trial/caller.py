"""Find the calling code's run, by the trial or the training loop that the code runs in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wbtune._place import identity
from wbtune._trial.process_lock import ProcessLock
from wbtune._trial.train_hooks import attach_to_worker
from wbtune._trial.trial_run import TrialRun
from wbtune._trial.tune_hooks import attach, attached_run, trainable_of_process
from wbtune._upstream import ray_train, ray_trial

if TYPE_CHECKING:
    from wbtune._data.options import RunOptions

_ATTACHING: Final = ProcessLock()


def run_of_caller(
    public_name: str,
    options: RunOptions,
    api_key: str | None = None,
    *,
    declared: bool = True,
    only: bool = True,
    sent_by: identity.Identity | None = None,
) -> tuple[TrialRun, identity.Identity]:
    """The calling code's run, tied to the life of its trial or training loop.

    Args:
        public_name: what the user called, for messages.
        options: the options for the run, if there is none yet.
        api_key: the API key for the run, if there is none yet.
        declared: the options are a declaration, not the arguments of a call in the trial.
        only: in distributed training, whether only the worker of rank 0 has a run.
        sent_by: the trial of Tune that started the training, where that is known.

    Returns:
        The run, and the trial that it belongs to.
    """
    worker = ray_train.train_worker()
    trainable = (ray_trial.find_trainable() or trainable_of_process()) if worker is None else None
    with _ATTACHING:  # several threads of the trial may ask at once
        trial_run = attached_run(trainable if worker is None else worker.home)
        if trial_run is None:
            trial_run = TrialRun(public_name, options, api_key, declared=declared)
            if worker is not None:
                attach_to_worker(worker, trial_run)
            elif trainable is not None:
                attach(trainable, trial_run)
    if worker is not None:
        return trial_run, identity.of_worker(worker, only=only, trial=sent_by)
    trial = identity.of_trainable(trainable)
    if sent_by is not None and not trial.sender:  # a plain function calls a decorated one
        trial = trial._replace(sender=sent_by.sender)
    return trial_run, trial
