"""Many runs, one W&B service, off Tune's loop: an ordered stream of start, log, end.

The driver has a `Writer`: putting something on its queue is all that Tune's loop ever
does. A thread takes what has gathered, a few times a second, filters and sanitises it,
and sends it to one helper process (:mod:`wbtune._helper.helper`).

A process, not a thread, because it leaves the driver alone in every way: `wandb.run` and
the user's own core, the interpreter's lock, signals (it has its own session, so Ctrl-C
does not reach it). And when the driver dies, even by SIGKILL, what is sent ends, and the
helper closes every run with what it was given.

Designs that were measured (`benchmarks/designs.py`: the same orders and batches each time; 8
trials of 1000 results that do nothing but report; two cores, offline). In one invocation, when
rows were not yet sent together (:mod:`wbtune._helper.outbox`), as those of all three are since:

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
So what was sent is remembered until it is safe (:mod:`wbtune._driver.unacknowledged`): another
helper opens the unfinished runs again and is sent the rest, less the rows that are on disk. Where
no helper can be started, or the last one hangs, a thread does it
(:mod:`wbtune._driver.helper_thread`).
"""

# Over 250 lines: half of it is sending, the other half what happens when that fails.

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wbtune._data import timeouts
from wbtune._data.checkpoint import SavedCheckpoint
from wbtune._data.options import check_travels_alone
from wbtune._data.outcomes import Outcome
from wbtune._data.routing import Router
from wbtune._driver.helper_process import Helper, HelperProcess
from wbtune._driver.helper_thread import HelperThread
from wbtune._driver.notices import Notices
from wbtune._driver.unacknowledged import Memory
from wbtune._helper.helper import STOP
from wbtune._helper.messages import (
    Configure,
    End,
    Log,
    Message,
    Packed,
    Reopen,
    Start,
    Upload,
    UploadRest,
    pack,
)
from wbtune._run import media, run_spec
from wbtune._run.log_rows import STAMP

if TYPE_CHECKING:
    from wbtune._data.secret import Secret

#: Messages of a batch, and their bytes: of a flood, the helper begins with the first while more
#: are made ready.
BATCH: Final = 500
BATCH_BYTES: Final = 8_000_000
#: Of many results that are filled in, how many are sent before the helper has carried them out.
AHEAD: Final = 10 * BATCH
#: Ends the messages of an order.
END: Final[Any] = object()
#: Put on the queue: what gives the messages, when it is their turn; None for "not yet".
Order = Callable[[], Iterator[Message | UploadRest | None]]
#: Helper processes that are started, one after the other, before a thread does their work.
HELPERS: Final = 3

AGAIN: Final = "the helper process is gone (killed?); the unfinished runs go on in another one"
BY_THREAD: Final = (
    "a thread of this process keeps the runs on disk instead, without images, videos and uploads"
)


class Writer:
    """The driver's end: takes messages at once, and has them carried out in order.

    Runs on: driver. It is never pickled; the callback that owns it leaves it out.

    Attributes:
        stops: the runs whose "Stop run" somebody has pressed at W&B.
    """

    def __init__(self) -> None:
        self._orders: deque[Order] = deque()
        # What the order that is being sent has yet to say, and the run of its row, if it is one.
        self._current: Iterator[Message | UploadRest | None] = iter(())
        self._current_row: str | None = None
        self._held_back = False
        self._is_flood = False
        self._routers: dict[str, Router] = {}
        self._notices = Notices()
        self._left_out: dict[str, set[str]] = {}
        self.stops: set[str] = set()
        self._wake = threading.Event()
        self._closing = False
        self._abandoned = False
        self._log_file: Path | None = None
        self._process: Helper | None = None
        self._sender: threading.Thread | None = None
        self._helpers = 0
        self._memory: dict[str, Memory] = {}
        self._rest: list[Packed] = []
        self._done: deque[dict[str, int]] = deque()
        self._stamp = 0.0
        self._given_up = False
        # Rows that are in no run: those that were not even sent, by the sending thread, which
        # the run's summary can still tell; and all others.
        self._unsent: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()

    def launch(self, log_file: Path | None = None) -> None:
        """Start the helper process, if it is not running; returns before it is ready."""
        if self._sender is not None or self._given_up:
            return
        self._log_file = log_file
        self._process = self._begin()
        sender = threading.Thread(target=self._serve, name="wbtune-send", daemon=True)
        try:
            sender.start()
        except RuntimeError as error:  # there can be no more threads
            self._give_up(str(error))
        else:
            self._sender = sender

    def start(
        self, key: str, spec: run_spec.RunSpec, router: Router, secret: Secret | None
    ) -> None:
        """Open a run; whatever comes later for ``key`` goes into it."""

        def order() -> Iterator[Message]:
            self._routers[key] = router
            yield Start(key, spec, None if secret is None else secret.reveal())

        self._put(order)

    def log(self, key: str, result: Mapping[str, Any]) -> None:
        """Log one result. This is what Tune's loop does for each: a few microseconds."""
        if self._given_up:
            self._lost[key] += 1
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
        reopen: Callable[[], Reopen],
        secret: Secret | None,
    ) -> None:
        """Log a checkpoint as an artifact; ``reopen`` is asked when it is its turn."""
        if self._given_up:
            checkpoint.discard()
            return

        def order() -> Iterator[Message]:
            yield Upload(key, checkpoint, reopen(), None if secret is None else secret.reveal())

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
                self._notices.warn(
                    key, f"W&B keeps {sorted(router.reserved)} for itself: not logged"
                )
            yield End(key, outcome, dict(notes or {}), self._unsent.pop(key, 0))

        self._put(order)
        self._wake.set()

    def upload_rest(self, directory: str, base_url: str, secret: Secret, seconds: float) -> None:
        """When every run is closed, upload what an outage of the server has left on disk."""
        self._put(lambda: iter((UploadRest(directory, base_url, seconds, secret.reveal()),)))

    def close(self, timeout: float, is_interrupted: Callable[[], bool] = lambda: False) -> bool:
        """Have everything carried out, and end the helper.

        Args:
            timeout: seconds to wait for uploads; a few more are granted to have everything
                on disk.
            is_interrupted: whether somebody has lost patience: then it waits for no uploads.

        Returns:
            Whether all was carried out in time, and no row was lost.

        Raises:
            KeyboardInterrupt: when it comes meanwhile; as much as possible is on disk.
        """
        self._closing = True
        self._wake.set()
        try:
            if self._sender is not None:
                self._wait_for(self._sender, timeout + timeouts.ON_DISK_S, is_interrupted)
        finally:
            if self._sender is not None and self._sender.is_alive():
                self._abandon(self._sender)
            self._sender = self._process = None
            complete = self._sum_up()
        return complete

    def _wait_for(
        self, sender: threading.Thread, seconds: float, is_interrupted: Callable[[], bool]
    ) -> None:
        until = time.monotonic() + seconds
        while sender.is_alive() and time.monotonic() < until:
            sender.join(max(0.0, min(until - time.monotonic(), timeouts.LOOK_S)))
            if is_interrupted():
                until = min(until, time.monotonic() + timeouts.INTERRUPTED_ON_DISK_S)
                is_interrupted = bool  # heard

    def _abandon(self, sender: threading.Thread) -> None:
        """The helper hangs, or uploads for too long: end it, and write what it has not written."""
        self._abandoned = True
        until = time.monotonic() + timeouts.RESCUE_S
        while sender.is_alive() and time.monotonic() < until:
            if self._process is not None:  # it may just be starting another one
                self._process.kill()
            sender.join(timeouts.LOOK_S)
        if sender.is_alive():  # nor can this process write there
            self._count_what_is_left("the disk does not answer")

    def _sum_up(self) -> bool:
        """Say how often each thing happened, and what is in no run."""
        if self._orders and not self._given_up and not self._abandoned:
            self._count_what_is_left("there was no helper process")
        self._notices.sum_up()
        for key, count in self._lost.items():
            self._notices.warn(key, f"{count} results were not logged")
        return not (self._abandoned or self._given_up or self._lost.total())

    def _put(self, order: Order) -> None:
        if not self._given_up:  # nobody would take it off again
            self._orders.append(order)

    # --- the sending thread ---

    def _serve(self) -> None:
        try:
            self._serve_by_helpers()
        except BaseException as error:  # noqa: BLE001 - whatever it is: it must not be called complete
            self._give_up(f"the sending thread failed: {type(error).__name__}: {error}")

    def _serve_by_helpers(self) -> None:
        again: list[Packed] = []
        while self._process is not None and not self._deliver(self._process, again):
            helper = self._process
            if isinstance(helper, HelperThread):
                self._give_up("the thread that keeps the runs on disk has failed")
                return
            again = [one.packed for memory in self._memory.values() for one in memory.again()]
            again += self._rest
            if self._abandoned:
                why = "the helper process was ended: it hung, or was still uploading"
            elif not helper.is_ready:
                why = f"the helper process does not start: {helper.failure}"
            elif self._helpers == HELPERS:
                why = f"{HELPERS} helper processes were killed (is the machine short of memory?)"
            else:
                self._notices.warn("", AGAIN)
                self._process = self._begin()
                continue
            self._process = self._by_thread(why)

    def _begin(self) -> Helper | None:
        """Start a helper process, or what does without; None when nothing can be done."""
        try:
            helper = HelperProcess(self._log_file, self._hear)
        except Exception as error:  # noqa: BLE001 - no memory, no interpreter, a strange environment
            return self._by_thread(
                f"no helper process can be started: {type(error).__name__}: {error}"
            )
        self._helpers += 1
        return helper

    def _by_thread(self, why: str) -> Helper | None:
        try:
            helper = HelperThread(self._hear)
        except Exception as error:  # noqa: BLE001 - no files, no threads
            self._give_up(f"{why}; and no thread, either: {type(error).__name__}: {error}")
            return None
        if not self._abandoned or self._memory or self._orders:
            self._notices.warn("", f"{why}; {BY_THREAD}")
        return helper

    def _deliver(self, helper: Helper, batch: list[Packed]) -> bool:
        """Send what comes, until the writer is closed (True) or the helper is gone."""
        try:
            while True:
                closing = self._closing
                batch += self._gathered()
                if batch:
                    helper.send(batch)
                batch = []
                if closing and not self._is_flood and not self._held_back:
                    helper.send_end()
                    break
                if not self._is_flood:
                    self._wake.wait(timeouts.BATCH_S)
                    self._wake.clear()
                self._note_done()
                if not helper.is_alive():
                    break
        except OSError:
            pass  # it is gone
        complete = helper.wait()
        self._note_done()
        return complete

    def _gathered(self) -> list[Packed]:
        """What is to be sent next, ready for it."""
        gathered: list[Packed] = []
        size = 0
        self._held_back = False
        while len(gathered) < BATCH and size < BATCH_BYTES and not self._held_back:
            try:
                message = next(self._current, END)
                if message is None:
                    self._held_back = True
                elif message is not END:
                    gathered.append(self._packed(message))
                    size += len(gathered[-1].data)
                elif self._orders:
                    self._take(self._orders.popleft())
                else:
                    break
            except BaseException as error:  # noqa: BLE001 - whatever it is: say it, go on
                key = self._current_row
                what = "a message is left out" if key is None else "a row was lost"
                self._notices.warn(key or "", f"{what}: {type(error).__name__}: {error}")
                if key is not None:
                    self._unsent[key] += 1
        self._is_flood = len(gathered) >= BATCH or size >= BATCH_BYTES
        return gathered

    def _take(self, order: Order) -> None:
        is_row = isinstance(order, partial) and order.func == self._row
        self._current_row = str(order.args[0]) if is_row else None  # type: ignore[attr-defined]
        self._current = order()

    def _packed(self, message: Message | UploadRest) -> Packed:
        """One message, ready to be sent; remembered, if another helper may need it."""
        # Packed one by one: one that can't be is left out, not its neighbours.
        packed = pack(message)
        if isinstance(message, UploadRest):
            self._rest.append(packed)
        else:
            self._memory.setdefault(message.key, Memory()).remember(message, packed)
        return packed

    def _row(self, key: str, result: dict[str, Any], reported: float) -> Iterator[Message]:
        router = self._routers.get(key)
        if router is None:
            self._lost[key] += 1
            return
        row, config = router.route(result)
        for name in [name for name, value in row.items() if media.is_media(value)]:
            try:
                check_travels_alone(row[name])
            except BaseException as error:  # noqa: BLE001 - W&B's objects hold a user's values
                row[name] = media.described(row[name])
                if name not in self._left_out.setdefault(key, set()):
                    self._left_out[key].add(name)
                    self._notices.warn(key, f"left out {name} ({type(error).__name__}: {error})")
        # No two rows have the same; a float this large resolves a quarter of a microsecond.
        self._stamp = max(reported, self._stamp + 1e-6)
        yield Log(key, {**row, STAMP: self._stamp}, config)

    def _note_done(self) -> None:
        while self._done:
            for key, count in self._done.popleft().items():
                memory = self._memory.setdefault(key, Memory())
                memory.done(count)
                if memory.is_empty:
                    del self._memory[key]

    # --- what can't be done ---

    def _give_up(self, why: str) -> None:
        self._given_up = True  # first: from here on, nothing is put on the queue
        self._notices.warn("", f"{why}; nothing more is logged")
        self._count_what_is_left(why)

    def _count_what_is_left(self, why: str) -> None:
        """Say which rows nobody can write any more; and leave no copies of checkpoints."""
        rows = Counter({key: memory.rows for key, memory in self._memory.items()})
        uploads = [one for memory in self._memory.values() for one in memory.waiting]
        while (message := self._next_lost(rows)) is not END:
            match message:
                case Log(key=key):
                    rows[key] += 1
                case Upload():
                    uploads.append(message)
                case _:
                    pass
        self._lost += rows + self._unsent
        for upload in uploads:
            what = f"{upload.checkpoint.source} ({upload.checkpoint.name})"
            self._notices.warn(upload.key, f"{what} was not uploaded: {why}")
            upload.checkpoint.discard()

    def _next_lost(self, rows: Counter[str]) -> Any:
        try:
            message = next(self._current, END)
            if message is END and self._orders:
                self._take(self._orders.popleft())
                return None
        except BaseException as error:  # noqa: BLE001 - a message that could not have been sent
            if self._current_row is not None:
                rows[self._current_row] += 1
            else:
                self._notices.warn("", f"a message is left out: {type(error).__name__}: {error}")
            return None
        return message

    def _hear(self, said: dict[str, Any]) -> None:
        """What the helper says, in the thread that listens."""
        if "done" in said:
            self._done.append(said["done"])
        elif "lost" in said:
            self._lost[said["key"]] += said["lost"]
        elif said.get("text") == STOP:
            self.stops.add(said["key"])
        elif "text" in said:
            self._notices.warn(said["key"], said["text"])
        elif "over" in said:
            self._wake.set()
