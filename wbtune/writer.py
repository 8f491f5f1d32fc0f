"""Many runs, one W&B service, off Tune's loop: an ordered stream of start, log, end.

The driver has a `Writer`: putting something on its queue is all that Tune's loop ever
does. A thread takes what has gathered, a few times a second, filters and sanitises it,
and sends it to one helper process (:mod:`wbtune.helper`).

A process, not a thread, because it leaves the driver alone in every way: `wandb.run` and
the user's own core, the interpreter's lock, signals (it has its own session, so Ctrl-C
does not reach it). And when the driver dies, even by SIGKILL, what is sent ends, and the
helper closes every run with what it was given.

Designs that were measured (`benchmarks/designs.py`: the same orders and batches each time; 8
trials of 1000 results that do nothing but report; two cores, offline). In one invocation, when
rows were not yet sent together (:mod:`wbtune.outbox`), as those of all three are since:

=================  =======================  =================  ==================================
design             wall time / no logging   driver's CPU, row  with 64 runs open
=================  =======================  =================  ==================================
a helper process   1.03 (0.99 to 1.08)      53 us              2 processes, 114 MB
a thread           1.11 (1.07 to 1.14)      407 us             1 process, 50 MB; 7 in the driver
an actor of Ray's  0.97 (0.92 to 1.03)      61 us              2 processes, 231 MB
=================  =======================  =================  ==================================

Each costs Tune's loop the same 10 to 12 us a result there. The thread's figure is its worst:
it was given its batches packed, as the process is. It holds the interpreter's lock for all that
it does, so the more the trials report, the more Tune waits for it; one that handled each row as
it came was worse, in an earlier prototype: 1.32. The actor is as fast as the process, but it
imports Ray, waits for a worker, and is killed together with its driver, when its runs still
have to be closed.

Processes get killed, and this one is the first that a machine short of memory would pick.
So what was sent is remembered until it is safe: another helper opens the unfinished runs
again and is sent the rest, less the rows that are on disk.
"""

# Over 250 lines: half of it is sending, the other half what happens when that fails.

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from wbtune import guard, media, runlog, runs
from wbtune.checkpoints import SavedCheckpoint
from wbtune.filtering import Router
from wbtune.helper import STOP, Configure, End, Log, Message, Start, Upload, UploadRest, Visit, pack
from wbtune.options import check_travels_alone
from wbtune.outcomes import Outcome

if TYPE_CHECKING:
    from wbtune.credentials import Secret

logger = logging.getLogger("wbtune")

#: Seconds that the helper has to get everything onto the disk, when nothing is uploaded.
ON_DISK_S: Final = 15.0
#: Seconds between two batches: with `runs.FLUSH_S`, a row is on disk within a second.
BATCH_S: Final = 0.4
#: Orders of a batch: of a flood, the helper begins with the first while more are made ready.
BATCH: Final = 500
#: Of many results that are filled in, how many are sent before the helper has carried them out.
AHEAD: Final = 10 * BATCH
#: Ends the messages of an order.
END: Final[Any] = object()
#: Put on the queue: what gives the messages, when it is their turn; None for "not yet".
Order = Callable[[], Iterator[Message | UploadRest | None]]
#: Helper processes that are started, one after the other, before logging is given up.
HELPERS: Final = 3
#: Seconds that the core of a killed helper may take to notice, and to be gone.
CORE_ENDS_S: Final = 10.0

#: When a row was reported, which W&B otherwise stamps itself; here it is also what tells
#: a row that is on disk from one that is not.
STAMP: Final = "_timestamp"

AGAIN: Final = "the helper process is gone (killed?); the unfinished runs go on in another one"
GONE: Final = (
    f"the helper process is gone (killed?), the last of {HELPERS}: nothing more is logged. "
    "What was logged is on disk. Is the machine short of memory?"
)

# The helper needs the modules below this one but not the package's doors: importing
# `wbtune` proper would import Ray, which takes it 1.5 s and 100 MB.
_HELPER: Final = (
    "import sys, types; package = types.ModuleType('wbtune'); "
    "package.__path__ = [sys.argv[1]]; sys.modules['wbtune'] = package; "
    "from wbtune.helper import helper_main; helper_main()"
)


@dataclass(slots=True)
class Sent:
    """One order as it was sent.

    Attributes:
        order: the order; of a row, only its stamp.
        packed: the order as bytes: its values may be changed by their owner later.
        done: when the helper said that it had carried it out; `time.monotonic`.
    """

    order: Message
    packed: tuple[str, bytes] = field(repr=False)  # may hold the key
    done: float = 0.0


@dataclass(slots=True)
class Memory:
    """What another helper would need to go on with one run, should this one be killed.

    Attributes:
        sent: the orders that the helper has not yet carried out.
        start: opened the run as it is now.
        recent: the last rows, carried out but perhaps not on disk.
        config: all that was changed in the run's config.
    """

    sent: deque[Sent] = field(default_factory=deque)
    start: Sent | None = None
    recent: deque[Sent] = field(default_factory=deque)
    config: dict[str, Any] = field(default_factory=dict)

    def remember(self, order: Message, packed: tuple[str, bytes]) -> None:
        """This is being sent."""
        if isinstance(order, Log):
            order = order._replace(row={STAMP: order.row[STAMP]})
        self.sent.append(Sent(order, packed))

    def done(self, count: int) -> None:
        """So many more orders were carried out."""
        for _ in range(min(count, len(self.sent))):
            one = self.sent.popleft()
            one.done = time.monotonic()
            match one.order:
                case Start() | End():
                    self.start = one if isinstance(one.order, Start) else None
                    self.recent.clear()
                    self.config.clear()
                case Log(config=config):
                    self.config.update(config)
                    self.recent.append(one)
                case Configure(config=config):
                    self.config.update(config)
                case Upload():
                    pass
        while (
            len(self.recent) > guard.KEEP
            and self.recent[0].done < self.recent[-1].done - guard.REMEMBER_S
        ):
            self.recent.popleft()

    def again(self) -> Iterator[Sent]:
        """The orders for another helper, of which it then is the memory."""
        sent = [*self.recent, *self.sent]
        if self.start is not None:
            config = Configure(self.start.order.key, dict(self.config))
            sent[:0] = [self.start, Sent(config, pack(config))]
        self.start, self.sent = None, deque()
        self.recent.clear()
        self.config.clear()
        on_disk = _stamps(sent)
        for one in sent:
            match one.order:
                case Log(row=row) if row[STAMP] in on_disk:
                    continue
                case Upload(checkpoint=checkpoint) if checkpoint.is_gone:
                    continue  # whoever has uploaded it deletes it
            self.sent.append(one)
            yield one


def _stamps(sent: list[Sent]) -> set[float]:
    """The stamps of the rows that are on disk, of the run that these orders are about."""
    specs = [one.order.spec for one in sent if isinstance(one.order, Start)]
    folders = {(spec.init.get("dir") or ".", run_id) for spec in specs for run_id in spec.ids}
    oldest = min((one.order.row[STAMP] for one in sent if isinstance(one.order, Log)), default=0.0)
    return {
        stamp
        for directory, run_id in folders
        for (stamp,) in runlog.numbers(runlog.parts(directory, run_id), STAMP)
        if stamp is not None and stamp >= oldest
    }


class Writer:
    """The driver's end: takes orders at once, and has them carried out in order.

    Runs on: driver. It is never pickled; the callback that owns it leaves it out.

    Attributes:
        stops: the runs whose "Stop run" somebody has pressed at W&B.
    """

    def __init__(self) -> None:
        self._orders: deque[Order] = deque()
        # What the order that is being sent has yet to say.
        self._current: Iterator[Message | UploadRest | None] = iter(())
        self._held_back = False
        self._routers: dict[str, Router] = {}
        self._told: set[tuple[str, str]] = set()
        self._left_out: dict[str, set[str]] = {}
        self.stops: set[str] = set()
        self._wake = threading.Event()
        self._closing = False
        self._abandoned = False
        self._log_file: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        # Not a pipe: whose own end of that is closed does not hear when the other one goes.
        self._line: socket.socket
        self._listener = threading.Thread()
        self._sender: threading.Thread | None = None
        self._helpers = 0
        self._memory: dict[str, Memory] = {}
        self._rest: list[tuple[str, bytes]] = []
        self._done: deque[dict[str, int]] = deque()
        self._stamp = 0.0
        self._given_up = False
        self._skipped = 0

    def launch(self, log_file: Path | None = None) -> None:
        """Start the helper process, if it is not running; returns before it is ready."""
        if self._sender is not None:
            return
        self._log_file = log_file
        self._process = self._begin()
        self._sender = threading.Thread(target=self._serve, name="wbtune-send", daemon=True)
        self._sender.start()

    def start(self, key: str, spec: runs.RunSpec, router: Router, secret: Secret | None) -> None:
        """Open a run; whatever comes later for ``key`` goes into it."""

        def order() -> Iterator[Message]:
            self._routers[key] = router
            yield Start(key, spec, None if secret is None else secret.reveal())

        self._put(order)

    def log(self, key: str, result: Mapping[str, Any]) -> None:
        """Log one result. This is what Tune's loop does for each: a few microseconds."""
        if self._given_up:
            self._skipped += 1
        else:
            self._orders.append(partial(self._row, key, dict(result), time.time()))

    def log_all(self, key: str, results: Callable[[], Iterator[Mapping[str, Any]]]) -> None:
        """Log results that the sending thread asks for when it is their turn, and as it sends."""

        def order() -> Iterator[Message | None]:
            for result in results():
                while key in self._memory and len(self._memory[key].sent) > AHEAD:
                    yield None
                yield from self._row(key, dict(result), time.time())

        self._put(order)

    def call(self, work: Callable[[], None]) -> None:
        """Have something done before what comes next is sent: by the sending thread."""

        def order() -> Iterator[Message | None]:
            work()
            return iter(())

        self._put(order)

    def configure(self, key: str, config: Mapping[str, Any]) -> None:
        """Update a run's config."""
        message = Configure(key, dict(config))
        self._put(lambda: iter((message,)))

    def upload(
        self,
        key: str,
        checkpoint: SavedCheckpoint,
        visit: Callable[[], Visit],
        secret: Secret | None,
    ) -> None:
        """Log a checkpoint as an artifact; ``visit`` is asked when it is its turn."""
        if self._given_up:
            checkpoint.discard()
            return

        def order() -> Iterator[Message]:
            yield Upload(key, checkpoint, visit(), None if secret is None else secret.reveal())

        self._orders.append(order)

    def end(self, key: str, outcome: Outcome, notes: Mapping[str, Any] | None = None) -> None:
        """Close a run.

        Args:
            key: the run.
            outcome: how it ended.
            notes: more for its summary.
        """

        def order() -> Iterator[Message]:
            router = self._routers.pop(key, None)
            self._left_out.pop(key, None)
            if router is not None and router.reserved:
                self._tell(key, f"W&B keeps {sorted(router.reserved)} for itself: not logged")
            yield End(key, outcome, dict(notes or {}))

        self._put(order)
        self._wake.set()

    def upload_rest(self, directory: str, base_url: str, secret: Secret, seconds: float) -> None:
        """When every run is closed, upload what an outage of the server has left on disk."""
        self._put(lambda: iter((UploadRest(directory, base_url, seconds, secret.reveal()),)))

    def close(self, timeout: float) -> bool:
        """Have everything carried out, and end the helper.

        Args:
            timeout: seconds to wait for uploads; a few more are granted to have everything
                on disk.

        Returns:
            Whether all was carried out in time.
        """
        sender = self._sender
        if sender is None:
            if self._orders:
                self._tell("", "the driver logged nothing: no helper process could be started")
            return not self._orders
        self._closing = True
        self._wake.set()
        sender.join(timeout + ON_DISK_S)
        self._abandoned = sender.is_alive()
        while sender.is_alive():  # it may just be starting another helper
            if self._process is not None:
                self._process.kill()
            sender.join(BATCH_S)
        self._sender = self._process = None
        if self._skipped:
            self._tell("", f"{self._skipped} results were not logged: there was no helper process")
        return not (self._abandoned or self._given_up)

    def _put(self, order: Order) -> None:
        if not self._given_up:  # nobody would take it off again
            self._orders.append(order)

    # --- the sending thread ---

    def _serve(self) -> None:
        try:
            self._serve_by_helpers()
        except BaseException as error:  # noqa: BLE001 - whatever it is: `close` must not call it complete
            self._tell("", f"the sending thread failed: {type(error).__name__}: {error}")
            self._give_up()

    def _serve_by_helpers(self) -> None:
        again: list[tuple[str, bytes]] = []
        while not self._deliver(again) and not self._abandoned:
            if self._helpers == HELPERS:
                self._give_up()
                return
            self._tell("", AGAIN)
            again = [one.packed for memory in self._memory.values() for one in memory.again()]
            again += self._rest
            try:
                self._process = self._begin()
            except OSError as error:  # no memory, no processes
                self._tell("", f"no other helper process can be started: {error}")
                self._give_up()
                return

    def _begin(self) -> subprocess.Popen[bytes]:
        errors: Any = subprocess.DEVNULL
        self._line, their_end = socket.socketpair()
        with their_end, contextlib.ExitStack() as stack:
            if self._log_file is not None:
                # Where no log can be kept, runs can't either; each of them says so.
                with contextlib.suppress(OSError):
                    self._log_file.parent.mkdir(parents=True, exist_ok=True)
                    errors = stack.enter_context(self._log_file.open("ab"))
            try:
                process = subprocess.Popen(  # noqa: S603 - our own interpreter and code
                    [sys.executable, "-P", "-c", _HELPER, str(Path(__file__).parent)],
                    stdin=their_end.fileno(),
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    start_new_session=True,
                    env=_environment(self._log_file),
                )
            except OSError:
                self._line.close()
                raise
        self._helpers += 1
        self._listener = threading.Thread(
            target=self._listen, args=(process.stdout,), name="wbtune-listen", daemon=True
        )
        self._listener.start()
        return process

    def _deliver(self, batch: list[tuple[str, bytes]]) -> bool:
        """Send what comes, until the writer is closed (True) or the helper is gone."""
        process = self._process
        assert process is not None  # noqa: S101 - `launch`
        with contextlib.suppress(OSError):  # the helper is gone
            while True:
                closing = self._closing
                batch += self._gathered()
                if batch:
                    self._line.sendall(pickle.dumps(batch, protocol=pickle.HIGHEST_PROTOCOL))
                is_flood, batch = len(batch) >= BATCH, []
                if closing and not is_flood and not self._held_back:
                    self._line.shutdown(socket.SHUT_WR)
                    break
                if not is_flood:
                    self._wake.wait(BATCH_S)
                    self._wake.clear()
                self._note_done()
                if not self._listener.is_alive():
                    break
        self._listener.join()  # it hears the helper's end
        complete = process.wait() == 0
        if not complete:
            # Its wandb-core has the other end, too (as its stdin; wandb 0.31), and may still
            # be writing: when that is gone as well, this ends, and the logs change no more.
            self._line.settimeout(CORE_ENDS_S)
            with contextlib.suppress(OSError):
                self._line.recv(1)
        self._line.close()
        self._note_done()
        return complete

    def _gathered(self) -> list[tuple[str, bytes]]:
        """What is to be sent next, ready for it."""
        gathered: list[tuple[str, bytes]] = []
        self._held_back = False
        while len(gathered) < BATCH and not self._held_back:
            try:
                message = next(self._current, END)
                if message is None:
                    self._held_back = True
                elif message is not END:
                    gathered.append(self._packed(message))
                elif self._orders:
                    self._current = self._orders.popleft()()
                else:
                    break
            except BaseException as error:  # noqa: BLE001 - whatever it is: say it, go on
                self._tell("", f"an order is left out: {type(error).__name__}: {error}")
        return gathered

    def _packed(self, message: Message | UploadRest) -> tuple[str, bytes]:
        """One message, ready to be sent; remembered, if another helper may need it."""
        # Packed one by one: one that can't be is left out, not its neighbours.
        packed = pack(message)
        if isinstance(message, UploadRest):
            self._rest = [packed]
        else:
            self._memory.setdefault(message.key, Memory()).remember(message, packed)
        return packed

    def _row(self, key: str, result: dict[str, Any], reported: float) -> Iterator[Message]:
        router = self._routers.get(key)
        if router is None:
            return
        row, config = router.route(result)
        for name in [name for name, value in row.items() if media.is_media(value)]:
            try:
                check_travels_alone(row[name])
            except BaseException as error:  # noqa: BLE001 - W&B's objects hold a user's values
                row[name] = media.described(row[name])
                if name not in self._left_out.setdefault(key, set()):
                    self._left_out[key].add(name)
                    self._tell(key, f"left out {name} ({type(error).__name__}: {error})")
        # No two rows have the same; a float this large resolves a quarter of a microsecond.
        self._stamp = max(reported, self._stamp + 1e-6)
        yield Log(key, {**row, STAMP: self._stamp}, config)

    def _note_done(self) -> None:
        while self._done:
            for key, count in self._done.popleft().items():
                memory = self._memory.setdefault(key, Memory())
                memory.done(count)
                if memory.start is None and not memory.sent:
                    del self._memory[key]

    def _give_up(self) -> None:
        self._given_up = True  # first: from here on, nothing is put on the queue
        self._tell("", GONE)
        for memory in self._memory.values():
            for one in memory.sent:
                self._skip(one.order)
        self._memory.clear()
        while (message := self._next_skipped()) is not END:
            self._skip(message)

    def _next_skipped(self) -> Any:
        try:
            message = next(self._current, END)
            if message is END and self._orders:
                self._current = self._orders.popleft()()
                return None
        except BaseException:  # noqa: BLE001 - a row that W&B would not have got either way
            self._skipped += 1
            return None
        return message

    def _skip(self, message: Message | UploadRest | None) -> None:
        self._skipped += isinstance(message, Log)
        if isinstance(message, Upload):
            message.checkpoint.discard()

    def _listen(self, said_by_helper: IO[bytes]) -> None:
        for line in said_by_helper:
            with contextlib.suppress(ValueError):  # cut off by a kill
                said = json.loads(line)
                if "done" in said:
                    self._done.append(said["done"])
                elif said["text"] == STOP:
                    self.stops.add(said["key"])
                else:
                    self._tell(said["key"], said["text"])
        said_by_helper.close()
        self._wake.set()

    def _tell(self, key: str, text: str) -> None:
        """Warn, once for each run and text."""
        if (key, text) not in self._told:
            self._told.add((key, text))
            logger.warning("wbtune%s: %s", f" (run {key})" if key else "", text)


def _environment(log_file: Path | None) -> dict[str, str]:
    # The helper has its own core; and it has to find the modules of the user's hooks.
    # And its key comes with its orders: an environment can be read by others.
    ours = {"WANDB_SERVICE", "WANDB_API_KEY"}
    environment = {k: v for k, v in os.environ.items() if k not in ours}
    # That core does little at a time. On several processors its Go runtime spends a third more
    # CPU on the same rows.
    environment = {"GOMAXPROCS": "1"} | environment
    environment["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    if log_file is not None:
        # Where its core keeps logs of its own; else that is the user's working directory.
        environment["WANDB_DIR"] = str(log_file.parent.parent)
    return environment
