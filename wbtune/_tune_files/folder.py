"""`Folder`: one folder, of this machine or of a remote storage, to read from."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from wbtune._data.masking import mask_urls
from wbtune.errors import ConfigurationError

#: How many bytes of a file are read at once.
_AT_ONCE: Final = 1 << 20


class Entry(NamedTuple):
    """A file or a folder within a folder.

    Attributes:
        name: its name.
        is_folder: whether it is a folder.
        size: a file's size in bytes.
        changed: when it was last written, in seconds since the epoch; 0.0 if that is not known.
    """

    name: str
    is_folder: bool
    size: int
    changed: float


class Folder(NamedTuple):
    """A folder, and the file system that it is in.

    Attributes:
        filesystem: any file system of ``pyarrow.fs``.
        path: the folder's path in it.
        shown: the folder as people write it, without a password.
        is_local: whether it is a folder of this machine.
    """

    filesystem: Any
    path: str
    shown: str
    is_local: bool

    @property
    def name(self) -> str:
        """The last part of its path."""
        return posixpath.basename(self.path)

    @property
    def local(self) -> Path:
        """Its path on this machine.

        Raises:
            ConfigurationError: if it is in a remote storage.
        """
        if not self.is_local:
            # Cause: The command has to write there.
            # Cure: Copy the folder to this machine, or mount it.
            raise ConfigurationError(f"{self.shown} is not a folder of this machine.")
        return Path(self.path)

    @property
    def parent(self) -> Folder:
        """The folder that it is in."""
        path, shown = posixpath.dirname(self.path), posixpath.dirname(self.shown)
        return self._replace(path=path, shown=shown or ".")

    def __truediv__(self, name: str) -> Folder:
        path, shown = posixpath.join(self.path, name), posixpath.join(self.shown, name)
        return self._replace(path=path, shown=shown)

    def entries(self) -> list[Entry]:
        """What is in it, by name; nothing if it does not exist.

        Raises:
            OSError: if it can't be read.
        """
        from pyarrow import fs  # noqa: PLC0415 - it takes long to import

        found = self.filesystem.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        return sorted(map(_entry, found))

    def tree(self) -> list[tuple[str, Entry]]:
        """The files in it and in the folders within, with their paths in it, by one request.

        Raises:
            OSError: if it can't be read.
        """
        from pyarrow import fs  # noqa: PLC0415 - it takes long to import

        selector = fs.FileSelector(self.path, allow_not_found=True, recursive=True)
        return [
            (posixpath.relpath(info.path, self.path), _entry(info))
            for info in self.filesystem.get_file_info(selector)
            if info.type == fs.FileType.File
        ]

    def lines(self, name: str) -> Iterator[bytes]:
        """The lines of a file, one after the other, without their ends.

        Raises:
            OSError: if it can't be read.
        """
        rest = b""
        with self.open(name) as file:
            while text := file.read(_AT_ONCE):
                *lines, rest = (rest + text).split(b"\n")
                yield from lines
        if rest:
            yield rest

    def read(self, name: str) -> bytes:
        """A file's content.

        Raises:
            OSError: if it can't be read.
        """
        with self.open(name) as file:
            content: bytes = file.read()
            return content

    def copy_to(self, target: Path) -> None:
        """Copy everything that is in it to a folder of this machine.

        Raises:
            OSError: if it can't be read, or there not written.
        """
        from pyarrow import fs  # noqa: PLC0415 - it takes long to import

        # Threads and S3 can end in a deadlock: https://github.com/apache/arrow/issues/32372
        fs.copy_files(
            self.path,
            str(target),
            source_filesystem=self.filesystem,
            destination_filesystem=fs.LocalFileSystem(),
            use_threads=False,
        )

    def write(self, name: str, content: bytes) -> None:
        """Write a small file.

        Raises:
            OSError: if it can't be written.
        """
        with self.filesystem.open_output_stream(posixpath.join(self.path, name)) as file:
            file.write(content)

    def open(self, name: str) -> Any:
        """Open a file, to read its bytes.

        Raises:
            OSError: if it can't be read.
        """
        path = posixpath.join(self.path, name)
        return self.filesystem.open_input_stream(path, compression=None)


def _entry(info: Any) -> Entry:
    """An entry of pyarrow's kind."""
    from pyarrow import fs  # noqa: PLC0415 - it takes long to import

    is_folder = info.type == fs.FileType.Directory
    return Entry(info.base_name, is_folder, info.size or 0, (info.mtime_ns or 0) / 1e9)


def folder_of(text: str) -> Folder:
    """The folder that a user names.

    Args:
        text: a path of this machine, or an address that ``pyarrow.fs`` knows
            (``s3://bucket/path``, ``gs://...``, ``file:///...``).

    Raises:
        ConfigurationError: if it is not there, is no folder, or can't be reached.
    """
    from pyarrow import fs  # noqa: PLC0415 - it takes long to import

    is_address = "://" in text
    shown = mask_urls(text).partition("?")[0].rstrip("/") if is_address else text
    try:
        if is_address:
            filesystem, path = fs.FileSystem.from_uri(text)
        else:
            filesystem, path = fs.LocalFileSystem(), str(Path(text).expanduser().absolute())
        kind = filesystem.get_file_info(path).type
    except (OSError, ValueError) as error:  # pyarrow's own are both
        reason = str(error).replace(text, shown)  # it may have a password
        # Cure: Check the address, and your rights.
        raise ConfigurationError(f"{shown} can't be read: {reason}") from None
    is_local = isinstance(filesystem, fs.LocalFileSystem)
    if kind == fs.FileType.NotFound:
        here = (
            f" It is relative to {Path.cwd()}." if is_local and not Path(text).is_absolute() else ""
        )
        # Cure: Give the experiment's folder: <storage_path>/<name>.
        raise ConfigurationError(f"{shown} does not exist.{here}")
    if kind != fs.FileType.Directory:
        raise ConfigurationError(
            f"{shown} is a file. Give the experiment's folder: <storage_path>/<name>."
        )
    return Folder(filesystem, path.rstrip("/") or "/", shown, is_local)
