"""The engine of ``wandb sync``, one log at a time: wandb-core uploads it, this waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from wbtune._data import timeouts
from wbtune._upstream import wandb_settings
from wbtune._upstream.capabilities import Capability

UPLOADS: Final = Capability(
    "uploads of runs by `wbtune sync`",
    without="`wbtune sync` can't upload, `wandb sync` can",
    since="wandb 0.22",
    needs=(
        "wandb.sdk.wandb_setup:singleton",
        "wandb.sdk.wandb_setup:_WandbSetup.asyncer",
        "wandb.sdk.wandb_setup:_WandbSetup.ensure_service",
        "wandb.sdk.lib.service.service_connection:ServiceConnection.init_sync",
        "wandb.sdk.lib.service.service_connection:ServiceConnection.sync",
        "wandb.sdk.lib.service.service_connection:ServiceConnection.sync_status",
    ),
)

LIVE: Final = Capability(
    "uploads of runs that are still being written",
    without="`wbtune sync --watch` can't follow a running experiment",
    since="wandb 0.24",
    needs=("wandb.sdk.lib.service.service_connection:ServiceConnection.init_sync.live",),
)

#: From this severity on, a message of wandb-core's is an error [wandb 0.31, ``wandb_sync_pb2``].
_ERROR: Final = 40


class LogUpload:
    """The upload of one transaction log, as ``wandb sync`` does it, by this process's wandb-core.

    [wandb 0.31, ``wandb.cli.beta_sync``, of which this is the part without the terminal.]

    Args:
        log: the file.
        settings: W&B settings, the key among them; those of this process otherwise.
        live: wait for more records until there is an exit record.

    Raises:
        TimeoutError: if wandb-core does not answer.
    """

    def __init__(self, log: Path, settings: Mapping[str, Any], *, live: bool) -> None:
        from wandb.sdk import wandb_setup  # noqa: PLC0415 - wandb is imported when first needed

        own = copy.copy(wandb_settings.of_process())
        for name, value in wandb_settings.known(settings).items():
            setattr(own, name, value)
        self._setup: Any = wandb_setup.singleton()
        self._service: Any = self._setup.ensure_service()
        self._setup.asyncer.run(lambda: self._start(log, own, live=live))

    async def _start(self, log: Path, settings: Any, *, live: bool) -> None:
        nothing = dict.fromkeys(("entity", "project", "run_id", "job_type"), "")
        given: dict[str, Any] = {**nothing, "cwd": None, "live": live, "tag_replacements": {}}
        known = inspect.signature(self._service.init_sync).parameters
        given = {name: value for name, value in given.items() if name in known}
        handle = await _sent(self._service.init_sync({log}, settings, **given))
        self._id = (await handle.wait_async(timeout=timeouts.SYNC_CORE_ANSWERS_S)).id
        handle = await _sent(self._service.sync(self._id, parallelism=1))
        self._end = asyncio.ensure_future(handle.wait_async(timeout=None))
        # If nobody waits any more when wandb-core ends, its error is nobody's.
        self._end.add_done_callback(lambda end: end.cancelled() or end.exception())

    @property
    def is_done(self) -> bool:
        """Whether wandb-core has uploaded it, or given up."""
        return bool(self._end.done())

    def errors(self) -> list[str]:
        """What went wrong since this was last asked; nothing, if wandb-core is too busy to tell.

        Raises:
            Exception: wandb's, if wandb-core is gone.
        """
        if self.is_done:
            return _errors(self._end.result())
        with contextlib.suppress(TimeoutError):
            return _errors(self._setup.asyncer.run(self._status))
        return []

    async def _status(self) -> Any:
        handle = await _sent(self._service.sync_status(self._id))
        return await handle.wait_async(timeout=timeouts.SYNC_CORE_ANSWERS_S)


async def _sent(request: Any) -> Any:
    """Return the handle of a request; since wandb 0.24, to send it has to be awaited."""
    return await request if inspect.isawaitable(request) else request


def _errors(answer: Any) -> list[str]:
    for name in ("messages", "new_messages"):
        messages = getattr(answer, name, None)
        if messages is not None:
            return [one.content for one in messages if one.severity >= _ERROR]
    return [*getattr(answer, "errors", ()), *getattr(answer, "new_errors", ())]  # wandb 0.22
