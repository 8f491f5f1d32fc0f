"""Join the rows that a trial logs itself with Tune's results, so that each metric is logged once.

When Tune's results are logged to a trial's own run, the trial has usually logged most of each
result itself a moment before, or is about to. So a row of the trial's own waits a moment for its
result, which joins it. A key that the trial has logged since its last result is left out of the
next one if the value is the same, and a row that only repeats a result is left out. The trial's
own rows get the iteration that they belong to, which is the x axis of the charts.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

from wbtune._data import arrays, sanitize, timeouts
from wbtune._run import guard
from wbtune._upstream import wandb_run

if TYPE_CHECKING:
    from wandb import Run


class RowJoiner:
    """The rows of one run: the trial's own, and Tune's results.

    Args:
        run: an open run that is guarded.
        axis: the key of Tune's iteration.
        iteration: returns how many results the trial has had.
    """

    def __init__(self, run: Run, axis: str, iteration: Callable[[], int]) -> None:
        self._axis = axis
        self._iteration = iteration
        self._lock = threading.RLock()
        self._process = os.getpid()
        # The last value of each key that the trial itself has logged since its last result.
        self._own: dict[str, Any] = {}
        # The part of them in a row that is not committed yet; None if there is no such row.
        self._pending: dict[str, Any] | None = None
        self._since: float | None = None
        self._last: Mapping[str, Any] = {}
        self._logs_first = self._joining = False
        self._closed, self._rows_wait = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._send = wandb_run.rows_through(run, self._log)
        if self._send is not None:
            wandb_run.before_summary_is_used(run, self.commit)
        self._guard = guard.of(run)
        if self._guard is not None:
            self._guard.before_fork = self._before_fork

    # --- the trial's own rows ---

    def _log(
        self, data: Mapping[str, Any], step: int | None = None, commit: bool | None = None
    ) -> None:
        """Log a row of the trial's own, with the arguments of ``run.log``."""
        send = self._send
        assert send is not None  # noqa: S101 - without one, nothing calls this
        if os.getpid() != self._process:  # a forked child, where nobody would release the lock
            send(data, step, commit)
            return
        with self._lock:
            if self._joining:
                send(data, step, commit)
                return
            implicit = step is None and commit is None
            if self._since is not None:  # a whole row is waiting; this is another one
                self.commit()
            if self._pending is None and self._repeats(data):
                new = {
                    k: v for k, v in data.items() if not flat({k: v}).keys() <= self._last.keys()
                }
                if new:  # it belongs to the result that is there already, so it need not wait
                    # At once, even with a step; otherwise it would be mixed with the next result.
                    send(self._placed(new, self._iteration()), step, commit is not False)
                # Leave a repeated value out only once: the next time it is a new measurement.
                again = flat(data).keys()
                self._last = {k: v for k, v in self._last.items() if k not in again}
                return
            row = self._placed(data, self._iteration() + 1)
            # A forked child's rows would be mixed with a waiting row.
            waits = implicit and not (self._guard is not None and self._guard.has_forked)
            send(row, step, False if waits else commit)
            own = flat(row)
            self._own |= own
            # A row with a step is not committed by wandb itself until the next step.
            committed = commit or (implicit and not waits)
            self._pending = None if committed else {**(self._pending or {}), **own}
            if waits:
                self._wait()

    def _placed(self, row: Mapping[str, Any], iteration: int) -> Mapping[str, Any]:
        return row if self._axis in row or not row else {**row, self._axis: iteration}

    def _repeats(self, data: Mapping[str, Any]) -> bool:
        """Whether the trial logs what the last result already contains."""
        if self._logs_first or not self._last:
            return False
        shared = {key: value for key, value in flat(data).items() if key in self._last}
        return bool(shared) and all(same(own, self._last[key]) for key, own in shared.items())

    def _wait(self) -> None:
        self._since = monotonic()
        self._rows_wait.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._in_time, name="wbtune-rows", daemon=True)
            self._thread.start()

    def _in_time(self) -> None:
        """Commit rows whose results do not come in time."""
        while not self._closed.is_set():
            self._rows_wait.wait()
            self._rows_wait.clear()
            while (since := self._since) is not None and not self._closed.is_set():
                left = since + timeouts.RESULT_JOINS_S - monotonic()
                if left > 0:
                    self._closed.wait(left)
                    continue
                with self._lock:
                    if self._since == since:
                        self.commit()

    def commit(self) -> None:
        """Commit the row that is waiting for its result, if there is one."""
        if os.getpid() != self._process:
            return
        with self._lock:
            if self._since is not None:
                self._commit()

    def _commit(self) -> None:
        self._since = self._pending = None
        assert self._send is not None  # noqa: S101 - without it, nothing is pending
        self._send({}, None, True)

    def _before_fork(self) -> None:
        """Commit the waiting row, so that the child's first row is not mixed with it."""
        is_open = os.getpid() == self._process and not self._closed.is_set()
        if is_open and self._lock.acquire(timeout=timeouts.FORK_WAITS_S):
            try:
                self.commit()
            finally:
                self._lock.release()

    # --- results ---

    @contextlib.contextmanager
    def result(self, row: dict[str, Any]) -> Iterator[tuple[dict[str, Any], bool]]:
        """Log a result in the block.

        Yields:
            ``(row, joins)``: the part of the result that has not been logged yet, and whether it
            joins the pending row, at that row's step.
        """
        with self._lock:
            known = {key for key in row if key in self._own and same(self._own[key], row[key])}
            pending = self._pending
            joins = pending is not None and all(
                key in known or key not in row for key in pending if key != self._axis
            )
            if known - {self._axis}:
                self._logs_first = True
            if pending is not None and not joins:
                self._commit()  # otherwise the result's values would replace the row's
            self._joining = True
            try:
                yield {k: v for k, v in row.items() if k == self._axis or k not in known}, joins
            finally:
                self._joining = False
                self._since = self._pending = None
                self._own, self._last = {}, row

    def close(self) -> None:
        """Stop waiting for results: the run is about to be closed, which commits a waiting row.

        The row is not committed here, because a thread that logs to a hanging core holds the lock
        until the core has been killed, as part of closing.
        """
        self._closed.set()
        self._rows_wait.set()


def flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A row with the keys of a result: ``a/b`` for ``{"a": {"b": 1}}``."""
    found: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping) and value and "_type" not in value:
            found |= flat(value, f"{prefix}{key}/")
        else:
            found[f"{prefix}{key}"] = value
    return found


def same(own: Any, reported: Any) -> bool:
    """Whether two values are the same; any two media objects under one key count as the same."""
    if own is reported:
        return True
    if arrays.is_media(own) or arrays.is_media(reported):
        return arrays.is_media(own) and arrays.is_media(reported)
    plain, other = sanitize.plain_metric(own), sanitize.plain_metric(reported)
    if arrays.is_media_array(plain) and arrays.is_media_array(other):
        return plain.shape == other.shape and bool((plain == other).all())
    if arrays.is_media_array(plain) or arrays.is_media_array(other):
        return False
    return bool(plain == other)
