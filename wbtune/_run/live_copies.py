"""Copies of offline runs in a remote storage while they are written, for `wbtune sync --watch`.

S3 can't append: each copy sends the whole log. So the longer a log is, the rarer are its copies,
unless it grows fast. A copy has the records of the log up to some place; the last one may be cut
off there, which every reader of a log that grows expects.

The process that writes a run copies it: the trial's own, or the driver for its helper. The copy of
the closed run (`Remote.deliver`) waits for the one that is under way, so it is always the last.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wbtune._data import timeouts
from wbtune._place.identity import Identity
from wbtune._place.storage import OFFLINE, Remote
from wbtune._run import run_files

if TYPE_CHECKING:
    from wandb import Run

    from wbtune._data.deadline import Deadline

logger = logging.getLogger("wbtune")

#: A log is copied again when it has grown by this share. Such copies are 4 times its final size,
#: all together: the sum of 1, 3/4, (3/4)², ...
GROWTH: Final = 1 / 3
#: Or when it has grown at all, and its copies are no more bytes per second than this.
RATE: Final = 2 * 1024 * 1024


@dataclass
class Pace:
    """When a log is due to be copied.

    Attributes:
        copied: how many bytes of it the last copy has.
        at: when that was begun, on the monotonic clock.
    """

    copied: int = 0
    at: float = 0.0

    def is_due(self, size: int, now: float) -> bool:
        """Return whether a log of this size is to be copied."""
        grown = size - self.copied
        return grown > 0 and (grown >= GROWTH * self.copied or (now - self.at) * RATE >= size)


@dataclass
class _Log:
    path: Path
    pace: Pace = field(default_factory=Pace)
    files: dict[Path, tuple[int, int]] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        return self.path.stem.removeprefix("run-")


class LiveCopies:
    """Copies the offline runs of one process to the storage, in a thread of its own.

    Args:
        directory: the local folder, which contains ``wandb/``.
        remote: the storage; None if the folder is the storage, which needs no copies.
        may_begin: whether the runs are to be copied yet: that of an actor which never trains is
            discarded, and nobody would find a copy of it.
    """

    def __init__(
        self,
        directory: Path | str | None = None,
        remote: Remote | None = None,
        may_begin: Callable[[], bool] = lambda: True,
    ) -> None:
        self._wandb = Path(directory or "", "wandb")
        self._remote = None if directory is None else remote
        self._may_begin = may_begin
        self._run_ids: set[str] = set()
        self._logs: dict[str, _Log] = {}
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._has_warned = False

    def add(self, run_ids: Iterable[str]) -> None:
        """Copy runs of these ids from now on; they need not be on disk yet."""
        if self._remote is None:
            return
        self._run_ids.update(run_ids)
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._work, args=(self._remote,), name="wbtune-live-copies", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Begin no other copy."""
        self._stopped.set()

    def finish(self) -> None:
        """Begin no other copy, and wait for the one that is under way, however long it takes."""
        self.stop()
        if self._thread is not None:
            self._thread.join()

    def _work(self, remote: Remote) -> None:
        pause = timeouts.LIVE_COPIES_S
        while not self._stopped.wait(pause):
            begun = time.monotonic()
            if self._may_begin():
                self._copy_due(remote)
            # A slow storage gets a copy at most half of the time.
            pause = max(timeouts.LIVE_COPIES_S, time.monotonic() - begun)

    def _copy_due(self, remote: Remote) -> None:
        self._find()
        for log in list(self._logs.values()):
            if self._stopped.is_set():
                return
            if log.run_id not in self._run_ids:
                continue
            try:
                self._copy(remote, log)
            except Exception as error:  # noqa: BLE001 - a remote storage may raise anything
                if log.path.exists():  # else the run was discarded, as nobody needs it
                    self._warn(remote, error)

    def _find(self) -> None:
        """Find new logs of offline runs; one that was to be online is uploaded at the end."""
        try:
            names = [entry.name for entry in os.scandir(self._wandb)]
        except OSError:
            return  # nothing is there yet
        for name in names:
            if name.startswith(OFFLINE) and name not in self._logs:
                folder = self._wandb / name
                found = next(folder.glob("run-*.wandb"), None)
                if found is not None and not run_files.is_left(folder):
                    self._logs[name] = _Log(found)

    def _copy(self, remote: Remote, log: _Log) -> None:
        size, now = log.path.stat().st_size, time.monotonic()
        if not log.pace.is_due(size, now):
            return
        # What the records up to there name is in the storage before them.
        for file, state in _states(log.path.parent / "files"):
            if log.files.get(file) != state and not self._stopped.is_set():
                remote.copy(file, self._wandb)
                log.files[file] = state
        if not self._stopped.is_set():
            remote.copy(log.path, self._wandb, size)
            log.pace = Pace(size, now)

    def _warn(self, remote: Remote, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            # Cause: The storage is away, or can't be written.
            # Cure: Nothing to do, unless the node may vanish before the run is closed.
            logger.warning(
                "wbtune: %s can't be copied to %s while its runs are written: %s: %s. They are "
                "copied when they are closed.",
                self._wandb,
                remote,
                type(error).__name__,
                error,
            )


def of_trial(trial: Identity, run: Run, may_begin: Callable[[], bool]) -> LiveCopies:
    """Copy a run that its trial's own process has opened; an online run is not copied."""
    copies = LiveCopies(trial.directory, trial.remote, may_begin)
    if run.offline:
        copies.add([run.id])
    return copies


def deliver(trial: Identity, run: Run, copies: LiveCopies, end_by: Deadline) -> None:
    """Copy a trial's closed run to the experiment's storage, if that is remote."""
    if trial.remote is None or trial.directory is None:
        return
    for newest in run_files.logs(trial.directory, run.id)[-1:]:
        run_files.wait_for_end(newest, end_by.within(timeouts.EXIT_RECORD_S))
    seconds = end_by.within(timeouts.TRIAL_COPY_S, keep=timeouts.CORE_KILLED_S)
    trial.remote.deliver(trial.directory, run.id, seconds=seconds, after=copies.finish)


def _states(folder: Path) -> Iterator[tuple[Path, tuple[int, int]]]:
    """The files below a folder, and what changes when they are written."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            stat = file.stat()
            yield file, (stat.st_size, stat.st_mtime_ns)
