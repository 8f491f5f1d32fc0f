"""Messages that were sent to the helper and are not yet safe: its replacement would need them.

Processes get killed, and the helper is the first that a machine short of memory would pick. So
each message is kept until the helper has acknowledged that it was carried out; a row a little
longer, until it is on disk; and a checkpoint until its copy is gone.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from wbtune._helper.messages import (
    Configure,
    End,
    Log,
    Message,
    OfNoRun,
    Packed,
    Start,
    Upload,
    pack,
)
from wbtune._run import log_rows, replay, run_files, run_spec
from wbtune._run.log_rows import STAMP
from wbtune._upstream import wandb_settings


@dataclass(slots=True)
class Sent:
    """One message as it was sent.

    Attributes:
        message: the message; only the stamp of a row is kept.
        packed: the message as bytes, because the owner of its values may change them later.
        done: when the helper acknowledged it, by `time.monotonic`.
    """

    message: Message
    packed: Packed = field(repr=False)  # it may contain the API key
    done: float = 0.0


@dataclass(slots=True)
class SentMessages:
    """The messages that another helper would need to continue one run if this one were killed.

    Attributes:
        sent: the messages that the helper has not yet carried out.
        start: the message that opened the run; None if it is not open.
        recent: the last rows, carried out but perhaps not on disk.
        uploads: carried out, but their checkpoints may not have arrived.
        config: everything that was changed in the run's config.
    """

    sent: deque[Sent] = field(default_factory=deque)
    start: Sent | None = None
    recent: deque[Sent] = field(default_factory=deque)
    uploads: list[Sent] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)

    def add(self, message: Message, packed: Packed) -> None:
        """Keep a message that is about to be sent."""
        if isinstance(message, Log):
            message = message._replace(row={STAMP: message.row[STAMP]})
        self.sent.append(Sent(message, packed))

    def acknowledge(self, count: int) -> None:
        """Note that the helper has carried out this many more messages."""
        for _ in range(min(count, len(self.sent))):
            one = self.sent.popleft()
            one.done = time.monotonic()
            match one.message:
                case Start() | End():
                    self.start = one if isinstance(one.message, Start) else None
                    self.recent.clear()
                    self.uploads.clear()
                    self.config.clear()
                case Log(config=config):
                    self.config.update(config)
                    self.recent.append(one)
                case Configure(config=config):
                    self.config.update(config)
                case Upload():
                    self.uploads = [*filter(_is_waiting, self.uploads), one]
        while (
            len(self.recent) > replay.KEEP
            and self.recent[0].done < self.recent[-1].done - wandb_settings.remember_s()
        ):
            self.recent.popleft()

    @property
    def is_empty(self) -> bool:
        """Has the run ended, with nothing left to do?"""
        return self.start is None and not self.sent

    @property
    def rows(self) -> int:
        """How many rows were sent but not carried out."""
        return sum(isinstance(one.message, Log) for one in self.sent)

    @property
    def waiting(self) -> list[Upload]:
        """The uploads whose checkpoints may not have arrived."""
        uploads = [*self.uploads, *self.sent]
        return [one.message for one in uploads if isinstance(one.message, Upload)]

    def to_resend(self) -> Iterator[Sent]:
        """The messages for another helper; from now on, they count as sent to that one."""
        sent = [*self.recent, *self.sent]
        if self.start is not None:
            config = Configure(self.start.message.key, dict(self.config))
            sent[:0] = [self.start, Sent(config, pack(config)), *self.uploads]
        self.start, self.sent = None, deque()
        self.recent.clear()
        self.uploads.clear()
        self.config.clear()
        on_disk = _stamps(sent)
        left = [one for one in sent if _is_left(one, on_disk)]
        newest = _newest(left)
        if newest is not None:
            if _is_closed(left, newest):
                return
            left = [_kept_on_disk(one, newest) for one in left]
        self.sent += left
        yield from left


class Unacknowledged:
    """Messages that were sent and are not yet safe, by run.

    Attributes:
        runs: the messages of each run.
    """

    def __init__(self) -> None:
        self.runs: dict[str, SentMessages] = {}
        self._of_no_run: list[Packed] = []
        self._acknowledged: deque[Mapping[str, int]] = deque()

    def add(self, message: Message | OfNoRun, packed: Packed) -> None:
        """Keep a message that is about to be sent."""
        if isinstance(message, OfNoRun):
            self._of_no_run.append(packed)
        else:
            self.runs.setdefault(message.key, SentMessages()).add(message, packed)

    def count(self, key: str) -> int:
        """How many messages of a run are not yet carried out."""
        return len(self.runs[key].sent) if key in self.runs else 0

    def acknowledge(self, counts: Mapping[str, int]) -> None:
        """Note how many more messages of each run were carried out; any thread may call this."""
        self._acknowledged.append(counts)

    def drop_safe(self) -> None:
        """Drop messages that another helper would not need; called by the sending thread."""
        while self._acknowledged:
            for key, count in self._acknowledged.popleft().items():
                messages = self.runs.setdefault(key, SentMessages())
                messages.acknowledge(count)
                if messages.is_empty:
                    del self.runs[key]

    def to_resend(self) -> list[Packed]:
        """All messages that another helper needs."""
        of_runs = [one.packed for messages in self.runs.values() for one in messages.to_resend()]
        return of_runs + self._of_no_run

    def rows(self) -> Counter[str]:
        """How many rows of each run were sent but not carried out."""
        return Counter({key: messages.rows for key, messages in self.runs.items()})

    def uploads(self) -> list[Upload]:
        """The uploads whose checkpoints may not have arrived."""
        return [upload for messages in self.runs.values() for upload in messages.waiting]


def _is_left(one: Sent, on_disk: set[float]) -> bool:
    match one.message:
        case Log(row=row):
            return row[STAMP] not in on_disk
        case Upload():
            return _is_waiting(one)
    return True


def _newest(sent: list[Sent]) -> Path | None:
    """The newest log of the run that these messages reopen; None if there is none.

    Its rows may not have reached the server before the core that held them was lost. They are
    uploaded when the experiment ends, or by the command that is printed then.
    """
    for one in sent:
        if isinstance(one.message, Start):
            spec = one.message.spec
            for run_id in spec.ids:
                parts = run_files.logs(spec.init.get("dir") or ".", run_id)
                if parts:
                    if one.message.secret is not None:
                        run_files.note_not_uploaded(parts[-1].parent)
                    return parts[-1]
    return None


def _is_closed(sent: list[Sent], newest: Path) -> bool:
    """Is the run already closed with the outcome of these messages, and nothing else left?"""
    ends = [one.message for one in sent if isinstance(one.message, End)]
    rest = [one for one in sent if isinstance(one.message, Log | Upload)]
    return len(ends) == 1 and not rest and run_files.exit_code(newest) == ends[0].outcome.exit_code


def _kept_on_disk(one: Sent, newest: Path) -> Sent:
    """Make the message continue an online run on disk only.

    Otherwise the rows on disk would reach W&B after those that are logged now, and W&B drops rows
    whose step goes back.
    """
    start = one.message
    if not isinstance(start, Start) or start.secret is None:
        return one
    run_id = newest.stem.removeprefix("run-")
    spec = run_spec.offline(start.spec)
    spec = spec._replace(init={**spec.init, "id": run_id, "resume": "allow"})
    start = replace(start, spec=spec)
    return Sent(start, pack(start))


def _is_waiting(sent: Sent) -> bool:
    """Has this upload's checkpoint not arrived yet? When it has, its copy is deleted."""
    return isinstance(sent.message, Upload) and not sent.message.checkpoint.is_gone


def _stamps(sent: list[Sent]) -> set[float]:
    """The stamps of the rows that are on disk, for the run of these messages."""
    specs = [one.message.spec for one in sent if isinstance(one.message, Start)]
    folders = {(spec.init.get("dir") or ".", run_id) for spec in specs for run_id in spec.ids}
    rows = (one.message.row for one in sent if isinstance(one.message, Log))
    oldest = min((row[STAMP] for row in rows), default=0.0)
    logs = (path for folder, run_id in folders for path in run_files.logs(folder, run_id))
    return log_rows.stamps(logs, since=oldest)
