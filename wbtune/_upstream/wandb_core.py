"""wandb-core, the process that writes W&B's runs: its start, its death, its end."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from wbtune._data import notice
from wbtune._upstream import frames


def core_of(run: Any) -> object:
    """Return the wandb-core that a run sends to [wandb 0.31, ``InterfaceSock._client``]."""
    return run._interface._client  # noqa: SLF001 - there is nothing public


#: What wandb raises when wandb-core is no more, could not be reached, or its client has let go
#: of it; where a wandb lacks one, it does not raise it [wandb 0.31].
_GONE: Final = {
    "wandb.sdk.mailbox": ("MailboxClosedError", "HandleAbandonedError"),
    "wandb.sdk.lib.asyncio_manager": ("AlreadyJoinedError",),
    "wandb.sdk.lib.service.service_token": ("WandbServiceConnectionError",),
}


@functools.cache
def core_is_gone() -> tuple[type[BaseException], ...]:
    """Return the exceptions that wandb raises when wandb-core is no more."""
    found: list[type[BaseException]] = [ConnectionError]
    for path, names in _GONE.items():
        with contextlib.suppress(ImportError):
            module = importlib.import_module(path)
            found += [getattr(module, name) for name in names if hasattr(module, name)]
    return tuple(found)


#: Where wandb leaves the address of its core, for the processes that are started later.
CORE_ENV: Final = "WANDB_SERVICE"

#: The processes that asked for a core of their own: this one, and whose fork it is.
_OWNERS: Final[set[int]] = set()


def ensure_core(*, own: bool) -> None:
    """Connect this process to a wandb-core, unless it inherited no address: then wandb does it.

    ``wandb.login``, ``init`` and ``setup`` export the address of their core, and every process
    that is started later, Ray's workers among them, connects to that. It may have gone, it
    goes with its owner, and it keeps a killed process's run open, so that a retry can't open it.
    Nothing public says otherwise: taking the address out of the environment would take it from
    the children of this process as well
    [wandb 0.31, ``_WandbSetup.ensure_service``, ``service_connection.connect_to_service``].

    Args:
        own: a core of this process, or of the one that it was forked from, and no other's.
            False: as wandb does, but an address where nobody answers is none.
    """
    try:
        _ensure_core(own=own)
    except (AttributeError, ImportError, TypeError) as error:  # a wandb that nobody has read yet
        notice.warn_once(
            f"wbtune: this wandb shares the core of {CORE_ENV}, if there is one ({error})"
        )


def _ensure_core(*, own: bool) -> None:
    from wandb.sdk import wandb_setup  # noqa: PLC0415 - wandb is imported when first needed
    from wandb.sdk.lib.service import service_connection  # noqa: PLC0415 - as above

    address = os.environ.get(CORE_ENV, "")
    ours = any(f"-{owner}-" in address for owner in _OWNERS)
    setup = wandb_setup.singleton()
    with setup._connection_lock:  # noqa: SLF001 - there is nothing public
        connection = setup._connection  # noqa: SLF001 - as above
        if connection is not None and (connection.owns_service or ours or not own):
            return
        if own and not ours:
            _OWNERS.add(os.getpid())
        if connection is None and not address:
            return
        if ours or not own:
            with contextlib.suppress(ValueError, *core_is_gone()):
                setup._connection = service_connection.connect_to_service(  # noqa: SLF001
                    setup.asyncer, setup.settings
                )
                return
        # Runs that a user has opened by the other core stay with that.
        setup._connection = service_connection._start_and_connect_service(  # noqa: SLF001
            setup.asyncer, setup.settings
        )


@functools.cache
def when_init_is_called(call: Callable[[Mapping[str, Any]], None]) -> None:
    """Call a function with the arguments of each ``wandb.init`` of this process that is not ours.

    By wandb's own hooks, which its Keras and TensorBoard integrations use; they are told
    nothing, but the caller's arguments are on the stack [wandb 0.31, ``wandb.trigger``,
    ``wandb_init.init``].
    """
    from wandb import trigger  # noqa: PLC0415 - wandb is imported when first needed

    def init_is_called() -> None:
        callers = list(frames.callers())
        modules = {frame.f_globals.get("__name__") for frame in callers[:20]}
        if "wbtune._run.opening" in modules:
            return
        for frame in callers:
            if frame.f_code.co_name == "init" and "init_settings" in frame.f_locals:
                call(dict(frame.f_locals))
                return

    trigger.register("on_init", init_is_called)


@functools.cache
def keep_core_from_debugging() -> None:
    """Keep the log of this process's wandb-core as usual, also with ``WANDB_DEBUG=true``.

    Its detailed one has the key, in each request, and lies in the experiment's storage
    [wandb 0.31, ``service_process.core_debug``, asked when a core is started].
    """
    from wandb.sdk.lib.service import service_process  # noqa: PLC0415 - when first needed

    if hasattr(service_process, "core_debug"):
        service_process.core_debug = lambda default=None: False  # noqa: ARG005 - wandb's


def forget_core() -> None:
    """Drop the connection to wandb-core, so that the next run starts another."""
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    with contextlib.suppress(SystemExit):  # how it says that the core was killed
        wandb.teardown()


def core_killer() -> Callable[[], None]:
    """Return a function that kills this process's own wandb-core, should it not answer any more.

    A core that another process has started is left alone. To be asked for before the core
    is let go of [wandb 0.31, ``wandb_setup._singleton``, ``ServiceConnection._proc``].
    """
    from wandb.sdk import wandb_setup  # noqa: PLC0415 - wandb is imported when first needed

    setup = wandb_setup._singleton  # noqa: SLF001 - to ask for it could start another
    connection = getattr(setup, "_connection", None)
    process = getattr(getattr(connection, "_proc", None), "_process", None)
    if process is None or getattr(setup, "_pid", None) != os.getpid():
        return lambda: None
    kill: Callable[[], None] = process.kill
    return kill
