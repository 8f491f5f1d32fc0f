"""``wbtune run``: the program of a W&B sweep file, run on Ray as W&B's agents would run it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from wbtune._cli.output import Output, json_option

_EXAMPLES: Final = """\b
Examples:
  wbtune run sweep.yaml --project mnist --num-samples 20
  wbtune run sweep.yaml --cpus-per-trial 4 --gpus-per-trial 0.5 --max-concurrent 8
  wbtune run sweep.yaml --mode offline --storage-path s3://bucket/tune --name lr
"""


@click.command("run", epilog=_EXAMPLES)
@click.argument("file", metavar="SWEEP.YAML", type=click.Path(path_type=Path))
@click.option(
    "--num-samples",
    metavar="N",
    type=click.IntRange(min=1),
    help="How many trials; by default the file's run_cap. For a grid, how often each combination.",
)
@click.option(
    "--cpus-per-trial",
    metavar="X",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="The CPUs that Ray reserves for a trial.",
)
@click.option(
    "--gpus-per-trial",
    metavar="X",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="The GPUs that Ray reserves for a trial; less than 1 to share one.",
)
@click.option(
    "--max-concurrent",
    metavar="N",
    type=click.IntRange(min=1),
    help="How many trials run at once; by default as many as fit.",
)
@click.option(
    "--time-budget",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    help="Stop everything after this time.",
)
@click.option(
    "-p", "--project", help="The W&B project; by default the file's, or $WANDB_PROJECT_NAME."
)
@click.option("-e", "--entity", help="The user or team that the project belongs to.")
@click.option("--name", help="The experiment's name, of its folder and its W&B group.")
@click.option(
    "--storage-path",
    metavar="PATH",
    help="Where the experiment's folder is put; by default Ray's own, ~/ray_results.",
)
@click.option(
    "--mode",
    type=click.Choice(["online", "offline"]),
    help="offline: write the runs to disk only. By default W&B's own setting, which is online.",
)
@json_option
def command(file: Path, *, as_json: bool, **given: Any) -> None:
    """Run the W&B sweep in SWEEP.YAML on Ray Tune; no agent is needed.

    Each trial starts the file's program as an agent does: by its command, with its macros. The
    program's wandb.init() has the sampled values, and what it logs stops the trial early, if the
    file says so. The program needs no change. It is started in the current folder.

    RAY_ADDRESS names a cluster; without it, and without one on this machine, a Ray is started.

    Exit codes: 0 all trials have ended well, 1 some have failed or were interrupted, 2 wrong use.
    """
    from wbtune._cli.running.experiment import run  # noqa: PLC0415 - `--help` needs none of it

    click.get_current_context().exit(run(Output(as_json=as_json), file, **given))
