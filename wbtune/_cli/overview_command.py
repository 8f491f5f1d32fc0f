"""``wbtune overview``: one page about an experiment, from its folder."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

import click

from wbtune._cli.output import Output, json_option
from wbtune._cli.overview import known_by_runs
from wbtune._cli.overview import record as overview_record
from wbtune._data.filtering import excludes_of
from wbtune._data.trial_parameters import listed
from wbtune._overview import page
from wbtune._overview.record import ExperimentRecord
from wbtune._overview.text import count
from wbtune._tune_files import experiment_files
from wbtune._tune_files.folder import Folder, folder_of
from wbtune.errors import ConfigurationError

_HELP: Final = """Draw the overview of an experiment of Ray Tune.

    DIR is its folder, <storage_path>/<name>, of this machine or remote (s3://bucket/path). The
    experiment may be done, running or crashed, with W&B or without. The page is one file that
    needs no network.

    \b
    Example:
      wbtune overview ~/ray_results/exp --metric loss --mode min --open
    """


@click.command(help=_HELP)
@click.argument("directory", metavar="DIR")
@click.option("--metric", help="The metric to compare trials by; by default Tune's own.")
@click.option(
    "--mode",
    type=click.Choice(["min", "max"]),
    help="Whether smaller or greater values are better.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where to write it; by default DIR/overview.html, or ./<name>-overview.html for a "
    "remote DIR.",
)
@click.option(
    "--excludes",
    multiple=True,
    metavar="PATTERN",
    help="Leave out parameters and metrics by name or glob; can be repeated.",
)
@click.option("--open", "opens", is_flag=True, help="Open the page in a browser.")
@json_option
def command(
    directory: str,
    metric: str | None,
    mode: str | None,
    output: Path | None,
    excludes: tuple[str, ...],
    *,
    opens: bool,
    as_json: bool,
) -> None:
    """See `_HELP`."""
    out = Output(as_json=as_json)
    try:
        page.plotly()  # before anything is read
    except page.MissingLibraryError as error:
        raise ConfigurationError(str(error)) from None
    folder = folder_of(directory)
    target = output or _default(folder)
    files = experiment_files.read(folder)
    known = known_by_runs.read(folder)
    left_out = excludes_of(excludes)
    objective = overview_record.objective_for(files, known, metric, mode, left_out)
    for problem in files.problems:
        out.warn(problem)
    with out.progress("reading trials", len(files.trials)) as advance:
        record = overview_record.record_of(files, known, objective, left_out, advance)
    if objective is None:
        out.warn(
            "No metric is known, so the page has little more than the table of trials. Give "
            f"--metric and --mode. {overview_record.metrics_in(files)}"
        )
    elif metric is not None:
        overview_record.check_metric(record, files)
    _write(record, target)
    _tell(out, record, target)
    if opens:
        click.launch(target.absolute().as_uri())


def _default(folder: Folder) -> Path:
    """Where the page is written if nobody says where; never over what is not wbtune's.

    Raises:
        ConfigurationError: if a file of another program is there.
    """
    target = folder.local / page.FILE if folder.is_local else Path(f"{folder.name}-{page.FILE}")
    try:
        is_free = not target.exists() or page.is_page(target)
    except OSError as error:
        raise _not_written(target, error) from None
    if not is_free:
        raise ConfigurationError(
            f"{target} is there already, and is no overview of wbtune's. Give another: -o FILE."
        )
    return target


def _write(record: ExperimentRecord, target: Path) -> None:
    try:
        page.write(record, target)
    except OSError as error:
        raise _not_written(target, error) from None


def _not_written(target: Path, error: OSError) -> ConfigurationError:
    why = error.strerror or error
    return ConfigurationError(f"{target} can't be written ({why}). Give another place: -o FILE.")


def _tell(out: Output, record: ExperimentRecord, target: Path) -> None:
    """Print where the page is, how many trials it has, and the best one."""
    outcomes = Counter(trial.outcome for trial in record.trials)
    best = next((one for one in record.trials if one.trial_id == record.best_trial), None)
    counts = ", ".join(f"{number:,} {outcome}" for outcome, number in outcomes.most_common())
    out.line(f"{count(len(record.trials), 'trial')}{f': {counts}' if counts else ''}")
    if best is not None:
        facts = [f"{record.metric}={best.last:.6g}"] if best.last is not None else []
        facts += [listed(best.params)] if best.params else []
        out.line(f"best trial {best.name} ({'; '.join(facts)})")
    out.line(f"overview: {target}")
    out.end(
        {
            "overview": str(target),
            "trials": len(record.trials),
            "outcomes": outcomes,
            "metric": record.metric,
            "mode": record.mode,
            "best": best and {"trial": best.trial_id, "value": best.last, "config": best.params},
        }
    )
