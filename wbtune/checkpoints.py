"""Model checkpoints as W&B artifacts: taken aside at once, uploaded when there is time.

Tune deletes old checkpoints when it likes (``CheckpointConfig(num_to_keep=1)``: when the
next one is saved), so a checkpoint is taken aside before Tune's hook returns: by hard
links, which cost next to nothing, where the storage is a folder of this machine. From any
other storage it is copied by a thread, because Tune's loop waits for nobody; a copy
counts only if Tune had not begun to delete the checkpoint when it was complete.
"""

# Over 250 lines: what a checkpoint is called, whether it is the best, and how it is taken
# aside are told by one record.

from __future__ import annotations

import importlib.util
import logging
import math
import os
import re
import shutil
import tempfile
import threading
import zlib
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path, PurePosixPath
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wbtune import _compat
from wbtune.sanitize import plain

if TYPE_CHECKING:
    from ray.tune import Checkpoint

logger = logging.getLogger("wbtune")

ARTIFACT_TYPE: Final = "model"
LATEST: Final = "latest"
BEST: Final = "best"

_LONGEST: Final = 128
_FORBIDDEN: Final = re.compile(r"[^A-Za-z0-9._-]")
#: Trials whose checkpoints are copied from a remote storage at the same time.
_AT_ONCE: Final = 4
#: Where pyarrow's name of a file system is not its scheme.
_SCHEMES: Final = {"gcs": "gs"}
#: What wandb needs for a reference, by scheme: (module, what to install).
_NEEDED: Final = {
    "s3": ("boto3", "pip install boto3"),
    "gs": ("google.cloud.storage", "pip install google-cloud-storage"),
}


class SavedCheckpoint(NamedTuple):
    """A checkpoint that was taken aside, or whose place was noted.

    Attributes:
        name: the artifact's name.
        source: what Tune calls it, for the messages: ``checkpoint_000003``.
        folder: where the copy is; whoever uploads it deletes it. None for a reference.
        reference: where the checkpoint itself is, instead of a copy.
        metadata: the trial's metrics, its iteration and its id.
        aliases: of this version of the artifact.
    """

    name: str
    source: str
    folder: str | None = None
    reference: str | None = None
    metadata: Mapping[str, Any] = {}
    aliases: tuple[str, ...] = (LATEST,)

    @property
    def is_gone(self) -> bool:
        """Was the copy deleted? Whoever has uploaded it does that."""
        return self.folder is not None and not Path(self.folder).exists()

    def discard(self) -> None:
        """Delete the copy."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


class Objective(NamedTuple):
    """What makes a result the best: the tuner's metric and mode.

    >>> Objective("loss", "min").improves(0.1, on=0.2)
    True
    """

    metric: str
    mode: str

    def value(self, result: Mapping[str, Any]) -> float | None:
        """The metric in a result, nested (``"val/loss"``) or not; None if it is no number."""
        value: Any = result
        for name in [self.metric] if self.metric in result else self.metric.split("/"):
            value = value.get(name) if isinstance(value, Mapping) else None
        try:
            number = float(value)
        except (TypeError, ValueError):
            return None
        return None if math.isnan(number) else number

    def improves(self, value: float | None, on: float | None) -> bool:
        """Is a value better than the best so far?"""
        if value is None or on is None:
            return value is not None
        return value < on if self.mode == "min" else value > on


def artifact_name(trial_name: str) -> str:
    """``checkpoint_<trial>``, in the characters and the length that W&B allows.

    >>> artifact_name("train lr=0.1")
    'checkpoint_train-lr-0.1'
    """
    name = _FORBIDDEN.sub("-", f"checkpoint_{trial_name}")
    if len(name) <= _LONGEST:
        return name
    # Long names begin alike: what is cut off must not make two trials' artifacts one.
    digest = sha256(trial_name.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST - 9]}-{digest}"


def scheme_of(filesystem: Any) -> str:
    """The scheme of a remote storage's URIs: ``s3``, ``gs``, or fsspec's protocol."""
    name = str(filesystem.type_name)
    if name == "subtree":
        return scheme_of(filesystem.base_fs)
    name = name.removeprefix("py::").removeprefix("fsspec+")
    return _SCHEMES.get(name, name)


def uri_of(checkpoint: Checkpoint) -> str:
    """Where a checkpoint of a remote storage is, as a URI."""
    filesystem: Any = checkpoint.filesystem
    path = checkpoint.path
    while filesystem.type_name == "subtree":
        path = str(PurePosixPath(filesystem.base_path, path))
        filesystem = filesystem.base_fs
    return f"{scheme_of(filesystem)}://{path.lstrip('/')}"


def missing_for_references(filesystem: Any) -> str | None:
    """How to install what wandb needs for references to this storage; None if it is there."""
    module, cure = _NEEDED.get(scheme_of(filesystem), ("", ""))
    return cure if module and not _is_installed(module) else None


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that it is in
        return False


class Shelf:
    """Takes checkpoints aside.

    Args:
        below: a folder on the same file system as the experiment's storage, if that is
            one of this machine.
        references: note where a remote checkpoint is, instead of copying it.
    """

    def __init__(self, below: Path, *, references: bool = False) -> None:
        self._below = below
        self._references = references
        self._queues: list[SimpleQueue[Callable[[], None] | None]] = []
        self._changed = threading.Condition()
        self._fetching: dict[str, str] = {}
        self._closed = False

    def take(
        self,
        checkpoint: Checkpoint,
        trial_name: str,
        result: Mapping[str, Any],
        then: Callable[[SavedCheckpoint], None],
        is_kept: Callable[[], bool],
    ) -> None:
        """Take one checkpoint aside.

        Args:
            checkpoint: as Tune has stored it.
            trial_name: names the artifact.
            result: the trial's result with the checkpoint, for the metadata.
            then: gets the copy; called at once, or later from a thread, but in order for
                the checkpoints of one trial.
            is_kept: whether Tune still keeps the checkpoint; it forgets it, and only then
                begins to delete it.
        """
        metadata = {key: value for key, value in result.items() if key != "config"}
        saved = SavedCheckpoint(
            artifact_name(trial_name), Path(checkpoint.path).name, metadata=plain(metadata)
        )
        local = _compat.is_local(checkpoint.filesystem)
        if self._references and not local:
            then(saved._replace(reference=uri_of(checkpoint)))
            return
        if local:
            self._below.mkdir(parents=True, exist_ok=True)
        # Not below, if the storage is remote: Tune would copy the copies there.
        place = self._below if local else None
        saved = saved._replace(folder=tempfile.mkdtemp(prefix=".checkpoint-", dir=place))
        if local and _link_tree(checkpoint.path, str(saved.folder)):
            then(saved)
        else:
            self._later(trial_name, lambda: self._fetch(checkpoint, saved, then, is_kept), saved)

    def close(self, timeout: float) -> None:
        """Wait for the copies that are on their way; say which are given up after that.

        Args:
            timeout: seconds.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._fetching, timeout)
            self._closed = True
            for source in self._fetching.values():
                logger.warning("wbtune: %s was not fetched in time: not uploaded", source)
        for queue in self._queues:
            queue.put(None)

    def _later(self, trial_name: str, fetch: Callable[[], None], saved: SavedCheckpoint) -> None:
        with self._changed:
            self._fetching[str(saved.folder)] = f"{saved.source} of {trial_name}"
        if not self._queues:
            self._queues = [SimpleQueue() for _ in range(_AT_ONCE)]
            for number, queue in enumerate(self._queues):
                # Daemons: a storage that does not answer must not hold up the driver's exit.
                threading.Thread(
                    target=_work, args=(queue,), name=f"wbtune-fetch-{number}", daemon=True
                ).start()
        # One trial, one thread: `latest` has to be the last.
        self._queues[zlib.crc32(trial_name.encode()) % _AT_ONCE].put(fetch)

    def _fetch(
        self,
        checkpoint: Checkpoint,
        saved: SavedCheckpoint,
        then: Callable[[SavedCheckpoint], None],
        is_kept: Callable[[], bool],
    ) -> None:
        folder = str(saved.folder)
        what = self._fetching[folder]
        lost = None
        try:
            if not self._closed:
                lost = _copy_tree(checkpoint, folder)
        except Exception as error:  # noqa: BLE001 - a remote storage raises what it likes
            lost = f"{type(error).__name__}: {error}"
        if not is_kept():
            lost = "Tune deleted it before it was fetched; a greater num_to_keep= helps"
        with self._changed:
            if self._closed or lost is not None:
                saved.discard()
            else:
                then(saved)
            if lost is not None and not self._closed:
                logger.warning("wbtune: %s is lost, and not uploaded: %s", what, lost)
            del self._fetching[folder]
            self._changed.notify_all()


def _work(queue: SimpleQueue[Callable[[], None] | None]) -> None:
    while (fetch := queue.get()) is not None:
        fetch()


def _link_tree(source: str, folder: str) -> bool:
    """Hard links to a folder's files; False where there can be none, and nothing is left."""
    try:
        shutil.copytree(source, folder, copy_function=os.link, dirs_exist_ok=True)
    except OSError:  # another file system, or one without hard links
        shutil.rmtree(folder, ignore_errors=True)
        Path(folder).mkdir()
        return False
    return True


def _copy_tree(checkpoint: Checkpoint, folder: str) -> str | None:
    """Copy a checkpoint from its storage; None if it was whole, and stayed so."""
    before = _files(checkpoint)
    checkpoint.to_directory(folder)
    here = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in Path(folder).rglob("*")
        if path.is_file()
    }
    if not before or here != before or _files(checkpoint) != before:
        return "its files changed while they were fetched"
    return None


def _files(checkpoint: Checkpoint) -> dict[str, int]:
    from pyarrow.fs import FileSelector, FileType  # noqa: PLC0415 - needs pyarrow

    filesystem: Any = checkpoint.filesystem
    found = filesystem.get_file_info(FileSelector(checkpoint.path, recursive=True))
    return {
        PurePosixPath(info.path).relative_to(checkpoint.path).as_posix(): info.size
        for info in found
        if info.type == FileType.File
    }
