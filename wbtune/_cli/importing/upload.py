"""Send imported runs to the server, as `wandb sync` does."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable
from pathlib import Path

from wbtune._cli.importing.target import Target
from wbtune._cli.importing.trial import Imported
from wbtune._cli.output import Output
from wbtune._data.outcomes import OUTCOME_TAGS
from wbtune._place import sweeps
from wbtune._place.server import RefusedError
from wbtune._place.storage import OFFLINE
from wbtune._run import links, run_files
from wbtune._upstream import wandb_auth
from wbtune.errors import WbtuneError


def unsent(directory: Path, run_ids: Iterable[str]) -> list[Path]:
    """The folders of these runs' segments that are not at the server."""
    marked = set(run_files.not_uploaded(directory))
    folders = [path.parent for run_id in run_ids for path in run_files.logs(directory, run_id)]
    return [
        folder
        for folder in dict.fromkeys(folders)
        if (folder.name.startswith(OFFLINE) or folder in marked)
        and not any(folder.glob("*.wandb.synced"))
    ]


def send(target: Target, run_ids: Iterable[str], output: Output) -> list[Path]:
    """Send what is not at the server.

    Returns:
        The folders that could not be sent.
    """
    run_ids = list(run_ids)
    folders = unsent(target.directory, run_ids)
    base_url, secret = target.login.settings.get("base_url"), target.login.secret
    if not folders:
        return []
    if base_url is None or secret is None:
        output.warn("an identity token can't send the runs from here, an API key can")
        return folders
    try:
        # What wandb prints is no result of this command.
        with contextlib.redirect_stdout(sys.stderr):
            wandb_auth.sync(folders, base_url, secret.reveal())
    except Exception as error:  # noqa: BLE001 - whatever W&B's command raises; the runs are on disk
        output.warn(f"not all was sent: {type(error).__name__}: {error}")
    return unsent(target.directory, run_ids)


def correct_tags(
    target: Target, place: links.Place | None, done: Iterable[Imported], output: Output
) -> None:
    """Remove the tags of earlier outcomes, which `wandb sync` leaves to runs without other tags."""
    if target.server is None or place is None:
        return
    for one in done:
        if one.was_tagged and not one.outcome.tags:
            run = (place.entity, place.project, one.run_id)
            try:
                sweeps.tag(target.server, run, (), OUTCOME_TAGS)
            except (WbtuneError, RefusedError) as error:
                output.warn(f"run {one.run_id} keeps the tag of an earlier outcome: {error}")
