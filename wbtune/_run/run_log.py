"""Read a run back from its logs, with its segments merged as ``wandb sync`` merges them.

A run that was interrupted and continued has several logs, which are uploaded one after the other
in the order in which they were begun. `read` reads one, `read_runs` all of a folder. A log is read
up to where it is damaged, or has an impossible record; that does not affect other logs.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from wbtune._data.sweep import JOB_TYPE
from wbtune._run import log_records, log_rows, log_summary, run_files


class LoggedArtifact(NamedTuple):
    """One version of an artifact that is waiting to be uploaded.

    Attributes:
        name: its name.
        type: its type.
        aliases: the aliases of this version.
        metadata: the metadata of this version.
        files: where each of its files is now, by the path inside the artifact.
    """

    name: str
    type: str
    aliases: tuple[str, ...]
    metadata: dict[str, Any]
    files: dict[str, str]


@dataclass
class RunLog:
    """One run, as it is in its logs.

    Attributes:
        id: the run's id, which for a trial's run is the trial's.
        name: its display name.
        project: its project.
        entity: the project's entity, if it was given.
        group: its group.
        job_type: its job type.
        sweep: the id of the sweep that it belongs to; empty for none.
        notes: its notes.
        tags: its tags.
        changed: which of name and notes were changed after it was opened.
        summarized: the metrics, or patterns of them, whose summary is not the last value.
        config: its config, as last updated.
        artifacts: the artifacts that were logged, in order.
        exit_code: the exit code that it was finished with; None if there is no exit record.
        paths: the logs that it was read from, the oldest first.
        started: when the first of them was begun, in seconds since the epoch.
    """

    id: str = ""
    name: str = ""
    project: str = ""
    entity: str = ""
    group: str = ""
    job_type: str = ""
    sweep: str = ""
    notes: str = ""
    tags: list[str] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    summarized: set[str] = field(default_factory=set)
    config: dict[str, Any] = field(default_factory=dict)
    artifacts: list[LoggedArtifact] = field(default_factory=list)
    exit_code: int | None = None
    paths: list[Path] = field(default_factory=list)
    started: float = 0.0

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The logged rows in order, with W&B's ``_step``; read when first used."""
        return list(log_rows.rows(self.paths))

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The summary as wandb-core computed it; read when first used."""
        return log_summary.summary(self.paths, self.summarized)

    @property
    def next_step(self) -> int:
        """The first free step."""
        return 1 + max((row["_step"] for row in self.rows), default=-1)


def read(path: Path) -> RunLog:
    """Read one ``.wandb`` file.

    Args:
        path: the file.

    Returns:
        The run in it, up to where it is damaged.

    Raises:
        ValueError: if the file is not one of W&B's logs.
        OSError: if it can't be read.
    """
    log = RunLog(paths=[path])
    for record in log_records.records(path, strict=True):
        try:
            _add_record(log, record)
        except log_records.DAMAGE:
            break
    return log


def head(path: Path) -> RunLog | None:
    """Read what a run was opened with; None if that is not in its log yet, or nobody can read it.

    Args:
        path: the file.
    """
    log = RunLog(paths=[path])
    for record in log_records.records(path):
        if record.WhichOneof("record_type") == "run":
            try:
                _add_run(log, record.run)
            except log_records.DAMAGE:
                return None
            return log
    return None


def _add_record(log: RunLog, record: Any) -> None:
    match record.WhichOneof("record_type"):
        case "run":
            _add_run(log, record.run)
        case "config":
            _add_config(log, record.config)
        case "artifact":
            log.artifacts.append(_artifact(record.artifact))
        case "metric" if record.metric.HasField("summary"):
            log.summarized.add(record.metric.name or record.metric.glob_name)
        case "exit":
            log.exit_code = record.exit.exit_code
        case _:
            pass


def _add_run(log: RunLog, run: Any) -> None:
    if log.id:  # opened before, and changed now
        log.changed |= {"name"} if log.name != run.display_name else set()
        log.changed |= {"notes"} if log.notes != run.notes else set()
    log.id, log.project, log.tags = run.run_id, run.project, list(run.tags)
    log.entity, log.job_type, log.sweep = run.entity, run.job_type, run.sweep_id
    log.name, log.group, log.notes = run.display_name, run.run_group, run.notes
    log.started = log.started or run.start_time.ToMicroseconds() / 1e6
    _add_config(log, run.config)


def _add_config(log: RunLog, config: Any) -> None:
    for item in config.update:
        if _key(item) != "_wandb":
            log.config[_key(item)] = log_records.json_value(item)
    for item in config.remove:
        log.config.pop(_key(item), None)


def _artifact(record: Any) -> LoggedArtifact:
    return LoggedArtifact(
        name=record.name,
        type=record.type,
        aliases=tuple(record.aliases),
        metadata=json.loads(record.metadata or "{}"),
        files={entry.path: entry.local_path for entry in record.manifest.contents},
    )


def _key(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


def read_runs(directory: Path | str, run_id: str | None = None) -> dict[str, RunLog]:
    """Read all runs below ``<directory>/wandb``, or one of them, by id, with merged segments.

    They are merged as by ``wandb sync``: in the order in which they were begun, and with each
    row's step the greater of its own and the next free one.
    """
    by_id: dict[str, list[RunLog]] = {}
    for part in _read_all(run_files.logs(directory, run_id)):
        by_id.setdefault(part.id, []).append(part)
    return {run_id: merge(parts) for run_id, parts in by_id.items()}


def merged(paths: Iterable[Path]) -> RunLog:
    """Read the segments of one run, the oldest first, and merge them."""
    return merge(_read_all(paths))


def is_whole(run: RunLog) -> bool:
    """Is it the run for a whole experiment, which says what was searched?"""
    return run.job_type == JOB_TYPE and isinstance(run.config.get("space"), dict)


def _read_all(paths: Iterable[Path]) -> Iterator[RunLog]:
    for path in paths:
        with contextlib.suppress(OSError, ValueError):  # only that log is lost
            log = read(path)
            if log.id:
                yield log


def merge(parts: Iterable[RunLog]) -> RunLog:
    """Merge the segments of one run, the oldest first."""
    run = RunLog()
    for part in parts:
        run.id, run.started = part.id, run.started or part.started
        run.name, run.project = part.name or run.name, part.project or run.project
        run.entity, run.sweep = part.entity or run.entity, part.sweep or run.sweep
        run.job_type = part.job_type or run.job_type
        run.group, run.notes = part.group or run.group, part.notes or run.notes
        run.tags = part.tags
        run.changed |= part.changed
        run.summarized |= part.summarized
        run.config.update(part.config)
        run.artifacts += part.artifacts
        run.exit_code = part.exit_code
        run.paths += part.paths
    return run
