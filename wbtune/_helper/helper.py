"""What carries out a driver's messages: opens its runs, logs their rows, closes them.

It is the heart of the helper process (:mod:`wbtune._helper.process`), and owns the experiment's
runs and its one wandb-core. It gets messages for many runs (:mod:`wbtune._driver.writer` is the
other end), carries out those of each run in their order, and says which it has carried out. When
they end, whatever ended them, the runs that are still open are closed with what they were given.
"""

# Over 250 lines: one run's life, message by message, and what happens at the side meanwhile.

from __future__ import annotations

import gc
import math
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

from wbtune._data import timeouts
from wbtune._data.checkpoint import SavedCheckpoint
from wbtune._data.outcomes import Kind, Outcome
from wbtune._helper import messages
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
from wbtune._helper.outbox import Outbox
from wbtune._run import closing, media, opening, run_spec, steps
from wbtune._upstream import wandb_media

if TYPE_CHECKING:
    from wandb import Run

    from wbtune._data.secret import Secret

#: Runs that are opened or closed at the same time; more would storm the server.
AT_ONCE: Final = 8


#: Messages that were carried out, after which that is told whatever else there is to do.
TOLD_TOGETHER: Final = 1000

#: Closed runs are garbage, in cycles; by itself, Python would let hundreds of them gather.
COLLECT_EVERY: Final = 32

#: What the helper says of a run instead of a text for people.
STOP: Final = "stop"


def _secret(key: str | None) -> Secret | None:
    from wbtune._data.secret import Secret  # noqa: PLC0415 - in the helper only

    return None if key is None else Secret(key)


class Rows(Protocol):
    """Where rows go; as `Outbox`."""

    def log(self, run: Any, row: dict[str, Any], step: int) -> None:
        """Log a row, now or when `send` is called."""

    def send(self) -> dict[int, int]:
        """Send them all; how many rows were lost, by ``id(run)``."""


def _workers(name: str) -> Executor:
    return ThreadPoolExecutor(AT_ONCE, name)


@dataclass(frozen=True, slots=True)
class Backend:
    """By what a `Helper` carries out its messages: by wandb, if nothing else is given.

    Attributes:
        open_run: as `runs.open_run`.
        close_run: as `runs.close_run`.
        no_uploads: why nothing can be uploaded; empty when it can.
        log_media: as `media.log_media`.
        rows: where rows go.
        workers: makes the threads that open, or close, runs.
        most_open: runs that can be open at the same time; each holds files.
    """

    open_run: Callable[..., Any] = opening.open_run
    close_run: Callable[..., None] = closing.close_run
    no_uploads: str = ""
    log_media: Callable[..., tuple[dict[str, Any], dict[str, str]]] = media.log_media
    rows: Callable[[], Rows] = Outbox
    workers: Callable[[str], Executor] = _workers
    most_open: float = math.inf


@dataclass(slots=True)
class _Stream:
    """One run, and what arrived for it while it was being opened or closed.

    Attributes:
        spec: as it was opened.
        run: None when it could not be.
        busy: it is being opened or closed, or waits for that.
        steps: of its rows.
        backlog: what came meanwhile.
        dropped: rows that are in no run.
        left_out: metrics of which that was said.
        uploads: checkpoints that may not have arrived, with what knows of that.
        shared: checkpoints that shared its opening, which it had only for them.
    """

    spec: run_spec.RunSpec
    run: Run | None = None
    busy: bool = True
    steps: steps.Steps = field(default_factory=steps.Steps)
    backlog: deque[Message | Unread] = field(default_factory=deque)
    dropped: int = 0
    left_out: set[str] = field(default_factory=set)
    uploads: list[tuple[SavedCheckpoint, Any]] = field(default_factory=list)
    shared: int = 0


def _all(events: deque[Callable[[], None]]) -> None:
    while events:  # what was carried out is let go
        events.popleft()()


def _nothing() -> None:
    pass


class Helper:
    """Carries out the messages of each run in their order.

    Only the thread of `serve` logs. Opening and closing wait for a server, so they are
    done by a few threads at the side, while the other runs go on.

    Args:
        say: told what a person should know: ``say(key, text)``.
        tell: told ``done=``, how many more messages of each run were carried out, and
            ``lost=``, how many rows of a run are in no run.
        means: by what it is done.

    Attributes:
        progress: grows with all that is done.
    """

    def __init__(
        self,
        say: Callable[[str, str], None],
        tell: Callable[..., None] = lambda **_: None,
        backend: Backend | None = None,
    ) -> None:
        self.progress = 0
        self._say = say
        self._tell = tell
        self._backend = backend or Backend()
        self._done: Counter[str] = Counter()
        self._streams: dict[str, _Stream] = {}
        self._rows = self._backend.rows()
        self._events: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # Each their own: those that close may wait for a server that is away.
        self._openers = self._backend.workers("wbtune-open")
        self._closers = self._backend.workers("wbtune-close")
        self._calm = threading.Condition()
        self._ending = 0
        self._open = 0
        self._waiting: deque[Start] = deque()
        self._rest: list[UploadRest] = []
        self._rest_until = 0.0
        self._closed_runs = 0

    def has(self, key: str) -> bool:
        """Is there a run of this name, open or on its way?"""
        return key in self._streams

    def serve(self, stream: IO[bytes], when_over: Callable[[], None] = _nothing) -> None:
        """Until the messages end and every run is closed.

        Args:
            stream: the messages.
            when_over: called when they have ended.
        """
        reader = threading.Thread(target=self._read, args=(stream,), daemon=True)
        reader.start()
        listening = True
        while listening or self._streams:
            # In a flood they are never all done; but what is, is not remembered any more.
            if self._events.empty() or self._done.total() >= TOLD_TOGETHER:
                self._send()
                if self._done:
                    self._tell(done=dict(self._done))
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
        self._openers.shutdown()
        self._closers.shutdown()
        for rest in () if self._backend.no_uploads else self._rest:
            self._upload_rest(rest)

    def _upload_rest(self, message: UploadRest) -> None:
        from wbtune._data.secret import Secret  # noqa: PLC0415 - in the helper only

        def upload() -> None:
            try:
                closing.upload_rest(message.directory, message.base_url, Secret(message.secret))
            except wandb_media.gave_up_waiting():
                pass  # its time was up; the driver says what is left
            except BaseException as error:  # noqa: BLE001 - W&B's command may even exit: say it
                self._say("", f"not all was uploaded: {type(error).__name__}: {error}")

        # It has no time limit of its own; what it leaves stays marked on disk.
        thread = threading.Thread(target=upload, daemon=True)
        thread.start()
        thread.join(max(0.0, self._rest_until - time.monotonic()))

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
        self._events.put(partial(_all, events))

    def take(self, message: Message | Unread) -> None:
        """Carry out one message, or keep it until the run is ready for it."""
        stream = self._streams.get(message.key)
        if stream is not None and stream.busy:
            stream.backlog.append(message)
        elif isinstance(message, Unread):
            self._unread(stream, message)
        else:
            self._carry_out(stream, message)

    def _carry_out(self, stream: _Stream | None, message: Message) -> None:
        if not isinstance(message, Log):
            self._send()  # what is done now may be done by another thread
        match message:  # what is submitted is done when its thread is
            case Start() if stream is None:
                self._start(message)
                return
            case Log() if stream is not None:
                self._log(stream, message)
            case Configure() if stream is not None:
                self._configure(stream, message)
            case Upload():
                self._take_upload(stream, message)
                return
            case Log() | Configure():
                self._not_open(message)
            case End() if stream is not None:
                self._end(stream, message)
                return
            case Start() | End():
                pass  # open, or closed already
        self._done[message.key] += 1

    def _unread(self, stream: _Stream | None, message: Unread) -> None:
        """What could not be read is missing in its run, which says so and ends as it did."""
        key, what, why = message
        if message.ending is not None:
            self._say(key, f"how it ended could not be read in full: {why}")
            self.take(End(key, message.ending))
            return
        match what:
            case "Log":
                self._lose(key, stream, f"a row was lost: it could not be read: {why}")
            case "Start":
                self._say(key, f"could not be opened: {why}")
                self._streams.setdefault(key, _Stream(run_spec.RunSpec({}), busy=False))
                self._open += 1
            case _:
                self._say(key, f"{what} was left out: {why}")
        if key or what != UploadRest.__name__:
            self._done[key] += 1

    def _lose(self, key: str, stream: _Stream | None, text: str) -> None:
        """A row is in no run: say it, and count it."""
        self._say(key, text)
        if stream is None:
            self._tell(lost=1, key=key)
        else:
            stream.dropped += 1

    def _not_open(self, message: Log | Configure) -> None:
        text = "a result came for a run that is not open; left out"
        if isinstance(message, Log):
            self._lose(message.key, None, text)
        else:
            self._say(message.key, text)

    def _send(self) -> None:
        lost = self._rows.send()
        if lost:
            for stream in self._streams.values():
                stream.dropped += lost.get(id(stream.run), 0)

    def _start(self, message: Start) -> None:
        self._streams[message.key] = _Stream(message.spec)
        if self._open >= self._backend.most_open:
            self._say(
                "",
                f"{self._open} runs are open at the same time, and W&B has several files open for "
                "each: with this limit of open files there is room for no more. Further runs "
                "wait in memory until others have ended. Raise the hard limit (ulimit -Hn).",
            )
            self._waiting.append(message)
            return
        self._open += 1
        self._openers.submit(self._opening, message)

    def _end(self, stream: _Stream, message: End) -> None:
        stream.busy = True
        with self._calm:
            self._ending += 1
        self._closers.submit(self._closing, stream, message)

    def _opening(self, message: Start) -> None:
        with self._calm:  # else hundreds of short runs are opened before the first is closed
            self._calm.wait_for(lambda: self._ending < AT_ONCE, timeouts.OPENING_WAITS_S)
        run = None
        try:
            run = self._backend.open_run(
                message.spec,
                _secret(message.secret),
                for_trial_elsewhere=True,
                on_stop=partial(self._say, message.key, STOP),
            )
            opening.define_metrics(run, message.spec)
        except BaseException as error:  # noqa: BLE001 - a hook may even exit: say it, go on
            what = "could not be opened" if run is None else "has no x-axis"
            self._say(message.key, f"{what}: {type(error).__name__}: {error}")
        self._events.put(partial(self._opened, message.key, run))

    def _opened(self, key: str, run: Run | None) -> None:
        stream = self._streams[key]
        self._done[key] += 1
        stream.run, stream.busy = run, False
        if run is not None:
            stream.steps = steps.Steps(run.starting_step)
        self._work_off(key, stream.backlog)

    def _log(self, stream: _Stream, message: Log) -> None:
        if stream.run is None:
            stream.dropped += 1
            return
        try:
            row = message.row
            step = stream.steps.next(row.get(run_spec.X_AXIS))
            if media.has_media(row):
                self._send()  # a video takes seconds, which no other row waits for
                row, left_out = self._backend.log_media(stream.run, row, stream.spec, step)
                for key in left_out.keys() - stream.left_out:
                    self._say(message.key, f"left out {key} ({left_out[key]})")
                stream.left_out |= left_out.keys()
            if message.config:
                opening.update_config(stream.run, message.config)
            self._rows.log(stream.run, row, step)
        except Exception as error:  # noqa: BLE001 - whatever W&B raises: count it, go on
            self._lose(message.key, stream, f"a row was lost: {type(error).__name__}: {error}")

    def _configure(self, stream: _Stream, message: Configure) -> None:
        try:
            if stream.run is not None:
                opening.update_config(stream.run, message.config)
        except Exception as error:  # noqa: BLE001 - whatever W&B raises: say it, go on
            self._say(message.key, f"the config was not updated: {type(error).__name__}: {error}")

    def _take_upload(self, stream: _Stream | None, message: Upload) -> None:
        if self._backend.no_uploads:
            reason = RuntimeError(self._backend.no_uploads)
            self._not_uploaded(message.key, message.checkpoint, reason)
            self._done[message.key] += 1
        elif stream is not None:
            stream.busy = True  # the run's own rows wait; the other runs go on
            self._closers.submit(self._uploading, stream, message)
        else:
            stream = self._streams[message.key] = _Stream(message.reopen.spec)
            self._closers.submit(self._upload_reopened, stream, message)

    def _uploading(self, stream: _Stream, message: Upload) -> None:
        self._upload(stream, message)
        self._events.put(partial(self._uploaded, message.key))

    def _upload(self, stream: _Stream, message: Upload) -> None:
        checkpoint = message.checkpoint
        self._hear_of_uploads(message.key, stream, last=False)
        try:
            if stream.run is None:
                raise RuntimeError("its run could not be opened")  # noqa: TRY301 - said below
            artifact = closing.log_checkpoint(stream.run, checkpoint)
            stream.uploads.append((checkpoint, artifact))
        except BaseException as error:  # noqa: BLE001 - a hook may even exit: say it, go on
            self._not_uploaded(message.key, checkpoint, error)

    def _upload_reopened(self, stream: _Stream, message: Upload) -> None:
        """Open a run that has ended for an upload."""
        try:
            if stream.run is None:
                stream.run = self._backend.open_run(
                    message.reopen.spec, _secret(message.secret), for_trial_elsewhere=True
                )
        except BaseException as error:  # noqa: BLE001 - a hook may even exit: say it, go on
            self._say(message.key, f"could not be opened: {type(error).__name__}: {error}")
        self._upload(stream, message)
        self._events.put(partial(self._uploaded_reopened, stream, message))

    def _uploaded_reopened(self, stream: _Stream, message: Upload) -> None:
        following = stream.backlog[0] if stream.backlog else None
        if isinstance(following, Upload):  # open for them all
            stream.backlog.popleft()
            stream.shared += 1
            self._closers.submit(self._upload_reopened, stream, following)
        else:
            self._closers.submit(self._leaving, stream, message)

    def _leaving(self, stream: _Stream, message: Upload) -> None:
        """Leave the run as it was."""
        try:
            if stream.run is not None:
                closing.close_reopened(stream.run, message.reopen.exit_code)
        except BaseException as error:  # noqa: BLE001 - a hook may even exit: say it, go on
            self._say(message.key, f"could not be closed: {type(error).__name__}: {error}")
        self._hear_of_uploads(message.key, stream, last=True)
        self._events.put(partial(self._closed, message.key))

    def _hear_of_uploads(self, key: str, stream: _Stream, *, last: bool) -> None:
        """Delete the copies of the checkpoints that have arrived; say which have not.

        A copy that is left tells the driver, if this process is killed, that it has not arrived.

        Args:
            key: the run.
            stream: the run's.
            last: the run is closed, which has waited for them: now it is known.
        """
        deadline = time.monotonic() + timeouts.UPLOAD_RESULT_S
        waiting = []
        for checkpoint, artifact in stream.uploads:
            try:
                assert stream.run is not None  # noqa: S101 - it has uploads
                if not (last or closing.upload_has_ended(artifact)):
                    waiting.append((checkpoint, artifact))
                    continue
                left = max(0.0, deadline - time.monotonic())
                closing.wait_for_upload(stream.run, artifact, left)
                checkpoint.discard()
            except BaseException as error:  # noqa: BLE001 - whatever W&B raises: say it, go on
                self._not_uploaded(key, checkpoint, error)
        stream.uploads = waiting

    def _not_uploaded(self, key: str, checkpoint: SavedCheckpoint, error: BaseException) -> None:
        what = f"{checkpoint.source} ({checkpoint.name}) was not uploaded"
        self._say(key, f"{what}: {type(error).__name__}: {error}")
        checkpoint.discard()

    def _uploaded(self, key: str) -> None:
        stream = self._streams[key]
        self._done[key] += 1
        stream.busy = False
        self._work_off(key, stream.backlog)

    def _closing(self, stream: _Stream, message: End) -> None:
        dropped = stream.dropped + message.dropped
        try:
            if stream.run is not None:
                notes = {**message.notes, "wbtune/dropped": dropped}
                self._backend.close_run(stream.run, message.outcome, notes)
        except BaseException as error:  # noqa: BLE001 - a hook may even exit: say it, go on
            self._say(message.key, f"could not be closed: {type(error).__name__}: {error}")
        self._hear_of_uploads(message.key, stream, last=True)
        if dropped:
            self._tell(lost=dropped, key=message.key)
        with self._calm:
            self._ending -= 1
            self._calm.notify_all()
        self._events.put(partial(self._closed, message.key, opened=True))

    def _closed(self, key: str, *, opened: bool = False) -> None:
        stream = self._streams.pop(key)
        self._done[key] += 1 + stream.shared
        self._closed_runs += 1
        if self._closed_runs % COLLECT_EVERY == 0:
            gc.collect()
        if opened:
            self._open -= 1
            if self._waiting:
                self._open += 1
                self._openers.submit(self._opening, self._waiting.popleft())
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
