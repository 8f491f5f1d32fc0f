"""Transaction logs of W&B's, made by hand: what no real run would write, and many rows quickly."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from wbtune._upstream import wandb_records

BLOCK = 32 * 1024
HEADER = struct.pack("<4sHB", b":W&B", 0xBEE1, 0)


def chunk(payload: bytes, kind: int = 1) -> bytes:
    checksum = zlib.crc32(bytes([kind]) + payload)
    return struct.pack("<IHB", checksum, len(payload), kind) + payload


def log_of(payloads: list[bytes]) -> tuple[bytes, list[int]]:
    """The file of these records, and where each of them ends."""
    data, ends = HEADER, []
    for payload in payloads:
        first, rest = True, payload
        while first or rest:
            left = BLOCK - len(data) % BLOCK
            if left < 7:
                data += bytes(left)
                continue
            part, rest = rest[: left - 7], rest[left - 7 :]
            kind = (1 if first else 4) if not rest else (2 if first else 3)
            data, first = data + chunk(part, kind), False
        ends.append(len(data))
    return data, ends


def log_of_rows(rows: Iterable[Mapping[str, Any]], exit_code: int | None = None) -> bytes:
    """The file of a run with these rows, which may be nested."""
    new = wandb_records.record_type()
    head = new()
    head.run.run_id = "a"
    made = [head]
    for step, row in enumerate(rows):
        record = new()
        for key, value in row.items():
            inner = value if isinstance(value, dict) else {"": value}
            for last, text in inner.items():
                names = [key, last] if last else [key]
                record.history.item.add(nested_key=names, value_json=json.dumps(text))
        record.history.step.num = step
        made.append(record)
    if exit_code is not None:
        made.append(new())
        made[-1].exit.exit_code = exit_code
    for number, record in enumerate(made, 1):
        record.num = number
    return log_of([record.SerializeToString() for record in made])[0]
