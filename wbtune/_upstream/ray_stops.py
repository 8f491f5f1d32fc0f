"""Who stops a trial, and why: schedulers and stoppers, as Tune's loop asks them on the driver."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from wbtune._upstream import frames
from wbtune._upstream.capabilities import Capability, uses

_CONTROLLER: Final = "ray.tune.execution.tune_controller:TuneController"
STOPS: Final = Capability(
    "why a trial was stopped",
    without="the runs do not say what stopped their trial (a scheduler, stop=, a time budget)",
    since="ray 2.41",
    needs=(
        *(f"{_CONTROLLER}._process_trial_result.flat_result", f"{_CONTROLLER}._scheduler_alg"),
        *(f"{_CONTROLLER}.setup_experiments", f"{_CONTROLLER}._stopper"),
        *(f"{_CONTROLLER}._process_stop_requests", f"{_CONTROLLER}.stop_trial"),
        "ray.tune.stopper:CombinedStopper._stoppers",
        "ray.tune.stopper:FunctionStopper._fn",
    ),
)


class Decision(NamedTuple):
    """What Tune's loop decided about the result that it is handling.

    Attributes:
        trial_was_done: the trial itself reported ``done``.
        scheduler: the class name of the scheduler.
        result: the result as ``stop=`` is compared with it: ``{"a/b": 1}`` for ``{"a": {"b": 1}}``.
    """

    trial_was_done: bool
    scheduler: str
    result: Mapping[str, Any]


@uses(STOPS, otherwise=lambda: None)
def decision_on_result() -> Decision | None:
    """Return the decision that led to the callback that is being called; None elsewhere.

    Tune writes ``done=True`` into the result that it hands to callbacks; what the trial
    itself said is left in a local of the caller
    [Ray 2.60, ``tune/execution/tune_controller.py``, ``_process_trial_result``].
    """
    for frame in frames.callers():
        if frame.f_code.co_name == "_process_trial_result":
            names = frame.f_locals
            scheduler = getattr(names.get("self"), "_scheduler_alg", None)
            flat = names.get("flat_result", {})
            return Decision(bool(flat.get("done")), type(scheduler).__name__, flat)
    return None


class Stops:
    """What ``stop=`` and ``time_budget_s`` have decided, which Tune keeps to itself.

    Attributes:
        trial: which of them has just ended a trial by its result; empty for none.
        all: which of them has ended the experiment; empty for none.
    """

    __slots__ = ("all", "trial")

    def __init__(self) -> None:
        self.trial = self.all = ""


class _Observed:
    """Stands in for a stopper, asks it as often as Tune does, and notes its answer.

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

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # it may be asked before it has any, by what unpickles
            raise AttributeError(name)
        return getattr(self._asks, name)

    def __reduce__(self) -> Any:
        return operator.itemgetter(0), ((self._stopper,),)


@uses(STOPS, otherwise=lambda _: None)
def observe_stops(time_budget: object) -> Stops | None:
    """Note from now on which stoppers end trials, and the experiment; in `Callback.setup`.

    A stopper may have a state, so it can't be asked once more, and Tune tells its callbacks
    nothing of its answer. In the controller, which is our caller, each is put behind an
    object that notes it [Ray 2.60, ``tune/execution/tune_controller.py``, ``_stopper``;
    ``CombinedStopper._stoppers``].

    Args:
        time_budget: the experiment's ``time_budget_s``.

    Returns:
        What is noted; None when this Ray has no such place.
    """
    for frame in frames.callers():
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

    asks = stopper
    name = str(getattr(stopper, "wbtune_reason", "")) or f"stop={type(stopper).__name__}"
    if type(stopper) is CombinedStopper:
        # Tune combines a time budget and other stoppers, with the budget as the last.
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


@uses(STOPS, otherwise=lambda: None)
def stopped_by() -> str | None:
    """Return what stopped the trial whose end the callback hears of.

    A scheduler may stop another trial than the one whose result it is looking at, as
    synchronous HyperBand does; it is our caller's caller then
    [Ray 2.60, ``tune/execution/tune_controller.py``, ``stop_trial``, ``_process_stop_requests``].

    Returns:
        None when that is not known.
    """
    from ray.tune.schedulers import TrialScheduler  # noqa: PLC0415 - needs ray

    below = True
    for frame in frames.callers():
        if below:
            below = frame.f_code.co_name != "stop_trial"
        elif frame.f_code.co_name == "_process_stop_requests":
            return "Tune was asked to stop the trial"
        elif isinstance(frame.f_locals.get("self"), TrialScheduler):
            return type(frame.f_locals["self"]).__name__
    return None
