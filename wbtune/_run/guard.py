"""Let a run survive the death of wandb-core: reopen it with the same id and no row missing.

wandb-core is a process, and processes get killed. Then ``run.log`` raises
``ConnectionResetError`` in the user's training loop, and the most recent rows,
which the core had not yet written, are lost. A `Guard` remembers what was sent to a run in the
last seconds, and all metrics that were defined. When the core is gone, it reopens the run
in a new one, sends what is not on disk, and continues. The run is the same object afterwards.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from wbtune._data import timeouts
from wbtune._run import core, log_rows, run_files, run_log, watchdog
from wbtune._run.core import CORE
from wbtune._run.forks import FORKS
from wbtune._run.replay import ReplayBuffer
from wbtune._run.sending import RunSender
from wbtune._upstream import wandb_core, wandb_finish, wandb_run

if TYPE_CHECKING:
    from wandb import Run

    from wbtune._upstream.wandb_wire import HeldRow

logger = logging.getLogger("wbtune")

_WATCHDOG: Final = watchdog.Watchdog()


class Guard:
    """Reopens a run when its core is gone, and sends what is not on disk.

    Args:
        run: an open run.
        reopen: opens a run with the same id; with ``create_new=True`` one that does not become
            `wandb.run`, with ``on_disk=True`` one that needs no server.
        patience: when the run is closed, seconds after which wandb-core is assumed to hang.
        may_be_shared: forked and spawned processes may log to the run as well.

    Attributes:
        before_fork: called when this process is about to be forked.
    """

    def __init__(
        self,
        run: Run,
        reopen: Callable[..., Run],
        *,
        patience: float = 60.0,
        may_be_shared: bool = False,
    ) -> None:
        self._run = run
        self._reopen = reopen
        self.patience = patience
        self.before_fork: Callable[[], object] = lambda: None
        self._may_be_shared = may_be_shared
        self._on_disk = False
        self._generation = CORE.generation
        self._written = -1
        self._has_warned = False
        self._progress = watchdog.Progress(_folder(run), monotonic())
        self._buffer = ReplayBuffer(wandb_run.first_step(run), lambda: self._progress.safe)
        self._sender = RunSender(run, self._buffer, self.survive, may_be_shared=may_be_shared)
        run.__dict__["wbtune_guard"] = self
        FORKS.watch(self)
        if not run.disabled:
            _WATCHDOG.watch(self)

    @property
    def is_ours(self) -> bool:
        """Whether this process owns the run: False in a forked child, which only sends."""
        return self._sender.is_ours

    @property
    def has_forked(self) -> bool:
        """Are there, or were there, forked children, which may log to the run as well?"""
        return self._sender.has_forked

    @property
    def is_over(self) -> bool:
        """Whether the run was finished."""
        return wandb_finish.is_finished(self._run)

    @property
    def at_risk(self) -> int:
        """How many of the run's last rows are not known to be on disk."""
        return self._buffer.at_risk

    @property
    def step(self) -> int:
        """The step that the next row gets."""
        with self._sender.lock:
            return self._buffer.next_step

    def hold(self, row: dict[str, Any], step: int) -> HeldRow:
        """Remember a simple row that is not changed any more; return what to send for it."""
        return self._sender.hold(row, step)

    def look(self) -> None:
        """Check the run's log: what is written there need not be remembered.

        If nothing is written although there is room, a write has failed, after which wandb-core
        writes nothing more.
        """
        self._progress.look(monotonic(), self._buffer.newest)
        if not self._progress.has_stalled:
            return
        # Cause: A write failed, on a full disk for example.
        # Cure: Free the disk: the rows are kept in memory, and written again.
        logger.warning("wbtune: wandb-core has stopped writing run %s.", self._run.id)
        if self._generation == CORE.generation:  # otherwise the core is dead already
            core.kill()
        generation = self._generation
        with self._sender.lock:
            if generation == self._generation:
                self.survive()

    def answers(self) -> None:
        """Return once wandb-core has answered."""
        asked = wandb_run.STEPS  # without it there is nothing to ask
        while asked.is_here and wandb_run.core_step(self._run, timeouts.STEP_ASKED_S) is None:
            pass

    def leave_to_parent(self) -> None:
        """In a forked child: from now on only send, without remembering or recovering."""
        self._sender.leave_to_parent()

    def extend_to(self, run: Run) -> None:
        """Guard another segment of the same run in the same way."""
        Guard(run, self.reopen, patience=self.patience, may_be_shared=self._may_be_shared)

    def give_up_core(self) -> None:
        """Kill wandb-core, which does not answer, so that waiting threads continue in a new one.

        The new one works without a server: there is no time left for that.
        """
        self._on_disk = True
        core.kill()

    def survive(self) -> bool:
        """Recover in the middle of the user's code, without raising anything there.

        Returns:
            Whether that worked; the first time that it does not, a warning says why.
        """
        try:
            with self._sender.lock:
                self.recover()
        except Exception as error:  # noqa: BLE001 - W&B's trouble is not the trial's
            if not self._has_warned:
                self._has_warned = True
                # Cause: wandb-core dies again and again, or the disk is full.
                # Cure: Free memory and disk; it is tried again with each row.
                logger.warning(
                    "wbtune: run %s can't go on (%s: %s); what is logged is lost until it can.",
                    *(self._run.id, type(error).__name__, error),
                )
            return False
        return True

    def recover(self) -> None:
        """Reopen the run, whose core is gone, and log what is not on disk.

        Raises:
            ConnectionError: if the new cores die as well, several times in a row.
        """
        # Cause: Something killed wandb-core: the kernel, when memory ran out, or a user.
        # Cure: Nothing to do; if it recurs, free memory on that node: no row is lost.
        logger.warning("wbtune: wandb-core was gone; run %s goes on in a new one.", self._run.id)
        for _ in range(core.TRIES - 1):
            with contextlib.suppress(*wandb_core.core_is_gone()):
                self._recover()
                return
        self._recover()

    def open_next_segment(self) -> None:
        """After ``finish``, open another segment with the rows that are not on disk."""
        with self._sender.lock:
            self._recover(same_core=True)

    def _recover(self, *, same_core: bool = False) -> None:
        run, sender = self._run, self._sender
        logs = _logs(run)
        # The newest segment does not have the rows of earlier ones, so keep the maximum.
        self._written = max(self._written, log_rows.last_step(logs))
        stamps = log_rows.stamps(logs) if sender.has_others else set()
        if not same_core:
            CORE.replace(self._generation)
            self._generation = CORE.generation
        new = self._reopen(create_new=same_core, on_disk=self._on_disk)
        sender.recovered = True
        wandb_run.same_global_run(new, run)
        # The new one began with the first one's original config.
        new.config.update(dict(run.config.items()), allow_val_change=True)
        # The old object and the new one are the same run from now on.
        wandb_run.share_state(run, new, wbtune_guard=self)
        self._progress = watchdog.Progress(_folder(run), monotonic())
        sender.send_again(self._written, stamps)

    def reopen(self, *, create_new: bool = True, on_disk: bool = False) -> Run:
        """Open another segment of the same run."""
        return self._reopen(create_new=create_new, on_disk=on_disk)

    def has_ended(self) -> bool:
        """Whether the run's log has an exit record, even if ``finish`` has not returned."""
        return any(run_files.exit_code(path) is not None for path in _logs(self._run)[:1])

    def is_whole(self) -> bool:
        """After ``finish``, return whether the run's log is complete.

        If a write fails, wandb-core notes that only in its own log, and writes nothing more: then
        there is no exit record.
        """
        logs = _logs(self._run)
        return not logs or run_files.wait_for_end(logs[0])

    def lost(self) -> int:
        """Count the rows that are neither on disk nor remembered, if the log is incomplete."""
        if self._sender.has_others:
            return 0  # some rows on disk are other processes'; which ones is not known
        written = 0
        for path in _logs(self._run):
            with contextlib.suppress(OSError, ValueError):
                written += len(run_log.read(path).rows)
        return max(0, self._buffer.forgotten.rows - written)


def protect(run: Run, reopen: Callable[..., Run], *, patience: float, may_be_shared: bool) -> None:
    """Give a run its `Guard`, if this wandb has what that needs."""
    if not wandb_run.GUARD.is_here:
        return
    restore = wandb_run.state_of(run)
    try:
        Guard(run, reopen, patience=patience, may_be_shared=may_be_shared)
    except Exception as error:  # noqa: BLE001 - whatever it was, the run itself is open
        restore()
        wandb_run.GUARD.fail(error)


def of(run: Run) -> Guard | None:
    """Return the guard of a run; None if it has none."""
    guard = run.__dict__.get("wbtune_guard")
    return guard if isinstance(guard, Guard) else None


def _folder(run: Run) -> Path:
    return Path(run.dir).parent


def _logs(run: Run) -> list[Path]:
    """Return the log of a run's current segment, if there is one."""
    return list(_folder(run).glob("*.wandb"))
