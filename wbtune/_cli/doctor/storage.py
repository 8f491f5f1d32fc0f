"""Disk space and rights where experiments are, and runs that wait there."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from wbtune._cli.doctor.findings import Context, Finding, note, ok, problem
from wbtune._place.storage import OFFLINE
from wbtune._run import links, run_files
from wbtune._tune_files.folder import Entry, Folder, folder_of
from wbtune.errors import ConfigurationError

_GB: Final = 1 << 30
#: Below the first, something soon fails; below the second, it may.
_LEAST: Final = _GB // 10
_LITTLE: Final = 2 * _GB
_FEW_INODES: Final = 10_000
#: How deep runs are looked for: <storage_path>/<experiment>/wandb.
_DEPTH: Final = 3


def temporary(_: Context) -> Iterator[Finding]:
    """Where Ray, wandb and wbtune put what is on its way."""
    yield from _disk("the folder for temporary files", Path(tempfile.gettempdir()))


def folder(context: Context) -> Iterator[Finding]:
    """The folder that was named: is it there, can it be written to, is there space?"""
    if context.directory is None:
        return
    try:
        found = folder_of(context.directory)
    except ConfigurationError as error:
        yield problem(str(error), "give an experiment's folder, or the storage_path above it")
        return
    if found.is_local:
        yield from _disk("the folder", found.local)
        return
    try:
        number = len(found.entries())
    except OSError as error:
        yield problem(f"{found.shown} can't be read: {error}", "check its address and your rights")
    else:
        yield ok(f"{found.shown} can be read ({number:,} entries)")


def _disk(what: str, path: Path) -> Iterator[Finding]:
    """Whether a local folder can be written to, and how much is free."""
    try:
        disk = os.statvfs(path)
    except OSError as error:
        yield problem(f"{what}, {path}, can't be looked at: {error.strerror}", "check the path")
        return
    free = disk.f_bavail * disk.f_frsize
    shown = f"{what}, {path}: {free / _GB:,.1f} GB free"
    if disk.f_flag & os.ST_RDONLY or not os.access(path, os.W_OK | os.X_OK):
        yield problem(f"{what}, {path}, can't be written to", "check its owner, rights and mount")
    elif free < _LEAST:
        yield problem(shown, "make space: without any, logs are cut off and runs are lost")
    elif disk.f_files and disk.f_favail < _FEW_INODES:
        yield problem(f"{shown}, but only {disk.f_favail:,} more files", "delete files there")
    elif free < _LITTLE:
        yield note(shown, "make space before a long experiment")
    else:
        yield ok(shown)


def unsent(context: Context) -> Iterator[Finding]:
    """Runs below the folder that have not, or not completely, been sent."""
    if context.directory is None:
        return
    try:
        found = folder_of(context.directory)
    except ConfigurationError:
        return  # `folder` says it
    if not found.is_local:
        if number := _in_storage(found):
            yield note(_waiting(number, found.shown), f"wbtune sync {shlex.quote(found.shown)}")
        return
    is_all_sent = True
    for experiment in _experiments(found.local):
        late, offline = len(run_files.not_uploaded(experiment)), len(_offline(experiment))
        cure = links.command("sync", experiment)
        if late:
            were = "was" if late == 1 else "were"
            yield problem(f"{_runs(late)} of {experiment} {were} not uploaded in time", cure)
        if offline:
            yield note(_waiting(offline, str(experiment)), cure)
        is_all_sent = is_all_sent and not late and not offline
    if is_all_sent:
        yield ok(f"no run below {found.shown} waits to be sent")


def _waiting(number: int, where: str) -> str:
    return f"{_runs(number)} of {where} {'is' if number == 1 else 'are'} offline, and not sent"


def _runs(number: int) -> str:
    return f"{number:,} {'run' if number == 1 else 'runs'}"


def _experiments(top: Path) -> Iterator[Path]:
    """The folders at and below this one that have a folder of runs."""
    for path, names, _ in os.walk(top):
        here = Path(path)
        if "wandb" in names:
            yield here
        is_deep = len(here.relative_to(top).parts) >= _DEPTH - 1
        names[:] = [] if is_deep else [name for name in names if name != "wandb"]


def _offline(experiment: Path) -> set[str]:
    """The offline runs of an experiment of which no log, or not each, has been sent."""
    return {
        path.stem.removeprefix("run-")
        for path in run_files.logs(experiment)
        if path.parent.name.startswith(OFFLINE) and not run_files.is_synced(path)
    }


def _in_storage(found: Folder) -> int:
    """How many offline runs of an experiment in a storage have not been sent, by the markers."""
    ids = set()
    for folder in (found / "wandb").entries():
        if folder.name.startswith(OFFLINE):
            here = found / "wandb" / folder.name
            entries = {one.name: one for one in here.entries()}
            logs = [one for name, one in entries.items() if name.endswith(".wandb")]
            ids |= {log.name for log in logs if not _is_synced_there(here, entries, log)}
    return len(ids)


def _is_synced_there(folder: Folder, entries: Mapping[str, Entry], log: Entry) -> bool:
    """`run_files.is_synced`, in a storage."""
    path = PurePosixPath(log.name)
    unended = run_files.unended_marker(path).name
    if unended in entries and folder.read(unended) == str(log.size).encode():
        return True
    marker = entries.get(run_files.synced_marker(path).name)
    return marker is not None and marker.changed >= log.changed
