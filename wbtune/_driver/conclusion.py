"""What is known of an experiment when it has ended: its record, table, overview, summary."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wbtune._data import sweep_config, timeouts
from wbtune._data.checkpoint import Objective
from wbtune._data.outcomes import Kind
from wbtune._data.trial_parameters import chosen
from wbtune._driver import restoring
from wbtune._driver.best import best_value, last_value
from wbtune._driver.experiment_run import ExperimentRun
from wbtune._driver.trial_state import TrialState
from wbtune._driver.trials import Trials
from wbtune._overview.page import FILE, MissingLibraryError, write
from wbtune._overview.record import Curve, ExperimentRecord, TrialRecord
from wbtune._overview.results import progress_of, read_curve
from wbtune._run import links
from wbtune._upstream import capabilities

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

logger = logging.getLogger("wbtune")


def record_of(
    run: ExperimentRun,
    trials: Trials,
    tune_trials: Sequence[Trial],
    *,
    name: str,
    best: Trial | None,
    url_of: Callable[[TrialState], str],
    is_interrupted: Callable[[], bool],
) -> ExperimentRecord:
    """What is known of an experiment; all text in it is filtered and masked.

    Args:
        run: the run for the whole.
        trials: the experiment's trials.
        tune_trials: the same, as Tune has them.
        name: the experiment's name.
        best: the best of them.
        url_of: the page of a trial's run; empty if there is none.
        is_interrupted: whether to stop reading results, which takes the longest.
    """
    space = sweep_config.varying(run.description.parameters)
    until = time.monotonic() + timeouts.RESULTS_READ_S
    records, pages = [], {}
    for trial in tune_trials:
        state = trials.get(trial)
        if state is not None and (url := url_of(state)):
            pages[trial.trial_id] = url
        has_time = not is_interrupted() and time.monotonic() < until
        lines = restoring.result_lines(trial) if has_time else iter(())
        records.append(_of_trial(trial, state, run, lines, set(space)))
    objective = run.objective
    return ExperimentRecord(
        name=name,
        trials=records,
        metric=None if objective is None else objective.metric,
        mode=None if objective is None else objective.mode,
        best_trial=None if best is None else best.trial_id,
        space=space,
        links=pages,
        note=", ".join(capabilities.version(one) for one in ("ray", "wandb", "wbtune")),
    )


def _of_trial(
    trial: Trial,
    state: TrialState | None,
    run: ExperimentRun,
    lines: Iterator[bytes],
    space: set[str],
) -> TrialRecord:
    objective = run.objective
    outcome = state.outcome if state is not None else None
    excludes = run.excludes if state is None else state.router.excludes
    sampled = getattr(trial, "evaluated_params", None) or {}
    iterations, seconds = progress_of(trial.last_result or {})
    curve, value = Curve(), None
    if objective is not None:
        curve = read_curve(lines, objective.metric, run.excludes)
        value = last_value(trial, objective)
    return TrialRecord(
        trial_id=trial.trial_id,
        name=str(trial),
        outcome=outcome.kind.value if outcome else "",
        reason=outcome.why if outcome else "",
        iterations=iterations,
        seconds=seconds,
        params=chosen(trial.config, sampled, excludes, space),
        last=value,
        best=None if objective is None else best_value(trial, objective),
        curve=curve,
        perturbations=[] if state is None else list(state.perturbations),
    )


def table_of(record: ExperimentRecord) -> tuple[list[str], list[list[Any]]]:
    """The columns and the rows of the table of an experiment's trials."""
    names = list(dict.fromkeys(name for trial in record.trials for name in trial.params))
    columns = ["trial", "outcome", "iterations", "seconds"]
    metrics = []
    if record.metric is not None:
        metrics = [record.metric, f"{record.metric} ({record.mode})"]
    taken = {*columns, *metrics}
    columns += [f"config.{name}" if name in taken else name for name in names] + metrics
    rows = []
    for trial in record.trials:
        row: list[Any] = [trial.trial_id, trial.outcome, trial.iterations, trial.seconds]
        row += [_cell(trial.params.get(name)) for name in names]
        rows.append(row + ([trial.last, trial.best] if record.metric is not None else []))
    return columns, rows


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def write_overview(record: ExperimentRecord, directory: str) -> Path | None:
    """Write the overview into the experiment's folder.

    Returns:
        Where it is; None if it could not be written, of which one line tells.
    """
    path = Path(directory, FILE)
    try:
        write(record, path)
    except MissingLibraryError as error:
        then = links.command("overview", path.parent)
        # Message: none by itself.
        links.print_line(f"wbtune: {error}, then: {then}")
    except Exception as error:  # noqa: BLE001 - Plotly's, Optuna's, a full disk's
        # Cause: The overview could not be drawn or written.
        # Cure: Correct what the error names, then: wbtune overview DIR.
        logger.warning("wbtune: no %s: %s: %s", path, type(error).__name__, error)
    else:
        return path
    return None


def summary_of(
    record: ExperimentRecord, best: TrialRecord | None, objective: Objective | None
) -> dict[str, Any]:
    """The entries of the run's summary: the best trial with its config, and how trials ended."""
    outcomes = [trial.outcome for trial in record.trials]
    summary: dict[str, Any] = {f"trials/{kind.value}": outcomes.count(kind.value) for kind in Kind}
    if best is not None and objective is not None:
        summary |= {
            "best/trial": best.trial_id,
            f"best/{objective.metric}": best.last,
            "best/config": dict(best.params),
        }
    return summary
