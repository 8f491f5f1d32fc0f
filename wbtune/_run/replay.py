"""Remember what was recently sent to a run, to send it again when wandb-core dies."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Final, NamedTuple

from wbtune._run.log_rows import STAMP
from wbtune._upstream import wandb_settings

#: How many entries are kept in any case.
KEEP: Final = 10
#: How many entries are kept at most, if the run's log does not grow.
MOST: Final = 20_000
#: Rows within this many seconds are one entry: that is cheaper than one entry for each.
TOGETHER_S: Final = 0.02


class Entry(NamedTuple):
    """What was sent at one moment.

    Attributes:
        at: when, by `monotonic`.
        step: the step of the first row, or of the next row if this is not a row.
        what: whole rows with consecutive steps; a part of a row; or, for anything else, a function
            that sends it again.
    """

    at: float
    step: int
    what: list[dict[str, Any]] | dict[str, Any] | Callable[[], Any]

    @property
    def steps(self) -> range:
        """The steps of its rows, or the step of the row that it is a part of."""
        if callable(self.what):
            return range(self.step, self.step)
        rows = len(self.what) if isinstance(self.what, list) else 1
        return range(self.step, self.step + rows)

    def after(self, step: int) -> Entry | None:
        """The part of it that is after a step, as if it was sent now; None if nothing is."""
        now = monotonic()
        if isinstance(self.what, list):
            first = max(0, step + 1 - self.step)
            rows = self.what[first:]
            return Entry(now, self.step + first, rows) if rows else None
        return Entry(now, self.step, self.what) if self.step > step else None

    def without(self, stamps: set[float], step: int) -> Entry | None:
        """Its rows without these stamps, with steps from ``step`` on; None if there are none."""
        if not isinstance(self.what, list):
            return Entry(monotonic(), step, self.what)
        rows = [row for row in self.what if row.get(STAMP) not in stamps]
        return Entry(monotonic(), step, rows) if rows else None


class Count(NamedTuple):
    """A number of rows, and their last step; parts of one row share a step, and count once."""

    rows: int = 0
    last: int = -1

    def plus(self, entries: Iterable[Entry]) -> Count:
        """The count with the rows of these entries added."""
        rows, last = self
        for one in entries:
            rows += len(range(max(one.steps.start, last + 1), one.steps.stop))
            last = max(last, one.steps.stop - 1)
        return Count(rows, last)


class ReplayBuffer:
    """The last rows and updates that were sent to a run, in order, with the rows' steps.

    Args:
        step: the step of the next row.
        safe: returns a moment, by `monotonic`; everything sent before it is known to be on disk.

    Attributes:
        entries: what is remembered, the oldest first.
        forgotten: the rows that are not remembered any more, because they must be on disk by now.
        step: the step of the first row of the newest moment, or of the next row. It is counted
            here, because asking wandb for `run.step` is a round trip to its core.
        asked: the step that the user gave for a row that is not committed yet.
    """

    def __init__(self, step: int, safe: Callable[[], float]) -> None:
        self.entries: deque[Entry] = deque()
        self.forgotten = Count()
        self.step = step
        self._safe = safe
        self._remember_s = wandb_settings.remember_s()
        self.asked: int | None = None
        # The rows of the newest entry, to which rows are added until that moment ends.
        self._moment: list[dict[str, Any]] = []
        self._moment_ends = 0.0

    @property
    def next_step(self) -> int:
        """The step that the next row gets."""
        return self.step + len(self._moment)

    @property
    def at_risk(self) -> int:
        """How many of the last rows are not known to be on disk."""
        return Count().plus(list(self.entries)).rows

    @property
    def newest(self) -> float:
        """When something was sent last."""
        return self.entries[-1].at if self.entries else float("-inf")

    def add_to_moment(self, row: dict[str, Any]) -> bool:
        """Remember a whole row together with those before it, if they are just as new."""
        if monotonic() < self._moment_ends:
            self._moment.append(row)
            return True
        return False

    def add_row(
        self, row: dict[str, Any], step: int | None, commit: bool | None, *, core_counts: bool
    ) -> tuple[int | None, bool | None]:
        """Remember a row, or a part of one.

        Args:
            row: the row.
            step: the argument of ``run.log``.
            commit: the argument of ``run.log``.
            core_counts: whether wandb-core's own count of the steps is right.

        Returns:
            The step and commit to log it with.
        """
        self.end_moment()
        if step is None and commit is None and self.asked is None and core_counts:
            rows = [row]
            self.add(rows)
            self._moment, self._moment_ends = rows, monotonic() + TOGETHER_S
            return None, None
        commits = step is None if commit is None else commit
        asked = self.asked if step is None else step
        if step is not None:
            waits_for_another = self.asked not in {None, step}
            step = self.step = max(step, self.step + waits_for_another)
        self.asked = None if commits else asked
        self.add([row] if commits else row)
        if not core_counts:
            step, commit = self.step, commits
        self.step += commits
        return step, commit

    def add(self, what: list[dict[str, Any]] | dict[str, Any] | Callable[[], Any]) -> None:
        """Remember something, and forget what must be on disk by now."""
        entries = self.entries
        entries.append(Entry(monotonic(), self.step, what))
        # By the time of one of the last entries, not by the clock: the first rows after the
        # core's death raise nothing, and there may be hours between two rows.
        while len(entries) > MOST or (
            len(entries) > KEEP
            and entries[0].at < min(entries[-KEEP].at - self._remember_s, self._safe())
            # Until the next step, the entry is a part of a pending row.
            and (callable(entries[0].what) or entries[0].step < entries[-KEEP].step)
        ):
            self.forgotten = self.forgotten.plus([entries.popleft()])

    def end_moment(self) -> None:
        """End the newest moment: what comes next becomes a new entry."""
        self.step += len(self._moment)
        self._moment, self._moment_ends = [], 0.0

    def take_back(self, before: tuple[int | None, int] | None) -> None:
        """Forget the last row, which wandb refused: it would refuse it again.

        Args:
            before: ``asked`` and ``next_step`` before it; None if it was added to a moment.
        """
        if before is None:
            self._moment.pop()
            return
        self.entries.pop()
        self._moment, self._moment_ends = [], 0.0
        self.asked, self.step = before

    def keep_after(self, step: int) -> None:
        """Forget the rows up to a step, which are on disk; a new core gets the others."""
        self._keep([left for one in self.entries if (left := one.after(step))])

    def keep_without(self, stamps: set[float], step: int) -> None:
        """Forget the rows with these stamps; the others get the steps that follow this one."""
        left = []
        self.step = step + 1
        for entry in self.entries:
            one = entry.without(stamps, self.step)
            if one is not None:
                left.append(one)
                self.step += len(one.what) if isinstance(one.what, list) else 0
        self._keep(left)

    def _keep(self, entries: list[Entry]) -> None:
        self.entries = deque(entries)
        self.forgotten = Count()
