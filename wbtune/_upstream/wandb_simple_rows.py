"""Rows of numbers and text, written without asking wandb: if a comparison has given the same.

There is nothing to convert or to store in such a row; to look for that in each value, and in each
run whether it may log, is most of what ``run.log`` takes. Nothing of wandb's is replaced. Without
this, each row goes through ``run.log`` and takes the helper more CPU.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from wbtune._upstream import wandb_finish, wandb_wire
from wbtune._upstream.capabilities import Capability
from wbtune._upstream.wandb_core import interface_of
from wbtune._upstream.wandb_wire import HeldRow, server_messages

SIMPLE: Final = Capability(
    "rows of numbers and text without asking wandb",
    without="each row of the driver takes more CPU, as wandb is asked what to send for it",
    since="wandb 0.28",
    needs=(
        *wandb_wire.TOGETHER.needs,
        "wandb.sdk.wandb_run:Run._local_step",
        "wandb.sdk.wandb_run:Run._telemetry_obj",
        "wandb.sdk.wandb_run:Run._settings",
        "wandb:patched",
    ),
)

#: How the values of a simple row are written.
_JSON: Final[dict[type, Callable[[Any], str]]] = {
    float: float.__repr__,
    int: int.__repr__,
    str: json.dumps,
    bool: json.dumps,
    type(None): json.dumps,
}


class SimpleRows:
    """Which rows it is known of what ``run.log`` sends for them.

    The first row with a value of each type goes through ``run.log``, and what that would send is
    compared with `simple_row`. From then on, rows of these types need not be asked for. If it is
    not the same, none is known.
    """

    def __init__(self) -> None:
        self._known: set[type] = set()

    def knows(self, run: Any, row: Mapping[str, Any]) -> bool:
        """Return whether it is known what is sent for a row of this run."""
        if not SIMPLE.is_here:
            return False
        types = set(map(type, row.values()))
        return bool(types) and types <= self._known and _is_simple(run, row)

    def learn(self, run: Any, row: Mapping[str, Any], step: int, sent: list[HeldRow]) -> None:
        """Compare what ``run.log`` would send for a row with what `simple_row` does.

        Args:
            run: the run.
            row: the row, which has just been logged.
            step: its step.
            sent: what ``run.log`` would send.
        """
        if not SIMPLE.is_here or len(sent) != 1:
            return
        try:
            if not _is_simple(run, row):
                return
            local_step = run._local_step  # noqa: SLF001 - there is nothing public
            try:
                same = _content(simple_row(run, row, step)) == _content(sent[0])
            finally:
                vars(run)["_local_step"] = local_step
            if not same:
                msg = "this wandb writes rows in another way"
                raise ValueError(msg)  # noqa: TRY301 - as below
        except Exception as error:  # noqa: BLE001 - a wandb that nobody has read yet
            SIMPLE.fail(error)
        else:
            self._known.update(map(type, row.values()))


def _is_simple(run: Any, row: Mapping[str, Any]) -> bool:
    """Return whether a row is of finite numbers and text, and nothing about its run is special.

    Special are a run that is finished or disabled, TensorBoard, ``mode="shared"``, another
    encoding, and a ``log`` that somebody has put in the place of wandb's. And wandb's own
    statistics have to know that the rows have steps: the first row tells [wandb 0.31, ``Run.log``].
    """
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    settings = run._settings  # noqa: SLF001 - there is nothing public
    return (
        interface_of(run) is not None
        and not wandb_finish.is_finished(run)
        and run._telemetry_obj.feature.set_step_log  # noqa: SLF001 - as above
        and settings.mode != "shared"
        and getattr(settings, "x_history_value_encoding", "json") == "json"
        and not wandb.patched["tensorboard"]
        and "log" not in vars(run)
        and all(_is_plain(value) for value in row.values())
    )


def _is_plain(value: Any) -> bool:
    return type(value) in _JSON and (type(value) is not float or math.isfinite(value))


def simple_row(run: Any, row: Mapping[str, Any], step: int) -> HeldRow:
    """Do what ``run.log(row, step=step, commit=True)`` does for a simple row, except sending it.

    One thing is left out: wandb measures how long its values take, for W&B
    [wandb 0.31, ``InterfaceBase.publish_partial_history``].
    """
    interface = interface_of(run)
    request = server_messages().ServerRequest()
    record = request.record_publish
    interface._assign(record)  # noqa: SLF001 - there is nothing public
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


def _content(held: HeldRow) -> tuple[object, ...]:
    """What is sent for a row, but for the moment of its sending and the spelling of numbers."""
    request = type(held.request)()
    request.CopyFrom(held.request)
    history = request.record_publish.request.partial_history
    values = {item.key: json.loads(item.value_json) for item in history.item}
    values.pop("_timestamp", None)
    del history.item[:]
    typed = {key: (type(value), value) for key, value in values.items()}
    return held.core, held.run, typed, request.SerializeToString(deterministic=True)
