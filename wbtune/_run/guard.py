"""A run that survives the death of wandb-core: opened again, same id, no row missing.

wandb-core is a process, and processes get killed. Then ``run.log`` raises
``ConnectionResetError`` out of the user's training loop, and the rows of the last moments,
which the core had not yet written, are gone. A `Guard` stands below ``log``,
``define_metric``, config and summary of one run, where they send: it remembers what was
sent in the last seconds (of metrics, all that was defined), and when the core is gone it
opens the run again in a new one, sends what is not on disk, and goes on. It is the same
object afterwards. Before there is a run to guard, `opened` tries again.
"""

# Over 250 lines: what is remembered, and how it is logged again, are one thing.

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from operator import index
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wbtune._data import timeouts
from wbtune._run import log_rows, run_files, run_log, watchdog
from wbtune._upstream import wandb_core, wandb_run, wandb_wire

if TYPE_CHECKING:
    from wandb import Run

logger = logging.getLogger("wbtune")

#: What is remembered at most, of a run whose log does not grow.
MOST: Final = 20_000

#: Seconds whose rows are remembered, and forgotten, as one: it is cheaper than one by one.
TOGETHER_S: Final = 0.02
#: Of these, how many are remembered in any case.
KEEP: Final = 10
#: Cores that are tried, before a row is given up.
TRIES: Final = 5


class Core:
    """The one wandb-core of this process, which several runs find dead one after the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._generation = 0

    @property
    def generation(self) -> int:
        """Grows with each core."""
        return self._generation

    def replace(self, generation: int) -> None:
        """Let go of a dead core; the next ``wandb.init`` starts another.

        Args:
            generation: the core that was found dead; nothing happens if it was replaced.
        """
        with self._lock:
            if generation == self._generation:
                self._generation += 1
                with contextlib.suppress(*wandb_core.core_is_gone()):
                    wandb_core.forget_core()


CORE: Final = Core()


class _Forks:
    """The forks of this process. A child has the locks as they were when it was forked.

    One that was held then is never released in the child: so the child gets others, and the
    runs are its parent's there.
    """

    def __init__(self) -> None:
        self.count = 0
        self.in_child = False
        self._guards: dict[int, weakref.ref[Guard]] = {}

    def watch(self, guard: Guard) -> None:
        """Let a guard know when it finds itself in a forked child."""
        _notice_forks()
        key = id(guard)
        self._guards[key] = weakref.ref(guard, lambda _: self._guards.pop(key, None))

    def before(self) -> None:
        """There will be one more child, which may log to the runs of this process."""
        self.count += 1
        for reference in list(self._guards.values()):
            guard = reference()
            if guard is not None:
                guard.before_fork()

    def after(self) -> None:
        """Begin to be a child."""
        self.in_child = True
        CORE.__init__()  # type: ignore[misc]
        for reference in list(self._guards.values()):
            guard = reference()
            if guard is not None:
                guard.leave_to_parent()


_FORKS: Final = _Forks()
_WATCHDOG: Final = watchdog.Watchdog()


@functools.cache
def _notice_forks() -> None:
    os.register_at_fork(before=_FORKS.before, after_in_child=_FORKS.after)


def in_child() -> bool:
    """Was this process forked from one that had runs? They are not its own, nor is its core."""
    return _FORKS.in_child


#: W&B's own key of when a row was logged.
STAMP: Final = "_timestamp"


class _Sent(NamedTuple):
    """What was sent at one moment.

    Attributes:
        at: when.
        step: of the first row, or of the row that comes next.
        what: whole rows, whose steps follow on; a part of a row; or how to send again what
            is no row.
    """

    at: float
    step: int
    what: list[dict[str, Any]] | dict[str, Any] | Callable[[], Any]

    @property
    def steps(self) -> range:
        """Of the rows that it is, or of the one that it is a part of."""
        if callable(self.what):
            return range(self.step, self.step)
        rows = len(self.what) if isinstance(self.what, list) else 1
        return range(self.step, self.step + rows)

    def after(self, step: int) -> _Sent | None:
        """What of it comes after a step, as if it was sent now; None for nothing."""
        now = monotonic()
        if isinstance(self.what, list):
            first = max(0, step + 1 - self.step)
            rows = self.what[first:]
            return _Sent(now, self.step + first, rows) if rows else None
        return _Sent(now, self.step, self.what) if self.step > step else None

    def missing(self, stamps: set[float], step: int) -> _Sent | None:
        """What of it is not among the rows of these times, from a step on; None for nothing."""
        if not isinstance(self.what, list):
            return _Sent(monotonic(), step, self.what)
        rows = [row for row in self.what if row.get(STAMP) not in stamps]
        return _Sent(monotonic(), step, rows) if rows else None


def _counted(sent: Iterable[_Sent], rows: int, last: int) -> tuple[int, int]:
    """So many rows, and these; and the last step of theirs, which parts of one row share."""
    for one in sent:
        rows += len(range(max(one.steps.start, last + 1), one.steps.stop))
        last = max(last, one.steps.stop - 1)
    return rows, last


def opened(open_run: Callable[[], Run]) -> Run:
    """Open a run, if need be several times: its core may die meanwhile.

    Raises:
        Exception: what `open_run` raises; of the death of a core, the last of several.
    """
    for _ in range(TRIES - 1):
        generation = CORE.generation
        try:
            return _in_time(open_run)
        except wandb_core.core_is_gone():
            CORE.replace(generation)
    return _in_time(open_run)


def _kill_core() -> None:
    wandb_core.core_killer()()


def _in_time(open_run: Callable[[], Run]) -> Run:
    timer = threading.Timer(timeouts.RUN_OPENS_S, _kill_core)
    timer.daemon = True
    timer.start()
    try:
        return open_run()
    finally:
        timer.cancel()


class Guard:
    """What is remembered about one run, and how to open it again.

    Args:
        run: an open run.
        reopen: opens a run of the same id; ``beside=True``, one that is not `wandb.run`
            and leaves that alone; ``on_disk=True``, one that needs no server.
        patience: seconds after which wandb-core is taken to hang when the run is closed.
        may_be_shared: forked and spawned processes may log to the run as well.

    Attributes:
        is_ours: the run is this process's: False in a forked child, which only sends.
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
        self.is_ours = True
        self.before_fork: Callable[[], object] = lambda: None
        self._may_be_shared = may_be_shared
        self._forks = _FORKS.count
        # Other processes have logged to the run: the core counts its steps, not this object.
        self._others = False
        self._on_disk = False
        self._lock = threading.RLock()
        # The step that was asked for, of the row that waits to be committed.
        self._asked: int | None = None
        # Of this object, also when it has become another run: wandb refuses media that were
        # logged by another object.
        self._publish: Callable[..., None] = wandb_run.send_rows_by(run, self._send_row)
        self._publish_metric = wandb_run.send_metrics_by(run, self._send_metric)
        self._metrics: list[Any] = []
        self._generation = CORE.generation
        self._recent: deque[_Sent] = deque()
        # The newest rows of these, to which others are added until then.
        self._rows: list[dict[str, Any]] = []
        self._together_until = 0.0
        # Of the first of these rows, or of the next. Counted here: asking wandb for
        # `run.step` is a round trip to its core.
        self._step: int = run.starting_step
        self._written = -1
        # Rows that must be on disk by now, and the last step of theirs.
        self._forgotten = 0, -1
        self._recovered = False
        self._said = False
        run.__dict__["wbtune_guard"] = self
        wandb_run.send_updates_by(run, self._send)
        _FORKS.watch(self)
        self._progress = watchdog.Progress(Path(run.dir).parent, monotonic())
        if not run.disabled:
            _WATCHDOG.watch(self)

    @property
    def has_forked(self) -> bool:
        """Are there, or were there, forked children, which may log to the run as well?"""
        return self._forks != _FORKS.count

    @property
    def is_over(self) -> bool:
        """The run was finished."""
        return wandb_run.is_finished(self._run)

    def look(self) -> None:
        """See to the run's log: what is written there need not be remembered.

        If nothing is, though there is room: a write has failed, after which wandb-core
        writes no more.
        """
        newest = self._recent[-1].at if self._recent else float("-inf")
        self._progress.look(monotonic(), newest)
        if not self._progress.has_stalled:
            return
        logger.warning("wbtune: wandb-core has stopped writing run %s.", self._run.id)
        if self._generation == CORE.generation:  # else it is dead, with another's
            _kill_core()
        generation = self._generation
        with self._lock:
            if generation == self._generation:
                self.survive()

    def answers(self) -> None:
        """Return when wandb-core has answered."""
        while wandb_run.core_step(self._run, timeouts.STEP_ASKED_S) is None:
            pass

    def leave_to_parent(self) -> None:
        """From now on, in a forked child: send, and neither remember nor recover."""
        self._lock = threading.RLock()
        self.is_ours = False

    def hand_on(self, run: Run) -> None:
        """Guard another part of the same run in the same way."""
        Guard(run, self.reopen, patience=self.patience, may_be_shared=self._may_be_shared)

    def give_up_core(self) -> None:
        """Kill wandb-core, which does not answer: whoever waits for it goes on in a new one.

        In one that needs no server: there is no time left for that.
        """
        self._on_disk = True
        _kill_core()

    @property
    def at_risk(self) -> int:
        """How many of the run's last rows are not known to be on disk."""
        return _counted(list(self._recent), 0, -1)[0]

    @property
    def step(self) -> int:
        """The step that the next row gets."""
        with self._lock:
            return self._step + len(self._rows)

    def _send_row(
        self, data: Mapping[str, Any], step: int | None = None, commit: bool | None = None
    ) -> None:
        """Send what was given to ``run.log``, of a run that survives.

        A step that is taken already (Tune's results are rows of this run, too, and so are
        those of an earlier attempt) becomes the next free one: W&B would drop the row.
        """
        if not self.is_ours:
            self._send_from_child(data, step, commit)
            return
        # A copy: its user may fill the same dict again. By `copy`, numbers and text stay what the
        # garbage collector need not look at, of which there may be thousands.
        row = data.copy() if type(data) is dict else dict(data)
        row.setdefault(STAMP, time())  # as wandb would; here, it tells the row from others'
        if step is not None:
            step = index(step)  # what is no step is refused here, as wandb would
        # For a user's threads, and the one that logs Tune's results. Not `with`: on this path,
        # which is all that a guarded row costs, that takes twice as long.
        lock = self._lock
        lock.acquire()
        before = None
        try:
            if step is None and commit is None and monotonic() < self._together_until:
                self._rows.append(row)
                self._publish(row)
            else:
                if self._may_be_shared and (step is not None or self._recovered):
                    step, commit = self._beside_others(step, commit)
                before = self._asked, self.step
                step, commit = self._remember(row, step, commit)
                self._publish(row, step, commit)
        except wandb_core.core_is_gone():
            self.survive()
        except Exception:
            self._take_back(before)
            raise
        finally:
            lock.release()

    def _send_from_child(
        self, data: Mapping[str, Any], step: int | None, commit: bool | None
    ) -> None:
        """Send a row of a forked child, without a lock; its step must be free, too."""
        try:
            if step is not None:
                # At once: what waits for more would be mixed with the next row of the parent.
                commit = commit is not False
                if index(step) < (wandb_run.core_step(self._run, timeouts.STEP_ASKED_S) or 0):
                    step = None
            self._publish(data, step, commit)
        except wandb_core.core_is_gone():
            if not self._said:
                self._said = True
                logger.warning(
                    "wbtune: wandb-core is gone; what this forked process logs to run %s is lost.",
                    self._run.id,
                )

    def _beside_others(
        self, step: int | None, commit: bool | None
    ) -> tuple[int | None, bool | None]:
        """With which step and commit a row is to be logged, if other processes log as well.

        They attach to the same core, where their rows advance the run's step. A step that
        was chosen here may be taken by then, and W&B would drop the row; so if there are
        others, its own count decides.
        """
        forked = self.has_forked
        if not commit and not forked:
            return step, commit  # asking costs as much as the row does
        try:
            counted = wandb_run.core_step(self._run, timeouts.STEP_ASKED_S)
        except wandb_core.core_is_gone():
            counted = None
            self.survive()
        if counted is None or counted < self.step:
            return step, commit
        if counted == self.step and not self._others and not (forked and commit):
            return step, commit  # nobody has logged yet
        self._others = True
        self._end_together()
        if self._asked not in {None, step} and counted == self._step:
            self._publish({}, None, True)  # the row that waits for another step
            counted += 1
        self._step, self._asked = counted, None
        # What waits for more would be mixed with the next row of somebody else.
        return None, commit

    def hold(self, row: dict[str, Any], step: int) -> wandb_wire.HeldRow:
        """Remember a row, and get what is to be sent for it.

        As `_send_row`, of a simple row that nobody changes any more.
        """
        with self._lock:
            before = self._asked, self.step
            self._remember(row, step, commit=True)
            try:
                return wandb_wire.simple_row(self._run, row, self._step - 1)
            except Exception:
                self._take_back(before)
                raise

    def _send_metric(self, definition: Any) -> None:
        """Send a metric's definition, which each new core has to be told."""
        if not self.is_ours:
            self._publish_metric(definition)
            return
        with self._lock:
            if definition in self._metrics:  # the same again; but then it is the last
                self._metrics.remove(definition)
            self._metrics.append(definition)
            try:
                self._publish_metric(definition)
            except wandb_core.core_is_gone():
                self.survive()  # which sends it again

    def _remember(
        self, row: dict[str, Any], step: int | None, commit: bool | None
    ) -> tuple[int | None, bool | None]:
        """Remember a row, or a part of one; with which step and commit it is to be logged."""
        self._end_together()
        counts = not self._recovered or self._others  # W&B does, by itself, as it should
        if step is None and commit is None and self._asked is None and counts:
            rows = [row]
            self._keep(rows)
            self._rows, self._together_until = rows, monotonic() + TOGETHER_S
            return None, None
        commits = step is None if commit is None else commit
        asked = self._asked if step is None else step
        if step is not None:
            waits_for_another = self._asked not in {None, step}
            step = self._step = max(step, self._step + waits_for_another)
        self._asked = None if commits else asked
        self._keep([row] if commits else row)
        if not counts:  # the new part of the run counts its steps from 0 by itself
            step, commit = self._step, commits
        self._step += commits
        return step, commit

    def _take_back(self, before: tuple[int | None, int] | None) -> None:
        """Forget the last row, which wandb refused: it would refuse it again.

        Args:
            before: which step was asked for before it, and which was next; None when it was
                added to others.
        """
        if before is None:
            self._rows.pop()
            return
        self._recent.pop()
        self._rows, self._together_until = [], 0.0
        self._asked, self._step = before

    def _send(self, update: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Send an update of config or summary, or ask for what the summary says."""
        if not self.is_ours:
            return update(*args, **kwargs)
        with self._lock:
            if args:  # not the config's: that is sent as a whole to a new core
                # Where the next row is on disk, this is, too: one log, in order.
                self._end_together()
                self._keep(partial(update, *args, **kwargs))
            try:
                return update(*args, **kwargs)
            except wandb_core.core_is_gone():
                return update(*args, **kwargs) if self.survive() else None
            except Exception:
                if args:
                    self._recent.pop()  # it would be refused again
                raise

    def _keep(self, what: list[dict[str, Any]] | dict[str, Any] | Callable[[], Any]) -> None:
        """Remember something, and forget what must be on disk by now."""
        recent = self._recent
        recent.append(_Sent(monotonic(), self._step, what))
        # By the time of one of the last, not by the clock: the first rows after the
        # core's death raise nothing, and between two rows there may be hours.
        while len(recent) > MOST or (
            len(recent) > KEEP
            and recent[0].at < min(recent[-KEEP].at - timeouts.REMEMBER_S, self._progress.safe)
            # Until the next step, it is a part of a pending row.
            and (callable(recent[0].what) or recent[0].step < recent[-KEEP].step)
        ):
            self._forgotten = _counted([recent.popleft()], *self._forgotten)

    def _end_together(self) -> None:
        """What comes next is remembered by itself."""
        self._step += len(self._rows)
        self._rows, self._together_until = [], 0.0

    def survive(self) -> bool:
        """Recover in the middle of its user's code, which must not hear of it.

        Returns:
            Whether it could; what kept it from that is said, once.
        """
        try:
            with self._lock:
                self.recover()
        except Exception as error:  # noqa: BLE001 - W&B's trouble is not the trial's
            if not self._said:
                self._said = True
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
        for _ in range(TRIES - 1):
            with contextlib.suppress(*wandb_core.core_is_gone()):
                self._recover()
                return
        self._recover()

    def go_on(self) -> None:
        """After ``finish``: open another part of the run, with the rows that are not on disk."""
        with self._lock:
            self._recover(same_core=True)

    def _recover(self, *, same_core: bool = False) -> None:
        run = self._run
        # What an earlier part of the run holds is not in the newest one.
        self._written = max(self._written, _written(run))
        stamps = _stamps(run) if self._others else set()
        if not same_core:
            CORE.replace(self._generation)
            self._generation = CORE.generation
        new = self._reopen(beside=same_core, on_disk=self._on_disk)
        self._recovered = True
        wandb_run.same_global_run(new, run)
        # It began with the config that the first began with.
        new.config.update(dict(run.config.items()), allow_val_change=True)
        # Whoever holds the old object or finds the new one has the same run.
        wandb_run.share_state(run, new, wbtune_guard=self)
        self._progress = watchdog.Progress(Path(run.dir).parent, monotonic())
        self._end_together()
        if self._others:
            again = self._missing(stamps)
        else:
            again = [sent for one in self._recent if (sent := one.after(self._written))]
        # The others are on disk; and the new core has these only from now on.
        self._recent = deque(again)
        self._forgotten = 0, -1
        for definition in self._metrics:
            self._publish_metric(definition)
        for sent in again:
            if callable(sent.what):
                sent.what()
            elif isinstance(sent.what, dict):
                self._publish({**sent.what}, sent.step, False)
            else:
                for step, row in enumerate(sent.what, sent.step):
                    self._publish({**row}, step, True)

    def _missing(self, stamps: set[float]) -> list[_Sent]:
        """What is not on disk, of a run whose steps are not counted here; on free ones."""
        again = []
        self._step = self._written + 1
        for one in self._recent:
            sent = one.missing(stamps, self._step)
            if sent is not None:
                again.append(sent)
                self._step += len(sent.what) if isinstance(sent.what, list) else 0
        self._others = False  # they were attached to the core that is gone
        return again

    def reopen(self, *, beside: bool = True, on_disk: bool = False) -> Run:
        """Another part of the same run."""
        return self._reopen(beside=beside, on_disk=on_disk)

    def is_whole(self) -> bool:
        """After ``finish``: does the log say so?

        wandb-core notes in its own log alone that it could not write, and writes nothing
        from there on: then there is no exit record.
        """
        paths = list(Path(self._run.dir).parent.glob("*.wandb"))
        return not paths or run_files.wait_for_end(paths[0])

    def lost(self) -> int:
        """How many rows are neither on disk nor remembered; of a log that is not whole."""
        if self._others:
            return 0  # whose rows these are is not known
        written = 0
        for path in Path(self._run.dir).parent.glob("*.wandb"):
            with contextlib.suppress(OSError, ValueError):
                written += len(run_log.read(path).rows)
        return max(0, self._forgotten[0] - written)


def protect(run: Run, reopen: Callable[..., Run], *, patience: float, may_be_shared: bool) -> None:
    """Give a run its `Guard`; without what that needs of wandb, it does without."""
    if wandb_run.can_be_guarded(run):
        Guard(run, reopen, patience=patience, may_be_shared=may_be_shared)


def of(run: Run) -> Guard | None:
    """The guard of a run, if it has one."""
    guard = run.__dict__.get("wbtune_guard")
    return guard if isinstance(guard, Guard) else None


def _written(run: Run) -> int:
    """The last step of the run that is on disk; -1 before the first."""
    paths = Path(run.dir).parent.glob("*.wandb")
    return max((step for path in paths for step in log_rows.steps(path)), default=-1)


def _stamps(run: Run) -> set[float]:
    """When the rows of the run that are on disk were logged."""
    stamps = set[float]()
    for path in Path(run.dir).parent.glob("*.wandb"):
        with contextlib.suppress(OSError, ValueError):
            stamps.update(row.get(STAMP, 0.0) for row in run_log.read(path).rows)
    return stamps
