"""Reading W&B's logs back, where no real run would show it."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import pytest

from wbtune import _compat, runlog

BLOCK = 32 * 1024


def chunk(payload: bytes, kind: int = 1) -> bytes:
    return struct.pack("<IHB", 0, len(payload), kind) + payload


def log_with_end(path: Path, exit_code: int) -> None:
    """The shortest log that has an end."""
    record = _compat.record_type()()
    record.exit.exit_code = exit_code
    path.parent.mkdir(parents=True)
    header = struct.pack("<4sHB", b":W&B", 0xBEE1, 0)
    path.write_bytes(header + chunk(record.SerializeToString()))


def test_the_newest_part_tells_how_a_run_ended(tmp_path: Path) -> None:
    """Whether it was begun online or, because the server was away, offline."""
    names = ["run-20260101_000000-a", "offline-run-20260101_000001-a", "run-20260101_000002-a"]
    for exit_code, name in enumerate(names):
        log_with_end(tmp_path / "wandb" / name / "run-a.wandb", exit_code)
        assert runlog.ends(tmp_path) == {"a": exit_code}
    assert [part.parent.name for part in runlog.parts(tmp_path, "a")] == names


@pytest.mark.parametrize("blocks", [1, 3, 8000])
def test_the_end_of_a_long_log_is_read_alone(blocks, tmp_path):
    """A quarter of a gigabyte of rows costs no memory, and the end is found in the last blocks."""
    record = _compat.record_type()()
    record.exit.exit_code = 7
    path = tmp_path / "run-a.wandb"
    with path.open("wb") as file:
        file.write(struct.pack("<4sHB", b":W&B", 0xBEE1, 0))
        if blocks > 1:  # the last part of a record that began before
            file.seek((blocks - 2) * BLOCK)
            file.write(chunk(bytes(BLOCK - 7), 4))
        file.write(chunk(record.SerializeToString()))
    tracemalloc.start()
    try:
        assert runlog.exit_code(path) == 7
        assert tracemalloc.get_traced_memory()[1] < 20 * BLOCK
    finally:
        tracemalloc.stop()
