"""Forks of a process that has runs, which still belong to the parent in the child.

A child has copies of the locks in the state at the fork; one that was held then is never
released in the child. So the child gets new locks, and sends without the old ones.
"""

from __future__ import annotations

import functools
import os
import weakref
from collections.abc import Callable
from typing import Final, Protocol

from wbtune._run.core import CORE


class Forkable(Protocol):
    """An object that is called when this process is forked: the guard of a run."""

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
        """Notify a guard of forks, as long as it exists."""
        _notice_forks()
        key = id(watcher)
        self._watchers[key] = weakref.ref(watcher, lambda _: self._watchers.pop(key, None))

    def before(self) -> None:
        """Before a fork: count the new child, which may log to the runs of this process."""
        self.count += 1
        for reference in list(self._watchers.values()):
            watcher = reference()
            if watcher is not None:
                watcher.before_fork()

    def after(self) -> None:
        """After a fork, in the child: leave the runs to the parent."""
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
