"""A trial that is a program: ``train.py`` of a W&B sweep, which only knows wandb.

The trial opens its run, with the config and in the sweep, and leaves it to the program: its
``wandb.init()`` continues the same run in another segment. What the program logs is read from that
segment's log and reported to Tune. When the trial ends, a third segment has the outcome.
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wbtune._data import sweep_command, timeouts
from wbtune._data.options import RunOptions
from wbtune._place import handover, identity
from wbtune._run import closing, opening, run_files, segments
from wbtune._run.log_tail import RowTail
from wbtune._trial import program_environment
from wbtune._trial.program_environment import RunPlace
from wbtune._trial.program_process import ProgramFailedError, ProgramProcess
from wbtune._trial.trial_function import decorated
from wbtune._trial.tune_hooks import without_tunes_keys
from wbtune._upstream import ray_results, ray_trial

if TYPE_CHECKING:
    from wandb import Run

#: Where a trial was started, before Ray changed to the trial's folder.
_STARTED_IN: Final = "TUNE_ORIG_WORKING_DIR"


class Program(NamedTuple):
    """How each trial's program is started.

    Attributes:
        words: the items of the sweep's ``command``.
        program: the sweep's ``program``; empty if its command does not need it.
        folder: the driver's working directory.
        metric: the metric that the experiment optimises; None for none.
    """

    words: tuple[str, ...]
    program: str
    folder: str
    metric: str | None = None


def trainable(program: Program) -> Any:
    """The trainable function that runs a program; Tune names the trials after it: see `_name`."""

    def train(config: dict[str, Any], run: Any) -> None:
        _run(program, config, run)

    train.__name__ = _name(program)
    # The program's own segment says what the program used, and has its rows.
    options = RunOptions(log_results=False, init_kwargs={"settings": opening.ELSEWHERE})
    return decorated(train, options, "run")


def _name(program: Program) -> str:
    """The name of a program: that of its file or module, or else its command's first word."""
    if program.program:
        return Path(program.program).stem
    words = [word for word in program.words if "${" not in Path(word).name]
    modules = [word.split(".")[-1] for flag, word in itertools.pairwise(words) if flag == "-m"]
    files = [Path(word).stem for word in words if word.endswith((".py", ".sh"))]
    first = [Path(word).stem for word in words]
    return next(filter(None, (*modules, *files, *first)), "program")


def _run(program: Program, config: Mapping[str, Any], run: Run) -> None:
    from ray import tune  # noqa: PLC0415 - the command line's other parts do not need it

    if run.disabled:
        # Cure: Look at the warning, and correct what it names.
        msg = "the trial has no run (see the warning above), so its program can't be followed"
        raise ProgramFailedError(msg)
    place = program_environment.of_run(run)
    parameters = _plain(without_tunes_keys(config))
    closing.leave_to_another(run)
    tail = RowTail(place.directory, place.run_id)
    last: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="wbtune-") as folder:
        start = sweep_command.Start(
            program.program, parameters, sys.executable, str(Path(folder, "config.json"))
        )
        environment = program_environment.written(place, start, Path(folder))
        arguments = sweep_command.arguments(program.words, start, os.environ)
        try:
            with ProgramProcess(arguments, environment, _folder(program)) as process:
                for last in results(_rows(tail, process), program.metric):
                    tune.report(last)
                ended = process.ended
                if ended:
                    process.check()
        finally:
            _complete_log(tail, place)
    if not ended:
        tune.report(last)  # Tune waits for a result, which it ignores, before it stops the trial


def _rows(tail: RowTail, process: ProgramProcess) -> Iterator[dict[str, float]]:
    """What the program logs, as it comes, until it ends or the whole experiment does."""
    fit = identity.of_trainable(ray_trial.find_trainable()).fit
    asks_at = time.monotonic() + timeouts.PROGRAM_ASKS_S
    while not process.wait(timeouts.PROGRAM_LOGS_S):
        yield from tail.new_rows()
        if time.monotonic() > asks_at:
            if handover.announced_end(fit) is not None:
                return
            asks_at = time.monotonic() + timeouts.PROGRAM_ASKS_S
    for newest in tail.logs()[-1:]:
        run_files.wait_for_end(newest, timeouts.PROGRAM_WRITES_S)
    yield from tail.new_rows()


def _complete_log(tail: RowTail, place: RunPlace) -> None:
    """After the program's end, make sure that its segment is complete, before the next one.

    The wandb-core of a program that was killed outlives it by a moment. It writes the last rows,
    but no exit record, and does not send them.
    """
    for newest in tail.logs()[-1:]:
        if not run_files.wait_for_end(newest, timeouts.PROGRAM_WRITES_S) and place.base_url:
            closing.upload_cut_off(newest.parent, place.base_url, timeouts.PROGRAM_UPLOADS_S)
        segments.wait_for_next_name(newest)


def _plain(value: Any) -> Any:
    """A sampled value without NumPy's types, which neither JSON nor YAML has."""
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value.item() if hasattr(value, "item") else value


def _folder(program: Program) -> Path:
    """Where the program is started: where the driver was; else, on another node, the trial."""
    drivers = Path(program.folder)
    return drivers if drivers.is_dir() else Path(os.environ.get(_STARTED_IN, ""))


def results(rows: Iterator[Mapping[str, float]], metric: str | None) -> Iterator[dict[str, float]]:
    """Tune's results for rows: one for each row that has the metric, as W&B's hyperband counts.

    A result also has the last value of everything else that was logged before. Names that
    are Tune's own are left out.

    Args:
        rows: the numbers of each row.
        metric: the metric that the experiment optimises; None for a result for each row.
    """
    last: dict[str, float] = {}
    for row in rows:
        last.update(row)
        if metric is None or metric in row:
            yield {
                name: value for name, value in last.items() if name not in ray_results.reserved()
            }
