"""The driver's side of the helper process: start it, send it messages, get its answers.

Messages go through a socket, which also shows the driver that the helper is gone. Its answers
come back on its standard output, one line of JSON each.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from wbtune._data import timeouts
from wbtune._helper import messages
from wbtune._helper.messages import Packed

#: Called with the helper's answers, in the thread that reads them.
Listener = Callable[[dict[str, Any]], None]


class HelperHandle(Protocol):
    """The driver's end of a helper, be it a process or a thread.

    Attributes:
        is_ready: whether it has started.
        failure: why it could not start, as far as that is known.
    """

    is_ready: bool
    failure: str

    def send(self, batch: list[Packed]) -> None:
        """Send a batch of messages.

        Raises:
            OSError: when the helper is gone.
        """

    def send_end(self) -> None:
        """Signal that there are no more messages.

        Raises:
            OSError: when the helper is gone.
        """

    def is_alive(self) -> bool:
        """Is it still there?"""

    def wait(self) -> bool:
        """Wait for its end; return whether everything was carried out."""

    def kill(self) -> None:
        """End it at once; a thread that is waiting for it, or sending to it, continues."""


class HelperProcess:
    """A helper process, with the channels to and from it.

    Args:
        log_file: the file for what it prints; None to discard that.
        on_answer: called with each of its answers.

    Raises:
        OSError: if there is no memory, no file, or no process left for it.
    """

    def __init__(self, log_file: Path | None, on_answer: Listener) -> None:
        self.is_ready, self.failure = False, ""
        self._on_answer = on_answer
        self._log_file, self._log_begin = log_file, 0
        self._dead_by = math.inf
        self._line, their_end = socket.socketpair()
        with their_end:
            try:
                self._process = self._start(their_end)
            except BaseException:
                self._line.close()
                raise
        self.pid = self._process.pid
        self._listener = threading.Thread(
            target=self._listen, args=(self._process.stdout,), name="wbtune-listen", daemon=True
        )
        self._listener.start()

    def _start(self, their_end: socket.socket) -> subprocess.Popen[bytes]:
        errors: Any = subprocess.DEVNULL
        with contextlib.ExitStack() as stack:
            if self._log_file is not None:
                # If this log can't be written, runs can't either, and each of them gives a warning.
                with contextlib.suppress(OSError):
                    self._log_file.parent.mkdir(parents=True, exist_ok=True)
                    errors = stack.enter_context(self._log_file.open("ab"))
                    self._log_begin = errors.tell()
            stack.enter_context(_signals_kept())
            return subprocess.Popen(  # noqa: S603 - our own interpreter and code
                [sys.executable, "-P", "-m", "wbtune._helper", str(os.getpid())],
                stdin=their_end.fileno(),
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                env=_environment(self._log_file),
            )

    def send(self, batch: list[Packed]) -> None:
        """Send a batch."""
        self._line.sendall(messages.framed(batch))

    def send_end(self) -> None:
        """Signal that there are no more messages."""
        self._line.shutdown(socket.SHUT_WR)

    def is_alive(self) -> bool:
        """Is it still there?"""
        return self._listener.is_alive()

    def wait(self) -> bool:
        """Wait for its end; return whether everything was carried out."""
        while self._listener.is_alive():  # it ends with the helper
            if time.monotonic() > self._dead_by:
                return False
            self._listener.join(timeouts.LOOK_S)
        complete = self._process.wait() == 0
        if not complete:
            # Its wandb-core has the other end of the socket too (as its stdin; wandb 0.31), and
            # may still be writing. Once it is gone as well, `recv` returns, and the logs are final.
            with contextlib.suppress(OSError):
                self._line.settimeout(timeouts.CORE_ENDS_S)
                self._line.recv(1)
            if not self.is_ready:
                self.failure = self.failure or self._last_line_printed()
        self._line.close()
        return complete

    def kill(self) -> None:
        """Kill it, and its wandb-core."""
        self._dead_by = min(self._dead_by, time.monotonic() + timeouts.KILLED_ENDS_S)
        for pid in (self.pid, *_children(self.pid)):
            with contextlib.suppress(OSError):  # it is gone already
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)

    def _listen(self, answers: IO[bytes]) -> None:
        for line in answers:
            with contextlib.suppress(ValueError):  # cut off by a kill
                answer = json.loads(line)
                self.is_ready = self.is_ready or "ready" in answer
                self.failure = answer.get("failed", self.failure)
                self._on_answer(answer)
        answers.close()
        self._on_answer({"over": True})

    def _last_line_printed(self) -> str:
        """The last line that it printed, such as the reason why Python did not start."""
        printed = ""
        if self._log_file is not None:
            with contextlib.suppress(OSError), self._log_file.open("rb") as log:
                log.seek(self._log_begin)
                printed = log.read().decode(errors="replace").strip()
        return printed.splitlines()[-1] if printed else f"it ended with {self._process.returncode}"


def _children(pid: int) -> list[int]:
    """A process's children; a helper's child is its wandb-core, which may hang as well.

    The core ends by itself when its helper does, but not while it is stopped.
    """
    found: list[int] = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):  # only Linux has these files
        with contextlib.suppress(OSError):
            found += map(int, tasks.read_text().split())
    return found


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Block signals that are not for the helper, which inherits the mask, until it ignores them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, messages.NOT_FOR_HELPER)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _environment(log_file: Path | None) -> dict[str, str]:
    # The helper has a core of its own, and gets the key with its messages: other users can read
    # an environment.
    not_for_helper = {"WANDB_SERVICE", "WANDB_API_KEY"}
    environment = {k: v for k, v in os.environ.items() if k not in not_for_helper}
    # The core does little at a time. On several processors, its Go runtime uses a third more
    # CPU for the same rows.
    environment = {"GOMAXPROCS": "1"} | environment
    # The helper has to find the modules of the user's hooks.
    environment["PYTHONPATH"] = os.pathsep.join(_search_path())
    if log_file is not None:
        # The core writes its own logs there, rather than in the user's working directory.
        environment["WANDB_DIR"] = str(log_file.parent.parent)
    return environment


def _search_path() -> Iterator[str]:
    for path in sys.path:
        # Python ignores an entry that is not text, such as a `Path`.
        if isinstance(path, str) and "\0" not in path:
            with contextlib.suppress(OSError):  # the working directory was removed
                yield path or str(Path.cwd())
    # wbtune itself may not be found there any more: entries may have changed, or be relative to
    # another working directory.
    yield str(Path(__file__).parents[2])
