"""Rows on their way to wandb-core, many of them at once."""

from __future__ import annotations

import contextlib
import functools
import threading
import types
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

from wbtune._data import notice


class HeldRow(NamedTuple):
    """A row that was logged, and is not yet sent.

    Attributes:
        core: its run's wandb-core; what is the same is the same connection.
        request: what is sent for it.
        run: has something done by the thread that sends, and waits for it.
    """

    core: Any
    request: Any
    run: Callable[[Callable[[], Awaitable[None]]], None]


@contextlib.contextmanager
def rows_held_back(run: Any) -> Iterator[list[HeldRow]]:
    """Put the rows that this thread logs to a run into a list, instead of sending them.

    Nothing else is held back: a request that has an answer would overtake the rows. The method that
    sends rows is replaced on the run's own connection object, and only for the block
    [wandb 0.31, ``InterfaceShared._publish_partial_history``, ``InterfaceSock``].
    """
    held: list[HeldRow] = []
    interface = getattr(run, "_interface", None)  # a disabled run has none
    send = getattr(interface, "_publish_partial_history", None)
    if send is None:
        if interface is not None:
            notice.warn_once("wbtune: this wandb sends each row by itself")
        yield held
        return
    thread = threading.get_ident()

    def publish(row: Any) -> None:
        if threading.get_ident() != thread:
            send(row)
            return
        try:
            held.append(_held_row(interface, row))
        except (AttributeError, ImportError) as error:  # a wandb that nobody has read yet
            notice.warn_once(f"wbtune: this wandb sends each row by itself ({error})")
            send(row)

    vars(interface)["_publish_partial_history"] = publish
    try:
        yield held
    finally:
        vars(interface).pop("_publish_partial_history", None)


def _held_row(interface: Any, row: Any) -> HeldRow:
    request = server_messages().ServerRequest()
    record = request.record_publish
    record.CopyFrom(interface._make_request(partial_history=row))  # noqa: SLF001 - nothing is public
    interface._assign(record)  # noqa: SLF001 - as above
    return HeldRow(interface._client, request, interface._asyncer.run)  # noqa: SLF001 - as above


@functools.cache
def server_messages() -> Any:
    """The messages that a client sends to wandb-core."""
    from wandb.proto import wandb_server_pb2  # noqa: PLC0415 - when first needed

    return wandb_server_pb2  # its stubs are written for one protobuf version


def send_together(rows: list[HeldRow]) -> None:
    """Send rows of one core together: wandb writes them, and what it writes is sent in one piece.

    By itself, it has its thread write each row, twice, while the logging thread waits; and
    wandb-core wakes up for each [wandb 0.31, ``ServiceClient.publish``].

    Raises:
        ConnectionError: when the core is gone.
    """
    core = rows[0].core
    written: list[bytes] = []

    async def drained() -> None:
        """At once: nobody else of that thread has a turn meanwhile."""

    async def send() -> None:
        writer = getattr(core, "_writer", None)
        if writer is None:  # a wandb that nobody has read yet
            for row in rows:
                await core.publish(row.request)
            return
        core._writer = types.SimpleNamespace(write=written.append, drain=drained)  # noqa: SLF001
        try:
            for row in rows:
                await core.publish(row.request)
        finally:
            core._writer = writer  # noqa: SLF001 - as above
        writer.write(b"".join(written))
        await writer.drain()

    rows[0].run(send)


def send_packages(run: Any) -> None:
    """Log which packages are installed; they are read once for all runs of the process.

    Reading them takes several times as long as opening a run, and ``x_save_requirements``
    does it for each [wandb 0.31, ``Run._on_start``].
    """
    run._interface.publish_python_packages(_packages())  # noqa: SLF001 - there is no public one


@functools.cache
def _packages() -> tuple[Any, ...]:
    from wandb.util import working_set  # noqa: PLC0415 - wandb is imported when first needed

    return tuple(working_set())
