"""A lock that a forked child can take even if a thread of its parent held it."""

from __future__ import annotations

import os
import threading


class ProcessLock:
    """A reentrant lock that each process has for itself.

    A forked child gets a new lock: a thread that held the parent's lock at the fork does
    not exist in the child and would never release it.
    """

    def __init__(self) -> None:
        self._locks: dict[int, threading.RLock] = {}

    def __enter__(self) -> None:
        pid = os.getpid()
        lock = self._locks.get(pid)
        if lock is None:
            lock = self._locks.setdefault(pid, threading.RLock())
        lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._locks[os.getpid()].release()
