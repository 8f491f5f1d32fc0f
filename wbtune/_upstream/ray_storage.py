"""Ray's ``StorageContext``: where an experiment and its trials are kept."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wbtune._upstream.capabilities import Capability, uses

if TYPE_CHECKING:
    from ray.tune import Trainable

_CONTEXT: Final = "ray.train._internal.storage:StorageContext"
STORAGE: Final = Capability(
    "where an experiment is kept",
    without="a run that its trial writes is kept in a folder of the trial's node",
    since="ray 2.41",
    needs=(
        "ray.tune.trainable.trainable:Trainable._storage",
        *(f"{_CONTEXT}.{name}" for name in ("storage_filesystem", "experiment_fs_path")),
        *(f"{_CONTEXT}.{name}" for name in ("experiment_dir_name", "trial_dir_name")),
        *(f"{_CONTEXT}.{name}" for name in ("trial_fs_path", "experiment_driver_staging_path")),
    ),
)


def storage_in(owner: Any, name: str) -> Any:
    """Return an object's ``StorageContext``, even if its name is not this one; None for none."""
    named = getattr(owner, name, None)
    return named or storage_among(getattr(owner, "__dict__", {}).values(), {})


@uses(STORAGE, otherwise=lambda trainable: storage_in(trainable, "_storage"))
def storage_of(trainable: Trainable | None) -> Any:
    """Return a trainable's ``StorageContext`` [Ray 2.60, ``Trainable.__init__``]."""
    return getattr(trainable, "_storage", None)


def trial_folder(storage: Any) -> tuple[str, str]:
    """Return the names of an experiment's folder and of its trial's; empty for none.

    [Ray 2.60, ``StorageContext.experiment_dir_name``, ``trial_dir_name``.]
    """
    names = (getattr(storage, name, None) for name in ("experiment_dir_name", "trial_dir_name"))
    experiment, trial = (str(name or "") for name in names)
    return experiment, trial


def storage_among(args: Iterable[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the ``StorageContext`` among a trainable's arguments; None for none.

    [Ray 2.60, ``tune/experiment/trial.py``, ``_get_trainable_kwargs``, gives it by name.]
    """
    named = kwargs.get("storage")
    given = args if named is None else (named,)
    return next((one for one in given if _is_storage(one)), None)


def _is_storage(value: object) -> bool:
    return hasattr(value, "experiment_fs_path") or type(value).__name__ == "StorageContext"


@uses(STORAGE, otherwise=lambda _: None)
def local_experiment_path(storage: Any) -> str | None:
    """Return ``<storage_path>/<experiment>`` where that is a folder of this machine.

    [Ray 2.60, ``train/_internal/storage.py``.]
    """
    if storage is None or not is_local(storage.storage_filesystem):
        return None
    return str(storage.experiment_fs_path)


def filesystem(storage: Any) -> Any:
    """Return pyarrow's file system of a storage; None where that is not known."""
    return getattr(storage, "storage_filesystem", None)


def node_address() -> str:
    """Return this node's address, as results name it (``node_ip``)."""
    import ray  # noqa: PLC0415 - `import wbtune` is quick without ray

    return str(ray.util.get_node_ip_address())


@uses(STORAGE, otherwise=lambda _: "")
def experiment_path(storage: Any) -> str:
    """Return ``<storage_path>/<experiment>``, wherever that is [Ray 2.60, as above]."""
    return "" if storage is None else str(storage.experiment_fs_path)


@uses(STORAGE, otherwise=lambda _: None)
def remote_experiment_path(storage: Any) -> tuple[Any, str] | None:
    """Return the file system and folder of an experiment that is not on this machine; else None."""
    if storage is None or is_local(storage.storage_filesystem):
        return None
    return storage.storage_filesystem, str(storage.experiment_fs_path)


def staging_path(storage: Any) -> str:
    """Return a folder of this node, in Ray's session, that Ray does not copy to the storage.

    It is next to the folders that Tune copies now and then, as they are in that moment
    [Ray 2.60, ``experiment_driver_staging_path``; of Train V2, ``local_working_directory``].
    """
    ours = "wbtune"
    if hasattr(storage, "experiment_driver_staging_path"):
        return str(Path(storage.experiment_driver_staging_path).with_name(ours))
    if hasattr(storage, "local_working_directory"):
        return str(Path(storage.local_working_directory, ours))
    return str(Path(tempfile.gettempdir(), ours, *filter(None, trial_folder(storage)[:1])))


def is_local(filesystem: object) -> bool:
    """Return whether this is pyarrow's file system of this machine."""
    from pyarrow.fs import LocalFileSystem  # noqa: PLC0415 - needs pyarrow

    return isinstance(filesystem, LocalFileSystem)
