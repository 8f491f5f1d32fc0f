"""Many runs, one W&B service, off Tune's loop: an ordered stream of start, log, end.

The driver has a `Writer`: putting something on its queue is all that Tune's loop ever
does. A thread takes what has gathered, several times a second, filters and sanitises it,
and sends it down a pipe to one helper process, which owns the runs and the one wandb-core
of the experiment.

A process, not a thread, because it leaves the driver alone in every way: `wandb.run` and
the user's own core, the interpreter's lock, signals (it has its own session, so Ctrl-C
does not reach it). And when the driver dies, even by SIGKILL, the pipe ends, and the
helper closes every run with what it was given.
"""
# Over 250 lines: both ends of one pipe, which are read together or not at all.

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from wbtune import runs
from wbtune.checkpoints import SavedCheckpoint
from wbtune.filtering import Router
from wbtune.outcomes import Kind, Outcome
from wbtune.sanitize import is_media

if TYPE_CHECKING:
    from wandb import Run

    from wbtune.credentials import Secret

logger = logging.getLogger("wbtune")

#: Seconds between two batches: with `runs.FLUSH_S`, a row is on disk within a second.
BATCH_S: Final = 0.2
#: Runs that are opened or closed at the same time; more would storm the server.
AT_ONCE: Final = 8

#: What the helper says of a run instead of a text for people.
STOP: Final = "stop"

GONE: Final = "the helper process is gone (killed?); nothing more is logged"

# The helper needs the modules below this one but not the package's doors: importing
# `wbtune` proper would import Ray, which takes it 1.5 s and 100 MB.
_HELPER: Final = (
    "import sys, types; package = types.ModuleType('wbtune'); "
    "package.__path__ = [sys.argv[1]]; sys.modules['wbtune'] = package; "
    "from wbtune.writer import helper_main; helper_main()"
)


@dataclass(frozen=True, slots=True)
class Start:
    """Open a run. ``secret`` is the key in clear: it exists in the pipe only."""

    key: str
    spec: runs.RunSpec
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Log:
    """Log one row and update the config."""

    key: str
    row: dict[str, Any]
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Configure:
    """Update the config."""

    key: str
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Upload:
    """Log a checkpoint as an artifact, and delete the copy."""

    key: str
    checkpoint: SavedCheckpoint


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
    secret: str = field(repr=False)


Message = Start | Log | Configure | Upload | End


def pack(message: Message | UploadRest) -> bytes:
    """One message for the pipe, which carries lists of them."""
    return pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)


# --- the driver's end -------------------------------------------------------------------


class Writer:
    """The driver's end: takes orders at once, and has them carried out in order.

    Runs on: driver. It is never pickled; the callback that owns it leaves it out.

    Attributes:
        stops: the runs whose "Stop run" somebody has pressed at W&B.
    """

    def __init__(self) -> None:
        self._orders: deque[Callable[[], Iterator[Message | UploadRest]]] = deque()
        self._routers: dict[str, Router] = {}
        self._told: set[tuple[str, str]] = set()
        self.stops: set[str] = set()
        self._wake = threading.Event()
        self._closing = False
        self._process: subprocess.Popen[bytes] | None = None
        self._threads: list[threading.Thread] = []

    def launch(self, log_file: Path | None = None) -> None:
        """Start the helper process, if it is not running; returns before it is ready."""
        if self._process is not None:
            return
        errors: Any = subprocess.DEVNULL
        with contextlib.ExitStack() as stack:
            if log_file is not None:
                # Where no log can be kept, runs can't either; each of them says so.
                with contextlib.suppress(OSError):
                    log_file.parent.mkdir(parents=True, exist_ok=True)
                    errors = stack.enter_context(log_file.open("ab"))
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and code
                [sys.executable, "-P", "-c", _HELPER, str(Path(__file__).parent)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                env=_environment(),
            )
        self._threads = [
            threading.Thread(target=self._send, name="wbtune-send", daemon=True),
            threading.Thread(target=self._listen, name="wbtune-listen", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def start(self, key: str, spec: runs.RunSpec, router: Router, secret: Secret | None) -> None:
        """Open a run; whatever comes later for ``key`` goes into it."""

        def order() -> Iterator[Message]:
            self._routers[key] = router
            yield Start(key, spec, None if secret is None else secret.reveal())

        self._orders.append(order)

    def log(self, key: str, result: Mapping[str, Any]) -> None:
        """Log one result. This is what Tune's loop does for each: a few microseconds."""
        self._orders.append(partial(self._row, key, dict(result)))

    def configure(self, key: str, config: Mapping[str, Any]) -> None:
        """Update a run's config."""
        message = Configure(key, dict(config))
        self._orders.append(lambda: iter((message,)))

    def upload(self, key: str, checkpoint: SavedCheckpoint) -> None:
        """Log a checkpoint as an artifact."""
        message = Upload(key, checkpoint)
        self._orders.append(lambda: iter((message,)))

    def end(self, key: str, outcome: Outcome, notes: Mapping[str, Any] | None = None) -> None:
        """Close a run.

        Args:
            key: the run.
            outcome: how it ended.
            notes: more for its summary.
        """

        def order() -> Iterator[Message]:
            router = self._routers.pop(key, None)
            if router is not None and router.reserved:
                self._tell(key, f"W&B keeps {sorted(router.reserved)} for itself: not logged")
            yield End(key, outcome, dict(notes or {}))

        self._orders.append(order)
        self._wake.set()

    def upload_rest(self, directory: str, base_url: str, secret: Secret) -> None:
        """When every run is closed, upload what an outage of the server has left on disk."""
        self._orders.append(lambda: iter((UploadRest(directory, base_url, secret.reveal()),)))

    def close(self, timeout: float) -> bool:
        """Have everything carried out, and end the helper.

        Args:
            timeout: seconds to wait for it.

        Returns:
            Whether all was carried out in time. If not, it is on disk.
        """
        process = self._process
        if process is None:
            return True
        self._closing = True
        self._wake.set()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return False
        finally:
            self._process = None
        return process.returncode == 0

    def _row(self, key: str, result: dict[str, Any]) -> Iterator[Message]:
        router = self._routers.get(key)
        if router is None:
            return
        row, config = router.route(result)
        for name in [name for name, value in row.items() if is_media(value)]:
            try:
                pickle.dumps(row[name])
            except Exception as error:  # noqa: BLE001 - W&B's objects raise what they like
                del row[name]
                self._tell(key, f"left out {name}: {error}")
        yield Log(key, row, config)

    def _send(self) -> None:
        process = self._process
        assert process is not None and process.stdin is not None  # noqa: PT018, S101 - `launch`
        pipe = process.stdin
        while True:
            closing = self._closing
            batch: list[bytes] = []
            while self._orders:
                try:
                    # Packed one by one: one that can't be is left out, not its neighbours.
                    batch.extend(pack(message) for message in self._orders.popleft()())
                except Exception as error:  # noqa: BLE001 - whatever it is: say it, go on
                    self._tell("", f"an order is left out: {type(error).__name__}: {error}")
            try:
                if batch:
                    pickle.dump(batch, pipe, protocol=pickle.HIGHEST_PROTOCOL)
                    pipe.flush()
            except OSError:
                self._tell("", GONE)
                return
            if closing:
                with contextlib.suppress(OSError):
                    pipe.close()
                return
            self._wake.wait(BATCH_S)
            self._wake.clear()

    def _listen(self) -> None:
        process = self._process
        assert process is not None and process.stdout is not None  # noqa: PT018, S101 - `launch`
        for line in process.stdout:
            said = json.loads(line)
            if said["text"] == STOP:
                self.stops.add(said["key"])
            else:
                self._tell(said["key"], said["text"])
        process.stdout.close()
        if not self._closing:
            self._tell("", GONE)

    def _tell(self, key: str, text: str) -> None:
        """Warn, once for each run and text."""
        if (key, text) not in self._told:
            self._told.add((key, text))
            logger.warning("wbtune%s: %s", f" (run {key})" if key else "", text)


def _environment() -> dict[str, str]:
    # The helper has its own core; and it has to find the modules of the user's hooks.
    environment = {k: v for k, v in os.environ.items() if k != "WANDB_SERVICE"}
    environment["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    return environment


# --- the helper's end -------------------------------------------------------------------


def helper_main() -> None:
    """The helper process: orders on stdin, what has to be said on stdout."""
    say = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # whatever prints here must not end up among our own words
    logger.addHandler(_Forward(partial(_say, say)))
    logger.propagate = False
    Helper(partial(_say, say), runs.open_run, runs.close_run).serve(sys.stdin.buffer)


class _Forward(logging.Handler):
    """Has the helper's own warnings said by the driver, where somebody reads them."""

    def __init__(self, say: Callable[[str, str], None]) -> None:
        super().__init__()
        self._tell = say

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        self._tell("", record.getMessage().removeprefix("wbtune: "))


def _say(stream: IO[str], key: str, text: str) -> None:
    with contextlib.suppress(OSError):  # the driver is gone: nobody listens
        stream.write(json.dumps({"key": key, "text": text}) + "\n")


@dataclass(slots=True)
class _Stream:
    """One run, and what arrived for it while it was being opened or closed."""

    spec: runs.RunSpec
    run: Run | None = None
    busy: bool = True
    steps: runs.Steps = field(default_factory=runs.Steps)
    backlog: deque[Message] = field(default_factory=deque)
    dropped: int = 0


class Helper:
    """The helper's end: carries out the orders of each run in their order.

    Only the thread of `serve` logs. Opening and closing wait for a server, so they are
    done by a few threads at the side, while the other runs go on.

    Args:
        say: told what a person should know: ``say(key, text)``.
        open_run: as `runs.open_run`.
        close_run: as `runs.close_run`.
    """

    def __init__(
        self,
        say: Callable[[str, str], None],
        open_run: Callable[..., Any],
        close_run: Callable[..., None],
    ) -> None:
        self._say = say
        self._open_run = open_run
        self._close_run = close_run
        self._streams: dict[str, _Stream] = {}
        self._events: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # Each their own: those that close may wait for a server that is away.
        self._openers = ThreadPoolExecutor(AT_ONCE, "wbtune-open")
        self._closers = ThreadPoolExecutor(AT_ONCE, "wbtune-close")
        self._rest: UploadRest | None = None

    def serve(self, orders: IO[bytes]) -> None:
        """Until ``orders`` ends and every run is closed."""
        reader = threading.Thread(target=self._read, args=(orders,), daemon=True)
        reader.start()
        listening = True
        while listening or self._streams:
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

        try:
            runs.upload_rest(message.directory, message.base_url, Secret(message.secret))
        except BaseException as error:  # noqa: BLE001 - W&B's command may even exit: say it
            self._say("", f"not all was uploaded: {type(error).__name__}: {error}")

    def _read(self, orders: IO[bytes]) -> None:
        with contextlib.suppress(EOFError, pickle.UnpicklingError):  # cut off by a kill
            while True:
                for packed in pickle.load(orders):  # noqa: S301 - from our own parent
                    self._receive(packed)
        self._events.put(None)

    def _receive(self, packed: bytes) -> None:
        try:
            message = pickle.loads(packed)  # noqa: S301 - from our own parent
        except Exception as error:  # noqa: BLE001 - a class that is not importable here
            self._say("", f"an order is left out: {type(error).__name__}: {error}")
            return
        if isinstance(message, UploadRest):
            self._rest = message
        else:
            self._events.put(partial(self.take, message))

    def take(self, message: Message) -> None:
        """Carry out one order, or keep it until the run is ready for it."""
        stream = self._streams.get(message.key)
        if stream is not None and stream.busy:
            stream.backlog.append(message)
            return
        match message:
            case Start():
                if stream is None:
                    self._streams[message.key] = _Stream(message.spec)
                    self._openers.submit(self._opening, message)
            case Log() if stream is not None:
                self._log(stream, message)
            case Configure() if stream is not None:
                self._configure(stream, message)
            case Upload() if stream is not None:
                stream.busy = True  # the run's own rows wait; the other runs go on
                self._closers.submit(self._uploading, stream, message)
            case Log() | Configure() | Upload():
                self._leave_out(message)
            case End() if stream is not None:
                stream.busy = True
                self._closers.submit(self._closing, stream, message)
            case End():
                pass  # closed already

    def _leave_out(self, message: Log | Configure | Upload) -> None:
        what = "a result"
        if isinstance(message, Upload):
            what = "a checkpoint"
            shutil.rmtree(message.checkpoint.folder, ignore_errors=True)
        self._say(message.key, f"{what} came for a run that is not open; left out")

    def _opening(self, message: Start) -> None:
        from wbtune.credentials import Secret  # noqa: PLC0415 - in the helper only

        secret = None if message.secret is None else Secret(message.secret)
        run = None
        try:
            run = self._open_run(
                message.spec,
                secret,
                for_trial_elsewhere=True,
                on_stop=partial(self._say, message.key, STOP),
            )
            runs.iteration_is_x_axis(run)
        except BaseException as error:  # noqa: BLE001 - a hook may even exit: say it, go on
            what = "could not be opened" if run is None else "has no x-axis"
            self._say(message.key, f"{what}: {type(error).__name__}: {error}")
        self._events.put(partial(self._opened, message.key, run))

    def _opened(self, key: str, run: Run | None) -> None:
        stream = self._streams[key]
        stream.run, stream.busy = run, False
        if run is not None:
            stream.steps = runs.Steps(run.starting_step)
        self._work_off(key, stream.backlog)

    def _log(self, stream: _Stream, message: Log) -> None:
        if stream.run is None:
            stream.dropped += 1
            return
        try:
            row, left_out = runs.to_media(message.row, stream.spec)
            for reason in left_out:
                self._say(message.key, f"left out {reason}")
            if message.config:
                runs.update_config(stream.run, message.config)
            step = stream.steps.next(row.get(runs.X_AXIS))
            stream.run.log(row, step=step, commit=True)
        except Exception as error:  # noqa: BLE001 - whatever W&B raises: count it, go on
            stream.dropped += 1
            self._say(message.key, f"a row was lost: {type(error).__name__}: {error}")

    def _configure(self, stream: _Stream, message: Configure) -> None:
        try:
            if stream.run is not None:
                runs.update_config(stream.run, message.config)
        except Exception as error:  # noqa: BLE001 - whatever W&B raises: say it, go on
            self._say(message.key, f"the config was not updated: {type(error).__name__}: {error}")

    def _uploading(self, stream: _Stream, message: Upload) -> None:
        try:
            if stream.run is not None:
                runs.log_checkpoint(stream.run, message.checkpoint)
        except BaseException as error:  # noqa: BLE001 - a hook may even exit: say it, go on
            self._say(message.key, f"a checkpoint is lost: {type(error).__name__}: {error}")
        finally:
            shutil.rmtree(message.checkpoint.folder, ignore_errors=True)
        self._events.put(partial(self._uploaded, message.key))

    def _uploaded(self, key: str) -> None:
        stream = self._streams[key]
        stream.busy = False
        self._work_off(key, stream.backlog)

    def _closing(self, stream: _Stream, message: End) -> None:
        notes = {**message.notes, "wbtune/dropped": stream.dropped}
        try:
            if stream.run is not None:
                self._close_run(stream.run, message.outcome, notes)
        except BaseException as error:  # noqa: BLE001 - a hook may even exit: say it, go on
            self._say(message.key, f"could not be closed: {type(error).__name__}: {error}")
        self._events.put(partial(self._closed, message.key))

    def _closed(self, key: str) -> None:
        backlog = self._streams.pop(key).backlog
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
