"""Read back what is on disk: the records of the transaction log that wandb-core writes.

A run that was interrupted and continued has several logs, which ``wandb sync`` merges in
the order in which they were begun. `read` reads one, `of_experiment` all of a folder,
merged in the same way. Each ends where it is damaged (see :mod:`wbtune._run.log_file`), or where
its records say what no run says; that costs no other log anything.
"""

# Over 250 lines: what the records say of one run, and where the logs of a run are.

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

from wbtune._data import timeouts
from wbtune._run import log_file
from wbtune._upstream import wandb_records

#: A file of ours in the folder of a run that was not uploaded, or not in full.
_NOT_UPLOADED: Final = "wbtune-not-uploaded"
#: What making sense of a record raises that W&B would not have written.
_DAMAGE: Final = (
    *(ValueError, TypeError, AttributeError, LookupError, OverflowError),
    RecursionError,
)
#: A record of wandb-core's that is a row or a part of the summary, as its first bytes tell:
#: its number, then that. They are most of a log, and to parse them takes most of the time.
_ROW_OR_SUMMARY: Final = re.compile(rb"\x08[\x80-\xff]*[\x00-\x7f]([\x12\x1a])", re.DOTALL).match
ROWS: Final = b"\x12"
SUMMARIES: Final = b"\x1a"
#: What is computed of a metric (``define_metric(summary="min")``), of two logs of a run.
_TOGETHER: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "min": min,
    "max": max,
    "first": lambda earlier, _: earlier,
}
#: What an item of a row or of the summary begins with, and what its value.
_ITEM: Final = 0x0A
_VALUE: Final = b"\x82\x01"
#: Bytes that are before the first place that an item of a record names.
_SHORTEST: Final = 3
#: Of so many kinds of summary records, one row's after the other, the last ones are kept.
_KINDS: Final = 8


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


@dataclass
class RunLog:
    """One run, as its files tell it.

    Attributes:
        id: the run's id; a trial's, for a trial's run.
        name: its display name.
        project: its project.
        entity: whose project, where that was given.
        group: its group.
        notes: its notes.
        tags: its tags.
        changed: which of name and notes were changed after it was opened.
        summarized: the metrics, or patterns of them, whose summary is not the last value.
        config: its config, as last updated.
        artifacts: the artifacts that were logged, in order.
        exit_code: what the run was finished with; None without an exit record.
        paths: the logs that it was read from, the oldest first.
        started: seconds since the epoch, of the first of them.
    """

    id: str = ""
    name: str = ""
    project: str = ""
    entity: str = ""
    group: str = ""
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
        """The logged rows in order, with W&B's ``_step``: read when first asked for."""
        return list(rows(self.paths))

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What the summary says, as wandb-core computed it: read when first asked for."""
        return summary(self.paths, self.summarized)

    @property
    def next_step(self) -> int:
        """The first step that is free."""
        return 1 + max((row["_step"] for row in self.rows), default=-1)


def read(path: Path) -> RunLog:
    """Read one ``.wandb`` file.

    Args:
        path: the file.

    Returns:
        What it holds, up to where it is damaged.

    Raises:
        ValueError: when the file is not a log of W&B's.
        OSError: when it can't be read.
    """
    log = RunLog(paths=[path])
    for record in records(path, strict=True):
        try:
            _take(log, record)
        except _DAMAGE:
            break
    return log


def _take(log: RunLog, record: Any) -> None:
    match record.WhichOneof("record_type"):
        case "run":
            _take_run(log, record.run)
        case "config":
            _take_config(log, record.config)
        case "artifact":
            log.artifacts.append(_artifact(record.artifact))
        case "metric" if record.metric.HasField("summary"):
            log.summarized.add(record.metric.name or record.metric.glob_name)
        case "exit":
            log.exit_code = record.exit.exit_code
        case _:
            pass


def of_experiment(directory: Path | str, run_id: str | None = None) -> dict[str, RunLog]:
    """All runs below ``<directory>/wandb``, or one of them, by id, the parts of each merged.

    As ``wandb sync`` merges them: in the order in which they were begun, each row's step
    the greater of its own and the next that is free.
    """
    by_id: dict[str, list[RunLog]] = {}
    for part in _read_all(_paths(directory, run_id)):
        by_id.setdefault(part.id, []).append(part)
    return {run_id: _merged(parts) for run_id, parts in by_id.items()}


def merged(paths: Iterable[Path]) -> RunLog:
    """The segments of one run, the oldest first, as one."""
    return _merged(_read_all(paths))


def _read_all(paths: Iterable[Path]) -> Iterator[RunLog]:
    for path in paths:
        with contextlib.suppress(OSError, ValueError):  # that log's loss, and nobody else's
            log = read(path)
            if log.id:
                yield log


def _merged(parts: Iterable[RunLog]) -> RunLog:
    run = RunLog()
    for part in parts:
        run.id, run.started = part.id, run.started or part.started
        run.name, run.project = part.name or run.name, part.project or run.project
        run.entity = part.entity or run.entity
        run.group, run.notes = part.group or run.group, part.notes or run.notes
        run.tags = part.tags
        run.changed |= part.changed
        run.summarized |= part.summarized
        run.config.update(part.config)
        run.artifacts += part.artifacts
        run.exit_code = part.exit_code
        run.paths += part.paths
    return run


def rows(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """The rows of one run's logs, the oldest log first, each as far as it is whole."""
    free = 0
    for path in paths:
        for row in _rows(path):
            row["_step"] = max(row["_step"], free)
            free = row["_step"] + 1
            yield row


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    free = 0
    for record in records(path, ROWS):
        try:
            if record.WhichOneof("record_type") == "history":
                row = _row(record.history, free)
                free = row["_step"] + 1
                yield row
        except _DAMAGE:
            return


def _row(history: Any, free: int) -> dict[str, Any]:
    row = _nested(history.item)
    step = history.step.num if history.HasField("step") else row.get("_step")
    row["_step"] = step if type(step) is int and step >= 0 else free
    return row


def summary(paths: Iterable[Path], summarized: Collection[str] = ()) -> dict[str, Any]:
    """What the logs of one run make of its summary.

    wandb-core writes each change of it into the log: what was set, and what it computes
    from the rows.

    Args:
        paths: the logs, the oldest first.
        summarized: metrics, or patterns of them, whose least value, say, is computed: from
            the rows of each log alone.
    """
    computed: list[dict[str, Any]] = []
    # By place, as text: of the same key there may be a million values, and one counts.
    leaves: dict[tuple[str, ...], str] = {}
    # The first names of places that are deeper than that.
    deep: set[str] = set()
    for path in paths:
        for changes in _last_changes(path):
            _take_summary(leaves, deep, changes)
        if summarized:
            computed.append(computed_in(_tree(leaves), summarized))
    found = _tree(leaves)
    for one in computed[:-1]:
        found |= {key: together(value, found[key]) for key, value in one.items() if key in found}
    return found


class _Kind(NamedTuple):
    """The records that set the same places of the summary.

    Attributes:
        places: as they stand in the records' bytes.
        last: the last of these records.
        before: the one before it, if there is one; that is what counts if the last is garbled.
    """

    places: tuple[bytes, ...]
    last: bytes
    before: bytes = b""

    def change(self) -> Any:
        """What they set: the last of them, which nobody has parsed yet, if it can be."""
        new_record = wandb_records.record_type()
        try:
            return new_record.FromString(self.last).summary
        except wandb_records.not_a_record():
            pass
        try:
            return new_record.FromString(self.before).summary
        except wandb_records.not_a_record():
            return new_record().summary

    def is_of(self, payload: bytes) -> bool:
        """Is this one of them? It has as many places as these."""
        for place in self.places:
            at = payload.find(place)
            # An item begins before it, with a length of one byte or two; not an outer name.
            if at < _SHORTEST or _ITEM not in {payload[at - 2], payload[at - 3]}:
                return False
        return True


def _last_changes(path: Path) -> Iterator[Any]:
    """The changes of the summary in a log, less those that later ones undo.

    With each row, wandb-core sets the same places again. Of such records the last counts,
    and to parse it alone is what makes a long log quick to read.
    """
    new_record = wandb_records.record_type()
    kinds: list[_Kind] = []
    for payload in _payloads(path, SUMMARIES):
        count = payload.count(_VALUE)
        same = [kind for kind in kinds if len(kind.places) == count and kind.is_of(payload)]
        if same:
            kinds.remove(same[0])
            kinds.append(same[0]._replace(last=payload, before=same[0].last))  # the newest is last
            continue
        try:
            record = new_record.FromString(payload)
        except wandb_records.not_a_record():
            break
        if record.WhichOneof("record_type") != "summary":
            continue
        places = tuple(map(_in_bytes, record.summary.update))
        if _ROW_OR_SUMMARY(payload) and len(places) == count and not record.summary.remove:
            kinds.append(_Kind(places, payload))
            if len(kinds) <= _KINDS:
                continue
            yield kinds.pop(0).change()
            continue
        yield from (kind.change() for kind in kinds)
        kinds.clear()
        yield record.summary
    yield from (kind.change() for kind in kinds)


def _in_bytes(item: Any) -> bytes:
    """The place that an item of a summary sets, as it stands in its bytes."""
    names = [(0x12, name) for name in item.nested_key] or [(0x0A, item.key)]
    parts = [(tag, name.encode()) for tag, name in names]
    return b"".join(bytes([tag, len(name) & 0xFF]) + name for tag, name in parts) + _VALUE


def _take_summary(leaves: dict[tuple[str, ...], str], deep: set[str], changes: Any) -> None:
    for item in changes.remove:
        _drop(leaves, deep, _place(item))
    for item in changes.update:
        place = _place(item)
        _drop(leaves, deep, place)
        leaves[place] = item.value_json
        if len(place) > 1:
            deep.add(place[0])


def _tree(leaves: Mapping[tuple[str, ...], str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for (*outer, last), text in leaves.items():
        with contextlib.suppress(*_DAMAGE):  # that key's loss
            _inner(found, outer)[last] = json.loads(text) if text else None
    return found


def computed_in(summary: Mapping[str, Any], summarized: Collection[str]) -> dict[str, Any]:
    """What wandb-core has computed of these metrics: as ``{"min": 0.1}``."""
    return {
        key: value
        for key, value in summary.items()
        if isinstance(value, dict)
        and value.keys() & _TOGETHER.keys()
        and any(fnmatchcase(key, metric) for metric in summarized)
    }


def together(earlier: Any, later: Any) -> Any:
    """What was computed of the rows of two logs of a run, as of all their rows.

    A mean can't be told from two: the later one stands.
    """
    if not (isinstance(earlier, dict) and isinstance(later, dict)):
        return later
    both = {}
    for how, choose in _TOGETHER.items():
        with contextlib.suppress(KeyError, TypeError):  # not computed, or of no numbers
            both[how] = choose(earlier[how], later[how])
    return {**later, **both}


def _place(item: Any) -> tuple[str, ...]:
    return tuple(item.nested_key) or (item.key,)


def _drop(leaves: dict[tuple[str, ...], str], deep: set[str], place: tuple[str, ...]) -> None:
    """Take a value out, and what is in it."""
    if len(place) == 1 and place[0] in deep:
        deep.discard(place[0])
        for other in [other for other in leaves if other[0] == place[0]]:
            del leaves[other]
    leaves.pop(place, None)


class _Number:
    """Finds one number of rows that is not nested, in the rows' bytes.

    To parse a row takes ten times as long. As W&B writes it, an item of a row is (0x0A, its
    length), (0x12, a length) the name, (0x82 0x01, a length) the value as JSON. Such bytes
    are in no value: in JSON, control characters are escaped.
    """

    def __init__(self, name: str) -> None:
        key = name.encode()
        self._name, self._key = name, key
        self._item = bytes([0x12, len(key)]) + key + b"\x82\x01"

    def of(self, payload: bytes) -> int | float | None:
        """The number; None if the row has none by that name."""
        at = payload.find(self._item)
        if at > 1:
            begin = at + len(self._item)
            size = payload[begin]
            if payload[at - 2] == _ITEM and payload[at - 1] == len(self._item) + 1 + size:
                text = payload[begin + 1 : begin + 1 + size]
                with contextlib.suppress(ValueError):
                    return int(text) if text.isdigit() else float(text)
        elif self._key not in payload:
            return None
        value = _row(wandb_records.record_type().FromString(payload).history, 0).get(self._name)
        return value if type(value) in {int, float} else None


def numbers(paths: Iterable[Path], *names: str) -> Iterator[tuple[int | float | None, ...]]:
    """These numbers of each row of a run's logs, as far as each is whole; None for no number.

    A log of a million rows is read in a few seconds, and not held in memory. What may be a
    row, but is none, has no numbers.
    """
    wanted = [_Number(name) for name in names]
    for path in paths:
        for payload in _payloads(path, ROWS):
            try:
                yield tuple([number.of(payload) for number in wanted])
            except (*_DAMAGE, wandb_records.not_a_record()):
                break


def steps(path: Path) -> Iterator[int]:
    """The steps of a log's rows, as far as it is whole."""
    for record in records(path, ROWS):
        if record.WhichOneof("record_type") == "history":
            yield record.history.step.num


def run_ids(directory: Path | str) -> set[str]:
    """The ids of the runs that have a log below ``<directory>/wandb``."""
    return {path.stem.removeprefix("run-") for path in _paths(directory)}


def ends(directory: Path | str) -> dict[str, int | None]:
    """How each run below ``<directory>/wandb`` ended, read from the last blocks alone.

    Returns:
        By run id, the exit code of its newest part; None where that has no exit record.
    """
    newest = {path.stem.removeprefix("run-"): path for path in _paths(directory)}
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
    return _paths(directory, run_id)


def _paths(directory: Path | str, run_id: str | None = None) -> list[Path]:
    """The logs below ``<directory>/wandb``, or those of one run, the oldest first."""
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
    return sorted(found, key=_begun)


def _begun(path: Path) -> str:
    """When a log was begun, by its folder's name: (offline-)run-<time>-<id>."""
    return path.parent.name.partition("run-")[2]


def wait_for_end(path: Path) -> bool:
    """Wait for a log's exit record: ``finish`` may return a few milliseconds before it.

    Returns:
        Whether it is there, within `timeouts.EXIT_RECORD_S`.
    """
    deadline = time.monotonic() + timeouts.EXIT_RECORD_S
    while time.monotonic() < deadline:
        if exit_code(path) is not None:
            return True
        time.sleep(0.01)
    return False


def exit_code(path: Path) -> int | None:
    """What a log's last blocks say of its end; None without an exit record."""
    code = None
    for record in records(path, last_blocks=2):
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
    if log.id:  # opened before, and changed now
        log.changed |= {"name"} if log.name != run.display_name else set()
        log.changed |= {"notes"} if log.notes != run.notes else set()
    log.id, log.project, log.tags = run.run_id, run.project, list(run.tags)
    log.entity = run.entity
    log.name, log.group, log.notes = run.display_name, run.run_group, run.notes
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
        _inner(row, outer)[last] = _value(item)
    return row


def _inner(outermost: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    inner = outermost
    for name in names:
        inner = inner.setdefault(name, {})
    return inner


def records(
    path: Path, frequent: bytes = b"", *, strict: bool = False, last_blocks: int | None = None
) -> Iterator[Any]:
    """The records of a log: as `_payloads`, parsed."""
    new_record, no_record = wandb_records.record_type(), wandb_records.not_a_record()
    for payload in _payloads(path, frequent, strict=strict, last_blocks=last_blocks):
        try:
            record = new_record.FromString(payload)
        except no_record:
            return
        yield record


def _payloads(
    path: Path, frequent: bytes = b"", *, strict: bool = False, last_blocks: int | None = None
) -> Iterator[bytes]:
    """The records of a log that are neither rows nor the summary; and the frequent ones of a kind.

    Args:
        path: the log.
        frequent: `ROWS` or `SUMMARIES`: these, too.
        strict: raise ValueError or OSError for a file that is no log.
        last_blocks: see `logfile.payloads`.
    """
    try:
        for payload in log_file.payloads(path, last_blocks=last_blocks):
            found = _ROW_OR_SUMMARY(payload)
            if found is None or found[1] == frequent:
                yield payload
    except (OSError, ValueError):
        if strict:
            raise


def _key(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


def _value(item: Any) -> Any:
    return json.loads(item.value_json) if item.value_json else None
