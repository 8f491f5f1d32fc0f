"""What was sent to a run lately, so that it can be sent again when wandb-core dies."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Final, NamedTuple

from wbtune._data import timeouts
from wbtune._run.log_rows import STAMP

#: Entries that are kept in any case.
KEEP: Final = 10
#: Entries that are kept at most, of a run whose log does not grow.
MOST: Final = 20_000
#: Seconds whose rows are kept, and forgotten, as one entry: it is cheaper than one by one.
TOGETHER_S: Final = 0.02


class Entry(NamedTuple):
    """What was sent at one moment.

    Attributes:
        at: when; `monotonic`.
        step: the step of the first row, or of the row that comes next.
        what: whole rows, whose steps follow on; a part of a row; or, for what is no row, a call
            that sends it again.
    """

    at: float
    step: int
    what: list[dict[str, Any]] | dict[str, Any] | Callable[[], Any]

    @property
    def steps(self) -> range:
        """The steps of its rows, or of the row that it is a part of."""
        if callable(self.what):
            return range(self.step, self.step)
        rows = len(self.what) if isinstance(self.what, list) else 1
        return range(self.step, self.step + rows)

    def after(self, step: int) -> Entry | None:
        """The part of it that comes after a step, as if it was sent now; None for nothing."""
        now = monotonic()
        if isinstance(self.what, list):
            first = max(0, step + 1 - self.step)
            rows = self.what[first:]
            return Entry(now, self.step + first, rows) if rows else None
        return Entry(now, self.step, self.what) if self.step > step else None

    def without(self, stamps: set[float], step: int) -> Entry | None:
        """The rows of it that have none of these stamps, from a step on; None for nothing."""
        if not isinstance(self.what, list):
            return Entry(monotonic(), step, self.what)
        rows = [row for row in self.what if row.get(STAMP) not in stamps]
        return Entry(monotonic(), step, rows) if rows else None


class Count(NamedTuple):
    """How many rows were counted, and the last step of theirs, which parts of one row share."""

    rows: int = 0
    last: int = -1

    def plus(self, entries: Iterable[Entry]) -> Count:
        """These entries' rows as well."""
        rows, last = self
        for one in entries:
            rows += len(range(max(one.steps.start, last + 1), one.steps.stop))
            last = max(last, one.steps.stop - 1)
        return Count(rows, last)


class ReplayBuffer:
    """The last rows and updates that were sent to a run, in order, with the rows' steps.

    Args:
        step: the step of the next row.
        safe: a moment, before which all that was sent is known to be on disk; `monotonic`.

    Attributes:
        entries: what is remembered, the oldest first.
        forgotten: the rows that are not, because they must be on disk by now.
        step: the step of the first row of the newest moment, or of the next row. It is counted
            here, because asking wandb for `run.step` is a round trip to its core.
        asked: the step that was asked for, of a row that waits to be committed.
    """

    def __init__(self, step: int, safe: Callable[[], float]) -> None:
        self.entries: deque[Entry] = deque()
        self.forgotten = Count()
        self.step = step
        self._safe = safe
        self.asked: int | None = None
        # The rows of the newest entry, to which others are added until then.
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
            step: as it was given to ``run.log``.
            commit: the same.
            core_counts: wandb-core counts the steps by itself as it should.

        Returns:
            The step and commit by which it is to be logged.
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
        # By the time of one of the last, not by the clock: the first rows after the
        # core's death raise nothing, and between two rows there may be hours.
        while len(entries) > MOST or (
            len(entries) > KEEP
            and entries[0].at < min(entries[-KEEP].at - timeouts.REMEMBER_S, self._safe())
            # Until the next step, it is a part of a pending row.
            and (callable(entries[0].what) or entries[0].step < entries[-KEEP].step)
        ):
            self.forgotten = self.forgotten.plus([entries.popleft()])

    def end_moment(self) -> None:
        """Remember what comes next by itself."""
        self.step += len(self._moment)
        self._moment, self._moment_ends = [], 0.0

    def take_back(self, before: tuple[int | None, int] | None) -> None:
        """Forget the last row, which wandb refused: it would refuse it again.

        Args:
            before: ``asked`` and ``next_step`` before it; None when it was added to others.
        """
        if before is None:
            self._moment.pop()
            return
        self.entries.pop()
        self._moment, self._moment_ends = [], 0.0
        self.asked, self.step = before

    def keep_after(self, step: int) -> None:
        """Forget the rows up to a step: they are on disk, and a new core gets the others."""
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
