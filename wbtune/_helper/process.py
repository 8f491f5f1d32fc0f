"""The process around a `Helper`: its driver, its signals, its limits, and its replies.

It ends when its driver ends, for whatever reason, and not before: a job's SIGTERM goes to all
processes, and the runs still have to be closed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import queue
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from wbtune._data import timeouts
from wbtune._helper.backend import AT_ONCE, Backend
from wbtune._helper.helper import Helper
from wbtune._helper.messages import NOT_FOR_HELPER
from wbtune._run import environment, opening, run_spec

logger = logging.getLogger("wbtune")

#: How many files wandb-core has open for each run (wandb 0.31: its log twice, and a log of its
#: own), and how many others are needed: for uploads, connections, libraries.
FILES_OF_RUN: Final = 3
OTHER_FILES: Final = 128


def helper_main(driver: int) -> None:
    """Run the helper process: messages on stdin, replies on stdout.

    Args:
        driver: the pid of the process whose helper it is.
    """
    for number in NOT_FOR_HELPER:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, NOT_FOR_HELPER)
    replies = Replies(os.dup(1))
    os.dup2(2, 1)  # what other code prints here must not get among the replies
    most = _open_runs()
    helper = Helper(
        replies.warn,
        lambda **reply: replies.write(reply),
        Backend(open_run=_open_run, most_open=most),
    )
    logger.addHandler(_Forward(replies.warn, helper.has))
    logger.propagate = False
    try:
        opening.prepare_for_many()
    except BaseException as error:
        replies.write({"failed": f"wandb does not start: {type(error).__name__}: {error}"})
        replies.close()
        raise
    replies.write({"ready": True})
    threading.Thread(target=_watch_driver, args=(driver,), daemon=True).start()
    ended = threading.Thread(target=_end_if_stuck, args=(helper,), daemon=True)
    helper.serve(sys.stdin.buffer, when_over=ended.start)
    replies.close()


def _open_run(spec: run_spec.RunSpec, *args: Any, **kwargs: Any) -> Any:
    """Open a run as `opening.open_run` does, with the driver's command line as its program."""
    environment.set_command(spec.command)
    return opening.open_run(spec, *args, **kwargs)


def _open_runs() -> float:
    """Raise the limit of open files, and return how many runs can be open at once.

    The soft limit is just a default, often 1024; the hard limit is what counts.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return most_open(hard)


def most_open(files: int) -> float:
    """Return how many runs can be open at once, with so many open files."""
    if files == resource.RLIM_INFINITY:
        return math.inf
    return max(AT_ONCE, (files - OTHER_FILES) // FILES_OF_RUN)


def _watch_driver(driver: int) -> None:
    """End the messages when the driver is gone.

    The socket ends by itself, unless a child of the driver has a copy of the driver's end.
    """
    while os.getppid() == driver:
        time.sleep(timeouts.LOOK_FOR_DRIVER_S)
    # Messages that were sent before can still be read.
    socket.socket(fileno=os.dup(0)).shutdown(socket.SHUT_RD)


def _end_if_stuck(helper: Helper) -> None:
    progress = -1
    while progress != helper.progress:
        progress = helper.progress
        time.sleep(timeouts.HELPER_STUCK_S)
    os._exit(1)


class Replies:
    """Writes the helper's replies to its driver, one per line, in a thread of its own.

    So nothing waits for a driver that does not read, because it is stopped, or because it is
    gone and one of its children has a copy of its end.
    """

    def __init__(self, descriptor: int) -> None:
        self._stream = os.fdopen(descriptor, "w", encoding="utf-8")
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="wbtune-replies", daemon=True)
        self._thread.start()

    def write(self, reply: dict[str, Any]) -> None:
        """Write a reply."""
        self._lines.put(json.dumps(reply) + "\n")

    def warn(self, key: str, text: str) -> None:
        """Write a warning for the user about a run; ``key`` is empty if it concerns no run."""
        self.write({"key": key, "text": text})

    def close(self) -> None:
        """Wait until everything has been read, for a limited time."""
        self._lines.put(None)
        self._thread.join(timeouts.LAST_ANSWERS_S)

    def _work(self) -> None:
        with contextlib.suppress(OSError):  # the driver is gone
            while (line := self._lines.get()) is not None:
                self._stream.write(line)
                self._stream.flush()
            return
        while self._lines.get() is not None:  # discard them, so that they do not accumulate
            pass


class _Forward(logging.Handler):
    """Sends the helper's own warnings to the driver, where the user sees them."""

    def __init__(self, warn: Callable[[str, str], None], is_run: Callable[[str], bool]) -> None:
        super().__init__()
        self._forward, self._is_run = warn, is_run

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record, as a warning about the run that it names."""
        args = record.args if isinstance(record.args, tuple) else ()
        named = (value for value in args if isinstance(value, str) and self._is_run(value))
        self._forward(next(named, ""), record.getMessage().removeprefix("wbtune: "))
