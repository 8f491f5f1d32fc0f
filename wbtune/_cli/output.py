"""What a command prints: lines for people, or one JSON object; and how far it is."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import click

from wbtune._data import timeouts
from wbtune._data.masking import mask_text

#: Exit codes: all was done; something is left to do; the command was used in a wrong way.
DONE: Final = 0
LEFT: Final = 1
WRONG_USE: Final = 2


class Output:
    """Prints what a command does: for people on stdout, or, for machines, one JSON object there.

    Args:
        as_json: whether ``--json`` was given.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self.warnings: list[str] = []

    def line(self, text: str = "") -> None:
        """Print a line for people."""
        if not self._as_json:
            # Message: none by itself.
            click.echo(text)

    def warn(self, text: str) -> None:
        """Print what went wrong to stderr; it is in the JSON, too."""
        self.warnings.append(mask_text(text))
        # Message: none by itself.
        click.echo(f"wbtune: {self.warnings[-1]}", err=True)

    def end(self, content: Mapping[str, Any]) -> None:
        """Print the result for machines: ``content``, and the warnings."""
        if self._as_json:
            click.echo(json.dumps({**content, "warnings": self.warnings}, allow_nan=False))

    @contextlib.contextmanager
    def progress(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show how far long work is: a bar on a terminal, else a line every ten seconds.

        Args:
            label: what is being done.
            total: how many steps it has.

        Yields:
            What is called with how many more steps are done.
        """
        if sys.stderr.isatty():
            bar: Any = click.progressbar(length=total, label=label, file=sys.stderr)
            with bar:
                yield bar.update
            return
        done, due = 0, time.monotonic() + timeouts.PROGRESS_LINES_S

        def advance(steps: int) -> None:
            nonlocal done, due
            done += steps
            if time.monotonic() >= due:
                due = time.monotonic() + timeouts.PROGRESS_LINES_S
                # Message: none by itself.
                click.echo(f"wbtune: {label}: {done:,} of {total:,}", err=True)

        yield advance


json_option: Final = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object instead of text."
)
