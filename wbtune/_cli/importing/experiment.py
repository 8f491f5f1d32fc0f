"""Import an experiment: check what was asked for, import each trial, send the runs, sum up."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from wbtune._cli.importing import checkpoints, report, upload
from wbtune._cli.importing.alone import IMPORT, SYNC, BusyError, without_another
from wbtune._cli.importing.sweep import ImportedSweep
from wbtune._cli.importing.target import NAME, Target, target_of
from wbtune._cli.importing.trial import Imported, State, import_trial
from wbtune._cli.output import LEFT, Output
from wbtune._data.checkpoint import Objective, objective_of
from wbtune._data.options import RunOptions, parse
from wbtune._run import links
from wbtune._tune_files import experiment_files
from wbtune._tune_files.experiment_files import ExperimentFiles
from wbtune._tune_files.folder import Folder, folder_of
from wbtune._upstream import wandb_records, wandb_settings
from wbtune.errors import ConfigurationError


def run(
    output: Output,
    folder: str,
    *,
    objective_mode: str | None,
    metric: str | None,
    directory: Path | None,
    **given: Any,
) -> int:
    """Import the experiment in a folder.

    Args:
        output: prints.
        folder: the folder, as the user names it.
        objective_mode: "min" or "max"; None if it was not given.
        metric: what is optimised; None for what Tune was told.
        directory: the folder for W&B's files; None for the default.
        given: options of `RunOptions` and of ``wandb.init``.

    Returns:
        The exit code.

    Raises:
        WbtuneError: for anything that the user has to mend.
    """
    named = {name: value for name, value in given.items() if value not in (None, (), False)}
    options = parse(NAME, named, wandb_settings.init_parameters())
    if not wandb_records.RECORDS.is_here:
        msg = f"this wandb has another format of run files ({wandb_records.RECORDS.reason})."
        raise ConfigurationError(f"{msg} Take one that wbtune was tested with.")
    experiment = experiment_files.read(folder_of(folder))
    for problem in experiment.problems:
        # Message: none by itself.
        output.warn(problem)
    objective = _objective(experiment, options, metric, objective_mode)
    target = target_of(experiment, options, _place(experiment.folder, directory), objective)
    if (target.options.mode or target.login.settings.get("mode")) == "disabled":
        raise ConfigurationError(
            'W&B\'s mode is "disabled": nothing would be written. Give --mode.'
        )
    try:
        with without_another(IMPORT, target.directory / "wandb"):
            return _import(output, target)
    except BusyError as error:
        output.warn(str(error))
        output.end({"experiment": experiment.name})
        return LEFT


def _import(output: Output, target: Target) -> int:
    place = links.of_experiment(target.options, target.login, target.experiment.name)
    with without_another(SYNC, target.directory / "wandb"):  # to send, it is needed itself
        sweep = ImportedSweep.begin(target, place, output) if target.options.sweep else None
        target = target if sweep is None else sweep.target
        done = _import_trials(output, target)
        if sweep is not None:
            sweep.end(done)
    ids = [one.run_id for one in done if one.state is not State.BUSY]
    ids += [] if sweep is None else [sweep.run_id]
    left = upload.send(target, ids, output) if target.is_online else []
    if sweep is not None:
        sweep.mark()
    artifacts = checkpoints.upload(target, done, output)
    if target.is_online and not left:
        upload.correct_tags(target, place, done, output)
        if sweep is not None:
            sweep.tag_best(done)
    return report.print_report(
        output, target, done, place=place, sweep=sweep, left=left, artifacts=artifacts
    )


def _import_trials(output: Output, target: Target) -> list[Imported]:
    trials = target.experiment.trials
    with output.progress("bytes of results", sum(trial.size for trial in trials)) as advance:
        return [import_trial(trial, target, advance) for trial in trials]


def _objective(
    experiment: ExperimentFiles, options: RunOptions, metric: str | None, mode: str | None
) -> Objective | None:
    metric = metric or experiment.metric
    if mode and not metric:
        raise ConfigurationError("--goal needs a metric, and Tune was given none. Give --metric.")
    objective = objective_of(metric, mode)
    if objective is None and options.checkpoints == "best":
        missing = f"--goal (of {metric})" if metric else "--metric and --goal"
        raise ConfigurationError(f"--upload-checkpoints best: what is best? Give {missing}.")
    return objective


def _place(folder: Folder, given: Path | None) -> Path:
    """The folder for ``wandb/``, in which a file can be written.

    Raises:
        ConfigurationError: if none can.
    """
    directory = given or (folder.local if folder.is_local else Path.cwd())
    directory = directory.expanduser().absolute()
    try:
        (directory / "wandb").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory / "wandb"):
            pass
    except OSError as error:
        why = error.strerror or type(error).__name__
        msg = f"can't write runs to {directory / 'wandb'} ({why}). Give another folder: --dir."
        raise ConfigurationError(msg) from None
    return directory
