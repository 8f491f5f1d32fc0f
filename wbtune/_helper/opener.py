"""Runs that are being opened: a few at the same time, and no more than can be open."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from wbtune._data import timeouts
from wbtune._helper.backend import AT_ONCE, Backend
from wbtune._helper.messages import STOP, Start
from wbtune._helper.stream import secret_of
from wbtune._run import opening

if TYPE_CHECKING:
    from wandb import Run


class Owner(Protocol):
    """Owns the runs, in one thread: the `Helper`."""

    def put(self, event: Callable[[], None]) -> None:
        """Have something called in that thread."""

    def is_open(self, key: str, run: Run | None) -> None:
        """A run is open; None for one that could not be opened."""

    def is_ready(self, key: str) -> None:
        """A run takes messages again."""

    def is_closed(self, key: str, *, lost: int, was_open: bool) -> None:
        """A run is closed; so many rows are not in it."""


class RunOpener:
    """Opens runs in threads of its own, and counts how many are open.

    Args:
        backend: opens them.
        warn: gets what a person should know: ``warn(key, text)``.
        owner: hears of the runs that were opened.
    """

    def __init__(
        self,
        backend: Backend,
        warn: Callable[[str, str], None],
        owner: Owner,
    ) -> None:
        self._backend = backend
        self._warn = warn
        self._owner = owner
        self._workers = backend.workers("wbtune-open")
        self._open = 0
        self._waiting: deque[Start] = deque()
        self._closing = 0
        self._fewer_close = threading.Condition()

    def open(self, message: Start) -> None:
        """Open a run, or if there is no room for it, wait until another has ended."""
        if self._open >= self._backend.most_open:
            self._warn(
                "",
                f"{self._open} runs are open at the same time, and W&B has several files open for "
                "each: with this limit of open files there is room for no more. Further runs "
                "wait in memory until others have ended. Raise the hard limit (ulimit -Hn).",
            )
            self._waiting.append(message)
            return
        self.count_open()
        self._workers.submit(self._open_run, message)

    def count_open(self) -> None:
        """One more run is open."""
        self._open += 1

    def count_closed(self) -> None:
        """A run has ended: there is room for another one."""
        self._open -= 1
        if self._waiting:
            self.count_open()
            self._workers.submit(self._open_run, self._waiting.popleft())

    def begin_closing(self) -> None:
        """A run is being closed: runs that are to be opened give way to it."""
        with self._fewer_close:
            self._closing += 1

    def end_closing(self) -> None:
        """It is closed."""
        with self._fewer_close:
            self._closing -= 1
            self._fewer_close.notify_all()

    def shutdown(self) -> None:
        """Wait for the threads: there is no more to open."""
        self._workers.shutdown()

    def _open_run(self, message: Start) -> None:
        with self._fewer_close:  # else hundreds of short runs are opened before the first is closed
            self._fewer_close.wait_for(lambda: self._closing < AT_ONCE, timeouts.OPENING_WAITS_S)
        run = None
        try:
            run = self._backend.open_run(
                message.spec,
                secret_of(message.secret),
                for_trial_elsewhere=True,
                on_stop=partial(self._warn, message.key, STOP),
            )
            opening.define_metrics(run, message.spec)
        except BaseException as error:  # noqa: BLE001 - a hook may even exit: say it, go on
            what = "could not be opened" if run is None else "has no x-axis"
            self._warn(message.key, f"{what}: {type(error).__name__}: {error}")
        self._owner.put(partial(self._owner.is_open, message.key, run))
