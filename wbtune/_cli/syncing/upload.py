"""Upload one run: its segments, one after the other, each from where the server's rows end."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from wbtune._cli.output import Output
from wbtune._cli.syncing.runs import Extent, ForeignRunError, LocalRun, extent, left_out
from wbtune._cli.syncing.sweep import ExperimentSweep
from wbtune._data import timeouts
from wbtune._data.masking import mask_text
from wbtune._data.secret import Secret
from wbtune._place import arrivals
from wbtune._place.arrivals import Arrival
from wbtune._place.server import RefusedError, Server
from wbtune._run.log_rows import STAMP
from wbtune._run.relay import Left, Relay
from wbtune._upstream import wandb_core, wandb_records
from wbtune._upstream.wandb_sync import LogUpload
from wbtune.errors import ServerUnreachableError, WbtuneError

T = TypeVar("T")
#: Why nothing of a run is sent whose driver is sending it.
_LIVE: Final = "its driver is sending its newest rows; run this again when it has ended"
#: What yields wherever it would wait, and returns a result.
Steps: TypeAlias = Generator[None, None, T]


class Target(NamedTuple):
    """Where runs are uploaded to, and how.

    Attributes:
        server: for requests.
        entity: the user or team of runs that name none; None for the key's own.
        settings: W&B settings for wandb-core, except the key.
        secret: the key.
        sweep: the experiment's sweep.
        folder: for logs on their way.
        live: send a run while it is still being written.
        output: what is printed meanwhile.
    """

    server: Server
    entity: str | None
    settings: Mapping[str, Any]
    secret: Secret
    sweep: ExperimentSweep
    folder: Path
    live: bool
    output: Output

    def upload(self, log: Path, *, live: bool) -> LogUpload:
        """Begin to upload a log."""
        return LogUpload(log, {**self.settings, "api_key": self.secret.reveal()}, live=live)


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
        self._found = Extent((), (), ())
        self._left_out: list[tuple[int, int, int]] = []
        self._is_stalled = False

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
            while self.run.is_live and not self._is_over():
                yield
            arrival = yield from self._settled()
            found = self._found = extent(self.run, arrival)
            self.rows, self.arrived = found.total, found.arrived
            first = self._first(found)
            if first < len(self.run.segments) and self.run.is_live:
                self.problems.append(_LIVE)
            elif first < len(self.run.segments):
                self._left.after = -1 if arrival is None else arrival.last_step
                self._left_out = left_out(self.run, found, arrival)
                yield from self._send(first)
        except ForeignRunError:
            self.rows = extent(self.run).total
            where = f"{self._target.entity or ''}/{self.run.head.project}".lstrip("/")
            # Cause: Another experiment, or another copy of this one, has a run with that id
            #   there.
            # Cure: Send it to another project: `wandb sync --project NAME --id ID FOLDER`.
            self.problems.append(f"the run of this id in {where} has other rows; nothing was sent")
        except (WbtuneError, RefusedError) as error:
            self.problems.append(str(error))
        except wandb_core.core_is_gone():
            self.problems.append("wandb-core has died; run the command again to go on")
        except TimeoutError:
            self.problems.append("wandb-core did not answer in time; run the command again")
        except OSError as error:
            self.problems.append(str(error))
        self.is_done = True

    def _first(self, found: Extent) -> int:
        """The first segment that has to be sent.

        So must be all after it: how the run ended, and its summary, are those of the last.
        """
        segments = self.run.segments
        for index, segment in enumerate(segments):
            if not segment.is_synced or sum(found.have[: index + 1]) < found.rows[index]:
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

    def _check(self, sent: Mapping[int, int | None], end: int) -> Steps[None]:
        """Wait until the server has counted all rows, and mark the segments.

        Args:
            sent: what `_upload` returned for each segment.
            end: how many segments were to be sent; there may be more by now.
        """
        run = replace(self.run, segments=self.run.segments[:end])
        found = extent(run)
        self.rows = found.total
        until = time.monotonic() + timeouts.SYNC_ARRIVES_S
        while True:
            have = (yield from self._ask()) or Arrival()
            if have.rows >= found.total and self._left.last in {None, have.last.get(STAMP)}:
                break
            if time.monotonic() > until:
                self.arrived = min(extent(run, have).arrived, have.rows)
                return
            yield
        self.arrived = found.total
        if not self.problems:
            if sent:
                self._target.sweep.attached(run)
            for index, size in sent.items():
                run.segments[index].mark(size)

    # --- its segments ---

    def _send(self, index: int) -> Steps[None]:
        sent: dict[int, int | None] = {}
        while index < len(self.run.segments):  # others may be added meanwhile
            if not self.run.segments[index].is_sent_by_driver:
                sent[index] = yield from self._upload(index)
            index += 1
            if index == len(self.run.segments):
                yield from self._check(sent, index)

    def _skip(self, index: int) -> None:
        """Leave out what the server has of a segment."""
        left, free = self._left, self._found.free
        is_known = index < len(self._left_out)
        left.rows, left.events, left.lines = self._left_out[index] if is_known else (0, 0, 0)
        if 0 < index <= len(free):
            left.free = max(left.free, free[index - 1])

    def _upload(self, index: int) -> Steps[int | None]:
        """Upload a segment.

        Returns:
            How long its log was, if that may go on; None if it has ended.
        """
        log, target = self.run.segments[index].log, self._target
        self._skip(index)
        folder = Path(tempfile.mkdtemp(prefix=f"{self.run.id}-", dir=target.folder))
        relay = Relay(log, folder, self._left, self._change)
        upload = None
        if target.live and not self._is_done(index):
            upload = target.upload(relay.path, live=True)
        while True:
            # Before the last look: nothing comes after it, or it is noticed.
            is_done, is_last, size = self._is_done(index), self._is_last(index), log.stat().st_size
            may_have_more = relay.pump()
            self.rows = max(self.rows, self.arrived + self._left.copied)
            if not may_have_more and (relay.has_ended or is_done):
                break
            yield
        may_go_on = is_last and not relay.has_ended
        relay.end()
        upload = upload or target.upload(relay.path, live=False)
        yield from self._wait_for(upload)
        self.problems += map(mask_text, upload.errors())
        shutil.rmtree(folder, ignore_errors=True)
        return size if may_go_on else None

    def _wait_for(self, upload: LogUpload) -> Steps[None]:
        """Wait until a segment is uploaded: as long as the server answers, or is watched for."""
        before, due = None, time.monotonic() + timeouts.SYNC_STALLS_S
        while not upload.is_done:
            if time.monotonic() >= due:
                try:
                    have = yield from self._ask()
                    if have == before and not upload.is_done:
                        errors = [*map(mask_text, upload.errors())]
                        self.problems += errors  # they are told once
                        self._stalled("; ".join(errors))
                    before = have
                except ServerUnreachableError as error:
                    if not self._target.live:
                        raise
                    self._stalled(str(error))
                due = time.monotonic() + timeouts.SYNC_STALLS_S
            yield

    def _stalled(self, why: str) -> None:
        """Say once that nothing goes on."""
        if not self._is_stalled:
            self._is_stalled = True
            # Cause: The server is slow or away.
            # Cure: Wait, or press Ctrl-C and run this again later: nothing is sent twice.
            text = f"run {self.run.id}: nothing has arrived for {timeouts.SYNC_STALLS_S:.0f} s"
            self._target.output.warn(f"{text} ({why})" if why else text)

    def _is_done(self, index: int) -> bool:
        """Is nothing written to a segment any more?"""
        return self._is_over() or not self._is_last(index)

    def _is_last(self, index: int) -> bool:
        return index == len(self.run.segments) - 1

    def _change(self, record: Any) -> None:
        wandb_records.let_resume(record)
        self._target.sweep.change(self.run, record)
