"""Identify the trial, its experiment, and the folder for its runs.

"By default, the run ID is the trial ID, the run name is the trial name, and the run group is the
experiment name" (https://docs.ray.io/en/latest/tune/examples/tune-wandb.html).
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wbtune._data import notice
from wbtune._place.storage import Remote
from wbtune._tune_files import folder_name
from wbtune._upstream import ray_loop, ray_storage, ray_train, ray_trial, ray_trials

if TYPE_CHECKING:
    from ray.tune import Trainable
    from ray.tune.experiment import Trial


#: The longest id that a run may have.
MAX_ID_CHARS: Final = 64

#: How many of the 32 characters of a Train V2 run's id are kept; still more than in a trial's id.
RUN_ID_CHARS: Final = 12


class Identity(NamedTuple):
    """A trial's names and places, the same in every process.

    Attributes:
        trial_id: unique within its experiment; None outside Tune.
        trial_name: its name in Tune's tables; None outside Tune.
        experiment: the name of the experiment's folder; None outside Tune.
        directory: the experiment's folder on this machine, which contains ``wandb/``; None
            to use W&B's own default.
        experiment_key: a short text that distinguishes this experiment's runs from those of
            others, which may have trials with the same ids.
        remote: the experiment's storage, if ``directory`` is only a staging folder for it.
        contested: a callback on the driver may want to write the same run.
        fit: the name of the ``fit()`` that the trial belongs to (:mod:`wbtune._place.handover`);
            empty if no callback has named it.
        sender: the name of the driver that sent the decorated function or class
            (:mod:`wbtune._place.sender`).
    """

    trial_id: str | None = None
    trial_name: str | None = None
    experiment: str | None = None
    directory: str | None = None
    remote: Remote | None = None
    contested: bool = False
    experiment_key: str = ""
    fit: str = ""
    sender: str = ""

    @property
    def claim(self) -> str:
        """The name under which the trial's run is claimed, unique in the cluster."""
        return f"{self.fit or self.experiment_key}/{self.trial_id}"


def of_trainable(
    trainable: Trainable | None, config: Mapping[str, Any] | None = None, storage: Any = None
) -> Identity:
    """The identity of a `Trainable`, in its process, even while it is being built.

    Args:
        trainable: the trainable, or None outside Tune.
        config: the config that its ``__init__`` was given, if that has not run yet.
        storage: the storage that it was given, if that has not run yet.
    """
    info = ray_trial.trial_info(trainable, config)
    storage = ray_storage.storage_of(trainable) if storage is None else storage
    directory, remote = _places(storage)
    if directory is None and trainable is not None and not ray_storage.STORAGE.is_here:
        directory = ray_trial.public_folder(trainable)
    fit, sender = ray_loop.fit_of(storage), getattr(trainable, "wbtune_sender", "")
    if info is None:
        return _of_storage(storage, directory, remote)._replace(sender=sender)
    return Identity(
        info.trial_id,
        info.trial_name,
        info.experiment_name,
        directory,
        remote,
        contested=True,
        experiment_key=_experiment_key(storage),
        fit=fit,
        sender=sender,
    )


def _of_storage(storage: Any, directory: str | None, remote: Remote | None) -> Identity:
    """The identity of a `Trainable` without Tune's information (RLlib's), found by its folder."""
    experiment, folder = ray_storage.trial_folder(storage)
    if not experiment or not folder:
        return Identity(directory=directory, remote=remote, fit=ray_loop.fit_of(storage))
    named = folder_name.trial_of(folder)
    trial_id, name = as_run_id(named.trial_id), named.name
    if not named.is_by_tune:  # the user's own name for the folder, which no other trial has
        known = "by the name of its folder, as nothing else is known of it"
    else:
        known = f"{name}, by the name of its folder"
    # Cure: Nothing to do.
    notice.warn_once(
        "wbtune: this trainable does not know its trial (RLlib, for one, drops that); its run "
        f"is that of trial {trial_id}: {known}."
    )
    return Identity(
        trial_id,
        name,
        experiment,
        directory,
        remote,
        contested=named.is_by_tune,
        experiment_key=_experiment_key(storage),
        fit=ray_loop.fit_of(storage),
    )


def of_trial(trial: Trial) -> Identity:
    """The identity of one of the experiment's trials, on the driver."""
    storage, experiment = ray_trials.storage_of(trial), ray_trials.experiment_of(trial)
    directory, remote = _places(storage)
    return Identity(
        trial_id=trial.trial_id,
        trial_name=str(trial),
        experiment=experiment.name,
        directory=directory or experiment.folder,
        remote=remote,
        experiment_key=_experiment_key(storage),
        fit=ray_loop.fit_of(storage),
    )


def _experiment_key(storage: Any) -> str:
    # It is the same on the driver, on every node, and after a restore.
    return key_of_folder(ray_storage.experiment_path(storage))


def key_of_folder(path: str) -> str:
    """The key of the experiment that is in a folder, given its path in its file system."""
    return hashlib.sha256(path.encode()).hexdigest()[:6]


def as_run_id(text: str) -> str:
    """Text as a run's id: in the characters and the length that W&B allows."""
    return re.sub(r"[^\w.-]", "-", text)[-MAX_ID_CHARS:]


def of_worker(
    worker: ray_train.TrainWorker, *, only: bool = True, trial: Identity | None = None
) -> Identity:
    """The identity of the run that a worker of Ray Train may have.

    Args:
        worker: this one.
        only: whether the worker of rank 0 is the only one that has a run.
        trial: the trial of Tune that started the Train run, if that is known. (V2 workers are
            not told; in V1, a Train run always is a trial.)
    """
    rank = "" if only else f"-rank{worker.rank}"
    directory, remote = _places(worker.storage)
    if worker.trial is not None:
        info = worker.trial
        run_id, name, experiment = info.id, info.name, info.experiment_name
    else:
        run_id = worker.run_id[:RUN_ID_CHARS]
        name = experiment = worker.run_name
        if trial is not None and trial.trial_id is not None:
            # Users put the trial's id into the Train run's name, as Ray's guide does.
            has_id = trial.trial_id in name
            name = name if has_id else f"{trial.trial_name}-{name}"
            experiment = trial.experiment or experiment
    return Identity(
        trial_id=f"{run_id}{rank}",
        trial_name=f"{name}{rank}",
        experiment=experiment,
        directory=directory,
        remote=remote,
        contested=worker.trial is not None and only,
        experiment_key=_experiment_key(worker.storage),
        fit=ray_loop.fit_of(worker.storage) or (trial.fit if trial is not None else ""),
        sender=trial.sender if trial is not None else "",
    )


def _places(storage: Any) -> tuple[str | None, Remote | None]:
    """The local folder of the runs, and the remote storage that they are copied to, if any."""
    remote = ray_storage.remote_experiment_path(storage)
    if remote is None:
        return ray_storage.local_experiment_path(storage), None
    filesystem, path = remote
    return ray_storage.staging_path(storage), Remote(filesystem, f"{path}/wandb")


def rank() -> int | None:
    """This worker's rank in distributed training; None outside distributed training."""
    worker = ray_train.train_worker()
    return None if worker is None else worker.rank


def of_here() -> Identity | None:
    """The trial of Tune that this code runs in, to be pickled; None elsewhere."""
    if "ray" not in sys.modules:  # a trial's process has it; the command line does not need it
        return None
    here = of_trainable(ray_trial.find_trainable())
    if here.trial_id is None:
        return None
    # Without the storage: a file system object may contain the credentials for it.
    names = (here.trial_id, here.trial_name, here.experiment)
    return Identity(*names, fit=here.fit, sender=here.sender)
