"""Rows on their way to wandb-core, many of them at once."""

from __future__ import annotations

import contextlib
import functools
import threading
import types
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, NamedTuple

from wbtune._upstream.capabilities import MOVED, Capability, uses
from wbtune._upstream.wandb_core import interface_of

TOGETHER: Final = Capability(
    "rows sent to wandb-core many at once",
    without="each row of the driver takes more CPU, as it is sent by itself",
    since="wandb 0.22",
    needs=(
        "wandb.sdk.interface.interface_shared:InterfaceShared._publish_partial_history",
        "wandb.sdk.interface.interface_shared:InterfaceShared._make_request",
        "wandb.sdk.interface.interface_sock:InterfaceSock._assign",
        "wandb.sdk.interface.interface_sock:InterfaceSock._client",
        "wandb.sdk.interface.interface_sock:InterfaceSock._asyncer",
        "wandb.sdk.lib.asyncio_manager:AsyncioManager.run",
        "wandb.sdk.lib.service.service_client:ServiceClient.publish",
        "wandb.sdk.lib.service.service_client:ServiceClient._writer",
        "wandb.proto.wandb_server_pb2:ServerRequest",
        "wandb.sdk.wandb_run:Run._interface | wandb.sdk.wandb_run:Run._backend",
    ),
)

PACKAGES: Final = Capability(
    "the installed packages in runs of the driver",
    without="runs that the driver writes do not list the installed packages",
    since="wandb 0.22",
    needs=(
        "wandb.sdk.interface.interface:InterfaceBase.publish_python_packages",
        "wandb.util:working_set",
    ),
)


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
    interface = interface_of(run)
    if interface is None or not TOGETHER.is_here:
        yield held
        return
    send = interface._publish_partial_history  # noqa: SLF001 - there is nothing public
    thread = threading.get_ident()

    def publish(row: Any) -> None:
        if threading.get_ident() != thread:
            send(row)
            return
        try:
            held.append(_held_row(interface, row))
        except MOVED as error:
            TOGETHER.fail(error)
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
        writer = core._writer  # noqa: SLF001 - there is nothing public
        core._writer = types.SimpleNamespace(write=written.append, drain=drained)  # noqa: SLF001
        try:
            for row in rows:
                await core.publish(row.request)
        finally:
            core._writer = writer  # noqa: SLF001 - as above
        writer.write(b"".join(written))
        await writer.drain()

    rows[0].run(send)


@uses(PACKAGES, otherwise=lambda _: None)
def send_packages(run: Any) -> None:
    """Log which packages are installed; they are read once for all runs of the process.

    Reading them takes several times as long as opening a run, and ``x_save_requirements``
    does it for each [wandb 0.31, ``Run._on_start``].
    """
    interface_of(run).publish_python_packages(_packages())


@functools.cache
def _packages() -> tuple[Any, ...]:
    from wandb.util import working_set  # noqa: PLC0415 - wandb is imported when first needed

    return tuple(working_set())
