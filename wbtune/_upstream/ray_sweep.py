"""What Tune is given for a W&B sweep's config: domains, a search, a scheduler, a stopper.

All of it is public, except that a scheduler can't be told its rungs (`RUNGS`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.basic_variant import BasicVariantGenerator
from ray.tune.stopper import CombinedStopper, FunctionStopper, Stopper
from ray.tune.utils import flatten_dict

from wbtune._data.distributions import Categorical, Constant, Family, Leaf, Numeric
from wbtune._data.sweep_config import different
from wbtune._data.sweep_file import Hyperband, Metric
from wbtune._upstream.capabilities import Capability, uses

RUNGS: Final = Capability(
    "the rungs of a scheduler",
    without=(
        "a sweep file's hyperband compares its trials up to one iteration late where its rungs "
        "are not whole numbers (max_iter that is no power of eta)"
    ),
    since="ray 2.41",
    needs=(
        "ray.tune.schedulers.async_hyperband:AsyncHyperBandScheduler._brackets",
        "ray.tune.schedulers.async_hyperband:_Bracket._rungs",
    ),
)

#: More values of one parameter are no grid that anybody could wait for.
MAX_GRID: Final = 100_000


# --- A parameter ---------------------------------------------------------------------------------


def in_grid(leaf: Leaf) -> Any:
    """A parameter of a grid, with the values that W&B's sampler has for it.

    Raises:
        ValueError: if there are more than `MAX_GRID`.
    """
    match leaf:
        case Constant():
            return leaf.value
        case Categorical():
            return tune.grid_search(different(leaf.values))
    step = 1 if leaf.q is None else leaf.q
    if (leaf.second - leaf.first) / step > MAX_GRID:
        msg = f"a grid of more than {MAX_GRID:,} values has no end"
        raise ValueError(msg)
    if leaf.family is Family.INTEGERS:
        return tune.grid_search(list(range(int(leaf.first), int(leaf.second) + 1)))
    # Without the upper bound, as W&B's.
    return tune.grid_search(np.arange(leaf.first, leaf.second, step).tolist())


def at_random(leaf: Leaf) -> Any:
    """A parameter that Tune's own search draws, just as W&B's sampler does.

    Tune rounds to multiples of ``q`` in another way, and has no domain for some distributions.
    """
    if isinstance(leaf, Constant):
        return leaf.value
    exact = leaf.q is None if isinstance(leaf, Numeric) else True
    domain = in_search(leaf) if exact else None
    return tune.sample_from(functools.partial(_draw, leaf)) if domain is None else domain


def _draw(leaf: Categorical | Numeric, config: Any = None) -> Any:  # noqa: ARG001 - Tune's signature
    return leaf.draw(np.random)  # the generator that Tune's own domains draw from


#: Tune's domains for two numbers, without ``q``.
_DOMAINS: Final[Mapping[Family, Callable[[float, float], Any]]] = {
    Family.UNIFORM: tune.uniform,
    Family.LOG_UNIFORM: tune.loguniform,
    Family.NORMAL: tune.randn,
}


def in_search(leaf: Leaf) -> Any:
    """A parameter as one of Tune's domains, which any search can read; None if it has none."""
    if isinstance(leaf, Constant):
        return leaf.value
    if isinstance(leaf, Categorical):
        return None if leaf.probabilities else tune.choice(list(leaf.values))
    if leaf.family is Family.INTEGERS:
        return tune.randint(int(leaf.first), int(leaf.second) + 1)
    if leaf.q is not None:
        is_bounded = leaf.family in {Family.UNIFORM, Family.LOG_UNIFORM}
        return _multiples(leaf, leaf.q) if is_bounded else None
    domain = _DOMAINS.get(leaf.family)
    return None if domain is None else domain(leaf.first, leaf.second)


def _multiples(leaf: Numeric, q: float) -> Any:
    """Multiples of ``q`` between the least and the greatest that W&B's sampler may draw."""
    is_log = leaf.family is Family.LOG_UNIFORM
    least, greatest = leaf.ends
    if least == greatest:
        return least
    if is_log and least <= 0:
        return None
    if not isinstance(q, int):
        return (tune.qloguniform if is_log else tune.quniform)(least, greatest, q)
    if q == 1:  # the upper bound of integers is included only for multiples of more
        return (tune.lograndint if is_log else tune.randint)(int(least), int(greatest) + 1)
    return (tune.qlograndint if is_log else tune.qrandint)(int(least), int(greatest), q)


# --- The search ----------------------------------------------------------------------------------


def search_of(search_alg: Any) -> str:
    """The name of the class that chooses the values; empty for Tune's own search."""
    for _ in range(4):  # as often as they may be wrapped in each other
        search_alg = getattr(search_alg, "searcher", search_alg)
    is_own = search_alg is None or isinstance(search_alg, BasicVariantGenerator)
    return "" if is_own else type(search_alg).__name__


def refusal(search: str, leaf: Leaf) -> str:
    """Why a search can't take a parameter, and the cure; empty if it can.

    Args:
        search: see `search_of`; not Tune's own.
        leaf: the parameter.
    """
    if isinstance(leaf, Constant):
        return ""
    if in_search(leaf) is None:
        return f"{search} needs a domain of Tune's, and there is none for {leaf.name}"
    if search == "OptunaSearch" and isinstance(leaf, Numeric):
        if leaf.family is Family.NORMAL:
            return f"{search} can't take {leaf.name}"
        is_whole = leaf.q == 1 and isinstance(leaf.q, int)
        if leaf.family is Family.LOG_UNIFORM and leaf.q is not None and not is_whole:
            return f"{search} takes {leaf.name} only with q: 1, and not with q: {leaf.q}"
    return ""


def bayes() -> Any:
    """Tune's Bayesian search.

    Raises:
        ImportError: without Optuna.
    """
    import optuna  # noqa: F401, PLC0415 - an extra; `OptunaSearch` itself only asserts
    from ray.tune.search.optuna import OptunaSearch  # noqa: PLC0415 - needs it

    return OptunaSearch()


class CappedVariants(BasicVariantGenerator):
    """Tune's own search, which ends after a number of trials.

    Args:
        cap: that number.
        max_concurrent: as for Tune's.
    """

    def __init__(self, cap: int, max_concurrent: int = 0) -> None:
        super().__init__(max_concurrent=max_concurrent)
        self._cap = cap
        self._made = 0

    @property
    def total_samples(self) -> int:
        """How many trials there will be."""
        return int(min(self._cap, super().total_samples))

    def next_trial(self) -> Any:
        """The next trial; None for no more, or for none now."""
        if self._made >= self._cap:
            self.set_finished()  # type: ignore[no-untyped-call]
        trial = super().next_trial()  # type: ignore[no-untyped-call]
        self._made += trial is not None
        return trial


# --- The scheduler and the stopper ---------------------------------------------------------------


def asha(hyperband: Hyperband) -> ASHAScheduler:
    """The scheduler that compares trials at the same rungs, and stops none at the last one."""
    first, eta = hyperband.rungs[0], hyperband.eta
    scheduler = ASHAScheduler(
        grace_period=first,
        reduction_factor=eta,
        # Half a rung beyond the last: how many there are is computed from logarithms.
        max_t=first * eta ** (len(hyperband.rungs) - 0.5),
        stop_last_trials=False,
    )
    _set_rungs(scheduler, hyperband.rungs)
    return scheduler


@uses(RUNGS, otherwise=lambda *_: None)
def _set_rungs(scheduler: Any, rungs: tuple[int, ...]) -> None:
    """W&B cuts off what is not whole, so that rungs are no geometric sequence [Ray 2.60]."""
    (bracket,) = scheduler._brackets  # noqa: SLF001 - there is nothing public
    bracket._rungs = [(rung, {}) for rung in reversed(rungs)]  # noqa: SLF001 - as above


class SweepTarget(Stopper):
    """Ends the experiment as soon as any trial has reached the sweep's target.

    Args:
        metric: has a target.
    """

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._is_reached = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002 - Tune's
        """Return whether the trial is to stop."""
        value, target = flatten_dict(result).get(self._metric.name), self._metric.target
        if isinstance(value, (int, float, np.number)) and target is not None:
            is_there = value <= target if self._metric.mode == "min" else value >= target
            self._is_reached = self._is_reached or bool(is_there)
        return self._is_reached

    def stop_all(self) -> bool:
        """Return whether all trials are to stop."""
        return self._is_reached


class _StopAt(Stopper):
    """One of the bounds of ``stop={...}``, as a stopper: Tune takes one form or the other.

    Attributes:
        wbtune_reason: how a trial that it stopped is said to have ended.
    """

    def __init__(self, name: str, bound: Any) -> None:
        self.wbtune_reason = f"stop={{{name!r}: {bound!r}}}"
        self._name, self._bound = name, bound

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002 - Tune's
        """Return whether the trial has reached the bound."""
        flat = flatten_dict(result)
        return self._name in flat and bool(flat[self._name] >= self._bound)

    def stop_all(self) -> bool:
        """Return whether all trials are to stop: none does for another."""
        return False


def with_target(stop: Any, metric: Metric) -> Stopper:
    """``RunConfig(stop=...)``, and the sweep's target besides.

    Args:
        stop: what the user gave; None for nothing.
        metric: has a target.
    """
    target = SweepTarget(metric)
    return CombinedStopper(*_as_stoppers(stop), target) if stop else target


def _as_stoppers(stop: Any) -> list[Stopper]:
    """What Tune makes of ``stop=`` [Ray 2.60, ``tune/experiment/experiment.py``]."""
    if isinstance(stop, Mapping):
        return [_StopAt(name, bound) for name, bound in stop.items()]
    given = stop if isinstance(stop, list) else [stop]
    return [one if isinstance(one, Stopper) else FunctionStopper(one) for one in given]
