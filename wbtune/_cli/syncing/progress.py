"""How far `wbtune sync` is: runs that are done, or, while it watches, a line now and then."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

import click

from wbtune._cli.output import Output
from wbtune._cli.syncing.runs import LocalRun
from wbtune._cli.syncing.upload import RunUpload
from wbtune._cli.syncing.watch import Watch
from wbtune._data import timeouts


@contextlib.contextmanager
def shown(
    output: Output,
    watch: Watch | None,
    runs: Mapping[str, LocalRun],
    uploads: Mapping[str, RunUpload],
) -> Iterator[Callable[[], None]]:
    """Show how far it is.

    Args:
        output: shows it.
        watch: the watch, if there is one.
        runs: the experiment's runs.
        uploads: their uploads.

    Yields:
        What is called now and then.
    """
    if watch is not None:
        yield _lines(runs, uploads)
        return
    with output.progress("sending runs", len(runs)) as advance:
        shown = 0

        def show() -> None:
            nonlocal shown
            done = sum(upload.is_done for upload in uploads.values())
            advance(done - shown)
            shown = done

        yield show


def _lines(runs: Mapping[str, LocalRun], uploads: Mapping[str, RunUpload]) -> Callable[[], None]:
    due, last = 0.0, ""

    def show() -> None:
        nonlocal due, last
        if time.monotonic() < due:
            return
        due = time.monotonic() + timeouts.SYNC_LINES_S
        rows = sum(upload.rows for upload in uploads.values())
        open_runs = sum(not upload.is_done for upload in uploads.values())
        line = f"watching: {len(runs):,} runs ({open_runs:,} open), {rows:,} rows"
        if line != last:
            last = line
            click.echo(f"wbtune: {line}", err=True)

    return show
