"""Tie a run's life to a training loop of Ray Train, whose workers have no `Trainable`."""

from __future__ import annotations

import logging
from typing import Final

from wbtune._data.outcomes import FINISHED, Kind, Outcome
from wbtune._run import closing
from wbtune._trial.trial_run import TrialRun
from wbtune._upstream import ray_train

logger = logging.getLogger("wbtune")

#: The outcome when Ray shuts down a worker whose training loop is still running.
SHUT_DOWN: Final = Outcome(
    Kind.INTERRUPTED,
    reason="Ray Train shut the worker down (another worker failed, or the run was aborted)",
)


def attach_to_worker(worker: ray_train.TrainWorker, trial_run: TrialRun) -> None:
    """Tie a run's life to the training loop of one of Ray Train's workers."""

    def ended(error: BaseException | None) -> None:
        trial_run.close(FINISHED if error is None else Outcome.failed(error))
        closing.end_core()

    def shut_down() -> None:
        trial_run.close(SHUT_DOWN)
        closing.end_core()

    if ray_train.watch_training_loop(worker, ended, shut_down):
        worker.home.wbtune_run = trial_run
        trial_run.keeps_open = True
    else:
        logger.warning(
            "%s: this Ray does not say when its training loop ends (%s). Decorate the loop with "
            "@wandb_trial, or call run.finish() in the end.",
            *(trial_run.public_name, ray_train.LOOPS.reason),
        )
