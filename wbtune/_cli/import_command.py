"""``wbtune import``: an experiment that never saw W&B becomes runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from wbtune._cli.output import Output, json_option

_MODES: Final = {"minimize": "min", "maximize": "max"}


_EXAMPLES: Final = """\b
Examples:
  wbtune import ~/ray_results/train_2026-01-31 --project mnist
  wbtune import s3://bucket/tune/ppo -p rl --sweep --metric loss --goal minimize
  wbtune import ray_results/asha -p mnist --mode offline --excludes 'debug/*'
"""


@click.command("import", epilog=_EXAMPLES)
@click.argument("folder", metavar="DIR")
@click.option("-p", "--project", help="The W&B project; by default $WANDB_PROJECT_NAME.")
@click.option("-e", "--entity", help="The user or team that the project belongs to.")
@click.option("--group", help="The W&B group; by default the experiment's name.")
@click.option("--tags", metavar="TAG", multiple=True, help="A tag of each run; repeatable.")
@click.option(
    "--mode",
    type=click.Choice(["online", "offline"]),
    help="offline: write the runs to disk only. By default W&B's own setting, which is online.",
)
@click.option(
    "--sweep", is_flag=True, help="Make the experiment a W&B sweep, with its best run tagged."
)
@click.option(
    "--excludes",
    metavar="PATTERN",
    multiple=True,
    help="Leave out metrics and parameters: a name, a prefix, or a glob; repeatable.",
)
@click.option(
    "--unmask",
    metavar="PATTERN",
    multiple=True,
    help="A parameter that looks like a secret but is not; repeatable.",
)
@click.option(
    "--upload-checkpoints",
    type=click.Choice(["best", "last", "all"]),
    help="Log the trials' checkpoints as artifacts.",
)
@click.option("--metric", help="What the experiment optimises; by default Tune's own metric.")
@click.option(
    "--goal",
    type=click.Choice([*_MODES]),
    help="Whether smaller or greater is better: for the best checkpoint and run, and the sweep.",
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder in which W&B's files are put, as wandb/; by default DIR, or the current "
    "folder if DIR is in a remote storage.",
)
@json_option
def command(folder: str, *, as_json: bool, **given: Any) -> None:
    """Import the experiment of Ray Tune or RLlib that is in DIR to W&B.

    DIR is <storage_path>/<name>, on this machine or in a remote storage (s3://bucket/name). Each
    trial becomes a run: its parameters, every result with its own time, how it ended and, if it
    failed, its error. Nothing in DIR is changed, except that W&B's files are put into DIR/wandb.

    Run it again, and only what is new is added: results that came since, and the trials that have
    ended since.

    Exit codes: 0 all is imported that can be read, 1 something is left (a trial has not ended, a
    file can't be opened, or not all could be sent), 2 wrong use.
    """
    from wbtune._cli.importing.experiment import run  # noqa: PLC0415 - `--help` needs none of it

    objective_mode = _MODES.get(given.pop("goal") or "")
    code = run(Output(as_json=as_json), folder, objective_mode=objective_mode, **given)
    click.get_current_context().exit(code)
