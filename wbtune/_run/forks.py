"""Forks of a process that has runs: in the child they are its parent's.

A child has the locks as they were when it was forked, and one that was held then is never
released there. So the child gets other locks, and sends without them.
"""

from __future__ import annotations

import functools
import os
import weakref
from collections.abc import Callable
from typing import Final, Protocol

from wbtune._run.core import CORE


class Forkable(Protocol):
    """What hears of the forks of this process: the guard of a run."""

    @property
    def before_fork(self) -> Callable[[], object]:
        """Called before this process is forked."""

    def leave_to_parent(self) -> None:
        """Called in the child."""


class Forks:
    """The forks of this process."""

    def __init__(self) -> None:
        self.count = 0
        self.in_child = False
        self._watchers: dict[int, weakref.ref[Forkable]] = {}

    def watch(self, watcher: Forkable) -> None:
        """Let a guard hear of forks, as long as there is one."""
        _notice_forks()
        key = id(watcher)
        self._watchers[key] = weakref.ref(watcher, lambda _: self._watchers.pop(key, None))

    def before(self) -> None:
        """There will be one more child, which may log to the runs of this process."""
        self.count += 1
        for reference in list(self._watchers.values()):
            watcher = reference()
            if watcher is not None:
                watcher.before_fork()

    def after(self) -> None:
        """This process is the child."""
        self.in_child = True
        CORE.__init__()  # type: ignore[misc]
        for reference in list(self._watchers.values()):
            watcher = reference()
            if watcher is not None:
                watcher.leave_to_parent()


FORKS: Final = Forks()


@functools.cache
def _notice_forks() -> None:
    os.register_at_fork(before=FORKS.before, after_in_child=FORKS.after)


def in_child() -> bool:
    """Return whether this process was forked from one that had runs, which are not its own."""
    return FORKS.in_child
