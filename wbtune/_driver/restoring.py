"""After a crash of the driver: find the results that Tune has on disk and the run lacks.

Both are read as streams, and neither is kept in memory, except for the time at which each
iteration was reported: 8 bytes per row.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wbtune._run import log_rows
from wbtune._upstream import ray_trials

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

RESULTS_FILE: Final = "result.json"
_ITERATION, _TIME = "training_iteration", "time_total_s"
#: How many bytes of a file are read at once.
_AT_ONCE: Final = 1 << 20
#: How far an iteration may be ahead of the known ones.
_JUMP: Final = 1000
#: Find the two in a line of Tune's; quotes inside a text are preceded by a backslash.
_IN_LINE: Final = tuple(
    (name, re.compile(name + rb": ([-+.0-9eE]+)[,}]").search)
    for name in (b'"training_iteration"', b'"time_total_s"')
)

ResultKey = tuple[Any, Any]


class Known:
    """The results that a run has, by iteration and by the time that the trial had run for.

    A retry may repeat an iteration, but never both.

    Attributes:
        timed: whether the run has the times; `excludes` may have left them out.
    """

    def __init__(self) -> None:
        self.timed = False
        # The first time of each iteration, by iteration; NaN if there is none.
        self._times = array("d")
        # Repeated iterations with their times, and anything else.
        self._others: set[ResultKey] = set()

    @property
    def is_empty(self) -> bool:
        """Is nothing known?"""
        return not (self._times or self._others)

    def add(self, iteration: Any, seconds: Any) -> None:
        """Add a result."""
        times = self._times
        if seconds is not None:
            self.timed = True
            if iteration == len(times) and type(iteration) is int:  # as nearly all are
                times.append(seconds)
                return
        if type(iteration) is int and 0 <= iteration < len(times) + _JUMP:
            times.extend([math.nan] * (iteration + 1 - len(times)))
            if math.isnan(times[iteration]):
                times[iteration] = math.inf if seconds is None else seconds
                return
        self._others.add((iteration, seconds))

    def note(self, result: Mapping[str, Any]) -> None:
        """Add a result as Tune delivered it, if it has both as numbers."""
        iteration, seconds = result.get(_ITERATION), result.get(_TIME)
        if isinstance(iteration, Real) and isinstance(seconds, Real):
            self.add(iteration, seconds)

    def has(self, iteration: Any, seconds: Any) -> bool:
        """Is it known?"""
        first = math.nan
        if type(iteration) is int and 0 <= iteration < len(self._times):
            first = self._times[iteration]
        if not self.timed:
            return not math.isnan(first) or (iteration, None) in self._others
        return first == seconds or (iteration, seconds) in self._others


def known(paths: Iterable[Path]) -> Known:
    """The results of Tune's that are in the logs of a run."""
    found = Known()
    for iteration, seconds in log_rows.numbers(paths, _ITERATION, _TIME):
        if iteration is not None:
            found.add(iteration, seconds)
    return found


def missing(
    trial: Trial, paths: Iterable[Path], delivered: Known | None = None
) -> Iterator[dict[str, Any]]:
    """The trial's results, as Tune's own logger wrote them, that its run does not have.

    Args:
        trial: a trial of a restored experiment.
        paths: the logs of its run, as far as they are on disk.
        delivered: the results that the trial has delivered since it was restored, which are logged
            anyway; more may be added meanwhile.

    Yields:
        The results in their order.
    """
    of_run = known(paths)
    of_run.timed |= of_run.is_empty
    for line in _lines(trial):
        key = _key_of(line)
        if key is not None and of_run.has(*key):
            continue
        try:
            result = json.loads(line)
        except (ValueError, RecursionError):
            continue  # cut off by the crash
        if isinstance(result, dict):
            times = result.get(_ITERATION), result.get(_TIME)
            if delivered is not None and delivered.has(*times):
                continue
            key = result.get(_ITERATION), result.get(_TIME) if of_run.timed else None
            if not of_run.has(*key):
                of_run.add(*key)
                yield result


def after(
    results: Callable[[], Iterable[dict[str, Any]]], rows: int, last: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """The results after those that a server has.

    Args:
        results: generates them from the beginning.
        rows: how many rows the server has.
        last: the last of them, which may lack the iteration (`excludes`).
    """
    same = (number for number, result in enumerate(results(), 1) if _is_of(last, result))
    yield from itertools.islice(results(), max(same, default=rows), None)


def _is_of(row: Mapping[str, Any], result: Mapping[str, Any]) -> bool:
    has = [name for name in (_ITERATION, _TIME) if name in row]
    return _ITERATION in has and all(row[name] == result.get(name) for name in has)


def _key_of(line: bytes) -> ResultKey | None:
    """Iteration and time of a line, without parsing all of it; None if that is not safe."""
    found = [search(line) for name, search in _IN_LINE if line.count(name) == 1]
    if len(found) != len(_IN_LINE) or None in found:
        return None
    iteration, seconds = [match[1] for match in found if match is not None]
    try:
        return int(iteration), float(seconds)
    except ValueError:
        return None


def result_lines(trial: Trial) -> Iterator[bytes]:
    """The lines of a trial's ``result.json``, as Tune's own logger wrote them; none without it.

    The driver writes that file, and then copies it to the storage, from where it may take long.
    """
    written = Path(getattr(trial, "local_path", None) or "", RESULTS_FILE)
    if written.is_absolute() and written.is_file():
        with written.open("rb") as file:
            yield from file
    else:
        yield from _lines(trial)


def _lines(trial: Trial) -> Iterator[bytes]:
    found = ray_trials.result_file(trial, RESULTS_FILE)
    if found is None:
        return
    filesystem, path = found
    rest = b""
    try:
        with filesystem.open_input_stream(path, compression=None) as file:
            while text := file.read(_AT_ONCE):
                *lines, rest = (rest + text).split(b"\n")
                yield from lines
    except OSError:
        return  # Tune's JSON logger was off, or nothing was copied to the storage yet
    if rest:
        yield rest
