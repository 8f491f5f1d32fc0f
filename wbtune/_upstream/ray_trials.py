"""Tune's `Trial`, on the driver: its class, its names and its folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

from wbtune._upstream import ray_functions, ray_storage
from wbtune._upstream.capabilities import Capability, uses

_TRIAL: Final = "ray.tune.experiment.trial:Trial"
TRIALS: Final = Capability(
    "what Tune's driver knows of a trial",
    without="the runs that WandbLoggerCallback writes may be in another folder of the driver",
    since="ray 2.41",
    needs=(*(f"{_TRIAL}.experiment_dir_name", f"{_TRIAL}.local_experiment_path"),),
)


TRAINABLES: Final = Capability(
    "what a trial runs",
    without="the runs that WandbLoggerCallback writes are opened some seconds after their trials",
    since="ray 2.41",
    needs=(f"{_TRIAL}.get_trainable_cls",),
)


class Experiment(NamedTuple):
    """A trial's experiment.

    Attributes:
        name: of its folder.
        folder: where the driver keeps what it writes of it, before that is copied to the
            storage, or a folder of the storage on this machine; None where neither is known.
    """

    name: str
    folder: str | None


def storage_of(trial: Any) -> Any:
    """Return a trial's ``StorageContext`` [Ray 2.60, ``tune/experiment/trial.py``]."""
    return ray_storage.storage_in(trial, "storage")


def _experiment_by_path(trial: Any) -> Experiment:
    """Return a trial's experiment by what is public of the trial."""
    name, _ = ray_storage.trial_folder(storage_of(trial))
    folders = [getattr(trial, where, None) for where in ("path", "local_path")]
    parents = [Path(folder).parent for folder in folders if folder]
    name = name or (parents[0].name if parents else "")
    # The first is that of the storage, which may not be of this machine.
    here = [folder for folder in parents if folder.is_absolute() and folder.is_dir()]
    return Experiment(name, str(here[0]) if here else None)


@uses(TRIALS, otherwise=_experiment_by_path)
def experiment_of(trial: Any) -> Experiment:
    """Return a trial's experiment [Ray 2.60, ``tune/experiment/trial.py``]."""
    return Experiment(trial.experiment_dir_name, trial.local_experiment_path)


@uses(TRAINABLES, otherwise=lambda _: None)
def class_of(trial: Any) -> type | None:
    """Return a trial's trainable class; None where it is not known."""
    kind: type | None = trial.get_trainable_cls()
    return kind


def may_run_function(trial: Any) -> bool:
    """Return whether a trial runs a function, or nobody knows what."""
    return not TRAINABLES.is_here or ray_functions.is_function(class_of(trial))


def result_file(trial: Any, name: str) -> tuple[Any, str] | None:
    """Return the file system of a file in a trial's folder, and its path there; None for none."""
    storage = storage_of(trial)
    if storage is not None and ray_storage.STORAGE.is_here:
        return storage.storage_filesystem, Path(storage.trial_fs_path, name).as_posix()
    folder = getattr(trial, "path", None)
    if folder is None:
        return None
    from pyarrow.fs import LocalFileSystem  # noqa: PLC0415 - needs pyarrow

    return LocalFileSystem(), str(Path(folder, name))
