"""The folders of the experiments whose trials are logged, and the runs in them.

`tune.run_experiments` has several experiments in one call. If the storage is remote, each has a
staging folder on this node (:mod:`wbtune._place.storage`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from wbtune._data import timeouts
from wbtune._driver.patience import Patience
from wbtune._place import storage
from wbtune._run import run_files, run_log
from wbtune._run.live_copies import LiveCopies


class Folders:
    """The experiments' folders, each with its remote storage, if it has one."""

    def __init__(self) -> None:
        self._remotes: dict[str, storage.Remote | None] = {}
        self._copies: dict[str, LiveCopies] = {}
        self._is_fetched = False

    def __iter__(self) -> Iterator[str]:
        return iter(self._remotes)

    def add(self, directory: str, remote: storage.Remote | None) -> None:
        """Add a folder, if it is new."""
        self._remotes[directory] = remote
        self._copies.setdefault(directory, LiveCopies(directory, remote))

    def copy_live(self, directory: str, run_ids: Iterable[str]) -> None:
        """Copy offline runs in a folder to its remote storage, if any, while they are written."""
        self._copies[directory].add(run_ids)

    def remote(self, directory: str) -> storage.Remote | None:
        """The storage to which a folder's runs are copied; None if the folder is the storage."""
        return self._remotes[directory]

    @property
    def has_remote(self) -> bool:
        """Does one of them have a remote storage?"""
        return any(self._remotes.values())

    def fetch(self) -> None:
        """Fetch what trials on other nodes, or an earlier driver, left in the storage."""
        for directory, remote in self._remotes.items():
            if remote is not None:
                remote.fetch(directory)

    def fetch_once(self) -> None:
        """Call `fetch`, unless this was called before."""
        if not self._is_fetched:
            self._is_fetched = True
            self.fetch()

    def deliver(self, patience: Patience) -> set[str]:
        """Copy the driver's runs, and what killed trials left on its node, to the storages.

        Returns:
            The folders that were copied.
        """
        seconds = max(timeouts.COPY_S, patience.left)
        for copies in self._copies.values():
            copies.stop()
        return {
            directory
            for directory, remote in self._remotes.items()
            if remote is not None
            and remote.deliver(
                directory,
                seconds=seconds,
                is_interrupted=patience.is_over,
                after=self._copies[directory].finish,
            )
        }

    def exit_codes(self) -> dict[str, int | None]:
        """The exit code in each run's log, by run id; None if it has none."""
        return {
            run_id: code
            for directory in self._remotes
            for run_id, code in run_files.ends(directory).items()
        }

    def run_ids(self) -> set[str]:
        """The ids of the runs that are on disk; a look at each folder, so not for each trial."""
        return {run_id for directory in self._remotes for run_id in run_files.run_ids(directory)}

    def log_of(self, run_id: str) -> run_log.RunLog | None:
        """The log of a run; None if nothing of it is on disk."""
        found = (run_log.read_runs(directory, run_id) for directory in self._remotes)
        return next((logs[run_id] for logs in found if run_id in logs), None)

    def not_uploaded(self) -> list[Path]:
        """The folders of the runs that have yet to be uploaded."""
        return [
            folder for directory in self._remotes for folder in run_files.not_uploaded(directory)
        ]
