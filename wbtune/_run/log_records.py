"""Parse the records of a run's transaction log; those of frequent kinds only on request.

A log is read up to where it is damaged (see :mod:`wbtune._run.log_file`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from wbtune._run import log_file
from wbtune._upstream import wandb_records

#: The exceptions from reading a record that W&B would not have written like this.
DAMAGE: Final = (
    *(ValueError, TypeError, AttributeError, LookupError, OverflowError),
    RecursionError,
)

#: Matches the first bytes of a record that is a row or a part of the summary: its number, then its
#: kind. Most records are such, and parsing them takes most of the time.
ROW_OR_SUMMARY: Final = re.compile(rb"\x08[\x80-\xff]*[\x00-\x7f]([\x12\x1a])", re.DOTALL).match

ROWS: Final = b"\x12"
SUMMARIES: Final = b"\x1a"

#: The bytes at the beginning of an item of a row or the summary, and those before its value.
ITEM: Final = 0x0A
VALUE: Final = b"\x82\x01"


def records(
    path: Path, frequent: bytes = b"", *, strict: bool = False, last_blocks: int | None = None
) -> Iterator[Any]:
    """Parse the records that `payloads` yields."""
    if not wandb_records.RECORDS.is_here and not strict:
        return
    new_record, no_record = wandb_records.record_type(), wandb_records.not_a_record()
    for payload in payloads(path, frequent, strict=strict, last_blocks=last_blocks):
        try:
            record = new_record.FromString(payload)
        except no_record:
            return
        yield record


def payloads(
    path: Path, frequent: bytes = b"", *, strict: bool = False, last_blocks: int | None = None
) -> Iterator[bytes]:
    """Yield the records of a log as bytes, by default without rows and changes of the summary.

    Args:
        path: the log.
        frequent: `ROWS` or `SUMMARIES` to include these.
        strict: raise ValueError or OSError for a file that is not a log.
        last_blocks: see `log_file.payloads`.
    """
    try:
        for payload in log_file.payloads(path, last_blocks=last_blocks):
            found = ROW_OR_SUMMARY(payload)
            if found is None or found[1] == frequent:
                yield payload
    except (OSError, ValueError):
        if strict:
            raise


def json_value(item: Any) -> Any:
    """Return the value of a record's item."""
    return json.loads(item.value_json) if item.value_json else None


def inner_dict(outermost: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the dict inside nested dicts under these names; missing ones are created."""
    inner = outermost
    for name in names:
        inner = inner.setdefault(name, {})
    return inner
