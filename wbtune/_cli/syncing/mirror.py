"""A copy of the runs in a remote storage, for `wbtune sync`: what has grown is fetched again."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path
from typing import Final

from wbtune._cli.syncing.memory import NAME
from wbtune._tune_files.folder import Folder

_WANDB: Final = "wandb"
_NOT_FETCHED: Final = frozenset({"wbtune.log", "wbtune-sync.lock"})
_MARKER: Final = ".synced"


class Mirror:
    """Copies the runs of an experiment here, and markers there.

    Args:
        remote: the experiment's folder in the storage.
        directory: its copy.
    """

    def __init__(self, remote: Folder, directory: Path) -> None:
        self._remote = remote
        self._directory = directory
        self._known: dict[str, tuple[int, float]] = {}  # what is there
        self._same: dict[str, int] = {}  # when a copy was written that is the same as there

    def fetch(self) -> None:
        """Copy what is new or has grown; a run's log after the files that it names.

        Raises:
            OSError: if the storage does not answer.
        """
        for inner, entry in sorted((self._remote / _WANDB).tree(), key=lambda one: _rank(one[0])):
            path, state = posixpath.join(_WANDB, inner), (entry.size, entry.changed)
            if entry.name not in _NOT_FETCHED and self._known.get(path) != state:
                self._fetch(path, entry.changed)
                self._known[path] = state

    def _fetch(self, path: str, changed: float) -> None:
        target = self._directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        with self._remote.open(path) as source, part.open("wb") as file:
            while data := source.read(1 << 20):
                file.write(data)
        os.utime(part, (changed, changed))  # a marker that is older than its log is none
        part.replace(target)
        self._same[path] = target.stat().st_mtime_ns

    def publish(self, file: Path) -> None:
        """Copy a small file to the storage.

        Raises:
            OSError: if that is not allowed.
        """
        self._remote.write(file.relative_to(self._directory).as_posix(), file.read_bytes())

    def publish_markers(self) -> None:
        """Copy the markers of what was uploaded to the storage.

        Raises:
            OSError: if that is not allowed.
        """
        for file in (self._directory / "wandb").glob(f"*/*{_MARKER}"):
            path = file.relative_to(self._directory).as_posix()
            changed = file.stat().st_mtime_ns
            if self._same.get(path) != changed:
                self.publish(file)
                self._same[path] = changed


def _rank(path: str) -> tuple[int, str]:
    """Logs come last, because a log is read as soon as it is there.

    >>> sorted(["a/run-a.wandb", "a/files/x.png"], key=_rank)
    ['a/files/x.png', 'a/run-a.wandb']
    """
    return (path.endswith(".wandb") + 2 * (posixpath.basename(path) == NAME), path)
