"""Tie a run to the life of a training loop of Ray Train, whose workers have no `Trainable`."""

from __future__ import annotations

import logging
from typing import Final

from wbtune._data.outcomes import FINISHED, Kind, Outcome
from wbtune._run import closing
from wbtune._trial.trial_run import TrialRun
from wbtune._upstream import ray_train

logger = logging.getLogger("wbtune")

#: The outcome when Ray shuts down the worker of a training loop that still runs.
SHUT_DOWN: Final = Outcome(
    Kind.INTERRUPTED,
    reason="Ray Train shut the worker down (another worker failed, or the run was aborted)",
)


def attach_to_worker(worker: ray_train.TrainWorker, trial_run: TrialRun) -> None:
    """Tie a run's life to that of the training loop of a worker of Ray Train."""

    def ended(error: BaseException | None) -> None:
        trial_run.close(FINISHED if error is None else Outcome.failed(error))
        closing.end_core()

    def shut_down() -> None:
        trial_run.close(SHUT_DOWN)
        closing.end_core()

    try:
        ray_train.watch_training_loop(worker, ended, shut_down)
        worker.home.wbtune_run = trial_run
        trial_run.keeps_open = True
    except (AttributeError, ImportError) as error:  # a Ray that nobody has read yet
        logger.warning(
            "%s: this Ray does not say when its training loop ends (%s). Decorate the loop with "
            "@wandb_trial, or call run.finish() in the end.",
            trial_run.public_name,
            error,
        )
