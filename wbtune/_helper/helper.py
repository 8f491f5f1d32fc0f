"""Carry out a driver's messages: open its runs, log their rows, close them.

The `Helper` is the core of the helper process (:mod:`wbtune._helper.process`), and owns the
experiment's runs and its one wandb-core. It gets messages for many runs from
:mod:`wbtune._driver.writer`, carries out those of each run in order, and reports which ones it has
carried out. When the messages end, for whatever reason, it closes the runs that are still open,
with what they have received.
"""

from __future__ import annotations

import gc
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import IO, TYPE_CHECKING, Final, get_args

from wbtune._data.outcomes import Kind, Outcome
from wbtune._helper import messages
from wbtune._helper.backend import Backend
from wbtune._helper.closer import RunCloser
from wbtune._helper.messages import (
    ChangeSweep,
    Conclude,
    Configure,
    End,
    Log,
    Message,
    OfNoRun,
    Received,
    Start,
    TagRun,
    Unread,
    Upload,
    UploadRest,
)
from wbtune._helper.opener import RunOpener
from wbtune._helper.requests import make_requests
from wbtune._helper.row_logger import RowLogger
from wbtune._helper.stream import Stream
from wbtune._helper.uploads import upload_rest
from wbtune._run import run_spec, steps
from wbtune._upstream import wandb_run

if TYPE_CHECKING:
    from wandb import Run

#: After this many messages they are reported as carried out, even if more are waiting.
REPORTED_TOGETHER: Final = 1000

#: After this many closed runs, garbage is collected: they are in reference cycles, and by itself
#: Python would let hundreds of them accumulate.
COLLECT_EVERY: Final = 32


class Helper:
    """Carries out the messages of each run in their order.

    Only the thread of `serve` logs. Opening and closing wait for a server, so a few side
    threads do that, while the other runs continue.

    Args:
        warn: gives the user a warning: ``warn(key, text)``.
        report: called with ``done=``, how many more messages of each run were carried out, or
            ``lost=``, how many rows of a run were lost.
        backend: the functions that carry them out.

    Attributes:
        progress: a number that grows with everything that is done.
    """

    def __init__(
        self,
        warn: Callable[[str, str], None],
        report: Callable[..., None] = lambda **_: None,
        backend: Backend | None = None,
    ) -> None:
        self.progress = 0
        self._warn = warn
        self._report = report
        self._backend = backend or Backend()
        self._done: Counter[str] = Counter()
        self._streams: dict[str, Stream] = {}
        self._rows = RowLogger(self._backend, warn, report, self._streams)
        self._events: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # Each has its own threads: those that close may be waiting for a server.
        self._opener = RunOpener(self._backend, warn, self)
        self._closer = RunCloser(self._backend, warn, self._opener, self)
        self._rest: list[UploadRest] = []
        self._requests: list[ChangeSweep | TagRun] = []
        self._rest_until = 0.0
        self._closed_runs = 0

    def has(self, key: str) -> bool:
        """Return whether there is a run with this key, open or about to be opened."""
        return key in self._streams

    def serve(self, stream: IO[bytes], when_over: Callable[[], None] = lambda: None) -> None:
        """Carry out messages until they end and every run is closed.

        Args:
            stream: the messages.
            when_over: called when they have ended.
        """
        reader = threading.Thread(target=self._read, args=(stream,), daemon=True)
        reader.start()
        listening = True
        while listening or self._streams:
            # If messages keep coming, they are never all done; report those that are, so that the
            # driver can forget them.
            if self._events.empty() or self._done.total() >= REPORTED_TOGETHER:
                self._rows.send()
                if self._done:
                    self._report(done=dict(self._done))
                    self._done.clear()
            event = self._events.get()
            self.progress += 1
            if event is not None:
                event()
                continue
            listening = False
            when_over()
            for key in list(self._streams):
                # Nothing is known of their outcomes: the driver itself has ended.
                self.take(End(key, Outcome(Kind.INTERRUPTED, "the driver ended")))
        self._opener.shutdown()
        self._closer.shutdown()
        for rest in () if self._backend.no_uploads else self._rest:
            upload_rest(rest, self._rest_until, self._warn, self._note_progress)
        # A thread in place of the helper only ends the sweep: it is in the user's own process.
        states = [one for one in self._requests if isinstance(one, ChangeSweep) and one.state]
        requests = states if self._backend.no_uploads else self._requests
        make_requests(requests, self._warn, self._note_progress)

    def _read(self, stream: IO[bytes]) -> None:
        try:
            while True:
                self._receive(messages.read(stream))
        except EOFError:  # the end, or the driver was killed while it was writing
            pass
        finally:  # without this, `serve` would wait forever after a read that failed
            self._events.put(None)

    def _receive(self, batch: list[Received]) -> None:
        events: deque[Callable[[], None]] = deque()
        for message in batch:
            if isinstance(message, UploadRest):
                self._rest.append(message)
                self._rest_until = time.monotonic() + message.seconds
            elif isinstance(message, ChangeSweep | TagRun):
                self._take_request(message)
            else:
                events.append(partial(self.take, message))
        # One event for all of them, because each event makes the two threads take turns.
        self._events.put(partial(_call_all, events))

    def _note_progress(self) -> None:
        self.progress += 1

    def _take_request(self, message: ChangeSweep | TagRun) -> None:
        if isinstance(message, ChangeSweep) and message.now:
            work = partial(make_requests, [message], self._warn)
            threading.Thread(target=work, name="wbtune-sweep", daemon=True).start()
        else:
            self._requests.append(message)

    def take(self, message: Message | Unread) -> None:
        """Carry out one message, or keep it until the run is ready for it."""
        stream = self._streams.get(message.key)
        if stream is not None and stream.busy:
            stream.backlog.append(message)
        elif isinstance(message, Unread):
            self._take_unread(stream, message)
        else:
            self._carry_out(stream, message)

    def _carry_out(self, stream: Stream | None, message: Message) -> None:
        if not isinstance(message, Log):
            self._rows.send()  # this message may be carried out by another thread
        match message:  # one that a thread carries out counts as done when the thread is done
            case Start() if stream is None:
                self._streams[message.key] = Stream(message.spec)
                self._opener.open(message)
                return
            case Log() if stream is not None:
                self._rows.log(stream, message)
            case Configure() | Conclude() if stream is not None:
                self._rows.change(stream, message)
            case Upload():
                self._take_upload(stream, message)
                return
            case Log():
                self._rows.lose(message.key, None, _NOT_OPEN)
            case Configure() | Conclude():
                self._warn(message.key, _NOT_OPEN)
            case End() if stream is not None:
                self._closer.close(stream, message)
                return
            case Start() | End():
                pass  # the run is open, or closed, already
        self._done[message.key] += 1

    def _take_unread(self, stream: Stream | None, message: Unread) -> None:
        """Warn of a message that could not be read. An `End` still closes its run."""
        key, what, why = message
        if message.ending is not None:
            # Cause: An exception or a value of the trial can't be read in the helper process.
            # Cure: Nothing to do: the run is closed, and its rows are there.
            self._warn(key, f"how it ended could not be read in full: {why}")
            self.take(End(key, message.ending))
            return
        match what:
            case "Log":
                self._rows.lose(key, stream, f"a row was lost: it could not be read: {why}")
            case "Start":
                # Cause: An option's value can't be read in the helper process.
                # Cure: Give plain data.
                self._warn(key, f"could not be opened: {why}")
                self._streams.setdefault(key, Stream(run_spec.RunSpec({}), busy=False))
                self._opener.count_open()
            case _:
                # Cause: A value can't be read in the helper process.
                # Cure: Report plain numbers, text, arrays or W&B's media.
                self._warn(key, f"{what} was left out: {why}")
        if what not in {kind.__name__ for kind in get_args(OfNoRun)}:
            self._done[key] += 1

    def put(self, event: Callable[[], None]) -> None:
        """Have something called in the thread of `serve`."""
        self._events.put(event)

    def is_open(self, key: str, run: Run | None) -> None:
        """Note that a run is open; ``run`` is None if it could not be opened."""
        stream = self._streams[key]
        stream.run = run
        if run is not None:
            stream.steps = steps.Steps(wandb_run.first_step(run))
        self.is_ready(key)

    def is_ready(self, key: str) -> None:
        """Note that a run can take messages again."""
        stream = self._streams[key]
        self._done[key] += 1
        stream.busy = False
        self._work_off(key, stream.backlog)

    def _take_upload(self, stream: Stream | None, message: Upload) -> None:
        if self._backend.no_uploads:
            self._closer.give_up(message, self._backend.no_uploads)
            self._done[message.key] += 1
        elif stream is not None:
            self._closer.upload(stream, message)
        else:
            stream = self._streams[message.key] = Stream(message.reopen.spec)
            self._closer.upload_reopened(stream, message)

    def is_closed(self, key: str, *, lost: int, was_open: bool) -> None:
        """Note that a run is closed.

        Args:
            key: the run.
            lost: how many of its rows were lost.
            was_open: it was open anyway, and not just reopened for an upload.
        """
        if lost:
            self._report(lost=lost, key=key)
        stream = self._streams.pop(key)
        self._done[key] += 1 + stream.shared
        self._closed_runs += 1
        if self._closed_runs % COLLECT_EVERY == 0:
            gc.collect()
        if was_open:
            self._opener.count_closed()
        self._work_off(key, stream.backlog)

    def _work_off(self, key: str, backlog: deque[Message | Unread]) -> None:
        while backlog:
            self.take(backlog.popleft())
            stream = self._streams.get(key)
            if stream is not None and stream.busy:
                # The run is being opened or closed: the rest waits for that.
                if stream.backlog is not backlog:
                    stream.backlog.extend(backlog)
                return


#: Why a message for a run can't be carried out.
# Cause: An error in wbtune.
# Cure: Report it. The result is still in Tune's result.json: wbtune import DIR.
_NOT_OPEN: Final = "a result came for a run that is not open; left out"


def _call_all(events: deque[Callable[[], None]]) -> None:
    while events:  # each is dropped once it is carried out, which frees its memory
        events.popleft()()
