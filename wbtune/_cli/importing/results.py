"""Find out which results of a trial its run lacks, and when each was reported.

A row that was imported is known again by its ``_timestamp``: it is made from the results up to that
one, so the next import makes the same. A row that wbtune logged while the trial was running, or
that only the server has, is known by its iteration and the time that the trial had run for.
"""

from __future__ import annotations

import contextlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol

from wbtune._driver.restoring import Known
from wbtune._place.server import RunStatus
from wbtune._run import log_rows
from wbtune._run.log_rows import STAMP
from wbtune._run.run_spec import X_AXIS
from wbtune._tune_files.trial_files import Reading, TrialFiles

#: In the folder of a segment that was imported.
MARKER: Final = "wbtune-imported"

TIME: Final = "time_total_s"
#: Tune's name for the time at which it got a result, in whole seconds.
_REPORTED: Final = "timestamp"
#: The same as text, in local time; for a trial that reports a ``timestamp`` of its own.
_DATE: Final = "date"
#: No two rows have the same stamp, in seconds; a float this large resolves a quarter of a
#: microsecond.
_APART: Final = 1e-6
#: A later time, in the year 2286, is no time.
_LATEST: Final = 1e10


class Logged(Protocol):
    """The results that a run has."""

    def has(self, result: Mapping[str, Any], stamp: float) -> bool:
        """Does it have this one? It is asked for each result, in order."""


class Nothing:
    """A run that has no results."""

    def has(self, result: Mapping[str, Any], stamp: float) -> bool:  # noqa: ARG002 - of `Logged`
        """Never."""
        return False


class InLogs:
    """The results that are in the logs of a run on this machine; 16 bytes are kept of each.

    Args:
        paths: the logs, the oldest first.

    Attributes:
        next_step: the first step that is free.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self.next_step = 0
        self._stamps = array("d")
        self._known = Known()
        for path in paths:
            is_imported = (path.parent / MARKER).exists()
            for numbers in log_rows.numbers([path], STAMP, "_step", X_AXIS, TIME):
                self._add(*numbers, is_imported=is_imported)
        self._stamps = array("d", sorted(self._stamps))
        self._known.timed |= self._known.is_empty

    def _add(self, stamp: Any, step: Any, *key: Any, is_imported: bool) -> None:
        if stamp is None:
            return  # no row
        # As `wandb sync` does: the greater of its own and the next free one.
        self.next_step = max(self.next_step, step if type(step) is int else 0) + 1
        if is_imported:
            self._stamps.append(stamp)
        elif key[0] is not None:
            self._known.add(*key)

    def has(self, result: Mapping[str, Any], stamp: float) -> bool:
        """Is it in them?"""
        at = bisect_left(self._stamps, stamp)
        if at < len(self._stamps) and self._stamps[at] == stamp:
            return True
        iteration = result.get(X_AXIS)
        return iteration is not None and self._known.has(iteration, result.get(TIME))


class AtServer:
    """The results that only the server has: all up to the one that is in the run's summary.

    Args:
        status: the run.
        trial: its trial.
    """

    def __init__(self, status: RunStatus, trial: TrialFiles) -> None:
        self._left = 0
        newest = status.summary.get(STAMP)
        newest = newest if isinstance(newest, (int, float)) else 0.0
        key = status.summary.get(X_AXIS), status.summary.get(TIME)
        by_time = by_key = 0
        for number, (result, stamp) in enumerate(with_stamps(trial.results()), 1):
            if stamp <= newest:
                by_time = number
            if None not in key and (result.get(X_AXIS), result.get(TIME)) == key:
                by_key = number
        if status.rows:  # its key may be left out by `excludes`
            self._left = by_key or by_time

    def has(self, result: Mapping[str, Any], stamp: float) -> bool:  # noqa: ARG002 - of `Logged`
        """Is it there?"""
        self._left -= 1
        return self._left >= 0


def with_stamps(
    results: Iterable[Mapping[str, Any]],
) -> Iterator[tuple[Mapping[str, Any], float]]:
    """Add to each result the time at which it was reported, which no other has.

    A result's time depends on those before it alone, never on those after it.

    >>> [stamp for _, stamp in with_stamps([{"timestamp": 7}, {"timestamp": 7}, {}])]
    [7.0, 7.000001, 7.000002]
    """
    last = 0.0
    for result in results:
        reported = _time(result.get(_REPORTED)) or _of_date(result.get(_DATE))
        last = max(reported, last + _APART)
        yield result, last


def started(result: Mapping[str, Any], stamp: float) -> float:
    """When a trial was started, given its first result."""
    return stamp - min(_time(result.get(TIME)), stamp)


def missing(
    trial: TrialFiles, logged: Logged, reading: Reading
) -> Iterator[tuple[Mapping[str, Any], float]]:
    """The results that a run lacks, each with its time.

    Args:
        trial: the trial.
        logged: what its run has.
        reading: is told what is met.

    Raises:
        OSError: if they can't be read.
    """
    for result, stamp in with_stamps(trial.results(reading)):
        if not logged.has(result, stamp):
            yield result, stamp


def _time(value: Any) -> float:
    is_number = type(value) is int or type(value) is float
    return float(value) if is_number and 0 <= value < _LATEST else 0.0


def _of_date(value: Any) -> float:
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return datetime.strptime(value, "%Y-%m-%d_%H-%M-%S").timestamp()  # noqa: DTZ007 - Tune's
    return 0.0
