"""Import one trial: add to its run what the run lacks, and close it with the trial's outcome."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Final, NamedTuple

from wbtune._cli.importing.results import (
    MARKER,
    AtServer,
    InLogs,
    Logged,
    Nothing,
    missing,
    started,
)
from wbtune._cli.importing.target import Target
from wbtune._data import timeouts
from wbtune._data.outcomes import EXIT_CODES, OUTCOME_TAGS, Kind, Outcome
from wbtune._data.routing import Router
from wbtune._driver.reopening import reopening_arguments
from wbtune._run import opening, run_files, run_log, run_spec, without_core
from wbtune._run.log_rows import STAMP
from wbtune._run.steps import Steps
from wbtune._tune_files import endings
from wbtune._tune_files.experiment_files import ExperimentFiles
from wbtune._tune_files.trial_files import Reading, TrialFiles

_CUT_OFF: Final = Outcome(Kind.INTERRUPTED, "the import was interrupted")


class State(Enum):
    """What became of a trial; the values are those in the JSON."""

    ADDED = "added"
    COMPLETE = "complete"
    EMPTY = "empty"
    BUSY = "busy"


@dataclass(slots=True)
class Imported:
    """What was done for a trial.

    Attributes:
        trial: the trial.
        run_id: the id of its run.
        state: whether something was added to its run; whether there was anything to add; or
            whether its driver may be writing it.
        rows: how many rows were added.
        outcome: how it ended.
        value: its last value of the metric.
        reading: what was met in its results.
        without_params: why its ``params.json`` could not be read; empty if it could.
        problems: what else could not be read, in words.
        was_tagged: whether its run had the tag of another outcome before.
        is_best_unknown: whether the best of its checkpoints was asked for, and is not known.
    """

    trial: TrialFiles
    run_id: str = ""
    state: State = State.COMPLETE
    rows: int = 0
    outcome: Outcome = _CUT_OFF
    value: float | None = None
    reading: Reading = field(default_factory=Reading)
    without_params: str = ""
    problems: list[str] = field(default_factory=list)
    was_tagged: bool = False
    is_best_unknown: bool = False

    @property
    def is_left(self) -> bool:
        """Is there anything of it that was asked for, and is not done?"""
        is_partial = bool(self.problems) or self.is_best_unknown
        return not self.trial.has_ended or self.state is State.BUSY or is_partial


class _Earlier(NamedTuple):
    """What there is of a run already.

    Attributes:
        spec: how it is opened again.
        logged: the results that it has.
        next_step: its first free step.
        exit_code: what it was closed with; None if it was not, or is new.
        is_new: is there nothing of it?
        was_tagged: does it have the tag of an outcome?
        is_in_sweep: is it in the sweep that it is to be in, if any?
    """

    spec: run_spec.RunSpec
    logged: Logged
    next_step: int = 0
    exit_code: int | None = None
    is_new: bool = False
    was_tagged: bool = False
    is_in_sweep: bool = True


def import_trial(trial: TrialFiles, target: Target, on_read: Callable[[int], None]) -> Imported:
    """Import a trial.

    Args:
        trial: the trial.
        target: where to.
        on_read: is called with how many more bytes of its results were read.

    Raises:
        OSError: if the run can't be written.
    """
    done = Imported(trial)
    config, done.without_params = trial.config()
    spec = target.spec(trial, config)
    logs = target.logs(spec)
    if _is_running(trial, logs, target.experiment):
        done.run_id, done.state = str(spec.init["id"]), State.BUSY
        return done
    earlier = _earlier(trial, spec, logs, target)
    done.run_id, done.was_tagged = str(earlier.spec.init["id"]), earlier.was_tagged
    writing = _Writing(earlier, Router(target.excludes))
    try:
        _add_rows(done, writing, missing(trial, earlier.logged, done.reading), on_read)
        last = done.reading.last or trial.stated_result
        done.outcome = endings.outcome_of(trial, last)
        done.value = None if target.objective is None else target.objective.value(last)
        if _has_to_be_closed(done, earlier):
            writing.open(0.0)
        elif not writing.is_open:
            done.state = State.EMPTY if earlier.is_new else State.COMPLETE
            return done
    except BaseException:
        with contextlib.suppress(OSError):  # what is written is kept; the rest follows next time
            writing.close(_CUT_OFF, {})
        raise
    writing.close(done.outcome, _notes(trial))
    done.state = State.ADDED
    return done


def _add_rows(
    done: Imported,
    writing: _Writing,
    results: Iterator[tuple[Mapping[str, Any], float]],
    on_read: Callable[[int], None],
) -> None:
    seen = 0
    while True:
        try:
            result, stamp = next(results)
        except StopIteration:
            break
        except OSError as error:  # of Tune's files: what was read is imported
            # Cure: Check the storage and your rights, and import again.
            done.problems.append(f"the results of {done.trial.name} can't be read: {error}")
            break
        writing.log(result, stamp)
        done.rows += 1
        if done.reading.size - seen > _TOLD_TOGETHER:
            on_read(done.reading.size - seen)
            seen = done.reading.size
    on_read(done.reading.size - seen)


def _notes(trial: TrialFiles) -> dict[str, int]:
    """As wbtune notes it itself: how often Tune has started a trial, if more than once."""
    attempt = trial.failures + (trial.status != "ERROR")
    return {"wbtune/attempt": attempt} if attempt > 1 else {}


#: Progress is told after this many bytes.
_TOLD_TOGETHER: Final = 100_000


def _has_to_be_closed(done: Imported, earlier: _Earlier) -> bool:
    """Is the run, to which nothing may have been added, to be closed with an outcome?"""
    if done.rows:
        return True
    if earlier.is_new:  # a trial that has only just begun has nothing that could be shown
        return done.trial.has_ended or done.outcome.kind is not Kind.INTERRUPTED
    return earlier.exit_code != done.outcome.exit_code or not earlier.is_in_sweep


class _Writing:
    """Writes the next segment of a run, once there is something to write."""

    def __init__(self, earlier: _Earlier, router: Router) -> None:
        self._earlier = earlier
        self._router = router
        self._steps = Steps(earlier.next_step)
        self._segment: without_core.Segment | None = None

    @property
    def is_open(self) -> bool:
        """Was anything written?"""
        return self._segment is not None

    def open(self, began: float) -> without_core.Segment:
        """Begin the segment, unless it is begun.

        Args:
            began: when the trial did, in seconds since the epoch; 0.0 if that is not known.
        """
        if self._segment is None:
            spec = self._earlier.spec
            self._segment = without_core.Segment(spec, began or time.time())
            (self._segment.folder / MARKER).touch()
            as_run: Any = self._segment
            opening.define_metrics(as_run, spec)
        return self._segment

    def log(self, result: Mapping[str, Any], stamp: float) -> None:
        """Log a result with the time at which it was reported."""
        segment = self._segment or self.open(started(result, stamp))
        row, config = self._router.route(result)
        if config:
            segment.config.update(config)
        segment.log({**row, STAMP: stamp}, self._steps.next(row.get(run_spec.X_AXIS)))

    def close(self, outcome: Outcome, notes: Mapping[str, Any]) -> None:
        """Close the segment, if it was begun."""
        if self._segment is not None:
            without_core.close_run(self._segment, outcome, notes)


# --- what there is of a run already -----------------------------------------------------------


def _earlier(
    trial: TrialFiles, spec: run_spec.RunSpec, logs: list[Path], target: Target
) -> _Earlier:
    if not logs:
        return _at_server(trial, spec, target)
    log = run_log.merged(logs)
    init = {**reopening_arguments(spec.init, log), "id": log.id}
    tags = [tag for tag in log.tags if tag not in OUTCOME_TAGS]
    init["tags"] = [*tags, *(tag for tag in init.get("tags") or () if tag not in tags)]
    experiment = str(log.config.get(run_spec.EXPERIMENT_KEY) or spec.experiment)
    logged = InLogs(logs)
    return _Earlier(
        spec._replace(init=init, experiment=experiment),
        logged,
        logged.next_step,
        run_files.exit_code(logs[-1]),
        was_tagged=len(tags) < len(log.tags),
        is_in_sweep=spec.settings.get("sweep_id") in {None, log.sweep},
    )


def _at_server(trial: TrialFiles, spec: run_spec.RunSpec, target: Target) -> _Earlier:
    spec, status = target.at_server(spec)
    if status is None:
        return _Earlier(spec, Nothing(), is_new=True)
    step = status.summary.get("_step")
    kind = status.summary.get("wbtune/outcome")
    exit_code = EXIT_CODES[Kind(kind)] if kind in OUTCOME_TAGS else None
    return _Earlier(
        spec,
        AtServer(status, trial),
        step + 1 if type(step) is int else status.rows,
        exit_code,
        was_tagged=kind in OUTCOME_TAGS and kind != Kind.FINISHED.value,
    )


def _is_running(trial: TrialFiles, logs: list[Path], experiment: ExperimentFiles) -> bool:
    """Does a driver with wbtune, or its trial, still write the run, as far as can be known?

    It writes nothing for as long as a trial takes for one result; but Tune and wandb do.
    """
    own = [log for log in logs if not (log.parent / MARKER).exists()]
    if trial.has_ended or not own:
        return False
    written = max(experiment.changed, *(log.stat().st_mtime for log in own))
    return time.time() - written < timeouts.RUNNING_S
