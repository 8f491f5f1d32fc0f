"""Plan an experiment by a W&B sweep's config: what Tune is given, and what is shown of it.

Arguments come before the config:

- *By name.* A field of `tune_config` or an entry of `param_space` replaces what the config has for
  it, or adds to it: `num_samples` (``run_cap``), `search_alg` (``method``), `scheduler`
  (``early_terminate``), a parameter of the same name, at any depth. Tune can't tell a field that
  was set to its default from one that was not: 1 sample is none given.
- *Contradictions* are errors, because one of the two would have no effect, or a wrong one: another
  metric or mode than the config's, by which W&B would rank the runs; a metric of the scheduler's or
  the search's own; a search algorithm for a grid.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ray import tune

from wbtune._data import notice, sweep_file
from wbtune._data.distributions import Constant, Tree
from wbtune._data.plan import Plan
from wbtune._data.sweep_file import BAYES, GRID, SweepFile, key_of, leaves
from wbtune._data.sweep_source import KeyPath
from wbtune._upstream import ray_sweep

if TYPE_CHECKING:
    from ray.tune import RunConfig, TuneConfig

_GOALS: Final = {"min": "minimize", "max": "maximize"}
_BAYES: Final = (
    "method: bayes is Tune's OptunaSearch, which is TPE; W&B's own is a Gaussian process"
)


def plan(
    public_name: str,
    given: Any,
    param_space: Mapping[str, Any] | None,
    tune_config: TuneConfig | None,
    run_config: RunConfig | None,
) -> Plan:
    """Plan an experiment; the arguments are not changed.

    Args:
        public_name: what the user called, for messages.
        given: ``sweep=``: the path of a file, or a mapping; or one of them that was read.
        param_space: as the user gave it.
        tune_config: the same.
        run_config: the same.

    Raises:
        ConfigurationError: if the config is wrong, contradicts an argument, or asks for what Tune
            can't do; if nothing says how many trials there are to be.
    """
    file = given if isinstance(given, SweepFile) else sweep_file.read(public_name, given)
    config = tune.TuneConfig() if tune_config is None else copy.copy(tune_config)
    _set_metric(file, config)
    _set_search(file, config, has_more=bool(param_space))
    space = _Space(file, ray_sweep.search_of(config.search_alg)).of(file.parameters, param_space)
    _set_number(file, config)
    if file.hyperband is not None and config.scheduler is None:
        if not config.metric:
            raise file.source.error(
                ("early_terminate",), "it needs a metric. Write metric: {name: ...}."
            )
        config.scheduler = ray_sweep.asha(file.hyperband)
    if file.metric is not None and file.metric.target is not None:
        run_config = tune.RunConfig() if run_config is None else copy.copy(run_config)
        run_config.stop = ray_sweep.with_target(run_config.stop, file.metric)
    if file.ignored:
        names = ", ".join(file.ignored)
        # Cause: The keys are for W&B's agents, which are not used.
        # Cure: Nothing to do.
        notice.warn_once(f"{public_name}: {file.source.name}: no effect here: {names}.")
    return Plan(space, config, run_config, file)


# --- Metric and mode -----------------------------------------------------------------------------


def _set_metric(file: SweepFile, config: TuneConfig) -> None:
    metric = file.metric
    if metric is None:
        return
    theirs = f"metric={metric.name!r}, mode={metric.mode!r} (goal: {_GOALS[metric.mode]})"
    if config.metric not in {None, metric.name} or config.mode not in {None, metric.mode}:
        ours = f"metric={config.metric!r}, mode={config.mode!r}"
        raise file.source.error(
            ("metric",),
            f"{theirs} contradicts TuneConfig({ours}). W&B ranks the runs by the file's: change "
            "one of them.",
        )
    for name in ("scheduler", "search_alg"):
        own = getattr(getattr(config, name), "metric", None)
        if own:
            raise file.source.error(
                ("metric",),
                f"{theirs} and {name}={type(getattr(config, name)).__name__}(metric={own!r}): Tune "
                f"takes only one. Leave metric and mode out of the {name}.",
            )
    config.metric, config.mode = metric.name, metric.mode


# --- The search, and how many trials -------------------------------------------------------------


def _set_search(file: SweepFile, config: TuneConfig, *, has_more: bool) -> None:
    search = ray_sweep.search_of(config.search_alg)
    is_constant = all(isinstance(leaf, Constant) for _, leaf in leaves(file.parameters))
    if file.method == GRID and search:
        raise file.source.error(
            ("method",),
            f"grid contradicts TuneConfig(search_alg={search}), which can't walk a grid. Write "
            "method: random, or leave search_alg out.",
        )
    if file.method != BAYES or config.search_alg is not None:
        return
    if is_constant and not has_more:
        # Cure: Write more than one value for a parameter.
        raise file.source.error(("parameters",), "bayes has nothing to search: all are constant.")
    if not config.metric:
        raise file.source.error(("method",), "bayes needs a metric. Write metric: {name: ...}.")
    try:
        config.search_alg = ray_sweep.bayes()
    except ImportError as error:
        raise file.source.error(("method",), "bayes needs Optuna: pip install optuna.") from error
    # Cure: Nothing to do; for another search, give tune_config=TuneConfig(search_alg=...).
    notice.warn_once(f"{file.source.public_name}: {file.source.name}: {_BAYES}.")


def _set_number(file: SweepFile, config: TuneConfig) -> None:
    """Set how many trials there will be, unless an argument says so."""
    if config.num_samples != 1:
        return
    if file.method == GRID:
        if file.run_cap is not None:
            _cap_grid(file, config, file.run_cap)
        return
    if file.run_cap is not None:
        config.num_samples = file.run_cap
    elif config.time_budget_s is not None:
        config.num_samples = -1
    else:
        raise file.source.error(
            ("method",),
            f"{file.method} has no end. Write run_cap: 20, say, or give "
            "tune_config=TuneConfig(num_samples=20).",
        )


def _cap_grid(file: SweepFile, config: TuneConfig, cap: int) -> None:
    if config.search_alg is not None:
        name = type(config.search_alg).__name__
        raise file.source.error(
            ("run_cap",), f"a cap for a grid contradicts search_alg={name}. Leave out one of them."
        )
    config.search_alg = ray_sweep.CappedVariants(cap, config.max_concurrent_trials or 0)
    config.max_concurrent_trials = None


# --- The search space ----------------------------------------------------------------------------


class _Space:
    """Builds a ``param_space``.

    Args:
        file: the config.
        search: what chooses the values; empty for Tune's own search.
    """

    def __init__(self, file: SweepFile, search: str) -> None:
        self._file = file
        self._search = search

    def of(self, tree: Tree, over: Mapping[str, Any] | None, path: KeyPath = ()) -> dict[str, Any]:
        """The space for some parameters, with the user's entries in place of theirs."""
        over = over or {}
        space: dict[str, Any] = {}
        for name, one in tree.items():
            inner = (*path, name)
            if isinstance(one, Mapping) and _is_nested(over.get(name, {})):
                space[name] = self.of(one, over.get(name), inner)
            elif name in over:
                space[name] = over[name]
            else:
                space[name] = self._parameter(one, inner)
        return {**space, **{name: over[name] for name in over if name not in space}}

    def _parameter(self, leaf: Any, path: KeyPath) -> Any:
        error = self._file.source.error
        if self._file.method == GRID:
            try:
                return ray_sweep.in_grid(leaf)
            except ValueError as found:
                # Message: none by itself.
                raise error(key_of(path), f"{found}.") from None
        if not self._search:
            return ray_sweep.at_random(leaf)
        why = ray_sweep.refusal(self._search, leaf)
        if why:
            cure = f"Write {_instead(leaf.name)}, or method: random without a search_alg"
            raise error(key_of(path), f"{why}. {cure}.")
        return ray_sweep.in_search(leaf)


def _is_nested(given: Any) -> bool:
    """Is this a mapping of parameters, and no grid or expression in Tune's form?"""
    return isinstance(given, Mapping) and given.keys() not in ({"grid_search"}, {"eval"})


def _instead(distribution: str) -> str:
    """The distribution that comes nearest to one, and that every search can take."""
    if distribution.startswith("categorical"):
        return "values without probabilities"
    return "log_uniform_values" if "log" in distribution else "uniform"
