"""Write a run's transaction log: what wandb-core writes, and `wandb sync` reads.

The format is described where it is read, in :mod:`wbtune._run.log_file`.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import IO, Any, Final

from wbtune._upstream import wandb_records

_CHUNK: Final = struct.Struct("<IHB")
_BLOCK: Final = 32 * 1024
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


class LogWriter:
    """Appends records to a new log.

    Args:
        path: the file; it must not exist.
    """

    def __init__(self, path: Path) -> None:
        self._file: IO[bytes] = path.open("xb")
        self._file.write(struct.pack("<4sHB", b":W&B", 0xBEE1, 0))
        self._at = 7
        self._new_record = wandb_records.record_type()
        self._number = 0

    def append(self, **fields: Any) -> None:
        """Append one record, of which these are the fields."""
        self._number += 1
        record = self._new_record(num=self._number, **fields)
        data = record.SerializeToString()
        is_first = True
        while is_first or data:
            room = _BLOCK - self._at % _BLOCK - _CHUNK.size
            if room < 0:  # the tail of a block is padding
                self._write(bytes(room + _CHUNK.size))
                continue
            part, data = data[:room], data[room:]
            kind = (
                (_WHOLE if is_first else _LAST) if not data else (_FIRST if is_first else _MIDDLE)
            )
            is_first = False
            checksum = zlib.crc32(part, zlib.crc32(bytes([kind])))
            self._write(_CHUNK.pack(checksum, len(part), kind) + part)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._at += len(data)

    def flush(self) -> None:
        """Write it to disk, whatever happens to this process."""
        self._file.flush()

    def close(self) -> None:
        """Close the log: there is no more."""
        self._file.close()
