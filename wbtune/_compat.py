"""The only module that imports a private name of Ray or wandb.

Each name says why it is needed and in which version it was read. When one of them moves,
this is the file to change. Nothing here is imported before it is needed: `import wbtune`
must not import wandb.
"""

# Over 250 lines: one reason and one version for each of many names, in one place.

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import json
import logging
import math
import operator
import os
import re
import sys
import threading
import time
import traceback
import types
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wbtune.masking import without_userinfo

if TYPE_CHECKING:
    from ray.tune import Trainable


@functools.cache
def init_parameters() -> frozenset[str]:
    """The names that the installed ``wandb.init`` takes."""
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    return frozenset(inspect.signature(wandb.init).parameters)


# --- wandb ------------------------------------------------------------------------------


def wandb_setting(name: str) -> Any:
    """One of W&B's settings as this process has it, without starting its core.

    None for a name that W&B does not know.

    ``wandb.setup()`` is public but starts wandb-core and exports ``WANDB_SERVICE``, which
    every process started later would attach to [wandb 0.31, ``wandb_setup.singleton``].
    """
    from wandb.sdk import wandb_setup  # noqa: PLC0415 - wandb is imported when first needed

    value = getattr(wandb_setup.singleton().settings, name, None)
    # wandb never logs in by it, but says it; the key is what it sends.
    return without_userinfo(value) if name == "base_url" and value else value


def app_url(base_url: str) -> str:
    """Where a server's pages are: ``wandb.ai`` for ``api.wandb.ai`` [wandb 0.31, ``wandb.util``].

    ``Settings.app_url`` is public, but of the settings that start wandb-core.
    """
    from wandb import util  # noqa: PLC0415 - wandb is imported when first needed

    override = wandb_setting("app_url_override")
    return str(override or util.api_to_app_url(base_url)).rstrip("/")


def logged_in(base_url: str) -> bool:
    """Would wandb find credentials for this server: a netrc entry, a key, a token file?

    ``wandb.login(prompt=False)`` is public but prints, writes settings files and says
    False when offline [wandb 0.31, ``wandb.sdk.lib.wbauth``].
    """
    return _credentials(base_url) is not None


def found_key(base_url: str) -> str | None:
    """The key that wandb finds for this server by itself; None for none, or another kind."""
    return getattr(_credentials(base_url), "api_key", None)


def _credentials(base_url: str) -> Any:
    from wandb.sdk.lib import wbauth  # noqa: PLC0415 - wandb is imported when first needed

    found = wbauth.authenticate_session(
        host=base_url, source="wbtune", prompt=False, update_session=False
    )
    # For want of others, wandb gives the credentials of this process, whatever their server.
    return found if found is not None and found.host.is_same_url(base_url) else None


#: By what a run is guarded [wandb 0.31, ``Run``].
_GUARDED_BY: Final = (
    "_config_callback",
    "_summary_update_callback",
    "_summary_get_current_summary_callback",
    "_partial_history_callback",
    "_telemetry_callback",
    "_metric_callback",
)


def can_be_guarded(run: Any) -> bool:
    """Has this run what `wbtune.guard` stands below? If not, that is said."""
    missing = [name for name in _GUARDED_BY if not hasattr(run, name)]
    if missing:
        _say_once(
            f"wbtune: this wandb has no {', '.join(missing)}; the last rows of a run are lost "
            "when wandb-core is killed."
        )
    return not missing


def same_global_run(new: object, run: object) -> None:
    """Let ``wandb.run`` be ``run`` where it has become ``new`` [wandb 0.31, ``wandb_init``]."""
    import wandb  # noqa: PLC0415 - wandb is imported when first needed
    from wandb.sdk.wandb_init import _set_global_run  # noqa: PLC0415 - as above

    if wandb.run is new:
        _set_global_run(run)  # type: ignore[arg-type]


def send_updates_by(run: Any, send: Callable[..., Any]) -> None:
    """Have `send` call what ``run.config`` and ``run.summary`` call when they are used.

    [wandb 0.31, ``wandb_config.Config``, ``wandb_summary.Summary``.]
    """
    if run.disabled:
        return
    run.config._set_callback(functools.partial(send, run._config_callback))  # noqa: SLF001
    update, read = run._summary_update_callback, run._summary_get_current_summary_callback  # noqa: SLF001
    run.summary._set_update_callback(functools.partial(send, update))  # noqa: SLF001
    # The object's own ``__setattr__`` sets a value of the summary.
    object.__setattr__(run.summary, "_get_current_summary_callback", functools.partial(send, read))


def send_rows_by(run: Any, send: Callable[..., None]) -> Callable[..., None]:
    """Have `send` send the rows of this run, and get the method that it stands in for.

    ``run.log`` stays wandb's own method, and so does ``wandb.log``; what ``wandb.watch``
    logs by ``run._log`` comes here, too [wandb 0.31, ``Run._partial_history_callback``].
    The method is got without what wraps it: that would set which run's debug log is
    written, as ``run.log`` has already, and take as long as a guarded row's guard.
    """
    tell = run._telemetry_callback  # noqa: SLF001 - there is no public one

    def tell_if_it_can(what: Any) -> None:
        # Of a row with a step, this comes first; the row finds the core dead in its turn.
        with contextlib.suppress(*core_is_gone()):
            tell(what)

    run.__dict__.update(_partial_history_callback=send, _telemetry_callback=tell_if_it_can)
    method = inspect.unwrap(type(run)._partial_history_callback)  # noqa: SLF001 - as above
    return types.MethodType(method, run)


def rows_through(run: Any, log: Callable[..., None]) -> Callable[..., None] | None:
    """Have the rows of a guarded run (`send_rows_by`) go to `log`, and get where they went.

    None for a run that is not guarded, as a disabled one.
    """
    send: Callable[..., None] | None = vars(run).get("_partial_history_callback")
    if send is not None:
        run.__dict__["_partial_history_callback"] = log
    return send


def before_summary_is_used(run: Any, do: Callable[[], None]) -> None:
    """Have `do` called before a run's summary is read or changed.

    [wandb 0.31, ``wandb_summary.Summary``, whose own ``__setattr__`` sets a value of it.]
    """

    def after(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            do()
            return call(*args, **kwargs)

        return called

    for name in ("_update_callback", "_get_current_summary_callback"):
        object.__setattr__(run.summary, name, after(vars(run.summary)[name]))


def become(run: Any, new: Any, **more: Any) -> None:
    """Let ``run`` be what ``new`` is, and ``new`` the same, with ``more`` as attributes.

    Its config and its summary stay the objects that they are: somebody may hold them. What
    they and what rows are sent by call is bound to ``run``, and so is the step that it is
    at [wandb 0.31, ``Run``].
    """
    names = (
        "_config",
        "summary",
        "_partial_history_callback",
        "_metric_callback",
        "_telemetry_callback",
        "_local_step",
        "finish",
        "_finish",
    )
    kept = {name: vars(run)[name] for name in names if name in vars(run)}
    state = run.__dict__
    # At once: another thread may be logging. The same dict: a third object may have it, too.
    state.update({**new.__dict__, **kept, **more})
    new.__dict__ = state


def go_on_as(run: Any, new: Any) -> None:
    """Let ``run``, which has ended, be ``new`` from now on, whoever holds it.

    Its config and its summary stay the objects that they are, with what is in the new ones
    [wandb 0.31, ``Run``, ``Config``, ``Summary``].
    """
    if run is new:
        return
    for name in ("_config", "summary"):
        held, fresh = vars(run).get(name), vars(new).get(name)
        if hasattr(held, "__dict__") and hasattr(fresh, "__dict__"):
            # The objects' own ``__setattr__`` sets a value.
            object.__setattr__(held, "__dict__", fresh.__dict__)
            vars(new)[name] = held
    run.__dict__ = new.__dict__
    object.__setattr__(run, "__class__", type(new))  # a disabled run has one of its own
    same_global_run(new, run)


def when_used(run: Any, wake: Callable[[], None]) -> None:
    """Have `wake` called before the next use of this object, which has ended.

    Nobody but its class is asked for an attribute first, so it gets a class of its own until
    then. `wandb.run` and what belongs to it are this object's again.
    """
    from wandb.sdk.wandb_init import _set_global_run  # noqa: PLC0415 - when first needed

    kind = type(run)

    def used(self: Any, name: str) -> Any:
        if not (name.startswith("__") and name.endswith("__")):
            not_when_used(self)
            wake()
        return object.__getattribute__(self, name)

    def changed(self: Any, name: str, value: Any) -> None:
        not_when_used(self)
        wake()
        setattr(self, name, value)

    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    if isinstance(run, wandb.Run):
        _set_global_run(run)
    names = {"__getattribute__": used, "__setattr__": changed, "__module__": kind.__module__}
    object.__setattr__(run, "__class__", type(kind.__name__, (kind,), {**names, _SLEEPS: kind}))


def not_when_used(run: Any) -> None:
    """Give an object back the class that `when_used` took from it."""
    kind = vars(type(run)).get(_SLEEPS)
    if kind is not None:
        object.__setattr__(run, "__class__", kind)


_SLEEPS: Final = "wbtune_class"


def keep_open(run: Any, finished: Callable[[int | None], None]) -> None:
    """Have this run's ``finish`` call `finished` instead, until `let_finish`.

    ``wandb.finish`` and ``wandb.init(reinit=True)`` call it; ``with run:`` calls what it calls
    [wandb 0.31, ``Run._finish``].
    """

    def finish(exit_code: int | None = None, **_: Any) -> None:
        finished(exit_code)

    # At the end of a `with` block it says 1 for Tune's stop, too: that is not noted.
    run.__dict__.update(finish=finish, _finish=lambda exit_code=None: None)  # noqa: ARG005


def let_finish(run: Any) -> None:
    """Give a run that is kept open its ``finish`` back."""
    for name in ("finish", "_finish"):
        vars(run).pop(name, None)


def send_metrics_by(run: Any, send: Callable[[Any], None]) -> Callable[[Any], None]:
    """Have `send` send what ``run.define_metric`` defines, and get what it stands in for.

    ``wandb.define_metric`` is the run's method, so it comes here, too
    [wandb 0.31, ``Run._metric_callback``].
    """
    method: Callable[[Any], None] = run._metric_callback  # noqa: SLF001 - there is no public one
    run.__dict__["_metric_callback"] = send
    return method


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
def rows_held_back() -> Iterator[list[HeldRow]]:
    """Have the rows that this thread logs in the block put into a list, instead of sent.

    Nothing else is: what has an answer would overtake what is held.
    """
    held: list[HeldRow] = []
    try:
        _hold_rows_back_where_asked()
    except (AttributeError, ImportError) as error:  # a wandb that nobody has read yet
        _say_once(f"wbtune: this wandb sends each row by itself ({error})")
    _HOLDING.rows = held
    try:
        yield held
    finally:
        _HOLDING.rows = None


#: Of each thread: where its rows are put, if they are not sent.
_HOLDING = threading.local()


@functools.cache
def _hold_rows_back_where_asked() -> None:
    """Replaces a method of wandb's, once [wandb 0.31, ``InterfaceShared``, ``InterfaceSock``]."""
    from wandb.sdk.interface.interface_sock import InterfaceSock  # noqa: PLC0415 - when first needed

    send = InterfaceSock._publish_partial_history  # noqa: SLF001 - there is nothing public

    def publish(self: Any, row: Any) -> None:
        rows = getattr(_HOLDING, "rows", None)
        if rows is None:
            send(self, row)
            return
        try:
            request = _messages().ServerRequest()
            record = request.record_publish
            record.CopyFrom(self._make_request(partial_history=row))
            self._assign(record)
            held = HeldRow(self._client, request, self._asyncer.run)
        except (AttributeError, ImportError) as error:  # a wandb that nobody has read yet
            _say_once(f"wbtune: this wandb sends each row by itself ({error})")
            send(self, row)
            return
        rows.append(held)

    InterfaceSock._publish_partial_history = publish  # type: ignore[assignment,method-assign] # noqa: SLF001


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
    """Is it known, without wandb, what ``run.log`` sends for this row?

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
        and not is_finished(run)
        and run._telemetry_obj.feature.set_step_log  # noqa: SLF001 - as above
        and not settings._shared  # noqa: SLF001 - as above
        and settings.x_history_value_encoding == "json"
        and not wandb.patched["tensorboard"]
        and "log" not in vars(run)
        and set(map(type, row.values())) <= _JSON.keys()
    )


def simple_row(run: Any, row: Mapping[str, Any], step: int) -> HeldRow:
    """Log a simple row, up to where it is sent: ``run.log(row, step=step, commit=True)``.

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
    """Send rows of one core: wandb writes them, and what it writes is sent at once.

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


def core_of(run: Any) -> object:
    """The wandb-core that a run sends to [wandb 0.31, ``InterfaceSock._client``]."""
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
    """What is raised when wandb-core is no more."""
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
    """Connect this process to a wandb-core; leave it to wandb where no address was inherited.

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
        _say_once(f"wbtune: this wandb shares the core of {CORE_ENV}, if there is one ({error})")


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
def _say_once(text: str) -> None:
    logging.getLogger("wbtune").warning("%s", text)


#: Of settings of this process that are left out for the moment: what they were, and for how many.
_LEFT_OUT: Final[dict[int, tuple[Any, dict[str, Any], list[int]]]] = {}
_LEAVING_OUT = threading.Lock()


@contextlib.contextmanager
def settings_left_out(names: frozenset[str]) -> Iterator[None]:
    """While a run is opened, W&B's settings of this process say nothing of these.

    ``wandb.Settings`` that are given to ``wandb.init`` can't unset one, and what
    `WANDB_SWEEP_ID` and `WANDB_LAUNCH` do is decided by the process's own
    [wandb 0.31, ``_WandbInit.clear_run_path_if_sweep_or_launch``, ``wandb_setup.singleton``].
    Several runs may be opened at once; the last that is open puts back what was there.
    """
    from wandb.sdk import wandb_setup  # noqa: PLC0415 - wandb is imported when first needed

    settings: Any = wandb_setup.singleton().settings
    with _LEAVING_OUT:
        _, kept, count = _LEFT_OUT.setdefault(id(settings), (settings, {}, [0]))
        count[0] += 1
        for name, default in _defaults(names).items():
            value = getattr(settings, name, default)
            if value != default:
                kept[name] = value
                setattr(settings, name, default)
    try:
        yield
    finally:
        with _LEAVING_OUT:
            count[0] -= 1
            if not count[0]:
                del _LEFT_OUT[id(settings)]
                for name, value in kept.items():
                    setattr(settings, name, value)


@functools.cache
def _defaults(names: frozenset[str]) -> dict[str, Any]:
    """What these settings are where nobody says anything: neither environment nor file."""
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    nothing = wandb.Settings()
    return {name: getattr(nothing, name) for name in names if hasattr(nothing, name)}


def is_answered(artifact: Any) -> bool:
    """Has wandb-core said what became of a logged artifact? False where that can't be seen.

    ``Artifact.wait`` is public, but cancels the upload when its time is over, be that 0
    [wandb 0.31, ``MailboxResponseHandle.wait_async``].
    """
    handle: Any = getattr(artifact, "_save_handle", None)
    while hasattr(handle, "_handle"):
        handle = handle._handle  # noqa: SLF001 - as said
    return getattr(handle, "_response", None) is not None


def gave_up_waiting() -> tuple[type[BaseException], ...]:
    """What wandb raises when its core ends before it has answered [wandb 0.31]."""
    from wandb.sdk import mailbox  # noqa: PLC0415 - wandb is imported when first needed

    return (mailbox.HandleAbandonedError,)


def send_packages(run: Any) -> None:
    """Let a run say which packages are installed, read once for all runs of the process.

    Reading them takes several times as long as opening a run, and ``x_save_requirements``
    does it for each [wandb 0.31, ``Run._on_start``].
    """
    run._interface.publish_python_packages(_packages())  # noqa: SLF001 - there is no public one


@functools.cache
def _packages() -> tuple[Any, ...]:
    from wandb.util import working_set  # noqa: PLC0415 - wandb is imported when first needed

    return tuple(working_set())


@functools.cache
def when_init_is_called(tell: Callable[[Mapping[str, Any]], None]) -> None:
    """Have `tell` told the arguments of each ``wandb.init`` of this process that is not ours.

    By wandb's own hooks, which its Keras and TensorBoard integrations use; they are told
    nothing, but the caller's arguments are on the stack [wandb 0.31, ``wandb.trigger``,
    ``wandb_init.init``].
    """
    from wandb import trigger  # noqa: PLC0415 - wandb is imported when first needed

    def init_is_called() -> None:
        frames = list(_up(sys._getframe(1)))  # noqa: SLF001 - documented, and needed
        modules = {frame.f_globals.get("__name__") for frame in frames[:20]}
        if "wbtune.runs" in modules:
            return
        for frame in frames:
            if frame.f_code.co_name == "init" and "init_settings" in frame.f_locals:
                tell(dict(frame.f_locals))
                return

    trigger.register("on_init", init_is_called)


@functools.cache
def keep_core_from_debugging() -> None:
    """Have the wandb-core of this process keep the usual log, also with ``WANDB_DEBUG=true``.

    Its detailed one has the key, in each request, and lies in the experiment's storage
    [wandb 0.31, ``service_process.core_debug``, asked when a core is started].
    """
    from wandb.sdk.lib.service import service_process  # noqa: PLC0415 - when first needed

    if hasattr(service_process, "core_debug"):
        service_process.core_debug = lambda default=None: False  # noqa: ARG005 - wandb's


@functools.cache
def start_without_launch() -> None:
    """Have runs of this process start without W&B Launch, if nobody has imported that.

    It replaces a method of wandb's ``Run``, once, for the user's own runs as well.
    The first run would import it, which takes longer than all else but its core's own start,
    to see whether inputs are staged there; only who imported it can have staged any
    [wandb 0.31, ``Run._detect_and_apply_job_inputs``].
    """
    from wandb.sdk.wandb_run import Run  # noqa: PLC0415 - wandb is imported when first needed

    apply = getattr(Run, "_detect_and_apply_job_inputs", None)
    if apply is None:
        return  # another wandb, which may take its time

    def apply_what_is_staged(run: Run) -> None:
        if "wandb.sdk.launch" in sys.modules:
            apply(run)

    Run._detect_and_apply_job_inputs = apply_what_is_staged  # type: ignore[assignment,method-assign] # noqa: SLF001


def forget_core() -> None:
    """Drop the connection to wandb-core, so that the next run starts another."""
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    with contextlib.suppress(SystemExit):  # how it says that the core was killed
        wandb.teardown()


def core_killer() -> Callable[[], None]:
    """What kills this process's own wandb-core, if that does not answer any more.

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


def core_step(run: Any, seconds: float) -> int | None:
    """W&B's step of the next row, whichever process logs it; None without an answer in time.

    ``run.step`` is public, but waits for half a minute [wandb 0.31, ``Run.step``].
    """
    try:
        handle = run._interface.deliver_history_step()  # noqa: SLF001 - as said
        return int(handle.wait_or(timeout=seconds).step)
    except TimeoutError:
        return None


def record_type() -> Any:
    """The type of the records in a run's transaction log [wandb 0.31].

    ``wandb leet inspect --json`` is the supported reader, and takes half a second a run.
    """
    from wandb.proto import wandb_internal_pb2  # noqa: PLC0415 - when first needed

    messages: Any = wandb_internal_pb2  # its stubs are written for one protobuf version
    return messages.Record


def not_a_record() -> type[Exception]:
    """What parsing something else as a record raises."""
    from google.protobuf import message  # noqa: PLC0415 - a package of wandb's

    error: type[Exception] = message.DecodeError
    return error


def untied(value: Any, take_file: Callable[..., str | None]) -> Any:
    """A copy of one of W&B's objects (Image, Table, a chart, ...) that is tied to no run.

    To log one ties it to the run, which can't be pickled, and moves its file into the run's
    folder; the same for what it holds: masks, the images in a table
    [wandb 0.31, ``Media.bind_to_run``, ``_run``, ``_path``, ``_is_tmp``].

    Args:
        value: the object.
        take_file: ``take_file(path, changes=...)`` gives a file that is the copy's own, or
            None for what is no file; ``changes``, if the file is not one of wandb's.
    """
    from wandb.plot.custom_chart import CustomChart  # noqa: PLC0415 - when first needed
    from wandb.plot.viz import Visualize  # noqa: PLC0415 - as above
    from wandb.sdk.data_types.base_types.wb_value import WBValue  # noqa: PLC0415 - as above

    copies: dict[int, Any] = {}
    apart = {"_run": None, "_artifact_source": None, "_artifact_target": None}

    def copied(part: Any) -> Any:
        if type(part) in {list, tuple}:
            return type(part)(map(copied, part))
        if type(part) is dict:
            return {key: copied(inner) for key, inner in part.items()}
        if not isinstance(part, (WBValue, CustomChart, Visualize)):
            return part
        if id(part) not in copies:
            # Of wandb's own class: a user's may be one that no other process has.
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


def media_json(run: Any, key: str, value: Any, step: int) -> dict[str, Any]:
    """Put one of W&B's objects, or a list of them, into a run; what its row is to say of it.

    ``run.log`` does it with all of a row, which is lost for one that fails
    [wandb 0.31, ``wandb.sdk.data_types.utils``, ``Run._serialize_custom_charts``].
    """
    from wandb.sdk.data_types.utils import val_to_json  # noqa: PLC0415 - when first needed

    parts = run._serialize_custom_charts({key: value})  # noqa: SLF001 - there is nothing public
    return {name: val_to_json(run, name, part, namespace=step) for name, part in parts.items()}


def is_finished(run: Any) -> bool:
    """Was ``finish`` called already? Nothing public tells [wandb 0.31, ``Run._is_finished``]."""
    return bool(getattr(run, "_is_finished", False))


def log_in(base_url: str, key: str) -> None:
    """Let this process's runs use this key.

    ``Settings(api_key=...)`` is public, but says so on the terminal for every trial, and
    ``wandb.login`` writes a netrc file
    [wandb 0.31, ``wandb.sdk.lib.wbauth.authenticate``].
    """
    from wandb.sdk.lib import wbauth  # noqa: PLC0415 - wandb is imported when first needed
    from wandb.sdk.lib.wbauth import authenticate  # noqa: PLC0415 - as above

    known = wbauth.session_credentials(host=base_url)
    if isinstance(known, wbauth.AuthApiKey) and known.api_key == key:
        return
    with authenticate._session_auth_lock:  # noqa: SLF001 - nothing public is silent
        authenticate._locked_set_session_auth(wbauth.AuthApiKey(host=base_url, api_key=key))  # noqa: SLF001


def finish_timed_out(run: Any) -> bool:
    """Did ``finish`` end before all was uploaded? [wandb 0.31, ``Run._finish_timed_out``]."""
    return bool(getattr(run, "_finish_timed_out", False))


def sync(folders: list[Path], base_url: str, key: str) -> None:
    """``wandb sync``, in this process: the command could only be given its key by its environment.

    [wandb 0.31, ``wandb.cli.beta_sync``; what was synced gets a ``.synced`` marker.]
    """
    from wandb.cli import beta_sync  # noqa: PLC0415 - wandb is imported when first needed

    log_in(base_url, key)
    as_it_is: dict[str, Any] = dict.fromkeys(
        ("entity", "project", "run_id", "job_type", "replace_tags"), ""
    ) | dict.fromkeys(("live", "dry_run", "skip_online", "verbose"), False)
    beta_sync.sync(folders, **as_it_is, skip_confirmation=True, skip_synced=True, parallelism=5)


def key_problem(key: str) -> str | None:
    """Why wandb would refuse this key, by its form; None for a good one.

    Otherwise each trial would find out for itself
    [wandb 0.31, ``wandb.sdk.lib.wbauth.validation``].
    """
    from wandb.sdk.lib.wbauth import validation  # noqa: PLC0415 - wandb is imported when needed

    return validation.check_api_key(key)


# --- Ray Tune ---------------------------------------------------------------------------


def find_trainable() -> Trainable | None:
    """The `Trainable` on whose behalf this code runs, in a trial's process.

    Ray has no public way from a trainable function to its `Trainable`. It is the ``self``
    of a frame of the calling stack, for class trainables as for a function's training
    thread; for a thread that the user started, of the actor's main thread, which waits in
    ``step`` [Ray 2.60, ``tune/trainable/function_trainable.py``].
    """
    from ray.tune import Trainable  # noqa: PLC0415 - `import wbtune.setup` stays cheap

    stacks: list[FrameType | None] = [sys._getframe(1)]  # noqa: SLF001 - documented, and needed
    main = threading.main_thread().ident
    if threading.get_ident() != main and main is not None:
        stacks.append(sys._current_frames().get(main))  # noqa: SLF001 - as above
    for stack in stacks:
        for frame in _up(stack):
            candidate = frame.f_locals.get("self")
            if isinstance(candidate, Trainable):
                return candidate
    return None


def _up(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def training_thread() -> threading.Thread | None:
    """The thread that a function trainable runs in [Ray 2.60, ``_TrainSession``]."""
    from ray.train._internal.session import get_session  # noqa: PLC0415 - needs ray

    session = get_session()
    thread = getattr(session, "training_thread", None)
    return thread if isinstance(thread, threading.Thread) else None


def on_training_error(report: Callable[[BaseException], None]) -> None:
    """Call ``report`` with what this trial's function raises, in its own thread.

    A function's error is put into a queue by its thread and raised in ``step``, which may
    already be running when somebody begins to listen. The thread's own method is looked
    up on the instance [Ray 2.60, ``air/_internal/util.py``, ``RunnerThread``].
    """
    thread: Any = threading.current_thread()
    if not hasattr(thread, "_propagate_exception"):  # one that the user started
        thread = training_thread()
    original = getattr(thread, "_propagate_exception", None)
    if original is None or getattr(thread, "wbtune_reports", None) == report:
        return

    def propagate(error: BaseException) -> None:
        report(error)
        original(error)

    thread._propagate_exception = propagate  # noqa: SLF001 - see above
    thread.wbtune_reports = report


def with_parameters_of(trainable: Any) -> Any:
    """The function that ``tune.with_parameters`` was given; None of anything else.

    [Ray 2.60, ``tune/trainable/util.py``, ``with_parameters``: ``inner``, in its closure.]
    """
    is_one = getattr(trainable, "__qualname__", "") == "with_parameters.<locals>.inner"
    if not is_one or not isinstance(trainable, types.FunctionType):
        return None
    return inspect.getclosurevars(trainable).nonlocals.get("trainable")


def with_parameters_around(trainable: types.FunctionType, inner: Any) -> types.FunctionType:
    """The same parameters for another function; the user's own stays as it is."""
    names = trainable.__code__.co_freevars
    cells = [
        types.CellType(inner) if name == "trainable" else cell
        for name, cell in zip(names, trainable.__closure__ or (), strict=True)
    ]
    made = types.FunctionType(
        trainable.__code__,
        trainable.__globals__,
        trainable.__name__,
        trainable.__defaults__,
        tuple(cells),
    )
    made.__qualname__ = trainable.__qualname__
    vars(made).update(vars(trainable))
    return made


def is_tunes_stop(error: BaseException) -> bool:
    """Is this how Tune ends a function: by ``sys.exit(0)`` inside of ``report``?

    The user's own ``sys.exit`` is none, whatever its code: Tune fails the trial
    [Ray 2.60, ``train/_internal/session.py``, ``report``].
    """
    found: BaseException | None = error
    while found is not None:
        by = [
            str(one.f_globals.get("__name__")) for one, _ in traceback.walk_tb(found.__traceback__)
        ]
        # While there is a run, ``sys.exit`` is wandb's [wandb 0.31, ``ExitHooks``].
        while by and by[-1].startswith("wandb."):
            by.pop()
        if isinstance(found, SystemExit) and by and by[-1].partition(".")[0] == "ray":
            return True
        found = found.__context__  # the user's ``finally:`` may exit, too
    return False


def registered(name: str) -> Any:
    """What ``tune.register_trainable`` stored under a name; None for an unknown one.

    A function, where Tune made its class of one: that keeps it in a closure
    [Ray 2.60, ``tune/registry.py``; ``function_trainable.py``, ``wrap_function``].
    """
    from ray.tune import TuneError, registry  # noqa: PLC0415 - needs ray

    try:
        stored = registry.get_trainable_cls(name)
    except TuneError:
        return None
    if not is_function(stored):
        return stored
    method: Any = getattr(stored, "_trainable_func", None)
    return inspect.getclosurevars(method).nonlocals.get("train_func", stored)


def function_returned(trainable: Trainable) -> bool:
    """Did this function trainable's function return by itself?

    Its last result is then Tune's "duplicate" [Ray 2.60, ``FunctionTrainable.step``].
    """
    last = getattr(trainable, "_last_training_result", None)
    return last is not None and is_duplicate(last.metrics)


def is_duplicate(result: Any) -> bool:
    """Is this Tune's word that a function has returned? [Ray 2.60, ``RESULT_DUPLICATE``]."""
    from ray.tune.result import RESULT_DUPLICATE  # noqa: PLC0415 - needs ray

    return isinstance(result, dict) and RESULT_DUPLICATE in result


def trial_info(trainable: Trainable | None, config: Mapping[str, Any] | None = None) -> Any:
    """Tune's ``_TrialInfo``: of a trainable, or still in the config that builds one.

    [Ray 2.60, ``Trainable.__init__`` takes it out of the config before ``setup``.]
    """
    from ray.tune.result import TRIAL_INFO  # noqa: PLC0415 - needs ray

    info = getattr(trainable, "_trial_info", None)
    return info if info is not None else (config or {}).get(TRIAL_INFO)


def is_function(trainable: type | None) -> bool:
    """Is this the class that Tune made of a function?"""
    from ray.tune.trainable import FunctionTrainable  # noqa: PLC0415 - needs ray

    return trainable is not None and issubclass(trainable, FunctionTrainable)


def storage_of(trainable: Trainable | None) -> Any:
    """A trainable's ``StorageContext`` [Ray 2.60, ``Trainable.__init__``]."""
    return getattr(trainable, "_storage", None)


def trial_folder(storage: Any) -> tuple[str, str]:
    """The names of an experiment's and of its trial's folder; empty for none.

    [Ray 2.60, ``StorageContext.experiment_dir_name``, ``trial_dir_name``.]
    """
    names = (getattr(storage, name, None) for name in ("experiment_dir_name", "trial_dir_name"))
    experiment, trial = (str(name or "") for name in names)
    return experiment, trial


def storage_among(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The ``StorageContext`` among what Tune builds a trainable with; None for none.

    [Ray 2.60, ``tune/experiment/trial.py``, ``_get_trainable_kwargs``, gives it by name.]
    """
    named = kwargs.get("storage")
    given = args if named is None else (named,)
    return next((one for one in given if hasattr(one, "experiment_fs_path")), None)


def local_experiment_path(storage: Any) -> str | None:
    """``<storage_path>/<experiment>`` where that is a folder of this machine.

    [Ray 2.60, ``train/_internal/storage.py``.]
    """
    if storage is None or not is_local(storage.storage_filesystem):
        return None
    return str(storage.experiment_fs_path)


def node_address() -> str:
    """This node's, as results name it (``node_ip``)."""
    import ray  # noqa: PLC0415 - `import wbtune` is quick without ray

    return str(ray.util.get_node_ip_address())


def experiment_path(storage: Any) -> str:
    """``<storage_path>/<experiment>``, wherever that is [Ray 2.60, as above]."""
    return "" if storage is None else str(storage.experiment_fs_path)


def remote_experiment_path(storage: Any) -> tuple[Any, str] | None:
    """The experiment's folder and its file system, where that is not this machine's."""
    if storage is None or is_local(storage.storage_filesystem):
        return None
    return storage.storage_filesystem, str(storage.experiment_fs_path)


def staging_path(storage: Any) -> str:
    """A folder of this node, in Ray's session, that Ray does not copy to the storage.

    Beside those that Tune copies now and then, as they are in that moment
    [Ray 2.60, ``experiment_driver_staging_path``; of Train V2, ``local_working_directory``].
    """
    ours = "wbtune"
    if hasattr(storage, "experiment_driver_staging_path"):
        return str(Path(storage.experiment_driver_staging_path).with_name(ours))
    return str(Path(storage.local_working_directory, ours))


def is_local(filesystem: object) -> bool:
    """Is this pyarrow's file system of this machine?"""
    from pyarrow.fs import LocalFileSystem  # noqa: PLC0415 - needs pyarrow

    return isinstance(filesystem, LocalFileSystem)


# --- Ray Train --------------------------------------------------------------------------


# Small records are NamedTuples, here and elsewhere: a frozen dataclass takes seven times as
# long to make, and `import wbtune` is to be quick.
class TrainWorker(NamedTuple):
    """The worker of Ray Train that this process is.

    Attributes:
        rank: its rank; 0-based.
        run_id: of V2's Train run, the same when its workers are started again.
        run_name: of V2's Train run.
        trial: V1's, which always is a trial of Tune's: its ``TrialInfo``.
        storage: a ``StorageContext``.
        home: an object that lives as long as the training loop runs.
    """

    rank: int
    run_id: str
    run_name: str
    trial: Any
    storage: Any
    home: Any


def train_worker() -> TrainWorker | None:
    """This worker of Ray Train; None in a trial of Tune, and outside Ray.

    ``ray.train.get_context()`` is public, but raises or warns outside a worker, and knows
    neither a Train run's id nor whether it is V1's or V2's
    [Ray 2.60, ``train/_internal/session.py``, ``train/v2/_internal/execution/context.py``].
    """
    from ray.train._internal.session import get_session  # noqa: PLC0415 - needs ray

    session = get_session()
    if session is not None:
        info, rank = session.trial_info, session.world_rank
        if rank is None:
            return None
        home = session.training_thread
        return TrainWorker(int(rank), str(info.run_id), info.name, info, session.storage, home)
    v2 = sys.modules.get("ray.train.v2._internal.execution.context")
    context = getattr(v2, "_train_context", None)
    if context is None:
        return None
    return TrainWorker(
        rank=int(context.get_world_rank()),
        run_id=str(context.train_run_context.run_id),
        run_name=str(context.get_experiment_name()),
        trial=None,
        storage=context.get_storage(),
        home=context.execution_context.training_thread_runner,
    )


def watch_training_loop(
    worker: TrainWorker,
    ended: Callable[[BaseException | None], None],
    shut_down: Callable[[], None],
) -> None:
    """Hear of the end of a training loop, which Ray tells nobody on the worker.

    Args:
        worker: this one.
        ended: called before Ray hears of it, mostly in the loop's own thread: with None
            when it returned, or with what it raised.
        shut_down: called when Ray ends the worker (V2 only; V1 kills it).
    """
    if worker.trial is None:
        _watch_v2(worker.home, ended, shut_down)
    else:
        _watch_v1(worker.home, ended)


def _watch_v2(
    runner: Any, ended: Callable[[BaseException | None], None], shut_down: Callable[[], None]
) -> None:
    """V2's loop [Ray 2.60, ``ThreadRunner._run_target``, ``RayTrainWorker.shutdown``].

    Its thread puts what the loop raised, or None, into a queue of the runner's, and Ray
    takes the worker to be running until the thread ends.
    """
    from ray._private.worker import global_worker  # noqa: PLC0415 - needs ray
    from ray.train.v2._internal.execution.callback import WorkerCallback  # noqa: PLC0415

    told, queue = _told, runner._exc_queue  # noqa: SLF001 - see above

    class Overheard:
        def put(self, error: Any) -> None:
            ended(told(error))
            queue.put(error)

        def get(self) -> Any:
            return queue.get()

    class BeforeShutdown(WorkerCallback):
        def before_worker_shutdown(self) -> None:
            shut_down()

    runner._exc_queue = Overheard()  # noqa: SLF001 - as above
    for actor in global_worker.actors.values():
        callbacks = getattr(actor, "_callbacks", None)
        if isinstance(callbacks, list):
            callbacks.append(BeforeShutdown())


def _watch_v1(thread: Any, ended: Callable[[BaseException | None], None]) -> None:
    """V1's loop [Ray 2.60, ``air/_internal/util.py``, ``RunnerThread.run``].

    Its thread stores what the loop returned in an attribute, which is made to tell; what
    it raised, it hands to a method of its own.
    """

    def returned(self: Any, value: Any) -> None:
        self.__dict__["_ret"] = value
        ended(None)

    ret = property(lambda self: self.__dict__.get("_ret"), returned)
    kind = type(thread)
    thread.__class__ = type(kind.__name__, (kind,), {"_ret": ret})
    original = thread._propagate_exception  # noqa: SLF001 - as above

    def propagate(error: BaseException) -> None:
        ended(_told(error))
        original(error)

    thread._propagate_exception = propagate  # noqa: SLF001 - as above


def _told(error: Any) -> BaseException | None:
    """What the loop raised, in Ray's wrappings."""
    from ray.air._internal.util import StartTraceback  # noqa: PLC0415 - needs ray

    error = getattr(error, "_base_exc", error)  # V2: ``UserExceptionWithTraceback``
    while isinstance(error, StartTraceback) and error.__cause__ is not None:  # V1
        error = error.__cause__
    return error if isinstance(error, BaseException) else None


# --- Ray Tune, on the driver ------------------------------------------------------------


class Decision(NamedTuple):
    """What Tune's loop decided about the result that it is handling.

    Attributes:
        trial_said_done: the trial itself reported ``done``.
        scheduler: the class name of the scheduler.
        result: the result as ``stop=`` is compared with it: ``{"a/b": 1}`` for ``{"a": {"b": 1}}``.
    """

    trial_said_done: bool
    scheduler: str
    result: Mapping[str, Any]


def decision_on_result() -> Decision | None:
    """The decision that led to the callback that is being called; None elsewhere.

    Tune writes ``done=True`` into the result that it hands to callbacks; what the trial
    itself said is left in a local of the caller
    [Ray 2.60, ``tune/execution/tune_controller.py``, ``_process_trial_result``].
    """
    for frame in _up(sys._getframe(1)):  # noqa: SLF001 - documented, and needed
        if frame.f_code.co_name == "_process_trial_result":
            names = frame.f_locals
            scheduler = getattr(names.get("self"), "_scheduler_alg", None)
            flat = names.get("flat_result", {})
            return Decision(bool(flat.get("done")), type(scheduler).__name__, flat)
    return None


class Stops:
    """What ``stop=`` and ``time_budget_s`` have said, which Tune keeps to itself.

    Attributes:
        trial: which of them has just ended a trial by its result; empty for none.
        all: which of them has ended the experiment; empty for none.
    """

    __slots__ = ("all", "trial")

    def __init__(self) -> None:
        self.trial = self.all = ""


class _Observed:
    """Stands in for a stopper: it is asked as often as without this, and its answer is noted.

    In the experiment's state, which Tune pickles, it is the stopper itself.
    """

    def __init__(self, stopper: Any, asks: Any, stops: Stops, name: str) -> None:
        self.stops = stops
        self._stopper = stopper
        self._asks = asks
        self._name = name

    def __call__(self, trial_id: str, result: dict[str, Any]) -> Any:
        self.stops.trial = ""
        said = self._asks(trial_id, result)
        if said and not self.stops.trial:
            self.stops.trial = self._name
        return said

    def stop_all(self) -> Any:
        said = self._asks.stop_all()
        if said and not self.stops.all:
            self.stops.all = self._name
        return said

    def __reduce__(self) -> Any:
        return operator.itemgetter(0), ((self._stopper,),)


def observe_stops(time_budget: object) -> Stops | None:
    """Note from now on what ends trials, and the experiment; in `Callback.setup`.

    A stopper may have a state, so it can't be asked once more, and Tune tells its callbacks
    nothing of its answer. In the controller, which is our caller, each is put behind an
    object that notes it [Ray 2.60, ``tune/execution/tune_controller.py``, ``_stopper``;
    ``CombinedStopper._stoppers``].

    Args:
        time_budget: the experiment's ``time_budget_s``.

    Returns:
        What is noted; None when this Ray has no such place.
    """
    for frame in _up(sys._getframe(1)):  # noqa: SLF001 - documented, and needed
        controller: Any = frame.f_locals.get("self")
        if frame.f_code.co_name == "setup_experiments" and hasattr(controller, "_stopper"):
            stopper = controller._stopper  # noqa: SLF001 - there is nothing public
            if isinstance(stopper, _Observed):  # by another callback of ours
                return stopper.stops
            stops = Stops()
            controller._stopper = _observed(stopper, stops, time_budget)  # noqa: SLF001
            return stops
    return None


def _observed(stopper: Any, stops: Stops, time_budget: object) -> _Observed:
    from ray.tune.stopper import (  # noqa: PLC0415 - needs ray
        CombinedStopper,
        FunctionStopper,
        TimeoutStopper,
    )

    asks, name = stopper, f"stop={type(stopper).__name__}"
    if type(stopper) is CombinedStopper:
        # Of a time budget and other stoppers, Tune makes one, with the budget as its last.
        *others, last = stopper._stoppers or (None,)  # noqa: SLF001 - as above
        members = [_observed(one, stops, None) for one in others]
        members += [] if last is None else [_observed(last, stops, time_budget)]
        asks = CombinedStopper(*members)  # type: ignore[arg-type]
    elif type(stopper) is TimeoutStopper and time_budget is not None:
        name = f"time_budget_s={time_budget}"
    elif type(stopper) is FunctionStopper:
        function = getattr(stopper, "_fn", None)
        name = f"stop={getattr(function, '__name__', type(function).__name__)}"
    return _Observed(stopper, asks, stops, name)


def stopped_by() -> str | None:
    """Who has just had the trial stopped of whose end the callback is being told.

    A scheduler may stop another trial than the one whose result it is looking at, as
    synchronous HyperBand does; it is our caller's caller then
    [Ray 2.60, ``tune/execution/tune_controller.py``, ``stop_trial``, ``_process_stop_requests``].

    Returns:
        None when that is not known.
    """
    from ray.tune.schedulers import TrialScheduler  # noqa: PLC0415 - needs ray

    below = True
    for frame in _up(sys._getframe(1)):  # noqa: SLF001 - documented, and needed
        if below:
            below = frame.f_code.co_name != "stop_trial"
        elif frame.f_code.co_name == "_process_stop_requests":
            return "Tune was asked to stop the trial"
        elif isinstance(frame.f_locals.get("self"), TrialScheduler):
            return type(frame.f_locals["self"]).__name__
    return None


class End(NamedTuple):
    """Why Tune's loop has ended, as far as callbacks are not told.

    Attributes:
        error: that it raised.
        trial: that raised this, and Tune passed it on (``fail_fast="raise"``).
        signal: it was interrupted.
        failed_fast: a trial failed, and ``fail_fast`` is set.
        asked: somebody asked Tune to stop it.
    """

    error: BaseException | None = None
    trial: Any = None
    signal: bool = False
    failed_fast: bool = False
    asked: bool = False


def interrupted_from_now() -> Callable[[], bool]:
    """Tells whether somebody has pressed Ctrl-C since this was called, in a callback of Tune's.

    The first one is caught by Tune, which only notes it: at the end of an experiment, that its
    loop is to end [Ray 2.60, ``tune/tune.py``, ``_setup_signal_catching``].
    """
    for frame in _up(sys._getframe(1)):  # noqa: SLF001 - documented, and needed
        event = frame.f_locals.get("experiment_interrupted_event")
        if isinstance(event, threading.Event):
            return bool if event.is_set() else event.is_set
    return bool


def end_of_loop() -> End:
    """Why the experiment is ending, in ``on_experiment_end``.

    Tune tells its callbacks the same for a finished experiment, Ctrl-C, and an error in its
    loop. An error that is being handled is the loop's if it came through the loop; else
    ``fit()`` itself was called in somebody's ``except``
    [Ray 2.60, ``tune/tune.py``, ``run``: ``experiment_interrupted_event``, ``runner``;
    ``tune/execution/tune_controller.py``, ``_trial_task_failure``].
    """
    for frame in _up(sys._getframe(1)):  # noqa: SLF001 - documented, and needed
        event = frame.f_locals.get("experiment_interrupted_event")
        if not isinstance(event, threading.Event):
            continue
        controller = frame.f_locals.get("runner")
        for error in _being_handled():
            passed = list(_passed(error))
            if frame in passed:
                trials = [one.f_locals.get("trial") for one in passed if _is_task_failure(one)]
                return End(error, trials[-1] if trials else None)
        return End(
            signal=event.is_set(),
            failed_fast=bool(
                getattr(controller, "_fail_fast", False)
                and getattr(controller, "_has_errored", False)
            ),
            asked=bool(getattr(controller, "_should_stop_experiment", False)),
        )
    return End()


def interruption_event() -> threading.Event | None:
    """What a signal sets, while Tune's loop runs [Ray 2.60, ``tune/tune.py``, ``run``]."""
    for frame in _up(sys._getframe(1)):  # noqa: SLF001 - documented, and needed
        event = frame.f_locals.get("experiment_interrupted_event")
        if isinstance(event, threading.Event):
            return event
    return None


def _is_task_failure(frame: FrameType) -> bool:
    return frame.f_code.co_name == "_trial_task_failure"


def _being_handled() -> Iterator[BaseException]:
    """The exceptions that are being handled, the innermost first."""
    error = sys.exception()
    while error is not None:
        yield error
        error = error.__context__


def _passed(error: BaseException) -> Iterator[FrameType]:
    """The frames that an exception came through."""
    step = error.__traceback__
    while step is not None:
        yield step.tb_frame
        step = step.tb_next


class Sweep(NamedTuple):
    """What Tune was asked to do, as far as callbacks are not told.

    Attributes:
        metric: that the tuner, or else its scheduler, looks at.
        mode: ``"min"`` or ``"max"``.
        filesystem: pyarrow's, of the experiment's storage.
        experiment: the name of its folder.
        directory: that folder, if it is one of this machine.
    """

    metric: str | None = None
    mode: str | None = None
    filesystem: Any = None
    experiment: str = ""
    directory: str | None = None


def sweep() -> Sweep:
    """What Tune was asked to do, in `Callback.setup`; elsewhere nothing is known.

    ``setup`` is told the experiment's ``public_spec``, which has neither metric nor
    storage; its caller has both [Ray 2.60, ``tune/tune.py``, ``run``: ``metric``,
    ``mode``, ``scheduler``, ``experiments``].
    """
    names = _tune_run()
    if names is None:
        return Sweep()
    scheduler = names["scheduler"]
    metric, mode = names["metric"], names.get("mode")
    if not metric:
        metric, mode = getattr(scheduler, "metric", None), None
    mode = mode or getattr(scheduler, "_mode", None)
    storage = names["experiments"][0].storage
    return Sweep(
        *(metric, mode, getattr(storage, "storage_filesystem", None)),
        *(getattr(storage, "experiment_dir_name", ""), local_experiment_path(storage)),
    )


def _tune_run() -> dict[str, Any] | None:
    """The locals of the ``tune.run`` that is calling; None elsewhere [Ray 2.60]."""
    for frame in _up(sys._getframe(1)):  # noqa: SLF001 - documented, and needed
        names = frame.f_locals
        if frame.f_code.co_name == "run" and {"metric", "scheduler", "experiments"} <= set(names):
            return names
    return None


@functools.cache
def is_a_function_to_tune(kind: type) -> None:
    """Don't let Tune say of objects of this class that they are an "unknown callable".

    For a function it says nothing; it asks for the very type, which a wrapper can't have. A
    filter of its logger leaves out the line for these alone
    [Ray 2.60, ``tune/registry.py``, ``register_trainable``].
    """

    def is_of_others(record: logging.LogRecord) -> bool:
        if "unknown callable" not in record.msg:
            return True
        frames = (f for f in _up(sys._getframe(1)) if f.f_code.co_name == "register_trainable")  # noqa: SLF001 - documented, and needed
        frame = next(frames, None)
        return frame is None or type(frame.f_locals.get("trainable")) is not kind

    logging.getLogger("ray.tune.registry").addFilter(is_of_others)


class Launch(NamedTuple):
    """What Tune is about to start.

    Attributes:
        trainable: what the user gave it.
        param_space: the same.
        restored: an experiment is taken up again.
        started: when; tells one call from another.
    """

    trainable: Any
    param_space: Any
    restored: bool
    started: object


def launch() -> Launch | None:
    """What the ``tune.run`` that is calling, as ``Tuner.fit`` does, starts; None elsewhere.

    It tells neither a trainable nor a callback; both have it in their caller's locals
    [Ray 2.60, ``tune/tune.py``, ``run``: ``run_or_experiment``, ``config``, ``all_start``].
    """
    for frame in _up(sys._getframe(1)):  # noqa: SLF001 - documented, and needed
        names = frame.f_locals
        if frame.f_code.co_name == "run" and {"run_or_experiment", "config"} <= set(names):
            restored, started = names.get("resume_config") is not None, names.get("all_start")
            return Launch(names["run_or_experiment"], names["config"], restored, started)
    return None


def runtime_environment() -> dict[str, str]:
    """The variables that this job's ``runtime_env`` gives its workers, or this worker has."""
    import ray  # noqa: PLC0415 - needs ray

    if not ray.is_initialized():
        return {}
    return dict(ray.get_runtime_context().runtime_env.get("env_vars") or {})


def has_started_cluster() -> bool:
    """Did this driver start its cluster, so that workers have its environment?

    [Ray 2.60, ``worker._global_node``.]
    """
    from ray._private import worker  # noqa: PLC0415 - needs ray

    node = worker._global_node  # noqa: SLF001 - as above
    return node is not None and bool(node.is_head())


def name_fit(name: str) -> bool:
    """In `Callback.setup`: let the trials of this ``fit()`` know it by this name.

    Two of them can have the same experiment, storage and second. Tune sends its
    ``StorageContext`` to each trial, which is the only thing of one ``fit()`` that a trial
    has, and pickles it with whatever attributes it has
    [Ray 2.60, ``tune/tune.py``, ``run``: ``experiments``, ``runner``; ``Trial.storage``].

    Returns:
        Whether they will.
    """
    names = _tune_run()
    if names is None:
        return False
    owners = [*names["experiments"], *getattr(names.get("runner"), "_trials", ())]  # restored ones
    for storage in [getattr(owner, "storage", None) for owner in owners]:
        if storage is not None:
            storage.wbtune_fit = name
    return True


def fit_of(storage: Any) -> str:
    """The name of the ``fit()`` that a ``StorageContext`` came from, if that has one."""
    return str(getattr(storage, "wbtune_fit", ""))


def keeps(trial: Any, checkpoint: Any) -> bool:
    """Does Tune still keep this checkpoint? It forgets one before it begins to delete it.

    [Ray 2.60, ``train/_internal/checkpoint_manager.py``, ``register_checkpoint``.]
    """
    manager = getattr(trial.run_metadata, "checkpoint_manager", None)
    results = getattr(manager, "_checkpoint_results", None)
    if results is None:
        return True
    return any(kept.checkpoint.path == checkpoint.path for kept in results)


def is_actor_death(error: BaseException) -> bool:
    """Did the trial's process die, or its node, instead of raising?"""
    from ray import exceptions  # noqa: PLC0415 - needs ray

    gone = (exceptions.OutOfMemoryError, exceptions.WorkerCrashedError, exceptions.NodeDiedError)
    if isinstance(error, exceptions.RayActorError):
        return not error.actor_init_failed
    return isinstance(error, gone)


def own_exit(error: BaseException) -> BaseException | None:
    """What a trial raised by which Ray ended its process or its task; None for another end.

    Of a ``SystemExit``, the actor's death has its code, as text: that of a process which was
    killed has none, and that of one which got SIGTERM says so. A ``KeyboardInterrupt`` is
    passed on as a cancelled task; Tune cancels none
    [Ray 2.60, ``_raylet.pyx``, ``execute_task``, ``task_execution_handler``].
    """
    from ray.exceptions import RayActorError, TaskCancelledError  # noqa: PLC0415 - needs ray

    if isinstance(getattr(error, "cause", None), TaskCancelledError):
        return KeyboardInterrupt("Ray passes it on as a TaskCancelledError")
    found = _EXIT.search(str(error)) if isinstance(error, RayActorError) else None
    if found is None or found["code"].endswith(_RAYS_OWN_EXITS):
        return None
    return SystemExit(found["code"])


#: Ray gives its own exits a code, too: of a worker that can't import the trial's class, say.
_RAYS_OWN_EXITS: Final = (
    "The process receives a SIGTERM",
    "An unexpected internal error occurred while the worker was executing a task",
)
_EXIT: Final = re.compile(
    r"Worker exit detail: Worker exits (?:unexpectedly|by an user request)\. "
    r"Worker exits with an exit code (?P<code>.*)\.",
    re.DOTALL,  # the code may be any text
)


def failure_of(trial: Any) -> BaseException | None:
    """In a callback that is told of a trial's error: the error, if Tune keeps it for itself.

    It writes only those that are a task's or an actor's, not that Ray has killed the process
    for want of memory [Ray 2.60, ``Trial.handle_error``; ``tune_controller.py``,
    ``_process_trial_failure``].
    """
    for frame in _up(sys._getframe(1)):  # noqa: SLF001 - documented, and needed
        names = frame.f_locals
        if frame.f_code.co_name == "_process_trial_failure" and names.get("trial") is trial:
            error = names.get("exception")
            return error if isinstance(error, BaseException) else None
    return None


# --- Ray's key-value store --------------------------------------------------------------
#
# It lives in the memory of the cluster's head process. Neither it nor what is asked of it
# shows in the session's folder, in ``ps`` or in an environment. Each call waits as long as
# that process does not answer, and may raise whatever gRPC does
# [Ray 2.60, ``ray.experimental.internal_kv``, semi-private].


def job() -> str | None:
    """The id of the job that this process works for; None without a cluster.

    A driver has one, and all processes that it starts, directly or not, have the same.
    """
    import ray  # noqa: PLC0415 - needs ray

    return ray.get_runtime_context().get_job_id() if ray.is_initialized() else None


def is_driver() -> bool:
    """Is this process the driver of its job, and no worker? [Ray 2.60, ``worker.mode``]."""
    from ray._private import worker  # noqa: PLC0415 - needs ray

    return bool(worker.global_worker.mode == worker.SCRIPT_MODE)


def own_environment() -> dict[str, str]:
    """The variables that this worker has, and not just from the node that it runs on.

    They are a ``runtime_env``'s, or were set by the user's code in this process; the others
    are what the node's raylet was started with, which may be long ago
    [Ray 2.60: a worker's parent is its raylet].
    """
    given = runtime_environment()
    try:
        raw = Path(f"/proc/{os.getppid()}/environ").read_bytes()
    except OSError:  # not Linux: what the code has set can't be told from the node's
        return {name: text for name, text in os.environ.items() if name in given}
    node = set(raw.split(b"\0"))
    return {
        name: text
        for name, text in os.environ.items()
        if name in given or os.fsencode(f"{name}={text}") not in node
    }


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")  # a trial's name may have anything in it


def store(key: str, text: str, *, overwrite: bool = True) -> None:
    """Put a text where every process of the cluster can read it."""
    from ray.experimental import internal_kv  # noqa: PLC0415 - needs ray

    internal_kv._internal_kv_put(  # noqa: SLF001 - see above
        _bytes(key), text.encode(), overwrite=overwrite, namespace=_NAMESPACE
    )


def stored(key: str) -> str | None:
    """What was put there; None for nothing."""
    from ray.experimental import internal_kv  # noqa: PLC0415 - needs ray

    text = internal_kv._internal_kv_get(_bytes(key), namespace=_NAMESPACE)  # noqa: SLF001
    return None if text is None else bytes(text).decode()


def stored_keys(prefix: str) -> list[str]:
    """The keys that begin like this."""
    from ray.experimental import internal_kv  # noqa: PLC0415 - needs ray

    found = internal_kv._internal_kv_list(_bytes(prefix), namespace=_NAMESPACE)  # noqa: SLF001
    return [bytes(key).decode("utf-8", "surrogatepass") for key in found]


def remove_stored(prefix: str) -> None:
    """Remove everything whose key begins like this."""
    from ray.experimental import internal_kv  # noqa: PLC0415 - needs ray

    internal_kv._internal_kv_del(  # noqa: SLF001 - see above
        _bytes(prefix), del_by_prefix=True, namespace=_NAMESPACE
    )


_NAMESPACE = b"wbtune"


def callbacks_of(tuner: Any) -> list[Any]:
    """The callbacks of a restored tuner, which unpickled them.

    [Ray 2.60, ``tune/tuner.py``, ``tune/impl/tuner_internal.py``.]
    """
    return list(tuner._local_tuner.get_run_config().callbacks or [])  # noqa: SLF001
