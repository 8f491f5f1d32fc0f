"""``wbtune doctor``: why does nothing arrive?"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from typing import Final

import click

from wbtune._cli.doctor.examination import Examined, examine
from wbtune._cli.doctor.findings import Context, Level
from wbtune._cli.output import DONE, LEFT, Output, json_option
from wbtune._data import timeouts
from wbtune._overview.text import count

_COLOURS: Final = {Level.OK: "green", Level.NOTE: "yellow", Level.PROBLEM: "red"}
_WIDTH: Final = max(len(level.value) for level in Level)

_HELP: Final = """Look for what keeps runs from arriving at W&B.

    With DIR, an experiment's folder or the storage_path above it, also for what is wrong there.
    Nothing is started and nothing is changed; the server is asked once. No key is shown. Each
    finding has its cure.

    \b
    Example:
      wbtune doctor ~/ray_results

    Exit codes: 0 nothing is wrong, 1 there is a problem, 2 wrong use.
    """


@click.command(help=_HELP)
@click.argument("directory", metavar="[DIR]", required=False)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=timeouts.DOCTOR_S,
    show_default=True,
    metavar="SECONDS",
    help="The time limit; checks that take longer are listed.",
)
@json_option
@click.pass_context
def command(
    click_context: click.Context, directory: str | None, timeout: float, *, as_json: bool
) -> None:
    """See `_HELP`."""
    out = Output(as_json=as_json)
    examined = list(examine(Context(os.environ, directory), seconds=timeout))
    for subject, of_subject in itertools.groupby(examined, key=lambda one: one.subject):
        out.line(click.style(subject, bold=True))
        for one in of_subject:
            _show(out, one)
    levels = Counter(one.finding.level for one in examined)
    problems, notes = levels[Level.PROBLEM], levels[Level.NOTE]
    out.line(f"{count(problems, 'problem')}, {count(notes, 'note')}")
    out.end(
        {
            "problems": problems,
            "notes": notes,
            "findings": [
                {
                    "subject": one.subject,
                    "level": one.finding.level.value,
                    "what": one.finding.what,
                    "cure": one.finding.cure,
                }
                for one in examined
            ],
        }
    )
    click_context.exit(LEFT if problems else DONE)


def _show(out: Output, one: Examined) -> None:
    level, what, cure = one.finding
    name = click.style(level.value.ljust(_WIDTH), fg=_COLOURS[level])
    out.line(f"  {name}  {what}")
    if cure:
        out.line(f"  {' ' * _WIDTH}  {click.style('-> ' + cure, dim=True)}")
