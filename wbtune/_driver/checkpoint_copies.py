"""Copy model checkpoints at once, so that they can be uploaded later.

Tune may delete a checkpoint at any time (with ``CheckpointConfig(num_to_keep=1)``, when the
next one is saved). So a checkpoint is copied before Tune's hook returns if the storage is a folder
of this machine: by hard links, which cost next to nothing. From any other storage, or if
there are too many files for Tune's loop to wait for, a thread makes the copy. Its copy counts
only if Tune had not begun to delete the checkpoint when the copy was complete.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from wbtune._data import timeouts
from wbtune._data.checkpoint import SavedCheckpoint
from wbtune._driver.checkpoint_references import uri_of
from wbtune._upstream import ray_storage

if TYPE_CHECKING:
    from ray.tune import Checkpoint

logger = logging.getLogger("wbtune")
#: Trials whose checkpoints are copied from a remote storage at the same time.
_AT_ONCE: Final = 4


class CheckpointCopier:
    """Copies checkpoints, so that Tune may delete its own.

    Args:
        below: the folder for the copies, on the same file system as the experiment's storage;
            used if that is a folder of this machine.
        references: record where a remote checkpoint is, instead of copying it.
    """

    def __init__(self, below: Path, *, references: bool = False) -> None:
        self._below = below
        self._references = references
        self._queues: list[SimpleQueue[Callable[[], None] | None]] = []
        self._changed = threading.Condition()
        # What each trial's thread has yet to do: the name of a checkpoint, or "" to delete one.
        self._waiting: dict[str, list[str]] = {}
        self._closed = False

    def copy(
        self,
        checkpoint: Checkpoint,
        trial_name: str,
        artifact: SavedCheckpoint,
        then: Callable[[SavedCheckpoint], None],
        is_kept: Callable[[], bool],
    ) -> None:
        """Copy one checkpoint, or record where it is.

        Args:
            checkpoint: as Tune has stored it.
            trial_name: for messages.
            artifact: what it will be uploaded as.
            then: called with ``artifact`` and the copy in it, at once or later from a thread, but
                in order for the checkpoints of one trial.
            is_kept: whether Tune still has the checkpoint on its list; it removes it from the list
                before it begins to delete it.
        """
        local = ray_storage.is_local(checkpoint.filesystem)
        if self._references and not local:
            then(artifact._replace(reference=uri_of(checkpoint)))
            return
        if local:
            self._below.mkdir(parents=True, exist_ok=True)
        # Not in that folder if the storage is remote: Tune would copy the copies to the storage.
        place = self._below if local else None
        folder = tempfile.mkdtemp(prefix=".checkpoint-", dir=place)
        saved = artifact._replace(folder=folder)
        links = _links(checkpoint.path, folder) if local else None
        linked = _advance(links, timeouts.LINKS_S)
        if linked and trial_name not in self._waiting:
            then(saved)
            return
        # Hard links that are complete are safe, whatever Tune deletes; they only wait their turn.
        is_safe = (lambda: True) if linked else is_kept
        what = f"{saved.source} of {trial_name}"
        self._later(
            trial_name,
            saved.source,
            lambda: self._fetch(
                checkpoint, saved, None if linked is None else links, then, is_safe, what
            ),
        )

    def discard(self, trial_name: str, saved: SavedCheckpoint) -> None:
        """Delete a copy, in a thread: if it has very many files, that takes a while."""
        self._later(trial_name, "", saved.discard)

    def close(self, timeout: float, is_interrupted: Callable[[], bool] = lambda: False) -> None:
        """Wait for the copies that are being made, and name those that were not finished.

        Args:
            timeout: seconds.
            is_interrupted: whether somebody has pressed Ctrl-C.
        """
        until = time.monotonic() + timeout
        with self._changed:
            while self._waiting and not is_interrupted() and time.monotonic() < until:
                self._changed.wait(timeouts.LOOK_S)
            self._closed = True
            for trial_name, sources in self._waiting.items():
                for source in filter(None, sources):
                    what = f"{source} of {trial_name}"
                    # Cause: The storage is slow.
                    # Cure: Give a greater upload_timeout=, or checkpoint_references=True.
                    logger.warning("wbtune: %s was not fetched in time: not uploaded", what)
        for queue in self._queues:
            queue.put(None)

    def _later(self, trial_name: str, source: str, work: Callable[[], None]) -> None:
        with self._changed:
            self._waiting.setdefault(trial_name, []).append(source)
        if not self._queues:
            self._queues = [SimpleQueue() for _ in range(_AT_ONCE)]
            for number, queue in enumerate(self._queues):
                # Daemons: a storage that does not answer must not hold up the driver's exit.
                threading.Thread(
                    target=_work, args=(queue,), name=f"wbtune-fetch-{number}", daemon=True
                ).start()

        def done() -> None:
            try:
                work()
            finally:
                with self._changed:
                    self._waiting[trial_name].remove(source)
                    if not self._waiting[trial_name]:
                        del self._waiting[trial_name]
                    self._changed.notify_all()

        # One thread for each trial's checkpoints, which keeps their order: `latest` comes last.
        number = zlib.crc32(trial_name.encode("utf-8", "surrogatepass")) % _AT_ONCE
        self._queues[number].put(done)

    def _fetch(
        self,
        checkpoint: Checkpoint,
        saved: SavedCheckpoint,
        links: Iterator[None] | None,
        then: Callable[[SavedCheckpoint], None],
        is_kept: Callable[[], bool],
        what: str,
    ) -> None:
        """In a thread: complete the copy, and pass it on if it is whole."""
        lost = None
        try:
            if not self._closed and not _advance(links, math.inf):
                lost = _copy_tree(checkpoint, str(saved.folder))
        except Exception as error:  # noqa: BLE001 - a remote storage may raise anything
            lost = f"{type(error).__name__}: {error}"
        if not is_kept():
            lost = "Tune deleted it before it was fetched; a greater num_to_keep= helps"
        with self._changed:
            if self._closed or lost is not None:
                saved.discard()
            else:
                then(saved)
            if lost is not None and not self._closed:
                # Cure: Raise num_to_keep=, or correct what the error names.
                logger.warning("wbtune: %s is lost, and not uploaded: %s", what, lost)


def _work(queue: SimpleQueue[Callable[[], None] | None]) -> None:
    while (fetch := queue.get()) is not None:
        try:
            fetch()
        except Exception:  # the next one is fetched all the same
            # Message: none by itself.
            logger.exception("wbtune: a checkpoint is lost, and not uploaded")


def _links(source: str, folder: str) -> Iterator[None]:
    """Make hard links to a folder's files, one per iteration."""
    Path(folder).mkdir(exist_ok=True)
    with os.scandir(source) as entries:
        for entry in entries:
            target = str(Path(folder, entry.name))
            if entry.is_dir():
                yield from _links(entry.path, target)
            else:
                os.link(entry.path, target)
                yield


def _advance(links: Iterator[None] | None, seconds: float) -> bool | None:
    """Make links for this long. False if some are left to make, None if links can't be made."""
    if links is None:
        return None
    until = time.monotonic() + seconds
    try:
        return all(time.monotonic() < until for _ in links)
    except OSError:  # another file system, one without hard links, or it was deleted
        return None


def _copy_tree(checkpoint: Checkpoint, folder: str) -> str | None:
    """Copy a checkpoint from its storage; what is wrong with the copy, or None."""
    before = _files(checkpoint)
    shutil.rmtree(folder)  # it may have some links in it
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
