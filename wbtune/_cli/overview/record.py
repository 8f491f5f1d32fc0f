"""Make an `ExperimentRecord` from what Tune left of an experiment, and from wbtune's runs in it.

`_driver.conclusion` makes the same of a live driver.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from wbtune._cli.overview.known_by_runs import KnownByRuns
from wbtune._data import timeouts
from wbtune._data.checkpoint import Objective, objective_of
from wbtune._data.filtering import Excludes
from wbtune._data.masking import mask_given
from wbtune._data.routing import AUTO_CONFIG_KEYS, BOOKKEEPING
from wbtune._data.trial_parameters import chosen
from wbtune._overview.record import Curve, ExperimentRecord, TrialRecord
from wbtune._overview.results import progress_of, read_curve
from wbtune._tune_files.endings import outcome_of
from wbtune._tune_files.experiment_files import ExperimentFiles
from wbtune._tune_files.trial_files import TrialFiles
from wbtune._upstream import capabilities
from wbtune.errors import ConfigurationError

#: What Tune itself adds to each result, besides what is no metric at all.
_OF_TUNE: Final = frozenset(
    {"timestamp", "training_iteration", "time_this_iter_s", "time_total_s", "time_since_restore"}
) | {"iterations_since_restore", "timesteps_total", "episodes_total", "trial_id", "config"}
_NO_METRICS: Final = _OF_TUNE | AUTO_CONFIG_KEYS | BOOKKEEPING
#: So many names of metrics are listed.
_LISTED: Final = 12


def objective_for(
    files: ExperimentFiles,
    known: KnownByRuns,
    metric: str | None,
    mode: str | None,
    excludes: Excludes,
) -> Objective | None:
    """What the trials are compared by: as given, or as the runs say, or Tune's files.

    Args:
        files: the experiment.
        known: what its runs say.
        metric: the option ``--metric``, if it was given.
        mode: the option ``--mode``, if it was given.
        excludes: what is left out: also the metric, unless it was given.

    Returns:
        The objective; None if no metric is known.

    Raises:
        ConfigurationError: if a mode is missing, or is there without a metric, or if the metric
            that was given is excluded.
    """
    if metric is not None and excludes.drops(metric):
        raise ConfigurationError(f"--excludes leaves out {metric!r}, the metric. Leave out one.")
    of_runs = None if known.objective is None else known.objective.metric
    name = metric or of_runs or files.metric
    if name is None or excludes.drops(name):  # as in the driver, which shows none of it
        if mode is not None:
            raise ConfigurationError(
                f"--mode {mode} of which metric? Give --metric, too. {metrics_in(files)}"
            )
        return None
    if mode is None and name == of_runs:
        return known.objective
    if mode is None:
        raise ConfigurationError(
            f"Is a greater or a smaller {name} better? Tune's files do not say. "
            "Add --mode max or --mode min."
        )
    return objective_of(name, mode)


def check_metric(record: ExperimentRecord, files: ExperimentFiles) -> None:
    """Refuse a metric that the user has given, and that no trial has reported.

    Raises:
        ConfigurationError: if there are results, but none has the metric as a number.
    """
    if any(trial.curve.value for trial in record.trials) or not _metrics(files):
        return
    close = difflib.get_close_matches(record.metric or "", _metrics(files), n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    raise ConfigurationError(
        f"No trial has reported {record.metric!r} as a number. {hint}{metrics_in(files)}"
    )


def metrics_in(files: ExperimentFiles) -> str:
    """A sentence that lists the metrics of the last results."""
    names = [*_metrics(files)]
    if not names:
        return "No trial has reported a number."
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"The results have: {', '.join(names[:_LISTED])}{more}."


def _metrics(files: ExperimentFiles) -> dict[str, None]:
    return dict.fromkeys(name for last in _lasts(files) for name in _numbers(last, ""))


def _lasts(files: ExperimentFiles) -> Iterator[Mapping[str, Any]]:
    """The last result of each trial, by Tune's state, or else its first one."""
    for trial in files.trials:
        with contextlib.suppress(OSError):
            yield trial.stated_result or next(trial.results(), {})


def _numbers(result: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, value in result.items():
        if not prefix and name in _NO_METRICS:
            continue
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{prefix}{name}"


def record_of(
    files: ExperimentFiles,
    known: KnownByRuns,
    objective: Objective | None,
    excludes: Excludes,
    advance: Callable[[int], None],
) -> ExperimentRecord:
    """What is known of an experiment; all text in it is filtered and masked.

    Args:
        files: the experiment.
        known: what its runs say.
        objective: what its trials are compared by.
        excludes: what is left out and masked.
        advance: called with 1 after each trial, as to read its results takes the longest.
    """
    is_recent = time.time() - files.changed < timeouts.RUNNING_S
    trials = []
    for trial in files.trials:
        trials.append(_of_trial(trial, known, objective, excludes, is_recent=is_recent))
        advance(1)
    best = None
    if objective is not None:
        best = objective.best_of([trial.last for trial in trials])
    return ExperimentRecord(
        name=files.name,
        trials=trials,
        metric=objective and objective.metric,
        mode=objective and objective.mode,
        best_trial=None if best is None else trials[best].trial_id,
        space=known.space,
        links=known.links,
        note=_note(files),
    )


def _of_trial(
    trial: TrialFiles,
    known: KnownByRuns,
    objective: Objective | None,
    excludes: Excludes,
    *,
    is_recent: bool,
) -> TrialRecord:
    lines = _Lines(trial)
    curve = Curve()
    if objective is not None:
        curve = read_curve(lines, objective.metric, excludes)
    last = lines.last_result() or trial.stated_result
    finite = [value for value in curve.value if math.isfinite(value)]
    iterations, seconds = progress_of(last)
    outcome, reason = _ending(trial, known, last, is_recent=is_recent)
    # A trial that no state knows may be called like its folder, with its parameters.
    trial_id = mask_given(trial.trial_id)
    return TrialRecord(
        trial_id=trial_id,
        name=trial_id if excludes.hides(trial.name) else trial.name,
        outcome=outcome,
        reason="; ".join(filter(None, (reason, lines.problem))),
        iterations=iterations,
        seconds=seconds,
        params=chosen(_config(trial), trial.sampled, excludes, known.space),
        last=curve.value[-1] if finite and math.isfinite(curve.value[-1]) else None,
        best=(min if objective and objective.mode == "min" else max)(finite, default=None),
        curve=curve,
        perturbations=known.perturbations.get(trial.trial_id, []),
    )


def _config(trial: TrialFiles) -> dict[str, Any]:
    """A trial's parameters, in the order in which they were declared: Tune's file sorts them."""
    config, _ = trial.config()
    return {name: config[name] for name in (*trial.stated_config, *config) if name in config}


def _ending(
    trial: TrialFiles, known: KnownByRuns, last: Mapping[str, Any], *, is_recent: bool
) -> tuple[str, str]:
    """How a trial ended, and why; of one that seems to be alive, Tune's status."""
    outcome = known.outcomes.get(trial.trial_id)  # it knows more than the files
    if outcome is None and is_recent and trial.status and not trial.has_ended:
        return trial.status.lower(), "when Tune last wrote its files"
    outcome = outcome or outcome_of(trial, last)
    return outcome.kind.value, outcome.why


def _note(files: ExperimentFiles) -> str:
    written = ""
    if files.changed:
        written = f", as they were at {datetime.fromtimestamp(files.changed, UTC):%F %H:%M} UTC"
    return f"made from Tune's files{written}; {capabilities.version('wbtune')}"


class _Lines:
    """The lines of a trial's results, one after the other; the newest are kept.

    Args:
        trial: the trial.

    Attributes:
        problem: why the file can't be read to its end; empty if it can.
    """

    def __init__(self, trial: TrialFiles) -> None:
        self._lines = trial.lines()
        self._newest: deque[bytes] = deque(maxlen=2)  # a crash cuts off the last one
        self.problem = ""

    def __iter__(self) -> Iterator[bytes]:
        try:
            for line in self._lines:
                if line.strip():
                    self._newest.append(line)
                    yield line
        except OSError as error:
            self.problem = f"its results can't be read ({error.strerror or error})"

    def last_result(self) -> Mapping[str, Any]:
        """Read what is left, and return the last result; an empty one if there is none."""
        for _ in self:
            pass
        for line in reversed(self._newest):
            with contextlib.suppress(ValueError, RecursionError):
                result = json.loads(line)
                if isinstance(result, dict):
                    return result
        return {}
