"""The records of a run's transaction log, as protocol buffers."""

from __future__ import annotations

from typing import Any, Final

from wbtune._upstream.capabilities import Capability

RECORDS: Final = Capability(
    "reading what a run has on disk",
    without="a run that is opened again does not say what it said before, and rows of the last "
    "seconds before the death of its wandb-core may be in it twice; `wbtune import`, `sync` and "
    "`run` refuse to work",
    since="wandb 0.22",
    needs=("wandb.proto.wandb_internal_pb2:Record",),
)


def record_type() -> Any:
    """Return the type of the records in a run's transaction log [wandb 0.31].

    ``wandb leet inspect --json`` is the supported reader, and takes half a second a run.

    Raises:
        ValueError: where this wandb has none.
    """
    if not RECORDS.is_here:
        msg = f"{RECORDS.name}: {RECORDS.reason}"
        raise ValueError(msg)
    from wandb.proto import wandb_internal_pb2  # noqa: PLC0415 - when first needed

    messages: Any = wandb_internal_pb2  # its stubs are written for one protobuf version
    return messages.Record


def not_a_record() -> type[Exception]:
    """Return what is raised by parsing something else as a record."""
    from google.protobuf import message  # noqa: PLC0415 - a package of wandb's

    error: type[Exception] = message.DecodeError
    return error


def let_resume(run_record: Any) -> None:
    """Let an upload of a run begin where the server's rows end.

    Before wandb 0.30, uploads always do [``wandb_internal.proto``, ``RunRecord.resume``].
    """
    if "resume" in run_record.DESCRIPTOR.fields_by_name:
        run_record.resume = True
