"""The helper process of a driver: owns the experiment's runs and its one wandb-core.

It gets orders for many runs on stdin (:mod:`wbtune.writer` is the other end), carries out
those of each run in their order, and says which it has carried out. When stdin ends,
whatever ended it, the runs that are still open are closed with what they were given.
"""

# Over 250 lines: the orders, and what carries them out.

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import pickle
import queue
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

from wbtune import _compat, media, runs
from wbtune.checkpoints import SavedCheckpoint
from wbtune.outbox import Outbox
from wbtune.outcomes import Kind, Outcome

if TYPE_CHECKING:
    from wandb import Run

    from wbtune.credentials import Secret

logger = logging.getLogger("wbtune")

#: Runs that are opened or closed at the same time; more would storm the server.
AT_ONCE: Final = 8

#: Seconds for which runs that are to be opened give way to those that are being closed; no
#: longer, because these may wait for a server that is away.
GIVE_WAY_S: Final = 1.0

#: Seconds to ask what became of a run's artifacts when it is closed.
KNOWN_S: Final = 5.0

#: Closed runs are garbage, in cycles; by itself, Python would let hundreds of them gather.
COLLECT_EVERY: Final = 32

#: What the helper says of a run instead of a text for people.
STOP: Final = "stop"


@dataclass(frozen=True, slots=True)
class Start:
    """Open a run. ``secret`` is the key in clear: on its way and in memory, nowhere else."""

    key: str
    spec: runs.RunSpec
    secret: str | None = field(default=None, repr=False)


class Log(NamedTuple):
    """Log one row and update the config."""

    # Most orders are this one, and dataclasses are slow to pickle.
    key: str
    row: dict[str, Any]
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Configure:
    """Update the config."""

    key: str
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Visit:
    """How a run that has ended is opened once more, and what it is left with."""

    spec: runs.RunSpec
    exit_code: int


@dataclass(frozen=True, slots=True)
class Upload:
    """Log a checkpoint as an artifact, and delete the copy.

    It may come after its run's end: because it was fetched from a remote storage, or
    because its trial's own process wrote the run. Then the run is visited.
    """

    key: str
    checkpoint: SavedCheckpoint
    visit: Visit
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class End:
    """Close a run."""

    key: str
    outcome: Outcome
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UploadRest:
    """When every run is closed: upload what an outage of the server has left on disk."""

    directory: str
    base_url: str
    seconds: float
    secret: str = field(repr=False)


Message = Start | Log | Configure | Upload | End


def pack(message: Message | UploadRest) -> tuple[str, bytes]:
    """One message for the way, which carries lists of them: whose it is, and itself."""
    key = "" if isinstance(message, UploadRest) else message.key
    return key, pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)


# --- the process ------------------------------------------------------------------------


def helper_main() -> None:
    """The helper process: orders on stdin, what has to be said on stdout."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # whatever prints here must not end up among our own words
    write = partial(_write, stream, threading.Lock())

    def say(key: str, text: str) -> None:
        write({"key": key, "text": text})

    logger.addHandler(_Forward(say))
    logger.propagate = False
    try:
        runs.prepare_for_many()
    except Exception as error:  # noqa: BLE001 - then each run tries by itself, and says its own
        say("", f"wandb does not start: {type(error).__name__}: {error}")
    helper = Helper(say, runs.open_run, runs.close_run, lambda done: write({"done": done}))
    helper.serve(sys.stdin.buffer)


class _Forward(logging.Handler):
    """Has the helper's own warnings said by the driver, where somebody reads them."""

    def __init__(self, say: Callable[[str, str], None]) -> None:
        super().__init__()
        self._tell = say

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        self._tell("", record.getMessage().removeprefix("wbtune: "))


def _write(stream: IO[str], lock: threading.Lock, said: Mapping[str, Any]) -> None:
    with lock, contextlib.suppress(OSError):  # the driver is gone: nobody listens
        stream.write(json.dumps(said) + "\n")


def _secret(key: str | None) -> Secret | None:
    from wbtune.credentials import Secret  # noqa: PLC0415 - in the helper only

    return None if key is None else Secret(key)


@dataclass(slots=True)
class _Stream:
    """One run, and what arrived for it while it was being opened or closed."""

    spec: runs.RunSpec
    run: Run | None = None
    busy: bool = True
    steps: runs.Steps = field(default_factory=runs.Steps)
    backlog: deque[Message] = field(default_factory=deque)
    dropped: int = 0
    left_out: set[str] = field(default_factory=set)
    uploads: list[tuple[SavedCheckpoint, Any]] = field(default_factory=list)


def _all(events: deque[Callable[[], None]]) -> None:
    while events:  # what was carried out is let go
        events.popleft()()


class Helper:
    """The helper's end: carries out the orders of each run in their order.

    Only the thread of `serve` logs. Opening and closing wait for a server, so they are
    done by a few threads at the side, while the other runs go on.

    Args:
        say: told what a person should know: ``say(key, text)``.
        open_run: as `runs.open_run`.
        close_run: as `runs.close_run`.
        tell_done: told how many more orders of each run were carried out.
    """

    def __init__(
        self,
        say: Callable[[str, str], None],
        open_run: Callable[..., Any],
        close_run: Callable[..., None],
        tell_done: Callable[[dict[str, int]], None] = lambda _: None,
    ) -> None:
        self._say = say
        self._open_run = open_run
        self._close_run = close_run
        self._tell_done = tell_done
        self._done: Counter[str] = Counter()
        self._streams: dict[str, _Stream] = {}
        self._outbox = Outbox()
        self._events: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # Each their own: those that close may wait for a server that is away.
        self._openers = ThreadPoolExecutor(AT_ONCE, "wbtune-open")
        self._closers = ThreadPoolExecutor(AT_ONCE, "wbtune-close")
        self._calm = threading.Condition()
        self._ending = 0
        self._rest: UploadRest | None = None
        self._rest_until = 0.0
        self._closed_runs = 0

    def serve(self, orders: IO[bytes]) -> None:
        """Until ``orders`` ends and every run is closed."""
        reader = threading.Thread(target=self._read, args=(orders,), daemon=True)
        reader.start()
        listening = True
        while listening or self._streams:
            if self._events.empty():
                self._outbox.send()
                if self._done:
                    self._tell_done(dict(self._done))
                    self._done.clear()
            event = self._events.get()
            if event is not None:
                event()
                continue
            listening = False
            for key in list(self._streams):
                # Nobody said how these ended: the driver was ended itself.
                self.take(End(key, Outcome(Kind.INTERRUPTED, "the driver ended")))
        self._openers.shutdown()
        self._closers.shutdown()
        if self._rest is not None:
            self._upload_rest(self._rest)

    def _upload_rest(self, message: UploadRest) -> None:
        from wbtune.credentials import Secret  # noqa: PLC0415 - in the helper only

        def upload() -> None:
            try:
                runs.upload_rest(message.directory, message.base_url, Secret(message.secret))
            except _compat.gave_up_waiting():
                pass  # its time was up; the driver says what is left
            except BaseException as error:  # noqa: BLE001 - W&B's command may even exit: say it
                self._say("", f"not all was uploaded: {type(error).__name__}: {error}")

        # It has no time limit of its own; what it leaves stays marked on disk.
        thread = threading.Thread(target=upload, daemon=True)
        thread.start()
        thread.join(max(0.0, self._rest_until - time.monotonic()))

    def _read(self, orders: IO[bytes]) -> None:
        with contextlib.suppress(EOFError, pickle.UnpicklingError):  # cut off by a kill
            while True:
                self._receive(pickle.load(orders))  # noqa: S301 - from our own parent
        self._events.put(None)

    def _receive(self, batch: list[tuple[str, bytes]]) -> None:
        events: deque[Callable[[], None]] = deque()
        for key, packed in batch:
            try:
                message = pickle.loads(packed)  # noqa: S301 - from our own parent
            except BaseException as error:  # noqa: BLE001 - a class that is not importable here
                self._say("", f"an order is left out: {type(error).__name__}: {error}")
                events.append(partial(self._done.update, [key]))
                continue
            if isinstance(message, UploadRest):
                self._rest = message
                self._rest_until = time.monotonic() + message.seconds
            else:
                events.append(partial(self.take, message))
        # One of all, because each makes the two threads take turns.
        self._events.put(partial(_all, events))

    def take(self, message: Message) -> None:
        """Carry out one order, or keep it until the run is ready for it."""
        stream = self._streams.get(message.key)
        if stream is not None and stream.busy:
            stream.backlog.append(message)
            return
        if not isinstance(message, Log):
            self._outbox.send()  # what is done now may be done by another thread
        match message:  # what is submitted is done when its thread is
            case Start() if stream is None:
                self._streams[message.key] = _Stream(message.spec)
                self._openers.submit(self._opening, message)
                return
            case Log() if stream is not None:
                self._log(stream, message)
            case Configure() if stream is not None:
                self._configure(stream, message)
            case Upload():
                self._take_upload(stream, message)
                return
            case Log() | Configure():
                self._say(message.key, "a result came for a run that is not open; left out")
            case End() if stream is not None:
                stream.busy = True
                with self._calm:
                    self._ending += 1
                self._closers.submit(self._closing, stream, message)
                return
            case Start() | End():
                pass  # open, or closed already
        self._done[message.key] += 1

    def _opening(self, message: Start) -> None:
        with self._calm:  # else hundreds of short runs are opened before the first is closed
            self._calm.wait_for(lambda: self._ending < AT_ONCE, GIVE_WAY_S)
        run = None
        try:
            run = self._open_run(
                message.spec,
                _secret(message.secret),
                for_trial_elsewhere=True,
                on_stop=partial(self._say, message.key, STOP),
            )
            runs.define_metrics(run, message.spec)
        except BaseException as error:  # noqa: BLE001 - a hook may even exit: say it, go on
            what = "could not be opened" if run is None else "has no x-axis"
            self._say(message.key, f"{what}: {type(error).__name__}: {error}")
        self._events.put(partial(self._opened, message.key, run))

    def _opened(self, key: str, run: Run | None) -> None:
        stream = self._streams[key]
        self._done[key] += 1
        stream.run, stream.busy = run, False
        if run is not None:
            stream.steps = runs.Steps(run.starting_step)
        self._work_off(key, stream.backlog)

    def _log(self, stream: _Stream, message: Log) -> None:
        if stream.run is None:
            stream.dropped += 1
            return
        try:
            row = message.row
            step = stream.steps.next(row.get(runs.X_AXIS))
            if media.has_media(row):
                self._outbox.send()  # a video takes seconds, which no other row waits for
                row, left_out = media.into_run(stream.run, row, stream.spec, step)
                for key in left_out.keys() - stream.left_out:
                    self._say(message.key, f"left out {key} ({left_out[key]})")
                stream.left_out |= left_out.keys()
            if message.config:
                runs.update_config(stream.run, message.config)
            self._outbox.log(stream.run, row, step)
        except Exception as error:  # noqa: BLE001 - whatever W&B raises: count it, go on
            stream.dropped += 1
            self._say(message.key, f"a row was lost: {type(error).__name__}: {error}")

    def _configure(self, stream: _Stream, message: Configure) -> None:
        try:
            if stream.run is not None:
                runs.update_config(stream.run, message.config)
        except Exception as error:  # noqa: BLE001 - whatever W&B raises: say it, go on
            self._say(message.key, f"the config was not updated: {type(error).__name__}: {error}")

    def _take_upload(self, stream: _Stream | None, message: Upload) -> None:
        if stream is not None:
            stream.busy = True  # the run's own rows wait; the other runs go on
            self._closers.submit(self._uploading, stream, message)
        else:
            stream = self._streams[message.key] = _Stream(message.visit.spec)
            self._closers.submit(self._visiting, stream, message)

    def _uploading(self, stream: _Stream, message: Upload) -> None:
        self._upload(stream, message)
        self._events.put(partial(self._uploaded, message.key))

    def _upload(self, stream: _Stream, message: Upload) -> None:
        checkpoint = message.checkpoint
        try:
            if stream.run is None:
                raise RuntimeError("its run could not be opened")  # noqa: TRY301 - said below
            artifact = runs.log_checkpoint(stream.run, checkpoint)
            stream.uploads.append((checkpoint, artifact))
        except BaseException as error:  # noqa: BLE001 - a hook may even exit: say it, go on
            self._not_uploaded(message.key, checkpoint, error)
        finally:
            checkpoint.discard()

    def _visiting(self, stream: _Stream, message: Upload) -> None:
        """Open a run that has ended for an upload."""
        try:
            if stream.run is None:
                stream.run = self._open_run(
                    message.visit.spec, _secret(message.secret), for_trial_elsewhere=True
                )
        except BaseException as error:  # noqa: BLE001 - a hook may even exit: say it, go on
            self._say(message.key, f"could not be opened: {type(error).__name__}: {error}")
        self._upload(stream, message)
        self._events.put(partial(self._visited, stream, message))

    def _visited(self, stream: _Stream, message: Upload) -> None:
        following = stream.backlog[0] if stream.backlog else None
        if isinstance(following, Upload):  # one visit for them all
            stream.backlog.popleft()
            self._done[message.key] += 1
            self._closers.submit(self._visiting, stream, following)
        else:
            self._closers.submit(self._leaving, stream, message)

    def _leaving(self, stream: _Stream, message: Upload) -> None:
        """Leave the run as it was."""
        try:
            if stream.run is not None:
                runs.leave_run(stream.run, message.visit.exit_code)
        except BaseException as error:  # noqa: BLE001 - a hook may even exit: say it, go on
            self._say(message.key, f"could not be closed: {type(error).__name__}: {error}")
        self._hear_of_uploads(message.key, stream)
        self._events.put(partial(self._closed, message.key))

    def _hear_of_uploads(self, key: str, stream: _Stream) -> None:
        """When the run is closed, because that has waited for them; now it is known."""
        deadline = time.monotonic() + KNOWN_S
        for checkpoint, artifact in stream.uploads:
            try:
                assert stream.run is not None  # noqa: S101 - it has uploads
                left = max(0.0, deadline - time.monotonic())
                runs.wait_for_upload(stream.run, artifact, left)
            except BaseException as error:  # noqa: BLE001 - whatever W&B raises: say it, go on
                self._not_uploaded(key, checkpoint, error)

    def _not_uploaded(self, key: str, checkpoint: SavedCheckpoint, error: BaseException) -> None:
        what = f"{checkpoint.source} ({checkpoint.name}) was not uploaded"
        self._say(key, f"{what}: {type(error).__name__}: {error}")

    def _uploaded(self, key: str) -> None:
        stream = self._streams[key]
        self._done[key] += 1
        stream.busy = False
        self._work_off(key, stream.backlog)

    def _closing(self, stream: _Stream, message: End) -> None:
        notes = {**message.notes, "wbtune/dropped": stream.dropped}
        try:
            if stream.run is not None:
                self._close_run(stream.run, message.outcome, notes)
        except BaseException as error:  # noqa: BLE001 - a hook may even exit: say it, go on
            self._say(message.key, f"could not be closed: {type(error).__name__}: {error}")
        self._hear_of_uploads(message.key, stream)
        with self._calm:
            self._ending -= 1
            self._calm.notify_all()
        self._events.put(partial(self._closed, message.key))

    def _closed(self, key: str) -> None:
        backlog = self._streams.pop(key).backlog
        self._done[key] += 1
        self._closed_runs += 1
        if self._closed_runs % COLLECT_EVERY == 0:
            gc.collect()
        self._work_off(key, backlog)

    def _work_off(self, key: str, backlog: deque[Message]) -> None:
        while backlog:
            self.take(backlog.popleft())
            stream = self._streams.get(key)
            if stream is not None and stream.busy:
                # It is being opened or closed again: the rest waits for that.
                if stream.backlog is not backlog:
                    stream.backlog.extend(backlog)
                return
