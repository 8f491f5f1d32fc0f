"""What one `wbtune sync` leaves for the next: a small file beside the runs, without secrets."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from wbtune._data.sweep import Sweep
from wbtune._place import file_lock
from wbtune.errors import ConfigurationError

#: The file, in the folder of the runs.
NAME: Final = "wbtune-sync.json"
_LOCK: Final = "wbtune-sync.lock"


@dataclass
class Memory:
    """What is known of an experiment at W&B.

    Attributes:
        sweep: the sweep that was made for it.
        state: the state that it was given last.
        best: the run that is tagged as the best.
        attached: the runs that were sent as its members.
    """

    sweep: list[str] = field(default_factory=list)
    state: str = ""
    best: str = ""
    attached: list[str] = field(default_factory=list)

    @property
    def known_sweep(self) -> Sweep | None:
        """The sweep; None if none was made."""
        return Sweep(*self.sweep) if len(self.sweep) == len(Sweep._fields) else None


class MemoryFile:
    """Keeps a `Memory` in a folder.

    Args:
        folder: the folder of the runs.
        publish: called with the file when it was written: it copies it to a remote storage, say.
    """

    def __init__(self, folder: Path, publish: Callable[[Path], None]) -> None:
        self._path = folder / NAME
        self._publish = publish

    def read(self) -> Memory:
        """What the file says; nothing if there is none, or it is of another release."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            return Memory(**json.loads(self._path.read_text(encoding="utf-8")))
        return Memory()

    def write(self, memory: Memory) -> None:
        """Replace the file.

        Raises:
            OSError: if it can't be written.
        """
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(asdict(memory)), encoding="utf-8")
        part.replace(self._path)
        self._publish(self._path)


@contextlib.contextmanager
def only_one(folder: Path, shown: str) -> Iterator[None]:
    """Let one `wbtune sync` of a folder run at a time: two would send the same rows.

    Args:
        folder: the folder of the runs.
        shown: it, as people know it.

    Raises:
        ConfigurationError: if another is running.
    """
    with file_lock.held(folder / _LOCK) as other:
        if other is not None:
            who = f" ({other})" if other else ""
            raise ConfigurationError(
                f"another `wbtune sync`{who} of {shown} is running; wait until it ends."
            )
        yield
