"""Read back what is on disk: the transaction log that wandb-core writes for each run.

A run that was interrupted and continued has several logs, which ``wandb sync`` merges in
the order in which they were begun. `read` reads one, `of_experiment` all of a folder,
merged in the same way. A log whose writer was killed ends in the middle of a record; what
comes before it counts.

The format, read in wandb 0.31: a header of 7 bytes (``:W&B``, the magic 0xBEE1, version 0),
then LevelDB's: blocks of 32 KiB, in them chunks with a header of checksum (u32), length
(u16) and type (u8: 1 whole, 2 first, 3 middle, 4 last part of a record).
"""

# Over 250 lines: the format and what its records say are read together.

from __future__ import annotations

import contextlib
import glob
import io
import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from wbtune import _compat

_HEADER: Final = struct.Struct("<4sHB")
_CHUNK: Final = struct.Struct("<IHB")
_BLOCK: Final = 32 * 1024
#: A file of ours in the folder of a run that was not uploaded, or not in full.
_NOT_UPLOADED: Final = "wbtune-not-uploaded"
#: Seconds after ``finish`` within which a log that is whole has its exit record.
CLOSED_S: Final = 2.0
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


class LoggedArtifact(NamedTuple):
    """One version of an artifact, as it waits for being uploaded.

    Attributes:
        name: its name.
        type: its type.
        aliases: of this version.
        metadata: of this version.
        files: where each of its files lies now, by the path inside the artifact.
    """

    name: str
    type: str
    aliases: tuple[str, ...]
    metadata: dict[str, Any]
    files: dict[str, str]


@dataclass(slots=True)
class RunLog:
    """One run, as its files tell it.

    Attributes:
        id: the run's id; a trial's, for a trial's run.
        name: its display name.
        project: its project.
        group: its group.
        tags: its tags.
        config: its config, as last updated.
        rows: the logged rows in order, with W&B's ``_step``.
        summary: what the summary was set to explicitly.
        artifacts: the artifacts that were logged, in order.
        exit_code: what the run was finished with; None without an exit record.
        paths: the logs that it was read from, the oldest first.
        started: seconds since the epoch, of the first of them.
    """

    id: str = ""
    name: str = ""
    project: str = ""
    group: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: list[LoggedArtifact] = field(default_factory=list)
    exit_code: int | None = None
    paths: list[Path] = field(default_factory=list)
    started: float = 0.0

    @property
    def next_step(self) -> int:
        """The first step that is free."""
        return 1 + max((row["_step"] for row in self.rows), default=-1)


def read(path: Path) -> RunLog:
    """Read one ``.wandb`` file.

    Args:
        path: the file.

    Returns:
        What it holds, up to the first record that is not whole.

    Raises:
        ValueError: when the file is not a log of W&B's.
        OSError: when it can't be read.
    """
    log = RunLog(paths=[path])
    for record in _parsed(_records(path)):
        match record.WhichOneof("record_type"):
            case "run":
                _take_run(log, record.run)
            case "config":
                _take_config(log, record.config)
            case "history":
                row = _nested(record.history.item)
                row["_step"] = record.history.step.num
                log.rows.append(row)
            case "summary":
                log.summary.update({_key(i): _value(i) for i in record.summary.update})
            case "artifact":
                log.artifacts.append(_artifact(record.artifact))
            case "exit":
                log.exit_code = record.exit.exit_code
            case _:
                pass
    return log


def of_experiment(directory: Path | str, run_id: str | None = None) -> dict[str, RunLog]:
    """All runs below ``<directory>/wandb``, or one of them, by id, the parts of each merged.

    As ``wandb sync`` merges them: in the order in which they were begun, each row's step
    the greater of its own and the next that is free.
    """
    name = "*" if run_id is None else f"run-{glob.escape(run_id)}"
    parts = [read(path) for path in Path(directory, "wandb").glob(f"*run-*/{name}.wandb")]
    merged: dict[str, RunLog] = {}
    for part in sorted((part for part in parts if part.id), key=lambda part: part.started):
        run = merged.setdefault(part.id, RunLog(part.id, started=part.started))
        free = run.next_step
        for row in part.rows:
            step = max(row["_step"], free)
            run.rows.append({**row, "_step": step})
            free = step + 1
        run.name, run.project = part.name or run.name, part.project or run.project
        run.group, run.tags = part.group or run.group, part.tags
        run.config.update(part.config)
        run.summary.update(part.summary)
        run.artifacts += part.artifacts
        run.exit_code = part.exit_code
        run.paths += part.paths
    return merged


def rows(directory: Path | str, run_id: str) -> Iterator[dict[str, Any]]:
    """The rows of a run below ``<directory>/wandb``, all parts, as far as they are whole.

    And of those whose id begins with its id: the server may have the id for another run.
    """
    for path in Path(directory, "wandb").glob(f"*run-*/run-{glob.escape(run_id)}*.wandb"):
        with contextlib.suppress(OSError, ValueError):
            yield from read(path).rows


def ends(directory: Path | str) -> dict[str, int | None]:
    """How each run below ``<directory>/wandb`` ended, read from the last blocks alone.

    Returns:
        By run id, the exit code of its newest part; None where that has no exit record.
    """
    newest: dict[str, Path] = {}
    for path in sorted(Path(directory, "wandb").glob("*run-*/run-*.wandb"), key=_begun):
        newest[path.stem.removeprefix("run-")] = path
    return {run_id: exit_code(path) for run_id, path in newest.items()}


def mark_not_uploaded(folder: Path) -> None:
    """Note in a run's folder that not all of it is at the server."""
    with contextlib.suppress(OSError):  # a full disk: that is said elsewhere
        (folder / _NOT_UPLOADED).touch()


def not_uploaded(directory: Path | str) -> list[Path]:
    """The folders of the runs below ``<directory>/wandb`` that are yet to be uploaded."""
    marked = (path.parent for path in Path(directory, "wandb").glob(f"*run-*/{_NOT_UPLOADED}"))
    return sorted(folder for folder in marked if not any(folder.glob("*.wandb.synced")))


def attempts(directory: Path | str, run_id: str) -> int:
    """How often a run was begun and did not end well: killed, crashed or failed."""
    return sum(exit_code(path) != 0 for path in parts(directory, run_id))


def parts(directory: Path | str, run_id: str) -> list[Path]:
    """The logs of a run, the oldest first."""
    found = Path(directory, "wandb").glob(f"*run-*/run-{glob.escape(run_id)}.wandb")
    return sorted(found, key=_begun)


def _begun(path: Path) -> str:
    """When a log was begun, by its folder's name: (offline-)run-<time>-<id>."""
    return path.parent.name.partition("run-")[2]


def wait_for_end(path: Path) -> bool:
    """Wait for a log's exit record: ``finish`` may return a few milliseconds before it.

    Returns:
        Whether it is there, within `CLOSED_S`.
    """
    deadline = time.monotonic() + CLOSED_S
    while time.monotonic() < deadline:
        if exit_code(path) is not None:
            return True
        time.sleep(0.01)
    return False


def exit_code(path: Path) -> int | None:
    """What a log's last blocks say of its end; None without an exit record."""
    code = None
    for record in _parsed(_records(path, last_blocks=2)):
        if record.WhichOneof("record_type") == "exit":
            code = record.exit.exit_code
    return code


def _artifact(record: Any) -> LoggedArtifact:
    return LoggedArtifact(
        name=record.name,
        type=record.type,
        aliases=tuple(record.aliases),
        metadata=json.loads(record.metadata or "{}"),
        files={entry.path: entry.local_path for entry in record.manifest.contents},
    )


def _take_run(log: RunLog, run: Any) -> None:
    log.id, log.project, log.tags = run.run_id, run.project, list(run.tags)
    log.name, log.group = run.display_name, run.run_group
    log.started = log.started or run.start_time.ToMicroseconds() / 1e6
    _take_config(log, run.config)


def _take_config(log: RunLog, config: Any) -> None:
    for item in config.update:
        if _key(item) != "_wandb":
            log.config[_key(item)] = _value(item)
    for item in config.remove:
        log.config.pop(_key(item), None)


def _nested(items: Any) -> dict[str, Any]:
    """A row; wandb-core takes dicts apart (an image, a histogram), here they are whole."""
    row: dict[str, Any] = {}
    for item in items:
        *outer, last = item.nested_key or [item.key]
        inner = row
        for name in outer:
            inner = inner.setdefault(name, {})
        inner[last] = _value(item)
    return row


def _parsed(payloads: Iterator[bytes]) -> Iterator[Any]:
    new_record = _compat.record_type()
    for payload in payloads:
        try:
            record = new_record.FromString(payload)
        except _compat.not_a_record():
            return  # garbled by a kill
        yield record


def _key(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


def _value(item: Any) -> Any:
    return json.loads(item.value_json) if item.value_json else None


def _records(path: Path, last_blocks: int | None = None) -> Iterator[bytes]:
    with path.open("rb") as file:
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            return  # killed before the first write
        magic, number, version = _HEADER.unpack(header)
        if (magic, number, version) != (b":W&B", 0xBEE1, 0):
            msg = f"{path} is not a transaction log of W&B."
            raise ValueError(msg)
        begin = 0
        if last_blocks is not None:
            # A block begins with a chunk; records that began before it are passed over.
            size = file.seek(0, io.SEEK_END)
            begin = max(0, (size // _BLOCK + 1 - last_blocks) * _BLOCK)
        file.seek(begin)
        data = file.read()
    yield from _of_blocks(data, 0 if begin else _HEADER.size)


def _of_blocks(data: bytes, position: int) -> Iterator[bytes]:
    """The records of whole blocks; the header of a log is part of its first."""
    parts: list[bytes] = []
    whole = position == _HEADER.size
    while position + _CHUNK.size <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _CHUNK.size:  # the tail of a block is padding
            position += left
            continue
        _, length, kind = _CHUNK.unpack_from(data, position)
        position += _CHUNK.size
        chunk = data[position : position + length]
        if len(chunk) < length or kind not in {_WHOLE, _FIRST, _MIDDLE, _LAST}:
            return  # the writer was killed here
        position += length
        whole = whole or kind in {_WHOLE, _FIRST}
        parts = [chunk] if kind in {_WHOLE, _FIRST} else [*parts, chunk]
        if kind in {_WHOLE, _LAST} and whole:
            yield b"".join(parts)
            parts = []
