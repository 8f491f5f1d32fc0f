"""Read the transaction log that wandb-core writes for each run, as the bytes of its records.

The format, as of wandb 0.31: a header of 7 bytes (``:W&B``, the magic 0xBEE1, version 0),
then LevelDB's format: blocks of 32 KiB that consist of chunks, each with a header of checksum
(u32), length (u16) and type (u8: 1 whole, 2 first, 3 middle, 4 last part of a record). The
checksum is CRC-32, as in zip files, of the type and the data; LevelDB itself uses another one.

A log is read up to where it is damaged: cut off because its writer was killed, or overwritten.
It is read block by block, so its size does not matter.
"""

from __future__ import annotations

import io
import stat
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

_HEADER: Final = struct.Struct("<4sHB")
_CHUNK: Final = struct.Struct("<IHB")
BLOCK: Final = 32 * 1024
_WHOLE, _FIRST, _LAST = 1, 2, 4
#: The checksum of a chunk's type alone, by type; that of its data continues from there.
_BEGUN: Final = (0, *(zlib.crc32(bytes([kind])) for kind in range(_WHOLE, _LAST + 1)))
#: The longest record, in bytes. W&B did not write a longer one: it refuses rows of a tenth of this.
LONGEST: Final = 256 * 1024 * 1024


def payloads(path: Path, *, last_blocks: int | None = None) -> Iterator[bytes]:
    """Yield the records of a ``.wandb`` file, up to where it is damaged.

    Args:
        path: the file.
        last_blocks: read only this many blocks from its end; a record that began before them is
            skipped.

    Raises:
        ValueError: if the file is not one of W&B's logs.
        OSError: if it can't be opened.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        msg = f"{path} is no regular file."
        raise ValueError(msg)
    with path.open("rb") as file:
        header = _read(file, _HEADER.size)
        if len(header) < _HEADER.size:
            return  # killed before the first write
        if _HEADER.unpack(header) != (b":W&B", 0xBEE1, 0):
            msg = f"{path} is not a transaction log of W&B."
            raise ValueError(msg)
        begin = 0
        if last_blocks is not None:
            size = file.seek(0, io.SEEK_END)
            begin = max(0, (size // BLOCK + 1 - last_blocks) * BLOCK)
        file.seek(begin)
        chunks = _chunks(file, 0 if begin else _HEADER.size)
        yield from _joined(chunks, begun=not begin)


def growing(path: Path, at: int) -> Iterator[tuple[bytes, int]]:
    """Yield the records of a file that may still grow, from a place on; each with the place behind.

    Args:
        path: the file.
        at: where a record begins: 0, or a place behind one.

    Raises:
        OSError: if it can't be opened.
    """
    with path.open("rb") as file:
        if not at and _read(file, _HEADER.size) != _HEADER.pack(b":W&B", 0xBEE1, 0):
            return  # nothing is written yet
        place = at = max(at, _HEADER.size)

        def chunks() -> Iterator[tuple[int, bytes]]:
            nonlocal place
            for kind, data in _chunks(file, at % BLOCK):
                rest = BLOCK - place % BLOCK
                place += (rest if rest < _CHUNK.size else 0) + _CHUNK.size + len(data)
                yield kind, data

        file.seek(at // BLOCK * BLOCK)
        for record in _joined(chunks(), begun=True):
            yield record, place


def _joined(chunks: Iterator[tuple[int, bytes]], *, begun: bool) -> Iterator[bytes]:
    """Yield the records that these chunks are parts of.

    Args:
        chunks: their types and data.
        begun: False when the first record may have begun in an earlier block.
    """
    parts: list[bytes] = []
    size = 0
    for kind, data in chunks:
        if kind <= _FIRST:
            if parts:
                return  # the previous record has no end
            begun = True
            if kind == _WHOLE:
                yield data
            else:
                parts, size = [data], len(data)
        elif parts:
            parts.append(data)
            size += len(data)
            if size > LONGEST:
                return
            if kind == _LAST:
                record, parts = b"".join(parts), []
                yield record
        elif begun:
            return  # a later part of a record that never began


def _chunks(file: IO[bytes], position: int) -> Iterator[tuple[int, bytes]]:
    """Yield the chunks from here on, as long as their checksums are right.

    Args:
        file: the file, at the beginning of a block.
        position: where in that block its first chunk begins.
    """
    header_size, unpack, checksum_of = _CHUNK.size, _CHUNK.unpack_from, zlib.crc32
    end = BLOCK
    while end == BLOCK:
        block = _read(file, BLOCK)
        end = len(block)
        while position + header_size <= end:  # a shorter rest of the block is padding
            checksum, length, kind = unpack(block, position)
            begin = position + header_size
            position = begin + length
            if position > end or not _WHOLE <= kind <= _LAST:
                return
            data = block[begin:position]
            if checksum_of(data, _BEGUN[kind]) != checksum:
                return
            yield kind, data
        position = 0


def _read(file: IO[bytes], size: int) -> bytes:
    try:
        return file.read(size)
    except OSError:  # a bad sector
        return b""
