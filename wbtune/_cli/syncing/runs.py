"""The runs of an experiment that `wbtune sync` sends: their segments, and their rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from wbtune._data import timeouts
from wbtune._place.arrivals import Arrival
from wbtune._place.storage import OFFLINE
from wbtune._run import log_records, log_rows, run_files, run_log
from wbtune._run.run_log import RunLog


class ForeignRunError(Exception):
    """The server has a run of the same id, with other rows."""


class Segment(NamedTuple):
    """One of a run's logs.

    Attributes:
        log: the file.
        is_kept: it was only kept on disk: an offline run's, or one that was not uploaded in time.
    """

    log: Path
    is_kept: bool

    @property
    def is_synced(self) -> bool:
        """Whether it was uploaded while it was written, or later, and has not grown since."""
        return not self.is_kept or run_files.is_synced(self.log)

    @property
    def has_ended(self) -> bool:
        """Whether it has an exit record."""
        return run_files.exit_code(self.log) is not None

    @property
    def is_sent_by_driver(self) -> bool:
        """Whether it is an online run's that has no end: nobody else may end it."""
        return not self.is_kept and not self.has_ended

    def mark(self, size: int | None) -> None:
        """Mark it as uploaded: by wandb's own marker, if nothing more can come.

        Args:
            size: how long its log was, if that may go on, of which `wandb sync` would take no
                notice; None if it has ended.
        """
        if self.is_kept and size is not None:
            run_files.unended_marker(self.log).write_text(str(size))
        elif self.is_kept:
            run_files.synced_marker(self.log).touch()


@dataclass
class LocalRun:
    """A run with something that was only kept on disk.

    Attributes:
        head: what it was opened with, merged as its segments are.
        segments: its logs, the oldest first.
    """

    head: RunLog
    segments: list[Segment] = field(default_factory=list)

    @property
    def id(self) -> str:
        """Its id."""
        return self.head.id

    @property
    def logs(self) -> list[Path]:
        """The files of its segments."""
        return [segment.log for segment in self.segments]

    @property
    def is_marked(self) -> bool:
        """Whether all of it is uploaded, by the markers."""
        return all(segment.is_synced for segment in self.segments)

    @property
    def is_live(self) -> bool:
        """Is its driver sending its newest rows at the moment, as far as anybody can tell?"""
        last = self.segments[-1]
        if not last.is_sent_by_driver:
            return False
        return time.time() - last.log.stat().st_mtime < timeouts.SYNC_ABANDONED_S


class Runs:
    """The runs below ``<directory>/wandb``, by id.

    Args:
        directory: the experiment's folder, or a copy of it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._heads: dict[Path, RunLog] = {}

    def look(self) -> dict[str, LocalRun]:
        """Look for runs and segments; those whose log does not say yet what they are come later."""
        found: dict[str, LocalRun] = {}
        heads: dict[str, list[RunLog]] = {}
        for log in run_files.logs(self._directory):
            head = self._heads.get(log) or run_log.head(log)
            if head is None or not head.id:
                continue
            self._heads[log] = head
            heads.setdefault(head.id, []).append(head)
            run = found.setdefault(head.id, LocalRun(head))
            is_kept = log.parent.name.startswith(OFFLINE) or run_files.is_left(log.parent)
            run.segments.append(Segment(log, is_kept))
        for run_id, run in found.items():
            run.head = run_log.merge(heads[run_id])
        return {
            run_id: run
            for run_id, run in found.items()
            if any(segment.is_kept for segment in run.segments)
        }


class Extent(NamedTuple):
    """How many rows a run has on disk.

    Attributes:
        rows: how many its segments have up to each.
        free: the first step that is free after each.
        have: how many of each segment's rows the server has: its first ones.
    """

    rows: tuple[int, ...]
    free: tuple[int, ...]
    have: tuple[int, ...]

    @property
    def arrived(self) -> int:
        """How many of them the server has."""
        return sum(self.have)

    @property
    def total(self) -> int:
        """How many rows there are."""
        return self.rows[-1] if self.rows else 0


def extent(run: LocalRun, arrival: Arrival | None = None) -> Extent:
    """Count a run's rows, and find the last that has arrived among them.

    Lines of a history are not counted for that, unless they are too few: an interrupted
    `wandb sync` may send rows again, which the server counts, and does not show.

    Raises:
        ForeignRunError: if the server's last row is none of them, and they do not follow it.
    """
    sought = None if arrival is None else arrival.last.get(log_rows.STAMP)
    count, free, arrived, first = 0, 0, None, None
    rows: list[int] = []
    frees: list[int] = []
    for log in run.logs:
        for stamp, step in log_rows.stamped(log):
            free = 1 + max(free, free if step is None else int(step))
            first = first or (stamp, free - 1)
            count += 1
            if sought is not None and stamp == sought:
                arrived = count
        rows.append(count)
        frees.append(free)
    if arrival is None or not arrival.rows:
        arrived = 0
    elif sought is None:
        arrived = min(count, arrival.rows)
    elif arrived is None and _follow(first, arrival):
        arrived = 0
    if arrived is None:
        raise ForeignRunError
    sizes = [count - before for count, before in zip(rows, [0, *rows], strict=False)]
    have = _in_segments(run, sizes, arrived, 0 if arrival is None else arrival.rows)
    return Extent(tuple(rows), tuple(frees), have)


def _in_segments(
    run: LocalRun, sizes: Sequence[int], arrived: int, counted: int
) -> tuple[int, ...]:
    """How many of each segment's rows the server has.

    They are its first rows, if all were sent in order. A segment may have been left out though,
    and be sent after those that follow it, which their driver has sent.

    Args:
        run: the run.
        sizes: how many rows each segment has.
        arrived: the place of the server's last row among all.
        counted: how many rows the server has.
    """
    if counted < arrived:  # it lacks some of those before
        return _without_order(run, sizes, counted)
    have = _first_of(sizes, arrived)
    later = [
        size if segment.is_synced and not has else has
        for segment, size, has in zip(run.segments, sizes, have, strict=True)
    ]
    return tuple(later if sum(later) <= counted else have)


def _without_order(run: LocalRun, sizes: Sequence[int], counted: int) -> tuple[int, ...]:
    """What a number of things is of each segment: of those not marked, what the others leave."""
    marked = [size if one.is_synced else 0 for one, size in zip(run.segments, sizes, strict=True)]
    if sum(marked) > counted:
        return tuple(_first_of(sizes, counted))
    rest = [size - known for size, known in zip(sizes, marked, strict=True)]
    others = _first_of(rest, counted - sum(marked))
    return tuple(known + other for known, other in zip(marked, others, strict=True))


def _first_of(sizes: Sequence[int], count: int) -> list[int]:
    """How many of the first `count` things are in each of several parts.

    >>> _first_of([3, 3, 3], 4)
    [3, 1, 0]
    """
    found = []
    for size in sizes:
        found.append(min(size, count))
        count -= found[-1]
    return found


def _follow(first: tuple[float | None, int] | None, arrival: Arrival) -> bool:
    """Do the rows on disk, given the first one's time and step, come after all that have arrived?

    The others were sent from another machine, by `wbtune import`, say.
    """
    if first is None:
        return True
    stamp, step = arrival.last.get(log_rows.STAMP), arrival.last.get("_step")
    if not isinstance(stamp, (int, float)) or not isinstance(step, (int, float)):
        return False
    return first[0] is not None and stamp < first[0] and step < first[1]


def left_out(run: LocalRun, found: Extent, arrival: Arrival | None) -> list[tuple[int, int, int]]:
    """What each of a run's segments has that the server has, too: see `Left`.

    Args:
        run: the run.
        found: its extent.
        arrival: what the server has of it.
    """
    have = arrival or Arrival()
    counts = [_counted(log) for log in run.logs]
    events = _without_order(run, [events for events, _ in counts], have.events)
    lines = _without_order(run, [lines for _, lines in counts], have.lines)
    return list(zip(found.have, events, lines, strict=True))


def _counted(log: Path) -> tuple[int, int]:
    """How many records of system metrics a log has, and how many lines of the console."""
    events = lines = 0
    for record in log_records.records(log):
        kind = record.WhichOneof("record_type")
        if kind == "stats":
            events += 1
        elif kind == "output_raw":
            lines += record.output_raw.line.count("\n")
    return events, lines
