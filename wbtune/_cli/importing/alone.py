"""Let one command at a time write runs into a folder: two would write the same rows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from wbtune._place import file_lock
from wbtune.errors import WbtuneError

IMPORT: Final = "wbtune import"
SYNC: Final = "wbtune sync"
#: The lock of each command, in the folder of the runs.
_LOCKS: Final = {IMPORT: "wbtune-import.lock", SYNC: "wbtune-sync.lock"}


class BusyError(WbtuneError):
    """Another command is at work in the folder."""


@contextlib.contextmanager
def without_another(command: str, folder: Path) -> Iterator[None]:
    """Keep a command out of a folder.

    Args:
        command: `IMPORT` or `SYNC`.
        folder: the folder of the runs.

    Raises:
        BusyError: if it is there.
    """
    with file_lock.held(folder / _LOCKS[command]) as other:
        if other is not None:
            who = f" ({other})" if other else ""
            raise BusyError(
                f"a `{command}`{who} is at work in {folder}; run this again when it has ended."
            )
        yield
