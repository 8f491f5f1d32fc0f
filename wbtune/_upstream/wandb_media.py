"""W&B's media objects and artifacts, as files and as JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from wbtune._upstream import wandb_core
from wbtune._upstream.capabilities import Capability, uses

MEDIA: Final = Capability(
    "media in the rows that the driver logs",
    without="images, videos and other media are described in text",
    since="wandb 0.22",
    needs=(
        "wandb.sdk.wandb_run:Run._serialize_custom_charts",
        "wandb.sdk.data_types.utils:val_to_json",
    ),
)

COPIES: Final = Capability(
    "media objects that travel to the process that logs them",
    without="media objects among the results of a trial are described in text",
    since="wandb 0.22",
    needs=(
        "wandb.sdk.data_types.base_types.wb_value:WBValue",
        "wandb.plot.custom_chart:CustomChart",
        "wandb.plot.viz:Visualize",
        "wandb.sdk.data_types.base_types.wb_value:WBValue._artifact_source",
        "wandb.sdk.data_types.base_types.wb_value:WBValue._artifact_target",
        "wandb.sdk.data_types.base_types.media:Media._run",
        "wandb.sdk.data_types.base_types.media:Media._path",
        "wandb.sdk.data_types.base_types.media:Media._is_tmp",
    ),
)

ANSWERS: Final = Capability(
    "a look whether an upload has ended",
    without="nothing warns of a checkpoint whose upload failed",
    since="wandb 0.22",
    needs=(
        "wandb.sdk.artifacts.artifact:Artifact._save_handle",
        "wandb.sdk.mailbox.mailbox_handle:_MailboxMappedHandle._handle",
        "wandb.sdk.mailbox.response_handle:MailboxResponseHandle._response",
    ),
)


@uses(ANSWERS, otherwise=lambda _: False)
def is_answered(artifact: Any) -> bool:
    """Return whether wandb-core said what became of a logged artifact; False if nobody can see it.

    ``Artifact.wait`` is public, but cancels the upload when its time is over, be that 0
    [wandb 0.31, ``MailboxResponseHandle.wait_async``].
    """
    handle: Any = getattr(artifact, "_save_handle", None)
    while hasattr(handle, "_handle"):
        handle = handle._handle  # noqa: SLF001 - as said
    return getattr(handle, "_response", None) is not None


def gave_up_waiting() -> tuple[type[BaseException], ...]:
    """Return what wandb raises when its core ends before it has answered [wandb 0.31]."""
    return wandb_core.core_is_gone()


def _no_kinds() -> tuple[type, ...]:
    return ()


@uses(COPIES, otherwise=_no_kinds)
def _kinds() -> tuple[type, ...]:
    from wandb.plot.custom_chart import CustomChart  # noqa: PLC0415 - when first needed
    from wandb.plot.viz import Visualize  # noqa: PLC0415 - as above
    from wandb.sdk.data_types.base_types.wb_value import WBValue  # noqa: PLC0415 - as above

    return WBValue, CustomChart, Visualize


def detached_copy(value: Any, take_file: Callable[..., str | None]) -> Any:
    """Copy one of W&B's objects (Image, Table, a chart, ...); the copy is tied to no run.

    To log one ties it to the run, which can't be pickled, and moves its file into the run's
    folder; the same for what it holds: masks, the images in a table
    [wandb 0.31, ``Media.bind_to_run``, ``_run``, ``_path``, ``_is_tmp``].

    Args:
        value: the object.
        take_file: ``take_file(path, changes=...)`` gives a file that is the copy's own, or
            None for what is no file; ``changes``, if the file is not one of wandb's.
    """
    kinds = _kinds()
    if not kinds:
        return f"{type(value).__name__} (not logged)"
    copies: dict[int, Any] = {}
    apart = {"_run": None, "_artifact_source": None, "_artifact_target": None}

    def copied(part: Any) -> Any:
        if type(part) in {list, tuple}:
            return type(part)(map(copied, part))
        if type(part) is dict:
            return {key: copied(inner) for key, inner in part.items()}
        if not isinstance(part, kinds):
            return part
        if id(part) not in copies:
            # An object of wandb's own class: no other process may have the user's.
            kind = next(k for k in type(part).__mro__ if k.__module__.startswith("wandb."))
            copy: Any = object.__new__(kind)
            copies[id(part)] = copy
            parts = {name: apart.get(name, inner) for name, inner in vars(part).items()}
            path = parts.get("_path")
            if isinstance(path, str):
                own = take_file(path, changes=not parts.get("_is_tmp"))
                if own is not None:
                    parts |= {"_path": own, "_is_tmp": True}
                    parts.pop("data", None)  # of a video, all of its frames
            vars(copy).update({name: copied(inner) for name, inner in parts.items()})
        return copies[id(part)]

    return copied(value)


@uses(MEDIA, otherwise=lambda _: None)
def _converters(run: Any) -> Any:
    from wandb.sdk.data_types.utils import val_to_json  # noqa: PLC0415 - when first needed

    return run._serialize_custom_charts, val_to_json  # noqa: SLF001 - there is nothing public


def media_json(run: Any, key: str, value: Any, step: int) -> dict[str, Any]:
    """Put one of W&B's objects, or a list of them, into a run, and return what its row says of it.

    ``run.log`` does it with all of a row, which is lost for one that fails
    [wandb 0.31, ``wandb.sdk.data_types.utils``, ``Run._serialize_custom_charts``].

    Raises:
        Exception: what wandb raises of the object, and ValueError without `MEDIA`.
    """
    found = _converters(run)
    if found is None:
        raise ValueError(MEDIA.without)
    serialize_charts, val_to_json = found
    parts = serialize_charts({key: value})
    return {name: val_to_json(run, name, part, namespace=step) for name, part in parts.items()}
