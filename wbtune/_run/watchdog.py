"""Notice a wandb-core that hangs, or that has written nothing since its disk was full.

Neither raises an error in the code that logs. A core that hangs accepts rows until the socket to it
is full; then ``run.log`` waits forever. One whose write has failed accepts them and writes nothing
more (wandb 0.31). So one thread of each process regularly checks the logs of the runs, and sends
the core a question. A core that fails the check is killed, and its runs continue in another.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import weakref
from pathlib import Path
from typing import Final, Protocol

from wbtune._data import timeouts
from wbtune._data.deadline import Waiting
from wbtune._upstream import wandb_core, wandb_settings

logger = logging.getLogger("wbtune")

#: A disk with less room than this, in bytes, is as good as full.
FULL: Final = 100_000


class Progress:
    """How much of a run is known to be in its log.

    Attributes:
        safe: everything sent before this moment is on disk; on the same clock as in `look`.
    """

    def __init__(self, folder: Path, now: float) -> None:
        self.safe = float("-inf")
        self._folder = folder
        self._core_lag_s = max(timeouts.CORE_LAG_S, wandb_settings.remember_s())
        self._path: Path | None = None
        self._size = 0
        self._looked = self._grew = now
        self._waiting: float | None = None
        self._was_full = self._is_full = False

    def look(self, now: float, newest: float) -> None:
        """Check how long the log is, and how full its disk.

        Args:
            now: the time, by `monotonic`.
            newest: when the newest row was sent.
        """
        try:
            if self._path is None:
                self._path = next(self._folder.glob("*.wandb"), None)
            size = 0 if self._path is None else self._path.stat().st_size
            disk = os.statvfs(self._folder)
        except OSError:  # the folder is gone
            return
        self._is_full = disk.f_bavail * disk.f_frsize < FULL
        self._was_full = self._was_full or self._is_full
        if size != self._size:
            # It was written after the previous check, when the core already had what was sent
            # long before that.
            self.safe = self._looked - self._core_lag_s
            self._grew, self._was_full = now, self._is_full
            self._waiting = None
        elif newest > self._grew and self._waiting is None:
            self._waiting = time.monotonic()
        self._size, self._looked = size, now

    @property
    def has_stalled(self) -> bool:
        """Has it stopped growing although there is something to write, and room for it?"""
        if self._waiting is None or self._is_full:
            return False
        after_full = max(timeouts.STALLED_S, self._core_lag_s)
        patience = after_full if self._was_full else timeouts.STALLED_ANYWAY_S
        return time.monotonic() - self._waiting > patience


class Watchable(Protocol):
    """What the watchdog needs of the guard of a run."""

    @property
    def is_over(self) -> bool:
        """Whether the run was finished."""

    def look(self) -> None:
        """Check its log."""

    def answers(self) -> None:
        """Return once its core has answered.

        Raises:
            Exception: if the core is dead.
        """


class Watchdog:
    """Watches the runs of this process, in one thread that starts with the first run."""

    def __init__(self) -> None:
        self._guards: dict[int, weakref.ref[Watchable]] = {}
        self._thread: threading.Thread | None = None
        self._asked = time.monotonic()
        self._silent = 0

    def watch(self, guard: Watchable) -> None:
        """Watch a run until it is over."""
        self._guards[id(guard)] = weakref.ref(guard)
        if self._thread is None or not self._thread.is_alive():  # it is not in a forked child
            self._thread = threading.Thread(target=self._run, name="wbtune-watchdog", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            time.sleep(timeouts.LOOKS_EVERY_S)
            try:
                self._look()
            except Exception as error:  # noqa: BLE001 - whatever it is, the thread continues
                # Cause: An error in wbtune.
                # Cure: Report it. The run is not affected, unless wandb-core hangs as well.
                logger.warning("wbtune: the watchdog: %s: %s", type(error).__name__, error)

    def _look(self) -> None:
        living = []
        for key, reference in list(self._guards.items()):
            guard = reference()
            if guard is None or guard.is_over:
                self._guards.pop(key, None)
                continue
            guard.look()
            living.append(guard)
        if living and time.monotonic() > self._asked + timeouts.ASKS_EVERY_S:
            self._ask(living[0])
            self._asked = time.monotonic()

    def _ask(self, guard: Watchable) -> None:
        kill = wandb_core.core_killer()
        answers = True
        with contextlib.suppress(Exception):  # it is dead: the next call that logs finds out
            answers = Waiting(guard.answers).done_within(timeouts.CORE_ANSWERS_S)
        self._silent = 0 if answers or guard.is_over else self._silent + 1
        if self._silent > 1:
            self._silent = 0
            # Cause: wandb-core hangs.
            # Cure: Nothing to do: the run goes on in a new one, and no row is lost.
            logger.warning("wbtune: wandb-core does not answer, and is killed.")
            kill()
