"""Send rows, metrics and updates to wandb-core, and remember each one before it is sent."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from operator import index
from time import time
from typing import TYPE_CHECKING, Any

from wbtune._data import timeouts
from wbtune._run.forks import FORKS
from wbtune._run.log_rows import STAMP
from wbtune._run.replay import ReplayBuffer
from wbtune._upstream import wandb_core, wandb_run, wandb_simple_rows, wandb_wire

if TYPE_CHECKING:
    from wandb import Run

logger = logging.getLogger("wbtune")


class RunSender:
    """Sends for ``log``, ``define_metric``, config and summary of one run.

    Args:
        run: an open run.
        buffer: remembers what is sent.
        survive: reopens the run when its core is gone, has this object send again what is not on
            disk, and returns whether that worked.
        may_be_shared: forked and spawned processes may log to the run as well.

    Attributes:
        lock: held while something is sent.
        is_ours: whether this process owns the run: False in a forked child, which only sends.
        has_others: other processes have logged to the run, so the core counts its steps, not this
            object.
        recovered: the run was reopened, and its new core counts its steps from 0.
    """

    def __init__(
        self,
        run: Run,
        buffer: ReplayBuffer,
        survive: Callable[[], bool],
        *,
        may_be_shared: bool,
    ) -> None:
        self.lock = threading.RLock()
        self._buffer = buffer
        self.is_ours = True
        self.has_others = self.recovered = False
        self._run = run
        self._survive = survive
        self._may_be_shared = may_be_shared
        self._forks = FORKS.count
        self._has_warned = False
        self._metrics: list[Any] = []
        # Bound to this run object, which stays in use after a reopening: wandb refuses media that
        # were logged by another object.
        self._publish: Callable[..., None] = wandb_run.send_rows_by(run, self._send_row)
        self._publish_metric = wandb_run.send_metrics_by(run, self._send_metric)
        wandb_run.send_updates_by(run, self._send_update)

    @property
    def has_forked(self) -> bool:
        """Are there, or were there, forked children, which may log to the run as well?"""
        return self._forks != FORKS.count

    def leave_to_parent(self) -> None:
        """In a forked child: from now on only send."""
        self.lock = threading.RLock()
        self.is_ours = False

    def _send_row(
        self, data: Mapping[str, Any], step: int | None = None, commit: bool | None = None
    ) -> None:
        """Send what was given to ``run.log``.

        A step that is already taken (Tune's results and an earlier attempt's rows are in this run
        too) becomes the next free one: otherwise W&B would drop the row.
        """
        if not self.is_ours:
            self._send_from_child(data, step, commit)
            return
        # A copy, because the user may reuse the dict. A dict made by `copy` that has only numbers
        # and text is not tracked by the garbage collector; there may be thousands.
        row = data.copy() if type(data) is dict else dict(data)
        row.setdefault(STAMP, time())  # as wandb would; here it also identifies the row
        if step is not None:
            step = index(step)  # refuse anything that is not a step, as wandb would
        buffer = self._buffer
        # The user's threads log, and the one that logs Tune's results. Not by `with`: this path is
        # all that a guarded row costs, and `with` takes twice as long.
        lock = self.lock
        lock.acquire()
        before = None
        try:
            if step is None and commit is None and buffer.add_to_moment(row):
                self._publish(row)
            else:
                if self._may_be_shared and (step is not None or self.recovered):
                    step, commit = self._among_others(step, commit)
                before = buffer.asked, buffer.next_step
                step, commit = self._remember(row, step, commit)
                self._publish(row, step, commit)
        except wandb_core.core_is_gone():
            self._survive()
        except Exception:
            buffer.take_back(before)
            raise
        finally:
            lock.release()

    def _remember(
        self, row: dict[str, Any], step: int | None, commit: bool | None
    ) -> tuple[int | None, bool | None]:
        core_counts = not self.recovered or self.has_others
        return self._buffer.add_row(row, step, commit, core_counts=core_counts)

    def _send_from_child(
        self, data: Mapping[str, Any], step: int | None, commit: bool | None
    ) -> None:
        """Send a row of a forked child, without a lock.

        W&B chooses its step: the parent and other children log to the same core meanwhile, and
        W&B drops a row whose step is behind theirs.
        """
        try:
            if step is not None:
                # Committed at once: otherwise it would be mixed with the parent's next row.
                index(step)  # refuse anything that is not a step, as wandb would
                step, commit = None, commit is not False
            self._publish(data, step, commit)
        except wandb_core.core_is_gone():
            if not self._has_warned:
                self._has_warned = True
                # Cause: wandb-core died, and a forked process can't start another.
                # Cure: Log from the trial's own process.
                logger.warning(
                    "wbtune: wandb-core is gone; what this forked process logs to run %s is lost.",
                    self._run.id,
                )

    def _among_others(
        self, step: int | None, commit: bool | None
    ) -> tuple[int | None, bool | None]:
        """Return the step and commit to log a row with, if other processes log as well.

        They attach to the same core, where their rows advance the run's step. A step that
        is chosen here may be taken by then, and W&B would drop the row. So if there are
        other processes, the core's own count decides.
        """
        forked = self.has_forked
        if not commit and not forked:
            return step, commit  # asking the core costs as much as the row does
        try:
            counted = wandb_run.core_step(self._run, timeouts.STEP_ASKED_S)
        except wandb_core.core_is_gone():
            counted = None
            self._survive()
        buffer = self._buffer
        if counted is None or counted < buffer.next_step:
            return step, commit
        if counted == buffer.next_step and not self.has_others and not (forked and commit):
            return step, commit  # no other process has logged yet
        self.has_others = True
        buffer.end_moment()
        if buffer.asked not in {None, step} and counted == buffer.step:
            self._publish({}, None, True)  # commit the pending row, whose step is another one
            counted += 1
        buffer.step, buffer.asked = counted, None
        # A pending row would be mixed with another process's next row.
        return None, commit

    def hold(self, row: dict[str, Any], step: int) -> wandb_wire.HeldRow:
        """Remember a simple row that is not changed any more; return what to send for it."""
        with self.lock:
            before = self._buffer.asked, self._buffer.next_step
            self._remember(row, step, commit=True)
            try:
                return wandb_simple_rows.simple_row(self._run, row, self._buffer.step - 1)
            except Exception:
                self._buffer.take_back(before)
                raise

    def _send_metric(self, definition: Any) -> None:
        """Send a metric's definition, which each new core needs."""
        if not self.is_ours:
            self._publish_metric(definition)
            return
        with self.lock:
            if definition in self._metrics:  # it is kept once, as the last
                self._metrics.remove(definition)
            self._metrics.append(definition)
            try:
                self._publish_metric(definition)
            except wandb_core.core_is_gone():
                self._survive()  # which sends it again

    def _send_update(self, update: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Send an update of config or summary, or a query of the summary."""
        if not self.is_ours:
            return update(*args, **kwargs)
        with self.lock:
            if args:  # not for the config: a new core gets all of it
                # If the next row is on disk, this is too: one log, in order.
                self._buffer.end_moment()
                self._buffer.add(partial(update, *args, **kwargs))
            try:
                return update(*args, **kwargs)
            except wandb_core.core_is_gone():
                return update(*args, **kwargs) if self._survive() else None
            except Exception:
                if args:
                    self._buffer.entries.pop()  # it would be refused again
                raise

    def send_again(self, written: int, stamps: set[float]) -> None:
        """Send what is not on disk to another core.

        Args:
            written: the last step that is on disk.
            stamps: the stamps of the rows on disk, if other processes have logged as well.
        """
        self._buffer.end_moment()
        if self.has_others:
            self._buffer.keep_without(stamps, written)
            self.has_others = False  # they were attached to the core that is gone
        else:
            self._buffer.keep_after(written)
        for definition in self._metrics:
            self._publish_metric(definition)
        for entry in list(self._buffer.entries):
            if callable(entry.what):
                entry.what()
            elif isinstance(entry.what, dict):
                self._publish({**entry.what}, entry.step, False)
            else:
                for step, row in enumerate(entry.what, entry.step):
                    self._publish({**row}, step, True)
