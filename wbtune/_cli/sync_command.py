"""``wbtune sync``: an experiment's offline runs are sent to W&B, after it or while it runs."""

from __future__ import annotations

from typing import Final

import click

from wbtune._cli.output import Output, json_option

_HELP: Final = """Send the runs of the experiment in DIR that were only kept on disk to W&B.

    DIR is the experiment's folder, <storage_path>/<name>, on this machine or in a remote storage
    (s3://bucket/name). An experiment with sweep=True gets its W&B sweep, with its runs in it and
    the best one tagged. At the end, the rows on disk are compared with those that have arrived.

    It may be interrupted and repeated: no row is sent twice. It builds on `wandb sync`, and leaves
    the same markers. Start one at a time: two may send the same rows. In a local or mounted folder
    a lock keeps the second out; a remote storage has none.

    Exit codes: 0 all has arrived, 1 something is left, 2 wrong use.

    \b
    Examples:
      wbtune sync ~/ray_results/exp --dry-run
      wbtune sync ~/ray_results/exp
      wbtune sync s3://bucket/tune/exp --watch
    """

#: Without any change, a watched experiment is taken for dead after this many minutes.
_IDLE_MIN: Final = 30.0


@click.command("sync", help=_HELP)
@click.argument("folder", metavar="DIR")
@click.option(
    "--watch",
    is_flag=True,
    help="Follow a running experiment until it ends: each row is sent a few seconds after it was "
    "written.",
)
@click.option(
    "--idle",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MINUTES",
    default=_IDLE_MIN,
    show_default=True,
    help="With --watch, end with exit code 1 when nothing has changed in DIR for so long: the "
    "driver was probably killed.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing.")
@json_option
def command(folder: str, *, watch: bool, idle: float, dry_run: bool, as_json: bool) -> None:
    """See `_HELP`."""
    from wbtune._cli.syncing import experiment  # noqa: PLC0415 - `--help` needs none of it

    output = Output(as_json=as_json)
    if dry_run:
        code = experiment.dry_run(output, folder)
    else:
        code = experiment.sync(output, folder, idle_s=idle * 60 if watch else None)
    click.get_current_context().exit(code)
