"""A thread of the driver in place of a helper process that can't be started, or hangs.

It gets the same messages, and does not disturb the driver: see :mod:`wbtune._run.without_core`.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any, Final

from wbtune._helper import messages
from wbtune._helper.backend import Backend
from wbtune._helper.helper import Helper
from wbtune._helper.messages import Packed
from wbtune._run import without_core

#: The functions with which it carries out its messages.
WITHOUT_CORE: Final = Backend(
    open_run=without_core.open_run,
    close_run=without_core.close_run,
    no_uploads=without_core.NO_HELPER,  # only wandb-core can upload; runs are marked as left
    log_media=without_core.log_media,
    log_experiment=without_core.log_experiment,
    rows=without_core.SegmentRows,
    workers=lambda _: without_core.InlineExecutor(),
)


class HelperThread:
    """A thread that carries out messages, instead of a `HelperProcess`.

    Args:
        on_answer: called with each of its answers.

    Raises:
        OSError: if there is no file left for it.
        RuntimeError: if there is no thread left for it.
    """

    is_ready, failure = True, ""

    def __init__(self, on_answer: Callable[[dict[str, Any]], None]) -> None:
        self._on_answer = on_answer
        self._complete = False
        self._line, self._their_end = socket.socketpair()
        # A daemon: a disk that does not answer must not hold up the driver's exit.
        self._thread = threading.Thread(target=self._work, name="wbtune-helper", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            with self._their_end, self._their_end.makefile("rb") as stream:
                helper = Helper(self._warn, lambda **answer: self._on_answer(answer), WITHOUT_CORE)
                helper.serve(stream)
            self._complete = True
        except Exception as error:  # noqa: BLE001 - whatever it is, it must be reported
            # Cause: An error in wbtune.
            # Cure: Report it. The results are still in Tune's result.json: wbtune import DIR.
            self._warn("", f"the thread that keeps the runs on disk failed: {error!r}")
        finally:
            self._on_answer({"over": True})

    def _warn(self, key: str, text: str) -> None:
        self._on_answer({"key": key, "text": text})

    def send(self, batch: list[Packed]) -> None:
        """Send a batch."""
        self._line.sendall(messages.framed(batch))

    def send_end(self) -> None:
        """Signal that there are no more messages."""
        self._line.shutdown(socket.SHUT_WR)

    def is_alive(self) -> bool:
        """Is it still there?"""
        return self._thread.is_alive()

    def wait(self) -> bool:
        """Wait for its end; return whether everything was carried out."""
        self._thread.join()
        with contextlib.suppress(OSError):
            self._line.close()
        return self._complete

    def kill(self) -> None:
        """Do nothing: a thread can't be killed, but it is a daemon."""
