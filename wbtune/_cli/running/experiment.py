"""Run a sweep file's program on Ray: read the file, start the experiment, sum it up."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from wbtune._cli.output import Output
from wbtune._data import sweep_command, sweep_file
from wbtune._data.options import RunOptions
from wbtune._data.sweep_file import GRID, SweepFile
from wbtune._run import run_spec
from wbtune._trial import program_trial
from wbtune._upstream import wandb_records, wandb_settings
from wbtune.errors import ConfigurationError

#: What messages begin with.
NAME: Final = "wbtune run"

#: The keys of a sweep that have a meaning here.
_MEANT: Final = frozenset({"program", "command"})


def run(
    output: Output,
    path: Path,
    *,
    num_samples: int | None,
    cpus_per_trial: float,
    gpus_per_trial: float,
    max_concurrent: int | None,
    time_budget: float | None,
    name: str | None,
    storage_path: str | None,
    **given: str | None,
) -> int:
    """Run a sweep file's program.

    Args:
        output: prints.
        path: the file.
        num_samples: how many trials; None for what the file says.
        cpus_per_trial: what Ray reserves for each trial.
        gpus_per_trial: the same.
        max_concurrent: how many trials run at once; None for as many as fit.
        time_budget: the seconds after which everything is stopped; None for no such time.
        name: the experiment's name; None for Tune's choice.
        storage_path: where the experiment's folder is put; None for Ray's own.
        given: options of `wandb_tuner`; None for those that were not given.

    Returns:
        The exit code.

    Raises:
        WbtuneError: for anything that the user has to mend.
    """
    file, program = _read(path)
    _check_number(file, num_samples, time_budget)
    file = _with_number(file, num_samples)
    named = {option: value for option, value in given.items() if value is not None}
    _check_project(file, named.get("project"))
    if "mode" not in named and wandb_settings.wandb_setting("mode") == "disabled":
        cure = "Give --mode offline, or unset WANDB_MODE."
        raise ConfigurationError(f"{NAME}: with W&B disabled, there is no log to follow. {cure}")
    _check_wandb()
    from ray import tune  # noqa: PLC0415 - what is wrong before is said at once

    from wbtune._cli.running import summary  # noqa: PLC0415 - as above
    from wbtune.tuner import wandb_tuner  # noqa: PLC0415 - as above

    place = summary.Place()
    resources = {"cpu": cpus_per_trial, "gpu": gpus_per_trial}
    tuner = wandb_tuner(
        tune.with_resources(program_trial.trainable(program), resources),
        sweep=file,  # type: ignore[arg-type]  # it was read, to be checked
        tune_config=tune.TuneConfig(
            num_samples=num_samples or 1,
            max_concurrent_trials=max_concurrent,
            time_budget_s=time_budget,
        ),
        run_config=tune.RunConfig(
            name=name, storage_path=storage_path, verbose=0, callbacks=[place]
        ),
        **named,  # type: ignore[arg-type]  # they are text, as these options are
    )
    with contextlib.redirect_stdout(sys.stderr):  # where Ray repeats what the programs print
        results = tuner.fit()
    return summary.sum_up(output, results, file.metric, place.folder)


def _read(path: Path) -> tuple[SweepFile, program_trial.Program]:
    file = sweep_file.read(NAME, path)
    words = sweep_command.read(file.source)
    program = file.text("program") or ""
    metric = None if file.metric is None else file.metric.name
    meant = tuple(key for key in file.ignored if key not in _MEANT)
    return replace(file, ignored=meant), program_trial.Program(
        words, program, str(Path.cwd()), metric
    )


def _check_number(file: SweepFile, num_samples: int | None, time_budget: float | None) -> None:
    if (num_samples, file.run_cap, time_budget) == (None, None, None) and file.method != GRID:
        problem = f"{file.method} has no end. Write run_cap: 20, say, or give --num-samples 20."
        raise file.source.error(("method",), problem)


def _with_number(file: SweepFile, num_samples: int | None) -> SweepFile:
    """The file with ``--num-samples`` in place of its ``run_cap``, also if it is 1, Tune's default.

    A grid's combinations are all tried, that often.
    """
    if num_samples is None:
        return file
    return replace(file, run_cap=None if file.method == GRID else num_samples)


def _check_wandb() -> None:
    records = wandb_records.RECORDS
    if not records.is_here:
        msg = f"{NAME}: what a program logs can't be read with this wandb ({records.reason})."
        raise ConfigurationError(f"{msg} Take one that wbtune was tested with.")


def _check_project(file: SweepFile, given: str | None) -> None:
    located = run_spec.locate(NAME, RunOptions(project=given or file.text("project")))
    if not located.project:
        variable = run_spec.PROJECT_ENV
        msg = f"{NAME}: no project. Give --project, or write project: into {file.source.name}"
        raise ConfigurationError(f"{msg}, or set the environment variable {variable}.")
