"""Rows on their way to wandb-core, many of them at once."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import threading
import time
import types
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from wbtune._data import notice
from wbtune._upstream import wandb_run


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
    request = _messages().ServerRequest()
    record = request.record_publish
    record.CopyFrom(interface._make_request(partial_history=row))  # noqa: SLF001 - nothing is public
    interface._assign(record)  # noqa: SLF001 - as above
    return HeldRow(interface._client, request, interface._asyncer.run)  # noqa: SLF001 - as above


def _number(value: float) -> str:
    return float.__repr__(value) if math.isfinite(value) else json.dumps(value)


#: How the values of a simple row are written.
_JSON: Final[dict[type, Callable[[Any], str]]] = {
    float: _number,
    int: int.__repr__,
    str: json.dumps,
    bool: json.dumps,
    type(None): json.dumps,
}


def is_simple_row(run: Any, row: Mapping[str, Any]) -> bool:
    """Return whether it is known what ``run.log`` sends for a row, without asking wandb.

    It is for numbers and text, in the wandb that was read, if nothing that was found there makes
    a difference: a run that is finished or disabled, TensorBoard, ``mode="shared"``, another
    encoding, a ``log`` that somebody has put in the place of wandb's. And wandb's own statistics
    are to know that the rows have steps: the first row tells [wandb 0.31, ``Run.log``].
    """
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    settings = run._settings  # noqa: SLF001 - there is nothing public
    return (
        wandb.__version__.startswith("0.31.")
        and run._interface is not None  # noqa: SLF001 - as above
        and not wandb_run.is_finished(run)
        and run._telemetry_obj.feature.set_step_log  # noqa: SLF001 - as above
        and not settings._shared  # noqa: SLF001 - as above
        and settings.x_history_value_encoding == "json"
        and not wandb.patched["tensorboard"]
        and "log" not in vars(run)
        and set(map(type, row.values())) <= _JSON.keys()
    )


def simple_row(run: Any, row: Mapping[str, Any], step: int) -> HeldRow:
    """Do what ``run.log(row, step=step, commit=True)`` does for a simple row, except sending it.

    There is nothing to convert or to store; to look for that in each value, and in each run
    whether it may log, is most of what ``run.log`` takes. One thing is left out: wandb measures
    how long its values take, for W&B [wandb 0.31, ``InterfaceBase.publish_partial_history``].
    """
    interface = run._interface  # noqa: SLF001 - there is nothing public
    request = _messages().ServerRequest()
    record = request.record_publish
    interface._assign(record)  # noqa: SLF001 - as above
    record.control.local = True
    sent = record.request.partial_history
    if "_timestamp" not in row:
        row = {**row, "_timestamp": time.time()}
    for key, value in row.items():
        if key != "_step":
            sent.item.add(key=key, value_json=_JSON[type(value)](value))
    sent.step.num = step
    sent.action.flush = True
    vars(run)["_local_step"] = max(step, run._local_step) + 1  # noqa: SLF001 - in names of media
    return HeldRow(interface._client, request, interface._asyncer.run)  # noqa: SLF001 - as above


@functools.cache
def _messages() -> Any:
    from wandb.proto import wandb_server_pb2  # noqa: PLC0415 - when first needed

    return wandb_server_pb2  # its stubs are written for one protobuf version


def send_together(rows: list[HeldRow]) -> None:
    """Send rows of one core together: wandb writes them, and what it writes is sent in one piece.

    By itself, it has its thread write each row, twice, while who logs waits; and wandb-core
    wakes up for each [wandb 0.31, ``ServiceClient.publish``].

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
