"""A run that survives the death of wandb-core: opened again, same id, no row missing.

wandb-core is a process, and processes get killed. Then ``run.log`` raises
``ConnectionResetError`` out of the user's training loop, and the rows of the last moments,
which the core had not yet written, are gone. A `Guard` remembers what was sent to a run in the
last seconds (of metrics, all that was defined), and when the core is gone it opens the run again
in a new one, sends what is not on disk, and goes on. The run is the same object afterwards.
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
from wbtune._upstream import wandb_core, wandb_run

if TYPE_CHECKING:
    from wandb import Run

    from wbtune._upstream.wandb_wire import HeldRow

logger = logging.getLogger("wbtune")

_WATCHDOG: Final = watchdog.Watchdog()


class Guard:
    """Opens a run again when its core is gone, and sends what is not on disk.

    Args:
        run: an open run.
        reopen: opens a run of the same id; ``create_new=True``, one that is not `wandb.run`
            and leaves that alone; ``on_disk=True``, one that needs no server.
        patience: seconds after which wandb-core is taken to hang when the run is closed.
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
        self._buffer = ReplayBuffer(run.starting_step, lambda: self._progress.safe)
        self._sender = RunSender(run, self._buffer, self.survive, may_be_shared=may_be_shared)
        run.__dict__["wbtune_guard"] = self
        FORKS.watch(self)
        if not run.disabled:
            _WATCHDOG.watch(self)

    @property
    def is_ours(self) -> bool:
        """The run is this process's: False in a forked child, which only sends."""
        return self._sender.is_ours

    @property
    def has_forked(self) -> bool:
        """Are there, or were there, forked children, which may log to the run as well?"""
        return self._sender.has_forked

    @property
    def is_over(self) -> bool:
        """The run was finished."""
        return wandb_run.is_finished(self._run)

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
        """Remember a simple row that nobody changes any more, and get what is to be sent for it."""
        return self._sender.hold(row, step)

    def look(self) -> None:
        """Look at the run's log: what is written there need not be remembered.

        If nothing is, though there is room: a write has failed, after which wandb-core
        writes no more.
        """
        self._progress.look(monotonic(), self._buffer.newest)
        if not self._progress.has_stalled:
            return
        logger.warning("wbtune: wandb-core has stopped writing run %s.", self._run.id)
        if self._generation == CORE.generation:  # else it is dead, with another's
            core.kill()
        generation = self._generation
        with self._sender.lock:
            if generation == self._generation:
                self.survive()

    def answers(self) -> None:
        """Return when wandb-core has answered."""
        while wandb_run.core_step(self._run, timeouts.STEP_ASKED_S) is None:
            pass

    def leave_to_parent(self) -> None:
        """Only send from now on, and neither remember nor recover; in a forked child."""
        self._sender.leave_to_parent()

    def extend_to(self, run: Run) -> None:
        """Guard another segment of the same run in the same way."""
        Guard(run, self.reopen, patience=self.patience, may_be_shared=self._may_be_shared)

    def give_up_core(self) -> None:
        """Kill wandb-core, which does not answer: whoever waits for it goes on in a new one.

        The new one needs no server: there is no time left for that.
        """
        self._on_disk = True
        core.kill()

    def survive(self) -> bool:
        """Recover in the middle of the user's code, which must not hear of it.

        Returns:
            Whether it could; the first time that it could not, a warning says why.
        """
        try:
            with self._sender.lock:
                self.recover()
        except Exception as error:  # noqa: BLE001 - W&B's trouble is not the trial's
            if not self._has_warned:
                self._has_warned = True
                logger.warning(
                    "wbtune: run %s can't go on (%s: %s); what is logged is lost until it can.",
                    *(self._run.id, type(error).__name__, error),
                )
            return False
        return True

    def recover(self) -> None:
        """Open the run again, whose core is gone, and log what is not on disk.

        Raises:
            ConnectionError: when the new cores die as well, several times in a row.
        """
        logger.warning("wbtune: wandb-core was gone; run %s goes on in a new one.", self._run.id)
        for _ in range(core.TRIES - 1):
            with contextlib.suppress(*wandb_core.core_is_gone()):
                self._recover()
                return
        self._recover()

    def open_next_segment(self) -> None:
        """Open another segment with the rows that are not on disk; after ``finish``."""
        with self._sender.lock:
            self._recover(same_core=True)

    def _recover(self, *, same_core: bool = False) -> None:
        run, sender = self._run, self._sender
        logs = _logs(run)
        # What an earlier segment of the run holds is not in the newest one.
        self._written = max(self._written, log_rows.last_step(logs))
        stamps = log_rows.stamps(logs) if sender.has_others else set()
        if not same_core:
            CORE.replace(self._generation)
            self._generation = CORE.generation
        new = self._reopen(create_new=same_core, on_disk=self._on_disk)
        sender.recovered = True
        wandb_run.same_global_run(new, run)
        # It began with the config that the first began with.
        new.config.update(dict(run.config.items()), allow_val_change=True)
        # Whoever holds the old object or finds the new one has the same run.
        wandb_run.share_state(run, new, wbtune_guard=self)
        self._progress = watchdog.Progress(_folder(run), monotonic())
        sender.send_again(self._written, stamps)

    def reopen(self, *, create_new: bool = True, on_disk: bool = False) -> Run:
        """Open another segment of the same run."""
        return self._reopen(create_new=create_new, on_disk=on_disk)

    def has_ended(self) -> bool:
        """Whether the run's log has its exit record, though ``finish`` may not have returned."""
        return any(run_files.exit_code(path) is not None for path in _logs(self._run)[:1])

    def is_whole(self) -> bool:
        """Return whether the log says that the run was finished; after ``finish``.

        wandb-core notes in its own log alone that it could not write, and writes nothing
        from there on: then there is no exit record.
        """
        logs = _logs(self._run)
        return not logs or run_files.wait_for_end(logs[0])

    def lost(self) -> int:
        """Count the rows that are neither on disk nor remembered, where the log is not whole."""
        if self._sender.has_others:
            return 0  # whose rows these are is not known
        written = 0
        for path in _logs(self._run):
            with contextlib.suppress(OSError, ValueError):
                written += len(run_log.read(path).rows)
        return max(0, self._buffer.forgotten.rows - written)


def protect(run: Run, reopen: Callable[..., Run], *, patience: float, may_be_shared: bool) -> None:
    """Give a run its `Guard`, if this wandb has what that needs."""
    if wandb_run.can_be_guarded(run):
        Guard(run, reopen, patience=patience, may_be_shared=may_be_shared)


def of(run: Run) -> Guard | None:
    """Return the guard of a run; None if it has none."""
    guard = run.__dict__.get("wbtune_guard")
    return guard if isinstance(guard, Guard) else None


def _folder(run: Run) -> Path:
    return Path(run.dir).parent


def _logs(run: Run) -> list[Path]:
    """Return the log of the segment that a run is in, if it has one."""
    return list(_folder(run).glob("*.wandb"))
