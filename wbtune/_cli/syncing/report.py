"""Say what `wbtune sync` has sent, and what has not arrived; or what it would send."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from wbtune._cli.output import DONE, LEFT, Output
from wbtune._cli.syncing.memory import MemoryFile
from wbtune._cli.syncing.runs import LocalRun, extent
from wbtune._cli.syncing.sweep import is_wanted, whole_of
from wbtune._cli.syncing.upload import RunUpload, Target
from wbtune._cli.syncing.watch import Watch
from wbtune._overview.text import count
from wbtune._run import links
from wbtune._tune_files.folder import Folder

#: How many runs of which something is left are named.
_NAMED: Final = 8


def print_plan(
    output: Output, folder: Folder, runs: Mapping[str, LocalRun], memory: MemoryFile
) -> int:
    """Say what would be sent, by wandb's markers: no server is asked.

    Returns:
        The exit code.
    """
    left = {run_id: run for run_id, run in runs.items() if not run.is_marked}
    rows = {run_id: extent(run).total for run_id, run in runs.items()}
    of_left = sum(rows[run_id] for run_id in left)
    projects = sorted({run.head.project for run in left.values()})
    whole, sweep = whole_of(runs), memory.read().known_sweep
    would_make = is_wanted(whole) and sweep is None
    if left:
        to = f" to project {', '.join(projects)}" if projects else ""
        output.line(f"Would send {count(len(left), 'run')} with {of_left:,} rows{to}.")
    else:
        output.line(f"Nothing to send in {folder.shown}.")
    if len(left) < len(runs):
        done = len(runs) - len(left)
        output.line(f"Sent before, by wandb's markers: {count(done, 'run')}.")
    if whole is not None and would_make:
        output.line(f"Would make the sweep {whole.head.name!r}, and attach its runs.")
    output.end(
        {
            "folder": folder.shown,
            "runs": len(runs),
            "rows": sum(rows.values()),
            "runs_to_send": len(left),
            "rows_to_send": of_left,
            "projects": projects,
            "makes_sweep": would_make,
            "sweep": sweep and sweep.id,
        }
    )
    return DONE


def print_report(
    output: Output,
    folder: Folder,
    target: Target,
    done: Mapping[str, RunUpload],
    watch: Watch | None,
) -> int:
    """Say what has arrived.

    Returns:
        The exit code.
    """
    left = [upload for upload in done.values() if not upload.is_complete]
    for upload in left[:_NAMED]:
        output.warn(_trouble(upload))
    if len(left) > _NAMED:
        # Cure: Run this again; --json names them all.
        output.warn(f"and {len(left) - _NAMED:,} more runs are not complete")
    rows = sum(upload.rows for upload in done.values())
    arrived = sum(upload.arrived for upload in done.values())
    sent = sum(upload.sent for upload in done.values())
    if not done:
        output.line(f"{folder.shown} has no runs that were only kept on disk.")
    else:
        what = "all arrived" if not left else f"{arrived:,} arrived"
        now = "" if sent == rows else f" ({sent:,} of them now)" if sent else " (none was missing)"
        output.line(f"{count(len(done), 'run')}, {count(rows, 'row')}: {what}{now}")
    place = _place(target, done)
    if place is not None:
        output.line(f"Project {place.project_url} group {place.group_url}")
    sweep = target.sweep.sweep
    if place is not None and sweep is not None:
        of_sweep = place._replace(entity=sweep.entity, project=sweep.project)
        output.line(f"Sweep {of_sweep.sweep_url(sweep.id)}")
    is_dead = watch is not None and not watch.has_ended
    if is_dead:
        output.warn(
            "nothing has changed for too long, so the experiment was probably killed; what there "
            "is was sent. If it goes on, run this again"
        )
    output.end(
        {
            "folder": folder.shown,
            "rows": rows,
            "arrived": arrived,
            "sent": sent,
            "url": place and place.group_url,
            "sweep": sweep and sweep.id,
            "runs": [_content(upload) for upload in done.values()],
        }
    )
    return LEFT if left or is_dead or target.sweep.is_missing else DONE


def _trouble(upload: RunUpload) -> str:
    lacks = upload.rows - upload.arrived
    text = f"run {upload.run.id}: "
    text += f"the server lacks {lacks:,} of {count(upload.rows, 'row')}" if lacks else ""
    why = upload.problems[0] if upload.problems else "run this again"
    return f"{text}{'; ' if lacks else ''}{why}"


def _content(upload: RunUpload) -> dict[str, Any]:
    return {
        "id": upload.run.id,
        "rows": upload.rows,
        "arrived": upload.arrived,
        "sent": upload.sent,
        "problems": upload.problems,
    }


def _place(target: Target, done: Mapping[str, RunUpload]) -> links.Place | None:
    """Where the runs are; None if they have no place in common."""
    heads = [upload.run.head for upload in done.values()]
    names = {(head.entity or target.entity, head.project, head.group) for head in heads}
    if len(names) != 1:
        return None
    entity, project, group = names.pop()
    if not entity:
        return None
    return links.place(target.settings["base_url"], entity, project, group)
