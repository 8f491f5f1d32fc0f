"""Find the logs of runs on disk, how each ended, and which runs have yet to be uploaded."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path, PurePath
from typing import Final, TypeVar

from wbtune._data import timeouts
from wbtune._run import log_records
from wbtune._upstream import wandb_records

#: wbtune's marker file in the folder of a run that was not, or not completely, uploaded.
_NOT_UPLOADED: Final = "wbtune-not-uploaded"
AnyPath = TypeVar("AnyPath", bound=PurePath)


def logs(directory: Path | str, run_id: str | None = None) -> list[Path]:
    """Return the logs of all runs below ``<directory>/wandb``, or of one; the oldest first."""
    wandb = Path(directory, "wandb")
    try:
        folders = [entry.name for entry in os.scandir(wandb) if "run-" in entry.name]
    except OSError:
        return []
    if run_id is None:
        found = [path for name in folders for path in (wandb / name).glob("run-*.wandb")]
    else:
        found = [wandb / name / f"run-{run_id}.wandb" for name in folders if run_id in name]
        found = [path for path in found if path.exists()]
    return sorted(found, key=begun)


def begun(path: Path) -> str:
    """Return when a log was begun, by its folder's name: (offline-)run-<time>-<id>."""
    return path.parent.name.partition("run-")[2]


def run_ids(directory: Path | str) -> set[str]:
    """Return the ids of the runs that have a log below ``<directory>/wandb``."""
    return {path.stem.removeprefix("run-") for path in logs(directory)}


def ends(directory: Path | str) -> dict[str, int | None]:
    """Return how each run below ``<directory>/wandb`` ended, read from its log's last blocks.

    Returns:
        The exit code of each run's newest segment, by run id; None if it has no exit record.
    """
    if not wandb_records.RECORDS.is_here:
        return {}
    newest = {path.stem.removeprefix("run-"): path for path in logs(directory)}
    return {run_id: exit_code(path) for run_id, path in newest.items()}


def exit_code(path: Path) -> int | None:
    """Return the exit code in a log's last blocks; None if there is no exit record."""
    code = None
    for record in log_records.records(path, last_blocks=2):
        if record.WhichOneof("record_type") == "exit":
            code = record.exit.exit_code
    return code


def wait_for_end(path: Path, seconds: float = timeouts.EXIT_RECORD_S) -> bool:
    """Wait for a log's exit record: ``finish`` may return a few milliseconds before it.

    Returns:
        Whether it is there, within these seconds, or nobody can read it.
    """
    if not wandb_records.RECORDS.is_here:
        return True
    deadline = time.monotonic() + seconds
    while exit_code(path) is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def attempts(directory: Path | str, run_id: str) -> int:
    """Count how often a run was opened and did not end well: killed, crashed or failed."""
    if not wandb_records.RECORDS.is_here:
        return 0
    return sum(exit_code(path) != 0 for path in logs(directory, run_id))


def note_not_uploaded(folder: Path) -> None:
    """Mark a run's folder: not all of it is at the server."""
    with contextlib.suppress(OSError):  # a full disk: the run's guard warns of that
        (folder / _NOT_UPLOADED).touch()


def is_left(folder: Path) -> bool:
    """Return whether a run's folder was marked by `note_not_uploaded`."""
    return (folder / _NOT_UPLOADED).exists()


def not_uploaded(directory: Path | str) -> list[Path]:
    """Return the folders of the runs below ``<directory>/wandb`` that have yet to be uploaded."""
    marked = (path.parent for path in Path(directory, "wandb").glob(f"*run-*/{_NOT_UPLOADED}"))
    return sorted(folder for folder in marked if not _is_folder_synced(folder))


def _is_folder_synced(folder: Path) -> bool:
    found = list(folder.glob("run-*.wandb"))
    return bool(found) and all(map(is_synced, found))


def synced_marker(log: AnyPath) -> AnyPath:
    """Return wandb's own marker beside a log: what is newer than its log was uploaded."""
    return log.with_suffix(".wandb.synced")


def unended_marker(log: AnyPath) -> AnyPath:
    """Return `wbtune sync`'s marker beside a log without an end, with the size that was uploaded.

    wandb's own would keep `wandb sync` from uploading what may follow.
    """
    return log.with_suffix(".unended.synced")


def is_synced(log: Path) -> bool:
    """Return whether all that a log has now was uploaded afterwards, by either marker."""
    try:
        now, unended = log.stat(), unended_marker(log)
        if unended.exists() and unended.read_text() == str(now.st_size):
            return True
        return synced_marker(log).stat().st_mtime >= now.st_mtime
    except OSError:
        return False
