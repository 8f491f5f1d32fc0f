"""The object of one run: how it is logged to, finished, and replaced."""

from __future__ import annotations

import contextlib
import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, Final

from wbtune._upstream import wandb_core
from wbtune._upstream.capabilities import Capability, uses

GUARD: Final = Capability(
    "runs that outlive their wandb-core",
    without="when its wandb-core is killed, what is logged to a run from then on is lost",
    since="wandb 0.22",
    needs=(
        "wandb.sdk.wandb_run:Run._config",
        "wandb.sdk.wandb_run:Run._config_callback",
        "wandb.sdk.wandb_run:Run._summary_update_callback",
        "wandb.sdk.wandb_run:Run._summary_get_current_summary_callback",
        "wandb.sdk.wandb_run:Run._partial_history_callback",
        "wandb.sdk.wandb_run:Run._telemetry_callback",
        "wandb.sdk.wandb_run:Run._metric_callback",
        "wandb.sdk.wandb_run:Run._local_step | wandb.sdk.wandb_run:Run._step",
        "wandb.sdk.wandb_config:Config._set_callback",
        "wandb.sdk.wandb_summary:Summary._set_update_callback",
        "wandb.sdk.wandb_summary:Summary._update_callback",
        "wandb.sdk.wandb_summary:Summary._get_current_summary_callback",
    ),
)

GLOBAL_RUN: Final = Capability(
    "wandb.run is the run of the trial",
    without="after the death of its wandb-core, wandb.log() of a trial may raise",
    since="wandb 0.22",
    needs=("wandb.sdk.wandb_init:_set_global_run",),
)

STEPS: Final = Capability(
    "the steps of several processes",
    without="rows of processes that a trial forks may be dropped by W&B, and a wandb-core that "
    "hangs is noticed only when its run is closed",
    since="wandb 0.27",
    needs=("wandb.sdk.interface.interface:InterfaceBase.deliver_history_step",),
)


FIRST_STEP: Final = Capability(
    "the step at which a continued run begins",
    without="wandb-core is asked for the step at which a continued run begins",
    since="wandb 0.22",
    needs=("wandb.sdk.wandb_run:Run.starting_step",),
)


def _next_step(run: Any) -> int:
    try:
        return int(run.step)
    except Exception:  # noqa: BLE001 - of a disabled run, or without an answer: as for a new run
        return 0


@uses(FIRST_STEP, otherwise=_next_step)
def first_step(run: Any) -> int:
    """Return the step of the first row of a run that was just opened."""
    return int(run.starting_step)


def _set_public_names(run: Any) -> None:
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    named = {"run": run, "config": run.config, "summary": run.summary, "log": run.log}
    vars(wandb).update(named)


@uses(GLOBAL_RUN, otherwise=_set_public_names)
def _set_global_run(run: Any) -> None:
    from wandb.sdk import wandb_init  # noqa: PLC0415 - wandb is imported when first needed

    wandb_init._set_global_run(run)  # noqa: SLF001 - what is public sets not all of it


def same_global_run(new: object, run: object) -> None:
    """Make ``run`` the `wandb.run` if ``new`` has become that."""
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    if wandb.run is new:
        _set_global_run(run)


def state_of(run: Any) -> Callable[[], None]:
    """Return a function that gives a run, its config and its summary back what they have now."""
    kept = [(one, dict(vars(one))) for one in (run, run.config, run.summary)]

    def restore() -> None:
        for one, state in kept:
            vars(one).clear()
            vars(one).update(state)

    return restore


def send_updates_by(run: Any, send: Callable[..., Any]) -> None:
    """Let `send` make the calls that ``run.config`` and ``run.summary`` make when they are used.

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
    """Let `send` send the rows of a run, and return the method that it stands in for.

    ``run.log`` stays wandb's own method, and so does ``wandb.log``; what ``wandb.watch``
    logs by ``run._log`` comes here, too [wandb 0.31, ``Run._partial_history_callback``].
    The method is got without what wraps it: that would set which run's debug log is
    written, as ``run.log`` has already, and take as long as a guarded row's guard.
    """
    send_telemetry = run._telemetry_callback  # noqa: SLF001 - there is no public one

    def send_if_possible(what: Any) -> None:
        # Of a row with a step, this comes first; the row finds the core dead in its turn.
        with contextlib.suppress(*wandb_core.core_is_gone()):
            send_telemetry(what)

    run.__dict__.update(_partial_history_callback=send, _telemetry_callback=send_if_possible)
    method = inspect.unwrap(type(run)._partial_history_callback)  # noqa: SLF001 - as above
    return types.MethodType(method, run)


def rows_through(run: Any, log: Callable[..., None]) -> Callable[..., None] | None:
    """Let the rows of a guarded run (`send_rows_by`) go to `log`, and return where they went.

    Returns None for a run that is not guarded, as a disabled one.
    """
    send: Callable[..., None] | None = vars(run).get("_partial_history_callback")
    if send is not None:
        run.__dict__["_partial_history_callback"] = log
    return send


def before_summary_is_used(run: Any, do: Callable[[], None]) -> None:
    """Call `do` each time before a run's summary is read or changed.

    [wandb 0.31, ``wandb_summary.Summary``, whose own ``__setattr__`` sets a value of it.]
    """

    def after(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            do()
            return call(*args, **kwargs)

        return called

    for name in ("_update_callback", "_get_current_summary_callback"):
        object.__setattr__(run.summary, name, after(vars(run.summary)[name]))


def share_state(run: Any, new: Any, **more: Any) -> None:
    """Give ``run`` and ``new`` one state, that of ``new`` and the attributes ``more``.

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
        "_step",
        "finish",
        "_finish",
    )
    kept = {name: vars(run)[name] for name in names if name in vars(run)}
    state = run.__dict__
    # At once: another thread may be logging. The same dict: a third object may have it, too.
    state.update({**new.__dict__, **kept, **more})
    new.__dict__ = state


def replace_ended(run: Any, new: Any) -> None:
    """Turn ``run``, which has ended, into ``new`` for everybody who holds it.

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


def before_next_use(run: Any, wake: Callable[[], None]) -> None:
    """Call `wake` before the next use of a run's object, whose run has ended.

    Nobody but its class is asked for an attribute first, so it gets a class of its own until
    then. `wandb.run` and what belongs to it are this object's again.
    """
    kind = type(run)

    def used(self: Any, name: str) -> Any:
        if not (name.startswith("__") and name.endswith("__")):
            restore_class(self)
            wake()
        return object.__getattribute__(self, name)

    def changed(self: Any, name: str, value: Any) -> None:
        restore_class(self)
        wake()
        setattr(self, name, value)

    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    if isinstance(run, wandb.Run):
        _set_global_run(run)
    names = {"__getattribute__": used, "__setattr__": changed, "__module__": kind.__module__}
    object.__setattr__(run, "__class__", type(kind.__name__, (kind,), {**names, _OWN_CLASS: kind}))


def restore_class(run: Any) -> None:
    """Give an object the class back that `before_next_use` took from it."""
    kind = vars(type(run)).get(_OWN_CLASS)
    if kind is not None:
        object.__setattr__(run, "__class__", kind)


_OWN_CLASS: Final = "wbtune_class"


def send_metrics_by(run: Any, send: Callable[[Any], None]) -> Callable[[Any], None]:
    """Let `send` send what ``run.define_metric`` defines, and return what it stands in for.

    ``wandb.define_metric`` is the run's method, so it comes here, too
    [wandb 0.31, ``Run._metric_callback``].
    """
    method: Callable[[Any], None] = run._metric_callback  # noqa: SLF001 - there is no public one
    run.__dict__["_metric_callback"] = send
    return method


@uses(STEPS, otherwise=lambda *_: None)
def core_step(run: Any, seconds: float) -> int | None:
    """Return W&B's step of the next row of any process; None without an answer in time.

    ``run.step`` is public, but waits for half a minute [wandb 0.31, ``Run.step``].
    """
    try:
        handle = wandb_core.interface_of(run).deliver_history_step()
        return int(handle.wait_or(timeout=seconds).step)
    except TimeoutError:
        return None
