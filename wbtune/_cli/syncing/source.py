"""Where `wbtune sync` finds runs: an experiment's folder here, or a copy of one in a storage."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wbtune._cli.syncing.memory import MemoryFile, only_one
from wbtune._cli.syncing.mirror import Mirror
from wbtune._cli.syncing.runs import Runs
from wbtune._tune_files.folder import Entry, Folder, folder_of
from wbtune._tune_files.trial_files import RESULTS
from wbtune.errors import ConfigurationError

WANDB: Final = "wandb"
#: The end of an error that can name no better folder.
_NEVER_LOGGED: Final = (
    "Its results never saw W&B: wbtune import DIR --project NAME makes runs of them."
)
_NAMES_NOTHING: Final = "Give <storage_path>/<name>, as RunConfig had them."
#: How many folders of an error are named, and how many are looked into.
_NAMED, _LOOKED_INTO = 8, 100


@dataclass(frozen=True)
class Source:
    """An experiment's runs.

    Attributes:
        folder: the experiment's folder.
        directory: the same on this machine, or its copy.
        mirror: makes that copy; None without one.
        runs: the runs in it.
        scratch: a folder for what is needed meanwhile.
    """

    folder: Folder
    directory: Path
    mirror: Mirror | None
    runs: Runs
    scratch: Path

    @property
    def memory(self) -> MemoryFile:
        """What is known of the experiment at W&B."""
        publish = (lambda _: None) if self.mirror is None else self.mirror.publish
        return MemoryFile(self.directory / WANDB, publish)

    def fetch(self) -> None:
        """Fetch what is new in a remote storage.

        Raises:
            OSError: if it does not answer.
        """
        if self.mirror is not None:
            self.mirror.fetch()


@contextlib.contextmanager
def opened(text: str, *, alone: bool, waits: bool = False) -> Iterator[Source]:
    """Open an experiment's folder.

    Args:
        text: what the user named: the folder, or the ``wandb`` in it.
        alone: exclude any other `wbtune sync` of it, if it is local: a storage has no locks.
        waits: it may be a folder that has no runs yet.

    Raises:
        ConfigurationError: if it has no runs, or another `wbtune sync` is there.
        OSError: if it can't be read.
    """
    folder = _experiment(folder_of(text), waits=waits)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wbtune-sync-")))
        directory, mirror = scratch / "copy", None
        if folder.is_local:
            directory = folder.local
            if alone:
                (directory / WANDB).mkdir(exist_ok=True)
                stack.enter_context(only_one(directory / WANDB, folder.shown))
        else:
            (directory / WANDB).mkdir(parents=True)
            mirror = Mirror(folder, directory)
            mirror.fetch()
        yield Source(folder, directory, mirror, Runs(directory), scratch)


def _experiment(folder: Folder, *, waits: bool) -> Folder:
    """The experiment's folder that somebody means."""
    entries = _entries(folder)
    if any(entry.name == WANDB and entry.is_folder for entry in entries):
        return folder
    if _has_runs(entries):
        if folder.name == WANDB:
            return folder.parent
        raise ConfigurationError(
            f"{folder.shown} has runs, but not in a folder {WANDB}/. Send them by: "
            f"wandb sync {folder.shown}"
        )
    problem = _no_runs(folder, entries)
    if waits and problem.endswith((_NAMES_NOTHING, _NEVER_LOGGED)):
        return folder
    raise ConfigurationError(problem)


def _entries(folder: Folder) -> list[Entry]:
    try:
        return folder.entries()
    except OSError as error:
        # Cure: Check your rights, and that the storage can be reached.
        raise ConfigurationError(f"{folder.shown} can't be read: {error}") from None


def _has_runs(entries: list[Entry]) -> bool:
    return any(entry.is_folder and "run-" in entry.name for entry in entries)


def _no_runs(folder: Folder, entries: list[Entry]) -> str:
    """Why there are none, and which folders within have some."""
    text = f"{folder.shown} has no runs of W&B: no {WANDB}/offline-run-*."
    if any(entry.name.endswith(".wandb") for entry in entries):
        return f"{text} It is a run's folder; give the experiment's, two above it."
    if any(entry.name == RESULTS for entry in entries):
        return f"{text} It is a trial's folder; give the one above it."
    if any(entry.name.startswith("experiment_state-") for entry in entries):
        return f"{text} {_NEVER_LOGGED}"
    within = [entry.name for entry in entries if entry.is_folder][:_LOOKED_INTO]
    found = [name for name in within if any(one.name == WANDB for one in _entries(folder / name))]
    if found:
        listed = ", ".join(json.dumps(name) for name in found[:_NAMED])
        more = f", and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        return f"{text} These folders in it have: {listed}{more}. Give one of them."
    return f"{text} {_NAMES_NOTHING}"
