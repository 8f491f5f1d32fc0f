"""Send imported runs to the server, as `wbtune sync` does."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from wbtune._cli.importing.target import Target
from wbtune._cli.importing.trial import Imported
from wbtune._cli.output import Output
from wbtune._cli.syncing import experiment
from wbtune._data.outcomes import OUTCOME_TAGS
from wbtune._place import sweeps
from wbtune._place.server import RefusedError
from wbtune._place.storage import OFFLINE
from wbtune._run import links, run_files
from wbtune.errors import ConfigurationError, WbtuneError


def unsent(directory: Path, run_ids: Iterable[str]) -> list[Path]:
    """The folders of these runs' segments that are not at the server."""
    marked = set(run_files.not_uploaded(directory))
    logs = [path for run_id in run_ids for path in run_files.logs(directory, run_id)]
    kept = [log for log in logs if log.parent.name.startswith(OFFLINE) or log.parent in marked]
    return list(dict.fromkeys(log.parent for log in kept if not run_files.is_synced(log)))


def send(target: Target, run_ids: Iterable[str], output: Output) -> list[Path]:
    """Send what is not at the server.

    Returns:
        The folders that could not be sent.
    """
    run_ids = set(run_ids)
    folders = unsent(target.directory, run_ids)
    if not folders:
        return []
    if target.login.secret is None:
        # Cure: Set WANDB_API_KEY, and run `wbtune sync DIR`.
        output.warn("an identity token can't send the runs from here, an API key can")
        return folders
    try:
        done = experiment.send(output, target.directory, run_ids, target.login)
    except ConfigurationError as error:  # a `wbtune sync` has begun meanwhile
        output.warn(str(error))
        return unsent(target.directory, run_ids)
    for run_id, upload in done.items():
        for problem in upload.problems:
            # Message: none by itself.
            output.warn(f"run {run_id}: {problem}")
    return unsent(target.directory, run_ids)


def correct_tags(
    target: Target, place: links.Place | None, done: Iterable[Imported], output: Output
) -> None:
    """Remove the tags of earlier outcomes, which W&B's sync leaves to runs without other tags."""
    if target.server is None or place is None:
        return
    for one in done:
        if one.was_tagged and not one.outcome.tags:
            run = (place.entity, place.project, one.run_id)
            try:
                sweeps.tag(target.server, run, (), OUTCOME_TAGS)
            except (WbtuneError, RefusedError) as error:
                # Cure: Import again, or remove the tag at W&B.
                output.warn(f"run {one.run_id} keeps the tag of an earlier outcome: {error}")
