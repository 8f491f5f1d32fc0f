"""Open runs: a few at the same time, and no more than can be open at once."""

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
        """Note that a run is open; ``run`` is None if it could not be opened."""

    def is_ready(self, key: str) -> None:
        """Note that a run can take messages again."""

    def is_closed(self, key: str, *, lost: int, was_open: bool) -> None:
        """Note that a run is closed, and how many of its rows were lost."""


class RunOpener:
    """Opens runs in threads of its own, and counts how many are open.

    Args:
        backend: the functions that open them.
        warn: gives the user a warning: ``warn(key, text)``.
        owner: is called with the runs that were opened.
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
        """Open a run, or queue it until another has ended if no more can be open."""
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
        """Count one more open run."""
        self._open += 1

    def count_closed(self) -> None:
        """Count one open run less, and open the next one that waits."""
        self._open -= 1
        if self._waiting:
            self.count_open()
            self._workers.submit(self._open_run, self._waiting.popleft())

    def begin_closing(self) -> None:
        """Note that a run is being closed: runs to be opened give way to it."""
        with self._fewer_close:
            self._closing += 1

    def end_closing(self) -> None:
        """Note that it is closed."""
        with self._fewer_close:
            self._closing -= 1
            self._fewer_close.notify_all()

    def shutdown(self) -> None:
        """Wait for the threads; there is nothing more to open."""
        self._workers.shutdown()

    def _open_run(self, message: Start) -> None:
        # Otherwise hundreds of short runs would be opened before the first is closed.
        with self._fewer_close:
            self._fewer_close.wait_for(lambda: self._closing < AT_ONCE, timeouts.OPENING_WAITS_S)
        run = None
        try:
            run = self._backend.open_run(
                message.spec,
                secret_of(message.secret),
                for_trial_elsewhere=True,
                on_stop=partial(self._warn, message.key, STOP),
            )
            opening.define_metrics(run, message.spec, logs_results=message.spec.logs_results)
        except BaseException as error:  # noqa: BLE001 - a hook may even exit; warn and continue
            # Cause: W&B refuses an argument of the run, or can't write to its folder.
            # Cure: Correct what the error names. The results are in Tune's result.json: wbtune
            #   import DIR.
            what = "could not be opened" if run is None else "has no x-axis"
            self._warn(message.key, f"{what}: {type(error).__name__}: {error}")
        self._owner.put(partial(self._owner.is_open, message.key, run))
