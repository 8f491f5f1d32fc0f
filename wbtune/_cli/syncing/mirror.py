"""A copy of the runs in a remote storage, for `wbtune sync`: what has grown is fetched again."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from pathlib import Path

from wbtune._cli.syncing.memory import NAME
from wbtune._tune_files.folder import Entry, Folder

_MARKER = ".synced"


class Mirror:
    """Copies the runs of an experiment here, and markers there.

    Args:
        remote: the experiment's folder in the storage.
        directory: its copy.
    """

    def __init__(self, remote: Folder, directory: Path) -> None:
        self._remote = remote
        self._directory = directory
        self._known: dict[str, tuple[int, float]] = {}

    def fetch(self) -> None:
        """Copy what is new or has grown; a run's log after the files that it names.

        Raises:
            OSError: if the storage does not answer.
        """
        for path, entry in sorted(self._files("wandb"), key=lambda one: _rank(one[0])):
            state = entry.size, entry.changed
            if self._known.get(path) != state:
                self._fetch(path)
                self._known[path] = state

    def _files(self, path: str) -> Iterator[tuple[str, Entry]]:
        for entry in (self._remote / path).entries():
            inner = posixpath.join(path, entry.name)
            if entry.is_folder:
                yield from self._files(inner)
            elif entry.name not in {"wbtune.log", "wbtune-sync.lock"}:
                yield inner, entry

    def _fetch(self, path: str) -> None:
        target = self._directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        with self._remote.open(path) as source, part.open("wb") as file:
            while data := source.read(1 << 20):
                file.write(data)
        part.replace(target)

    def publish(self, file: Path) -> None:
        """Copy a small file to the storage.

        Raises:
            OSError: if that is not allowed.
        """
        self._remote.write(file.relative_to(self._directory).as_posix(), file.read_bytes())

    def publish_markers(self) -> None:
        """Copy wandb's markers to the storage.

        Raises:
            OSError: if that is not allowed.
        """
        for file in (self._directory / "wandb").glob(f"*/*{_MARKER}"):
            path = file.relative_to(self._directory).as_posix()
            if path not in self._known:
                self.publish(file)
                self._known[path] = (0, 0.0)


def _rank(path: str) -> tuple[int, str]:
    """Logs come last, because a log is read as soon as it is there.

    >>> sorted(["a/run-a.wandb", "a/files/x.png"], key=_rank)
    ['a/files/x.png', 'a/run-a.wandb']
    """
    return (path.endswith(".wandb") + 2 * (posixpath.basename(path) == NAME), path)
