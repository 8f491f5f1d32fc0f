"""Upload one run: its segments, one after the other, each from where the server's rows end."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

from wbtune._cli.syncing.runs import ForeignRunError, LocalRun, extent, left_after
from wbtune._cli.syncing.sweep import ExperimentSweep
from wbtune._data import timeouts
from wbtune._data.masking import mask_text
from wbtune._place import arrivals
from wbtune._place.arrivals import Arrival
from wbtune._place.server import RefusedError, Server
from wbtune._run.log_rows import STAMP
from wbtune._run.relay import Left, Relay
from wbtune._upstream import wandb_core, wandb_records
from wbtune._upstream.wandb_sync import LogUpload
from wbtune.errors import ServerUnreachableError, WbtuneError

T = TypeVar("T")
#: What yields wherever it would wait, and returns a result.
Steps: TypeAlias = Generator[None, None, T]


class Target(NamedTuple):
    """Where runs are uploaded to, and how.

    Attributes:
        server: for requests.
        entity: the user or team of runs that name none; None for the key's own.
        settings: W&B settings for wandb-core, the key among them.
        sweep: the experiment's sweep.
        folder: for logs on their way.
        live: send a run while it is still being written.
    """

    server: Server
    entity: str | None
    settings: Mapping[str, Any]
    sweep: ExperimentSweep
    folder: Path
    live: bool


class RunUpload:
    """The upload of one run; `steps` is advanced together with those of other runs.

    Args:
        run: the run; segments may be added to it meanwhile.
        target: where to.
        is_over: does nobody write runs any more?

    Attributes:
        rows: how many rows are on disk, as far as they were read.
        arrived: how many of them are at the server.
        sent: how many were sent this time.
        sent_before: how many of them by earlier uploads of the same run, in a watch.
        problems: what went wrong.
        is_done: whether there is nothing more to wait for.
    """

    def __init__(self, run: LocalRun, target: Target, is_over: Callable[[], bool]) -> None:
        self.run = run
        self.rows = self.arrived = self.sent_before = 0
        self.problems: list[str] = []
        self.is_done = False
        self._target = target
        self._is_over = is_over
        self._left = Left()

    @property
    def sent(self) -> int:
        """How many rows were sent, or are about to be."""
        return self.sent_before + self._left.copied

    @property
    def is_complete(self) -> bool:
        """Whether all rows have arrived, and nothing went wrong."""
        return self.arrived == self.rows and not self.problems

    def steps(self) -> Steps[None]:
        """Upload the run; it yields wherever it would wait."""
        try:
            arrival = yield from self._settled()
            found = extent(self.run, arrival)
            self.rows, self.arrived = found.total, found.arrived
            first = self._first(found.rows, found.arrived)
            if first < len(self.run.segments):
                self._left = left_after(self.run, found, arrival, first)
                yield from self._send(first)
        except ForeignRunError:
            self.rows = extent(self.run).total
            where = f"{self._target.entity or ''}/{self.run.head.project}".lstrip("/")
            self.problems.append(f"the run of this id in {where} has other rows; nothing was sent")
        except (WbtuneError, RefusedError) as error:
            self.problems.append(str(error))
        except wandb_core.core_is_gone():
            self.problems.append("wandb-core has died; run the command again to go on")
        self.is_done = True

    def _first(self, rows: tuple[int, ...], arrived: int) -> int:
        """The first segment that has to be sent, as must be all after it."""
        segments = self.run.segments
        for index, segment in enumerate(segments):
            if not segment.is_synced or rows[index] > arrived:
                return index
        is_attached = self._target.sweep.is_attached(self.run)
        return len(segments) if is_attached else len(segments) - 1

    # --- what the server has ---

    def _ask(self) -> Steps[Arrival | None]:
        """Ask what the server has of the run, again if it does not answer."""
        head, target = self.run.head, self._target
        until = time.monotonic() + timeouts.SYNC_ARRIVES_S
        while True:
            try:
                entity = head.entity or target.entity
                return arrivals.ask(target.server, entity, head.project, head.id)
            except ServerUnreachableError:
                if time.monotonic() > until:
                    raise
            yield

    def _settled(self) -> Steps[Arrival | None]:
        """Ask until an earlier, interrupted upload has nothing more on its way."""
        have = yield from self._ask()
        while have is not None and not self.run.is_marked:
            before, until = have, time.monotonic() + timeouts.SYNC_SETTLES_S
            while time.monotonic() < until:
                yield
            have = yield from self._ask()
            if have == before:
                break
        return have

    def _check(self) -> Steps[None]:
        """Wait until the server has counted all rows, and mark the segments."""
        found = extent(self.run)
        self.rows = found.total
        until = time.monotonic() + timeouts.SYNC_ARRIVES_S
        while True:
            have = (yield from self._ask()) or Arrival()
            if have.rows >= found.total and found.last in {None, have.last.get(STAMP)}:
                break
            if time.monotonic() > until:
                self.arrived = min(extent(self.run, have).arrived, have.rows)
                return
            yield
        self.arrived = found.total
        if not self.problems:
            self._target.sweep.attached(self.run)
            for segment in self.run.segments:
                segment.mark()

    # --- its segments ---

    def _send(self, index: int) -> Steps[None]:
        while index < len(self.run.segments):  # others may be added meanwhile
            yield from self._upload(index)
            index += 1
        yield from self._check()

    def _upload(self, index: int) -> Steps[None]:
        log, target = self.run.segments[index].log, self._target
        folder = Path(tempfile.mkdtemp(prefix=f"{self.run.id}-", dir=target.folder))
        relay = Relay(log, folder, self._left, self._change)
        upload = None
        if target.live and not self._is_done(index):
            upload = LogUpload(relay.path, target.settings, live=True)
        while True:
            is_done = self._is_done(index)  # before the last look, after which nothing comes
            may_have_more = relay.pump()
            self.rows = max(self.rows, self.arrived + self._left.copied)
            if not may_have_more and (relay.has_ended or is_done):
                break
            yield
        relay.end()
        upload = upload or LogUpload(relay.path, target.settings, live=False)
        while not upload.is_done:
            yield
        self.problems += map(mask_text, upload.errors())
        shutil.rmtree(folder, ignore_errors=True)

    def _is_done(self, index: int) -> bool:
        """Is nothing written to a segment any more?"""
        return self._is_over() or index < len(self.run.segments) - 1

    def _change(self, record: Any) -> None:
        wandb_records.let_resume(record)
        self._target.sweep.change(self.run, record)
