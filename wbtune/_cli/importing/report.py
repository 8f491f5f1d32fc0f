"""Say what was imported, what was not, and where it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wbtune._cli.importing.target import Target
from wbtune._cli.importing.trial import Imported, State
from wbtune._cli.output import DONE, LEFT, Output
from wbtune._run import links
from wbtune._tune_files.trial_files import TrialFiles

if TYPE_CHECKING:
    from wbtune._cli.importing.sweep import ImportedSweep

#: How many trials a line names.
_NAMED: Final = 3


def print_report(
    output: Output,
    target: Target,
    done: Sequence[Imported],
    *,
    place: links.Place | None,
    sweep: ImportedSweep | None,
    left: Sequence[Path],
    artifacts: int,
) -> int:
    """Print the report, and return the exit code.

    Args:
        output: prints it.
        target: where to it was imported.
        done: what was done for each trial.
        place: where the runs are at W&B, if that is known.
        sweep: the experiment's sweep, if one was asked for.
        left: the folders that could not be sent.
        artifacts: how many checkpoints were logged.
    """
    unended = [one for one in done if not one.trial.has_ended]
    _print_counts(output, target, done, artifacts)
    _print_problems(output, done)
    if unended:
        output.line(
            f"{_of(unended, 'has not', 'have not')} ended in Tune's files: run this again when "
            "the experiment has ended."
        )
    if place is not None:
        output.line(f"Project {place.project_url} group {place.group_url}")
        if sweep is not None and sweep.sweep is not None:
            output.line(f"Sweep {place.sweep_url(sweep.sweep.id)}")
    _print_left(output, target, left)
    is_left = bool(left or unended) or any(one.is_left for one in done)
    output.end(_content(target, done, place, sweep, left, artifacts))
    return LEFT if is_left else DONE


def _print_counts(output: Output, target: Target, done: Sequence[Imported], artifacts: int) -> None:
    added = [one for one in done if one.state is State.ADDED]
    rows = sum(one.rows for one in added)
    kinds = Counter(one.outcome.kind.value for one in added)
    how = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    line = f"{target.experiment.name}: {_number(rows, 'row')} added to {_number(len(added), 'run')}"
    output.line(f"{line} ({how})" if how else line)
    complete = [one for one in done if one.state is State.COMPLETE]
    if complete:
        output.line(f"{_of(complete, 'has', 'have')} a run with all of it already.")
    if artifacts:
        output.line(f"{_number(artifacts, 'checkpoint')} logged.")


def _print_problems(output: Output, done: Sequence[Imported]) -> None:
    broken = [one for one in done if one.reading.broken]
    if broken:
        lines = sum(one.reading.broken for one in broken)
        # Cause: The driver or the disk failed while the line was written.
        # Cure: Nothing to do: the other lines are imported.
        output.warn(
            f"{_number(lines, 'line')} of result.json can't be read, and left out, "
            f"in {named(broken)}"
        )
    without = [one for one in done if one.trial.has_results and one.without_params]
    if without:
        source = "the parameters are those of the first result, or of Tune's state"
        # Cure: Nothing to do.
        output.warn(f"params.json can't be read in {named(without)}: {source}")
    empty = [one for one in done if not one.reading.results and not one.problems]
    empty = [one for one in empty if one.state is not State.BUSY]
    if empty:
        # Cause: The trials reported nothing, or Tune wrote no result.json
        #   (TUNE_DISABLE_AUTO_CALLBACK_LOGGERS).
        # Cure: Nothing to do: they are runs without rows.
        output.warn(f"without results: {named(empty)}")
    busy = [one for one in done if one.state is State.BUSY]
    if busy:
        # Cure: Run this again when the experiment has ended.
        output.warn(
            "left alone, as wbtune's own driver was writing their runs within the last ten "
            f"minutes: {named(busy)}"
        )
    unread = [problem for one in done for problem in one.problems]
    for problem in unread[:_NAMED]:
        output.warn(problem)
    if len(unread) > _NAMED:
        # Message: none by itself.
        output.warn(f"and {len(unread) - _NAMED:,} more trials whose results can't be read")


def _print_left(output: Output, target: Target, left: Sequence[Path]) -> None:
    command = links.command("sync", target.directory)
    if left:
        # Cure: Run that command when the server can be reached. A line above says what it
        #   answered.
        output.warn(
            f"{_number(len(left), 'run')} could not be sent; they are on disk, and sent by the "
            f"next import, or by: {command}"
        )
    elif not target.is_online:
        output.line(f"The runs are in {target.directory / 'wandb'}. Send them by: {command}")


def _content(
    target: Target,
    done: Sequence[Imported],
    place: links.Place | None,
    sweep: ImportedSweep | None,
    left: Sequence[Path],
    artifacts: int,
) -> dict[str, Any]:
    states = Counter(one.state for one in done)
    return {
        "experiment": target.experiment.name,
        "project": target.options.project,
        "group": target.options.group or target.experiment.name,
        "directory": str(target.directory / "wandb"),
        "url": None if place is None else place.group_url,
        "sweep": None if sweep is None or sweep.sweep is None else sweep.sweep.id,
        "trials": len(done),
        **{f"runs_{state.value}": states[state] for state in State},
        "rows_added": sum(one.rows for one in done),
        "results": sum(one.reading.results for one in done),
        "broken_lines": sum(one.reading.broken for one in done),
        "trials_not_ended": sum(not one.trial.has_ended for one in done),
        "trials_not_readable": sum(bool(one.problems) for one in done),
        "trials_without_params": sum(bool(one.without_params) for one in done),
        "trials_without_known_best": sum(one.is_best_unknown for one in done),
        "trials_without_results": sum(not one.reading.results for one in done),
        "checkpoints": artifacts,
        "not_sent": [str(folder) for folder in left],
        "runs": [
            {
                "trial": one.trial.trial_id,
                "run": one.run_id,
                "state": one.state.value,
                "rows_added": one.rows,
                "outcome": one.outcome.kind.value,
            }
            for one in done
        ],
    }


def _number(count: int, noun: str) -> str:
    """A number with its noun.

    >>> _number(1, "run"), _number(2000, "run")
    ('1 run', '2,000 runs')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _of(done: Sequence[Imported], one: str, several: str) -> str:
    return f"{_number(len(done), 'trial')} {one if len(done) == 1 else several}"


def named(done: Sequence[Imported]) -> str:
    """How many trials, and what the first of them are called."""
    trials: list[TrialFiles] = [one.trial for one in done]
    names = ", ".join(trial.name for trial in trials[:_NAMED])
    more = len(trials) - _NAMED
    return f"{_number(len(trials), 'trial')} ({names}{f' and {more:,} more' if more > 0 else ''})"
