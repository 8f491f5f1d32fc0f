"""The runs of an experiment that `wbtune sync` sends: their segments, and their rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from wbtune._place.arrivals import Arrival
from wbtune._place.storage import OFFLINE
from wbtune._run import log_records, log_rows, run_files, run_log
from wbtune._run.relay import Left
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
        """Whether it has wandb's marker, or was uploaded while it was written."""
        return not self.is_kept or self._marker.exists()

    @property
    def has_ended(self) -> bool:
        """Whether it has an exit record."""
        return run_files.exit_code(self.log) is not None

    @property
    def _marker(self) -> Path:
        return self.log.with_suffix(".wandb.synced")

    def mark(self) -> None:
        """Set wandb's own marker."""
        if self.is_kept:
            self._marker.touch()


@dataclass
class LocalRun:
    """A run with something that was only kept on disk.

    Attributes:
        head: what it was opened with.
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
        for log in run_files.logs(self._directory):
            head = self._heads.get(log) or run_log.head(log)
            if head is None or not head.id:
                continue
            self._heads[log] = head
            run = found.setdefault(head.id, LocalRun(head))
            is_kept = log.parent.name.startswith(OFFLINE) or run_files.is_left(log.parent)
            run.segments.append(Segment(log, is_kept))
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
        last: when the last row was logged, which identifies it; None if there is none.
        arrived: how many of them the server has.
    """

    rows: tuple[int, ...]
    free: tuple[int, ...]
    last: float | None
    arrived: int

    @property
    def total(self) -> int:
        """How many rows there are."""
        return self.rows[-1] if self.rows else 0


def extent(run: LocalRun, arrival: Arrival | None = None) -> Extent:
    """Count a run's rows, and find the last that has arrived among them.

    Lines of a history are not counted for that: an interrupted `wandb sync` may send rows again,
    which the server counts, and does not show.

    Raises:
        ForeignRunError: if the server's last row is none of them, and they do not follow it.
    """
    sought = None if arrival is None else arrival.last.get(log_rows.STAMP)
    count, free, arrived, first, last = 0, 0, None, None, None
    rows: list[int] = []
    frees: list[int] = []
    for log in run.logs:
        for stamp, step in log_rows.stamped(log):
            free = 1 + max(free, free if step is None else int(step))
            first = first or (stamp, free - 1)
            count, last = count + 1, stamp
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
    return Extent(tuple(rows), tuple(frees), last, arrived)


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


def left_after(run: LocalRun, found: Extent, arrival: Arrival | None, first: int) -> Left:
    """What is left out of a run's segments from one on.

    Args:
        run: the run.
        found: its extent.
        arrival: what the server has of it.
        first: which segment is the first to be sent.
    """
    before, free = (found.rows[first - 1], found.free[first - 1]) if first else (0, 0)
    have = arrival or Arrival()
    left = Left(found.arrived - before, have.events, have.lines, free)
    for log in run.logs[:first]:
        for record in log_records.records(log):
            kind = record.WhichOneof("record_type")
            if kind == "stats":
                left.events -= 1
            elif kind == "output_raw":
                left.lines -= record.output_raw.line.count("\n")
    return left
