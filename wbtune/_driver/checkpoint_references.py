"""References to checkpoints in a remote storage, which are uploaded instead of copies."""

from __future__ import annotations

import importlib.util
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ray.tune import Checkpoint

#: File systems whose name in pyarrow is not the scheme.
_SCHEMES: Final = {"gcs": "gs"}
#: What wandb needs for a reference, by scheme: (module, what to install).
_NEEDED: Final = {
    "s3": ("boto3", "pip install boto3"),
    "gs": ("google.cloud.storage", "pip install google-cloud-storage"),
}


def scheme_of(filesystem: Any) -> str:
    """The scheme of a remote storage's URIs: ``s3``, ``gs``, or fsspec's protocol."""
    name = str(filesystem.type_name)
    if name == "subtree":
        return scheme_of(filesystem.base_fs)
    name = name.removeprefix("py::").removeprefix("fsspec+")
    return _SCHEMES.get(name, name)


def uri_of(checkpoint: Checkpoint) -> str:
    """The URI of a checkpoint in a remote storage."""
    filesystem: Any = checkpoint.filesystem
    path = checkpoint.path
    while filesystem.type_name == "subtree":
        path = str(PurePosixPath(filesystem.base_path, path))
        filesystem = filesystem.base_fs
    return f"{scheme_of(filesystem)}://{path.lstrip('/')}"


def missing_for_references(filesystem: Any) -> str | None:
    """How to install what wandb needs for references to this storage; None if it is installed."""
    module, cure = _NEEDED.get(scheme_of(filesystem), ("", ""))
    return cure if module and not _is_installed(module) else None


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its package is not installed either
        return False
