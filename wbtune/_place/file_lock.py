"""A lock between processes, also of several machines: it ends with the process that holds it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def held(path: Path) -> Iterator[str | None]:
    """Hold the lock of a file, unless another process holds it; nothing waits.

    Where there are no locks (Windows, a Lustre that is mounted without ``flock``), nobody is kept
    out.

    Args:
        path: the file, which is made if need be, and stays.

    Yields:
        None; or who else holds the lock, in words, which are empty if it does not say so.
    """
    with contextlib.ExitStack() as stack:
        yield _other(path, stack)


def _other(path: Path, stack: contextlib.ExitStack) -> str | None:
    try:
        import fcntl  # noqa: PLC0415 - Windows has none
    except ImportError:
        return None
    try:
        # On NFS, an exclusive lock needs a file that is open for writing.
        file = stack.enter_context(path.open("a+", encoding="utf-8"))
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
    except BlockingIOError:
        file.seek(0)
        return file.read()
    except OSError:  # ENOLCK, ENOSYS, EBADF: the file system has no locks
        return None
    return None
