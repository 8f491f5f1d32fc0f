"""When a watched experiment is over: it has ended, or nobody is there any more."""

from __future__ import annotations

import time
from collections.abc import Mapping

from wbtune._cli.syncing.runs import LocalRun
from wbtune._cli.syncing.sweep import whole_of
from wbtune._data import timeouts
from wbtune._tune_files import experiment_files
from wbtune._tune_files.folder import Folder
from wbtune.errors import ConfigurationError


class Watch:
    """Looks whether an experiment goes on.

    Args:
        folder: the experiment's folder.
        idle_s: it is taken for dead when nothing has changed for this long.
        now: when the watch begins, on the monotonic clock.

    Attributes:
        has_ended: whether the experiment has ended by itself.
        is_idle: whether nothing has changed for too long.
    """

    def __init__(self, folder: Folder, idle_s: float, now: float | None = None) -> None:
        self.has_ended = self.is_idle = False
        self._folder = folder
        self._idle_s = idle_s
        self._since = time.monotonic() if now is None else now
        self._seen: object = None

    @property
    def is_over(self) -> bool:
        """Does nobody write runs any more?"""
        return self.has_ended or self.is_idle

    def look(self, runs: Mapping[str, LocalRun], now: float | None = None) -> None:
        """Look once more.

        Args:
            runs: the experiment's runs.
            now: the time, on the monotonic clock.
        """
        now = time.monotonic() if now is None else now
        tune_ended, tune_changed = self._tune()
        logs = [log for run in runs.values() for log in run.logs]
        seen = (tune_changed, [(log, log.stat().st_size) for log in logs if log.exists()])
        if seen != self._seen:
            self._seen, self._since = seen, now
        quiet = now - self._since
        self.is_idle = quiet >= self._idle_s
        runs_ended = bool(runs) and all(run.segments[-1].has_ended for run in runs.values())
        has_whole = whole_of(runs) is not None
        # The run for the whole is closed after all others, but may be copied to a storage before
        # them. Without it, a search may yet make trials.
        is_last = has_whole and self._folder.is_local
        is_quiet = (has_whole or tune_ended) and quiet >= timeouts.SYNC_QUIET_S
        self.has_ended = runs_ended and (is_last or is_quiet)

    def _tune(self) -> tuple[bool, float]:
        """Whether all trials have ended by Tune's word, and when it last wrote anything."""
        try:
            files = experiment_files.read(self._folder)
        except (ConfigurationError, OSError):
            return False, 0.0  # Tune has written nothing yet
        return files.has_ended, files.changed
