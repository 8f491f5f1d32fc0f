"""Keep a helper running: start it, send it the messages, and replace it if it is killed.

Processes get killed, and the helper is the first that a machine short of memory would pick.
Its replacement reopens the unfinished runs and is sent what is not yet safe
(:mod:`wbtune._driver.unacknowledged`). If no helper can be started, or the last one hangs, a
thread takes its place (:mod:`wbtune._driver.helper_thread`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from wbtune._data import timeouts
from wbtune._driver.helper_process import HelperHandle, Listener
from wbtune._driver.helper_thread import HelperThread
from wbtune._driver.message_queue import MessageQueue
from wbtune._driver.notices import Notices
from wbtune._driver.unacknowledged import Unacknowledged
from wbtune._helper.messages import STOP, Packed

#: How many helper processes are started in turn before a thread takes over.
MAX_HELPERS: Final = 3

# Cure: Nothing to do; if it recurs, free memory on the driver's machine: no row is lost.
RESTARTED: Final = "the helper process is gone (killed?); the unfinished runs go on in another one"
BY_THREAD: Final = (
    "a thread of this process keeps the runs on disk instead, without images, videos and uploads"
)


class Supervisor:
    """Sends the messages of a queue to a helper, in a thread of its own.

    Args:
        queue: the messages to send.
        unacknowledged: the messages that were sent.
        notices: gives warnings of what happens to the helper.
        start_helper: starts a helper, given its log file and a function for its answers.

    Attributes:
        helper: the running helper; None if there is none.
        started: how many helper processes were started.
        stops: the runs for which somebody has pressed "Stop run" at W&B.
        gave_up_waiting: the helper was ended before it had carried everything out.
    """

    def __init__(
        self,
        queue: MessageQueue,
        unacknowledged: Unacknowledged,
        notices: Notices,
        start_helper: Callable[[Path | None, Listener], HelperHandle],
    ) -> None:
        self.helper: HelperHandle | None = None
        self.started = 0
        self.stops: set[str] = set()
        self.gave_up_waiting = False
        self._queue = queue
        self._unacknowledged = unacknowledged
        self._notices = notices
        self._start_helper = start_helper
        self._log_file: Path | None = None
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._closing = False

    def launch(self, log_file: Path | None) -> None:
        """Start a helper, if there is none; returns before it is ready."""
        if self._thread is not None or self._queue.is_closed:
            return
        self._log_file = log_file
        self.helper = self._start()
        thread = threading.Thread(target=self._serve, name="wbtune-send", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # there can be no more threads
            self._give_up(str(error))
        else:
            self._thread = thread

    def wake(self) -> None:
        """Have the queue's messages sent at once."""
        self._wake.set()

    # --- the end ---

    def close(self, timeout: float, is_interrupted: Callable[[], bool]) -> None:
        """Have everything carried out, and end the helper; see `Writer.close`."""
        self._closing = True
        self._wake.set()
        try:
            if self._thread is not None:
                self._wait_for(self._thread, timeout + timeouts.ON_DISK_S, is_interrupted)
        finally:
            if self._thread is not None and self._thread.is_alive():
                self._end_helper(self._thread)
            self._thread = self.helper = None

    def _wait_for(
        self, thread: threading.Thread, seconds: float, is_interrupted: Callable[[], bool]
    ) -> None:
        until = time.monotonic() + seconds
        while thread.is_alive() and time.monotonic() < until:
            thread.join(max(0.0, min(until - time.monotonic(), timeouts.LOOK_S)))
            if is_interrupted():
                until = min(until, time.monotonic() + timeouts.INTERRUPTED_ON_DISK_S)
                is_interrupted = bool  # always False: one Ctrl-C is enough

    def _end_helper(self, thread: threading.Thread) -> None:
        """End a helper that hangs or uploads for too long, and write what it has not written."""
        self.gave_up_waiting = True
        until = time.monotonic() + timeouts.RESCUE_S
        while thread.is_alive() and time.monotonic() < until:
            if self.helper is not None:  # the thread may be starting another one just now
                self.helper.kill()
            thread.join(timeouts.LOOK_S)
        if thread.is_alive():  # this process can't write there either
            self._queue.drop_all("the disk does not answer")

    # --- the sending thread ---

    def _serve(self) -> None:
        try:
            self._serve_by_helpers()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the runs are not complete
            self._give_up(f"the sending thread failed: {type(error).__name__}: {error}")

    def _serve_by_helpers(self) -> None:
        again: list[Packed] = []
        while self.helper is not None and not self._deliver(self.helper, again):
            if isinstance(self.helper, HelperThread):
                self._give_up("the thread that keeps the runs on disk has failed")
                return
            again = self._unacknowledged.to_resend()
            self.helper = self._replacement(self.helper)

    def _deliver(self, helper: HelperHandle, batch: list[Packed]) -> bool:
        """Send messages until the queue is closed (True) or the helper is gone (False)."""
        try:
            while True:
                closing = self._closing
                batch += self._queue.batch()
                if batch:
                    helper.send(batch)
                batch = []
                if closing and not self._queue.is_flood and not self._queue.waits:
                    helper.send_end()
                    break
                if not self._queue.is_flood:
                    self._wake.wait(timeouts.BATCH_S)
                    self._wake.clear()
                self._unacknowledged.drop_safe()
                if not helper.is_alive():
                    break
        except OSError:
            pass  # it is gone
        complete = helper.wait()
        self._unacknowledged.drop_safe()
        return complete

    def handle_answer(self, answer: dict[str, Any]) -> None:
        """Handle one of the helper's answers, in the thread that reads them."""
        if "done" in answer:
            self._unacknowledged.acknowledge(answer["done"])
        elif "lost" in answer:
            self._queue.lost[answer["key"]] += answer["lost"]
        elif answer.get("text") == STOP:
            self.stops.add(answer["key"])
        elif "text" in answer:
            # Message: none by itself.
            self._notices.warn(answer["key"], answer["text"])
        elif "over" in answer:
            self._wake.set()

    # --- starting a helper, or its replacement ---

    def _start(self) -> HelperHandle | None:
        """Start a helper process, or a thread if that fails; None if neither can be started."""
        try:
            helper = self._start_helper(self._log_file, self.handle_answer)
        except Exception as error:  # noqa: BLE001 - no memory, no interpreter, a strange environment
            reason = f"{type(error).__name__}: {error}"
            return self._start_thread(f"no helper process can be started: {reason}")
        self.started += 1
        return helper

    def _replacement(self, gone: HelperHandle) -> HelperHandle | None:
        if self.gave_up_waiting:
            why = "the helper process was ended: it hung, or was still uploading"
        elif not gone.is_ready:
            why = f"the helper process does not start: {gone.failure}"
        elif self.started == MAX_HELPERS:
            why = f"{self.started} helper processes were killed (is the machine short of memory?)"
        else:
            self._notices.warn("", RESTARTED)
            return self._start()
        return self._start_thread(why)

    def _start_thread(self, why: str) -> HelperHandle | None:
        try:
            helper = HelperThread(self.handle_answer)
        except Exception as error:  # noqa: BLE001 - no files, no threads
            self._give_up(f"{why}; and no thread, either: {type(error).__name__}: {error}")
            return None
        if not self.gave_up_waiting or self._unacknowledged.runs or not self._queue.is_empty:
            # Cure: Free memory on the driver's machine. Send the runs: wbtune sync DIR.
            self._notices.warn("", f"{why}; {BY_THREAD}")
        return helper

    def _give_up(self, why: str) -> None:
        self._queue.is_closed = True  # first, so that nothing more is put on the queue
        # Cause: Neither a process nor a thread could be started.
        # Cure: Free memory or raise the limits of the machine, then: wbtune import DIR.
        self._notices.warn("", f"{why}; nothing more is logged")
        self._queue.drop_all(why)
