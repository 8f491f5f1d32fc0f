"""The messages that the driver sends to its helper process, and how they are framed.

Each message is packed by itself and sent with its length, its run and its class. So if one
can't be read, because its class is not importable there or memory is short, only that one is lost,
and it is known which (`Unread`).
"""

from __future__ import annotations

import pickle
import signal
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Final, NamedTuple

from wbtune._data.checkpoint import SavedCheckpoint
from wbtune._data.outcomes import Kind, Outcome
from wbtune._data.sweep import Sweep
from wbtune._run import run_spec

#: The text of a reply, instead of a warning, when somebody has stopped the run at W&B.
STOP: Final = "stop"

#: Signals that end a whole job (SLURM, systemd, a closed terminal). The helper ignores them: it
#: ends when its driver does, and has to close the runs first.
NOT_FOR_HELPER: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Start:
    """Open a run. ``secret`` is the key in clear, which is only sent and kept in memory."""

    key: str
    spec: run_spec.RunSpec
    secret: str | None = field(default=None, repr=False)


class Log(NamedTuple):
    """Log one row and update the config."""

    # Most messages are this one, and dataclasses are slow to pickle.
    key: str
    row: dict[str, Any]
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Configure:
    """Update the config."""

    key: str
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reopen:
    """How to reopen a run that has ended, and the exit code to close it with."""

    spec: run_spec.RunSpec
    exit_code: int


@dataclass(frozen=True, slots=True)
class Upload:
    """Log a checkpoint as an artifact, and delete the copy once it has arrived.

    It may come after its run has ended, because it was fetched from a remote storage, or
    because the trial's own process wrote the run. Then the run is reopened.
    """

    key: str
    checkpoint: SavedCheckpoint
    reopen: Reopen
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class End:
    """Close a run; ``dropped`` is how many of its rows were lost before they were sent."""

    key: str
    outcome: Outcome
    notes: dict[str, Any] = field(default_factory=dict)
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class UploadRest:
    """Upload what an outage of the server left on disk, once every run is closed."""

    directory: str
    base_url: str
    seconds: float
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Conclude:
    """Log what is known of a whole experiment when it has ended.

    Attributes:
        key: the run for the whole.
        columns: the names of the columns of the table of its trials.
        rows: that table.
        page: the path of its overview; empty if there is none.
    """

    key: str
    columns: list[str]
    rows: list[list[Any]]
    page: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """How to reach the server with a request of the driver's own.

    Attributes:
        base_url: the server's address.
        settings: W&B settings that were given.
        secret: the key in clear.
    """

    base_url: str
    settings: Mapping[str, Any] = field(repr=False)  # a proxy's address may have a password
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ChangeSweep:
    """Change a sweep's state or config, now or once every run is closed."""

    request: Request
    sweep: Sweep
    state: str | None = None
    config: Mapping[str, Any] | None = None
    now: bool = False


@dataclass(frozen=True, slots=True)
class TagRun:
    """Once every run is closed, add tags to one (entity, project, id), and remove others."""

    request: Request
    place: tuple[str, str, str]
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


class Unread(NamedTuple):
    """Stands in for a message that could not be read.

    Attributes:
        key: the run that it was for.
        what: its class, and for an `End` the kind of the outcome.
        why: the error.
    """

    key: str
    what: str
    why: str

    @property
    def ending(self) -> Outcome | None:
        """The outcome that an `End` must have had, without the details; None for other messages."""
        name, _, kind = self.what.partition(" ")
        return Outcome(Kind(kind)) if name == "End" else None


Message = Start | Log | Configure | Upload | Conclude | End
OfNoRun = UploadRest | ChangeSweep | TagRun
Received = Message | OfNoRun | Unread


class Packed(NamedTuple):
    """A message that is ready to be sent.

    Attributes:
        key: the run that it is for.
        what: as in `Unread`.
        data: the message itself; it may contain the API key.
    """

    key: str
    what: str
    data: bytes

    def __repr__(self) -> str:
        return f"Packed({self.key!r}, {self.what!r}, {len(self.data)} bytes)"


_BATCH: Final = struct.Struct("<I")
_FRAME: Final = struct.Struct("<IIQ")
#: If there is no memory for a message, how many of its bytes are skipped at a time.
_PASSED_OVER: Final = 64 * 1024


def pack(message: Message | OfNoRun) -> Packed:
    """Pack one message, so that later changes to its values do not affect it."""
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    what = type(message).__name__
    match message:
        case End():
            what = f"{what} {message.outcome.kind.value}"
        case UploadRest() | ChangeSweep() | TagRun():
            return Packed("", what, data)
        case _:
            pass
    return Packed(message.key, what, data)


def framed(batch: list[Packed]) -> bytes:
    """Return a batch as bytes to send."""
    parts = [_BATCH.pack(len(batch))]
    for key, what, data in batch:
        names = key.encode("utf-8", "surrogatepass"), what.encode()
        parts += [_FRAME.pack(*map(len, names), len(data)), *names, data]
    return b"".join(parts)


def read(stream: IO[bytes]) -> list[Received]:
    """Wait for the next batch.

    Raises:
        EOFError: if there are no more; also in the middle of one, if its writer was killed.
    """
    (count,) = _BATCH.unpack(_exactly(stream, _BATCH.size))
    return [_read_one(stream) for _ in range(count)]


def _read_one(stream: IO[bytes]) -> Received:
    key_size, what_size, size = _FRAME.unpack(_exactly(stream, _FRAME.size))
    key = _exactly(stream, key_size).decode("utf-8", "surrogatepass")
    what = _exactly(stream, what_size).decode()
    try:
        data = bytearray(size)
    except MemoryError:
        while size:
            size -= len(_exactly(stream, min(size, _PASSED_OVER)))
        return Unread(key, what, "MemoryError")
    _fill(stream, data)
    try:
        message: Received = pickle.loads(data)  # noqa: S301 - from our own parent
    except BaseException as error:  # noqa: BLE001 - a user's class may raise anything here
        return Unread(key, what, f"{type(error).__name__}: {error}".rstrip(": "))
    return message


def _exactly(stream: IO[bytes], size: int) -> bytearray:
    data = bytearray(size)
    _fill(stream, data)
    return data


def _fill(stream: IO[bytes], data: bytearray) -> None:
    left = memoryview(data)
    while left:
        count = stream.readinto(left)  # type: ignore[attr-defined] # typeshed's `IO` lacks it
        if not count:
            raise EOFError
        left = left[count:]
