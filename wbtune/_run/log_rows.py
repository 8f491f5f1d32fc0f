"""Read the rows of a run from its logs: whole rows, or a few of their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from wbtune._run.log_records import (
    DAMAGE,
    ITEM,
    ROW_OR_SUMMARY,
    ROWS,
    inner_dict,
    json_value,
    payloads,
    records,
)
from wbtune._upstream import wandb_records

#: W&B's own key for the time when a row was logged, which also identifies the row.
STAMP: Final = "_timestamp"


def rows(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """Yield the rows of one run's logs, the oldest log first, each up to where it is damaged."""
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
        except DAMAGE:
            return


def _row(history: Any, free: int) -> dict[str, Any]:
    row = _nested(history.item)
    row["_step"] = step_of(history, free)
    return row


def step_of(history: Any, free: int) -> int:
    """Return the step in a row's record; ``free`` if it has none."""
    step = history.step.num if history.HasField("step") else _nested(history.item).get("_step")
    return step if type(step) is int and step >= 0 else free


def _nested(items: Any) -> dict[str, Any]:
    """Return a row with its dicts restored: wandb-core flattens them (an image, a histogram)."""
    row: dict[str, Any] = {}
    for item in items:
        *outer, last = item.nested_key or [item.key]
        inner_dict(row, outer)[last] = json_value(item)
    return row


class _Number:
    """Finds one number, which is not nested, in the bytes of rows.

    Parsing a row takes ten times as long. W&B writes an item of a row as (0x0A, its
    length), (0x12, a length) the name, (0x82 0x01, a length) the value as JSON. No value
    contains such bytes: in JSON, control characters are escaped.
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
            if payload[at - 2] == ITEM and payload[at - 1] == len(self._item) + 1 + size:
                text = payload[begin + 1 : begin + 1 + size]
                try:
                    return int(text) if text.isdigit() else float(text)
                except ValueError:
                    pass  # not a number, or not in W&B's format
        elif self._key not in payload:
            return None
        value = _row(wandb_records.record_type().FromString(payload).history, 0).get(self._name)
        return value if type(value) in {int, float} else None


def numbers(paths: Iterable[Path], *names: str) -> Iterator[tuple[int | float | None, ...]]:
    """Yield these numbers of each row of a run's logs, up to where each log is damaged.

    A number that a row does not have is None. A log of a million rows is read in a few seconds, and
    not kept in memory. A record that looks like a row, but is not, has no numbers.
    """
    wanted = [_Number(name) for name in names]
    for path in paths:
        for payload in payloads(path, ROWS):
            try:
                yield tuple([number.of(payload) for number in wanted])
            except (*DAMAGE, wandb_records.not_a_record()):
                break


def stamped(path: Path) -> Iterator[tuple[int | float | None, int | float | None]]:
    """Yield the time and the step of each row of a log, up to where it is damaged.

    Unlike `numbers`, it yields nothing for other records, so that rows can be counted.
    """
    stamp, step = _Number(STAMP), _Number("_step")
    for payload in payloads(path, ROWS):
        try:
            if _is_row(payload):
                yield stamp.of(payload), step.of(payload)
        except (*DAMAGE, wandb_records.not_a_record()):
            return


def _is_row(payload: bytes) -> bool:
    found = ROW_OR_SUMMARY(payload)
    if found is not None:
        return bool(found[1] == ROWS)
    record = wandb_records.record_type().FromString(payload)
    return bool(record.WhichOneof("record_type") == "history")


def steps(path: Path) -> Iterator[int]:
    """Yield the steps of a log's rows, up to where it is damaged."""
    for record in records(path, ROWS):
        if record.WhichOneof("record_type") == "history":
            yield record.history.step.num


def last_step(paths: Iterable[Path]) -> int:
    """Return the last step of a run that is on disk; -1 before the first row."""
    return max((step for path in paths for step in steps(path)), default=-1)


def stamps(paths: Iterable[Path], since: float = 0.0) -> set[float]:
    """Return the times at which the rows on disk were logged, from ``since`` on."""
    found = (stamp for (stamp,) in numbers(paths, STAMP))
    return {stamp for stamp in found if stamp is not None and stamp >= since}
