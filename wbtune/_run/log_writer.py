"""Write a run's transaction log, as wandb-core writes it and `wandb sync` reads it.

The format is described in :mod:`wbtune._run.log_file`, which reads it.
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
        """Append one record with these fields."""
        self._number += 1
        self.append_bytes(self._new_record(num=self._number, **fields).SerializeToString())

    def append_bytes(self, data: bytes) -> None:
        """Append one record, as the bytes that it has in another log."""
        is_first = True
        while is_first or data:
            room = _BLOCK - self._at % _BLOCK - _CHUNK.size
            if room < 0:  # the rest of the block is padding
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
        """Write everything out, so that it is kept if this process is killed."""
        self._file.flush()

    def close(self) -> None:
        """Close the log."""
        self._file.close()
