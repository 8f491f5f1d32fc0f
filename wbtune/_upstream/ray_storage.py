"""Ray's ``StorageContext``: where an experiment and its trials are kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.tune import Trainable


def storage_of(trainable: Trainable | None) -> Any:
    """A trainable's ``StorageContext`` [Ray 2.60, ``Trainable.__init__``]."""
    return getattr(trainable, "_storage", None)


def trial_folder(storage: Any) -> tuple[str, str]:
    """The names of an experiment's and of its trial's folder; empty for none.

    [Ray 2.60, ``StorageContext.experiment_dir_name``, ``trial_dir_name``.]
    """
    names = (getattr(storage, name, None) for name in ("experiment_dir_name", "trial_dir_name"))
    experiment, trial = (str(name or "") for name in names)
    return experiment, trial


def storage_among(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The ``StorageContext`` among what Tune builds a trainable with; None for none.

    [Ray 2.60, ``tune/experiment/trial.py``, ``_get_trainable_kwargs``, gives it by name.]
    """
    named = kwargs.get("storage")
    given = args if named is None else (named,)
    return next((one for one in given if hasattr(one, "experiment_fs_path")), None)


def local_experiment_path(storage: Any) -> str | None:
    """``<storage_path>/<experiment>`` where that is a folder of this machine.

    [Ray 2.60, ``train/_internal/storage.py``.]
    """
    if storage is None or not is_local(storage.storage_filesystem):
        return None
    return str(storage.experiment_fs_path)


def node_address() -> str:
    """This node's, as results name it (``node_ip``)."""
    import ray  # noqa: PLC0415 - `import wbtune` is quick without ray

    return str(ray.util.get_node_ip_address())


def experiment_path(storage: Any) -> str:
    """``<storage_path>/<experiment>``, wherever that is [Ray 2.60, as above]."""
    return "" if storage is None else str(storage.experiment_fs_path)


def remote_experiment_path(storage: Any) -> tuple[Any, str] | None:
    """The experiment's folder and its file system, where that is not this machine's."""
    if storage is None or is_local(storage.storage_filesystem):
        return None
    return storage.storage_filesystem, str(storage.experiment_fs_path)


def staging_path(storage: Any) -> str:
    """A folder of this node, in Ray's session, that Ray does not copy to the storage.

    Beside those that Tune copies now and then, as they are in that moment
    [Ray 2.60, ``experiment_driver_staging_path``; of Train V2, ``local_working_directory``].
    """
    ours = "wbtune"
    if hasattr(storage, "experiment_driver_staging_path"):
        return str(Path(storage.experiment_driver_staging_path).with_name(ours))
    return str(Path(storage.local_working_directory, ours))


def is_local(filesystem: object) -> bool:
    """Is this pyarrow's file system of this machine?"""
    from pyarrow.fs import LocalFileSystem  # noqa: PLC0415 - needs pyarrow

    return isinstance(filesystem, LocalFileSystem)
