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
from wbtune._upstream.capabilities import Capability, uses

OWN_CORE: Final = Capability(
    "a wandb-core for each trial",
    without="processes that a trial starts before its run do not share its wandb-core",
    since="wandb 0.25",
    needs=(
        "wandb.sdk.wandb_setup:singleton",
        "wandb.sdk.wandb_setup:_WandbSetup._connection",
        "wandb.sdk.wandb_setup:_WandbSetup._connection_lock",
        "wandb.sdk.wandb_setup:_WandbSetup.asyncer",
        "wandb.sdk.lib.service.service_connection:connect_to_service",
        "wandb.sdk.lib.service.service_connection:_start_and_connect_service",
        "wandb.sdk.lib.service.service_connection:ServiceConnection.owns_service",
    ),
)

KILL: Final = Capability(
    "an end for a wandb-core that hangs",
    without="a wandb-core that hangs is not killed, and what was logged to it may be lost",
    since="wandb 0.22",
    needs=(
        "wandb.sdk.wandb_setup:_singleton",
        "wandb.sdk.wandb_setup:_WandbSetup._connection",
        "wandb.sdk.wandb_setup:_WandbSetup._pid",
        "wandb.sdk.lib.service.service_connection:ServiceConnection._proc",
        "wandb.sdk.lib.service.service_process:ServiceProcess._process",
    ),
)

QUIET_CORE: Final = Capability(
    "a log of wandb-core without the key",
    without="with WANDB_DEBUG=true the API key is in the log of wandb-core",
    since="wandb 0.22",
    needs=("wandb.sdk.lib.service.service_process:core_debug",),
)

INIT_CALLS: Final = Capability(
    "a line about wandb.init() without effect",
    without="arguments of a wandb.init() in a trial have no effect, and nothing says so",
    since="wandb 0.22",
    needs=("wandb.trigger:register", "wandb.sdk.wandb_init:init.init_settings"),
)


def interface_of(run: Any) -> Any:
    """Return what a run sends by; None for a disabled run [wandb 0.28; before, in ``_backend``]."""
    return getattr(run, "_interface", None) or getattr(
        getattr(run, "_backend", None), "interface", None
    )


def core_of(run: Any) -> object:
    """Return the wandb-core that a run sends to [wandb 0.31, ``InterfaceSock._client``]."""
    return getattr(interface_of(run), "_client", None)


#: What wandb raises when wandb-core is no more, could not be reached, or its client has let go
#: of it; where a wandb lacks one, it does not raise it.
CORE_ERRORS: Final = Capability(
    "the errors of a dead wandb-core",
    without="when its wandb-core dies, a trial may get W&B's error",
    since="wandb 0.22",
    needs=(
        "wandb.sdk.mailbox:MailboxClosedError",
        "wandb.sdk.mailbox:HandleAbandonedError",
        "wandb.sdk.lib.asyncio_manager:AlreadyJoinedError",
        "wandb.sdk.lib.service.service_token:WandbServiceConnectionError",
    ),
)


@functools.cache
def core_is_gone() -> tuple[type[BaseException], ...]:
    """Return the exceptions that wandb raises when wandb-core is no more."""
    found: list[type[BaseException]] = [ConnectionError]
    for name in CORE_ERRORS.needs:
        path, _, kind = name.partition(":")
        with contextlib.suppress(ImportError, AttributeError):
            found.append(getattr(importlib.import_module(path), kind))
    return tuple(found)


#: Where wandb leaves the address of its core, for the processes that are started later.
CORE_ENV: Final = "WANDB_SERVICE"

#: The processes that asked for a core of their own: this one, and whose fork it is.
_OWNERS: Final[set[int]] = set()


def _forget_inherited_core(*, own: bool) -> None:
    """Let wandb start a core, whatever address this process was given."""
    if own and not _is_ours(os.environ.get(CORE_ENV, "")):
        _OWNERS.add(os.getpid())
        os.environ.pop(CORE_ENV, None)


def _is_ours(address: str) -> bool:
    return any(f"-{owner}-" in address for owner in _OWNERS)


@uses(OWN_CORE, otherwise=_forget_inherited_core)
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
    from wandb.sdk import wandb_setup  # noqa: PLC0415 - wandb is imported when first needed
    from wandb.sdk.lib.service import service_connection  # noqa: PLC0415 - as above

    address = os.environ.get(CORE_ENV, "")
    ours = _is_ours(address)
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
@uses(INIT_CALLS, otherwise=lambda _: None)
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


def _warn_of_debugging() -> None:
    if os.environ.get("WANDB_DEBUG", "").lower() in {"1", "true"}:
        notice.warn_once("wbtune: with WANDB_DEBUG, wandb writes the API key to its log. Unset it.")


@functools.cache
@uses(QUIET_CORE, otherwise=_warn_of_debugging)
def keep_core_from_debugging() -> None:
    """Keep the log of this process's wandb-core as usual, also with ``WANDB_DEBUG=true``.

    Its detailed one has the key, in each request, and lies in the experiment's storage
    [wandb 0.31, ``service_process.core_debug``, asked when a core is started].
    """
    from wandb.sdk.lib.service import service_process  # noqa: PLC0415 - when first needed

    process: Any = service_process  # it does not export what is private
    process.core_debug = lambda default=None: False  # noqa: ARG005 - wandb's


def forget_core() -> None:
    """Drop the connection to wandb-core, so that the next run starts another."""
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    with contextlib.suppress(SystemExit):  # how it says that the core was killed
        wandb.teardown()


def _kill_nothing() -> None:
    """Do nothing: there is nothing to kill."""


@uses(KILL, otherwise=lambda: _kill_nothing)
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
        return _kill_nothing
    kill: Callable[[], None] = process.kill
    return kill
