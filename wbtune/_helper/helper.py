"""What carries out a driver's messages: opens its runs, logs their rows, closes them.

It is the heart of the helper process (:mod:`wbtune._helper.process`), and owns the experiment's
runs and its one wandb-core. It gets messages for many runs (:mod:`wbtune._driver.writer` is the
other end), carries out those of each run in their order, and reports which it has carried out. When
they end, whatever ended them, the runs that are still open are closed with what they were given.
"""

from __future__ import annotations

import gc
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import IO, TYPE_CHECKING, Final

from wbtune._data.outcomes import Kind, Outcome
from wbtune._helper import messages
from wbtune._helper.backend import Backend
from wbtune._helper.closer import RunCloser
from wbtune._helper.messages import (
    Configure,
    End,
    Log,
    Message,
    Received,
    Start,
    Unread,
    Upload,
    UploadRest,
)
from wbtune._helper.opener import RunOpener
from wbtune._helper.row_logger import RowLogger
from wbtune._helper.stream import Stream
from wbtune._helper.uploads import upload_rest
from wbtune._run import run_spec, steps

if TYPE_CHECKING:
    from wandb import Run

#: Messages that were carried out, after which that is reported whatever else there is to do.
REPORTED_TOGETHER: Final = 1000

#: Closed runs are garbage, in cycles; by itself, Python would let hundreds of them gather.
COLLECT_EVERY: Final = 32


class Helper:
    """Carries out the messages of each run in their order.

    Only the thread of `serve` logs. Opening and closing wait for a server, so they are
    done by a few threads at the side, while the other runs go on.

    Args:
        warn: gets what a person should know: ``warn(key, text)``.
        report: gets ``done=``, how many more messages of each run were carried out, and
            ``lost=``, how many rows of a run are in no run.
        backend: the functions that carry them out.

    Attributes:
        progress: grows with all that is done.
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
        # Threads of their own: those that close may wait for a server that is away.
        self._opener = RunOpener(self._backend, warn, self)
        self._closer = RunCloser(self._backend, warn, self._opener, self)
        self._rest: list[UploadRest] = []
        self._rest_until = 0.0
        self._closed_runs = 0

    def has(self, key: str) -> bool:
        """Return whether there is a run of this name, open or on its way."""
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
            # In a flood they are never all done; but what is, is not remembered any more.
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
                # Nobody said how these ended: the driver was ended itself.
                self.take(End(key, Outcome(Kind.INTERRUPTED, "the driver ended")))
        self._opener.shutdown()
        self._closer.shutdown()
        for rest in () if self._backend.no_uploads else self._rest:
            upload_rest(rest, self._rest_until, self._warn)

    def _read(self, stream: IO[bytes]) -> None:
        try:
            while True:
                self._receive(messages.read(stream))
        except EOFError:  # perhaps cut off by a kill
            pass
        finally:  # nobody would ever hear of the end of what can't be read
            self._events.put(None)

    def _receive(self, batch: list[Received]) -> None:
        events: deque[Callable[[], None]] = deque()
        for message in batch:
            if isinstance(message, UploadRest):
                self._rest.append(message)
                self._rest_until = time.monotonic() + message.seconds
            else:
                events.append(partial(self.take, message))
        # One of all, because each makes the two threads take turns.
        self._events.put(partial(_call_all, events))

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
            self._rows.send()  # what is done now may be done by another thread
        match message:  # what is submitted is done when its thread is
            case Start() if stream is None:
                self._streams[message.key] = Stream(message.spec)
                self._opener.open(message)
                return
            case Log() if stream is not None:
                self._rows.log(stream, message)
            case Configure() if stream is not None:
                self._rows.configure(stream, message)
            case Upload():
                self._take_upload(stream, message)
                return
            case Log():
                self._rows.lose(message.key, None, _NOT_OPEN)
            case Configure():
                self._warn(message.key, _NOT_OPEN)
            case End() if stream is not None:
                self._closer.close(stream, message)
                return
            case Start() | End():
                pass  # open, or closed already
        self._done[message.key] += 1

    def _take_unread(self, stream: Stream | None, message: Unread) -> None:
        """Warn of what could not be read; its run misses it, and ends as it did."""
        key, what, why = message
        if message.ending is not None:
            self._warn(key, f"how it ended could not be read in full: {why}")
            self.take(End(key, message.ending))
            return
        match what:
            case "Log":
                self._rows.lose(key, stream, f"a row was lost: it could not be read: {why}")
            case "Start":
                self._warn(key, f"could not be opened: {why}")
                self._streams.setdefault(key, Stream(run_spec.RunSpec({}), busy=False))
                self._opener.count_open()
            case _:
                self._warn(key, f"{what} was left out: {why}")
        if key or what != UploadRest.__name__:
            self._done[key] += 1

    def put(self, event: Callable[[], None]) -> None:
        """Have something called in the thread of `serve`."""
        self._events.put(event)

    def is_open(self, key: str, run: Run | None) -> None:
        """A run is open; None for one that could not be opened."""
        stream = self._streams[key]
        stream.run = run
        if run is not None:
            stream.steps = steps.Steps(run.starting_step)
        self.is_ready(key)

    def is_ready(self, key: str) -> None:
        """A run takes messages again."""
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
        """A run is closed.

        Args:
            key: the run.
            lost: rows that are not in it.
            was_open: it was open, and not opened again for an upload.
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
                # It is being opened or closed again: the rest waits for that.
                if stream.backlog is not backlog:
                    stream.backlog.extend(backlog)
                return


#: Why a message for a run can't be carried out.
_NOT_OPEN: Final = "a result came for a run that is not open; left out"


def _call_all(events: deque[Callable[[], None]]) -> None:
    while events:  # what was carried out is let go
        events.popleft()()
