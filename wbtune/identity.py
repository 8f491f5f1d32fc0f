"""Who am I: the trial, its experiment, and the folder that its runs belong into.

The guide: "By default, the run ID is the trial ID, the run name is the trial name, and
the run group is the experiment name."
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wbtune import _compat

if TYPE_CHECKING:
    from ray.tune import Trainable
    from ray.tune.experiment import Trial


@dataclass(frozen=True, slots=True)
class Identity:
    """A trial's place, wherever it is asked for.

    Attributes:
        trial_id: unique within its experiment; None outside Tune.
        trial_name: what Tune's tables call it; None outside Tune.
        experiment: the name of the experiment's folder; None outside Tune.
        directory: the experiment's folder on this machine, which holds ``wandb/``; None
            where W&B's own default is to be used.
        mark: a short text that tells this experiment's runs at the server from those of
            others, which may have trials of the same ids.
    """

    trial_id: str | None = None
    trial_name: str | None = None
    experiment: str | None = None
    directory: str | None = None
    mark: str = ""

    @property
    def claim(self) -> str:
        """Names the trial among those of the whole cluster."""
        return f"{self.experiment}/{self.trial_id}"


def of_trainable(
    trainable: Trainable | None, config: Mapping[str, Any] | None = None, storage: Any = None
) -> Identity:
    """In a trial: the identity of a `Trainable`, also of one that is still being built.

    Args:
        trainable: the trainable, or None outside Tune.
        config: what its ``__init__`` was given, when that has not run yet.
        storage: the same.
    """
    info = _compat.trial_info(trainable, config)
    storage = _compat.storage_of(trainable) if storage is None else storage
    if info is None:
        return Identity(directory=_compat.local_experiment_path(storage))
    return Identity(
        trial_id=info.trial_id,
        trial_name=info.trial_name,
        experiment=info.experiment_name,
        directory=_compat.local_experiment_path(storage),
        mark=_mark(storage),
    )


def of_trial(trial: Trial) -> Identity:
    """On the driver: the identity of one of the experiment's trials."""
    return Identity(
        trial_id=trial.trial_id,
        trial_name=str(trial),
        experiment=trial.experiment_dir_name,
        directory=_compat.local_experiment_path(trial.storage) or trial.local_experiment_path,
        mark=_mark(trial.storage),
    )


def _mark(storage: Any) -> str:
    # The same in the driver, on every node, and after a restore.
    return hashlib.sha256(_compat.experiment_path(storage).encode()).hexdigest()[:6]


def rank() -> int | None:
    """This worker's rank in distributed training; None outside of it."""
    return _compat.train_rank()
