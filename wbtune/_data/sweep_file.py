"""`SweepFile`: a W&B sweep's config as a checked declaration.

All keys of W&B's published schema are read. Those that say how W&B's agents start a program have
no meaning here (`SweepFile.ignored`); what is wrong is a `ConfigurationError` with the key, and
with the line if the config is a file.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from wbtune._data import sweep_source
from wbtune._data.distributions import Categorical, Constant, Family, Leaf, Tree
from wbtune._data.search_space import is_number
from wbtune._data.sweep_parameters import read_parameters
from wbtune._data.sweep_source import KeyPath, Source
from wbtune._data.unknown import near

GRID, RANDOM, BAYES, CUSTOM = "grid", "random", "bayes", "custom"
_MODES: Final = {"minimize": "min", "maximize": "max"}

#: How W&B's agents start a program, and what computes a sweep at W&B.
_OF_AGENTS: Final = (
    *("program", "command", "job", "image_uri"),
    *("controller", "scheduler", "apiVersion", "kind"),
)
_READ: Final = (
    *("method", "parameters", "metric", "run_cap", "early_terminate"),
    *("name", "description", "project", "entity"),
)
_KEYS: Final = (*_READ, *_OF_AGENTS)
_METRIC: Final = ("name", "goal", "target", "impute", "impute_while_running")
_IMPUTE: Final = ("impute", "impute_while_running")
_HYPERBAND: Final = ("type", "min_iter", "max_iter", "s", "eta", "strict")
#: The default of W&B's schema.
_ETA: Final = 3
#: W&B looks at no more of them, and no trial has more iterations.
_MAX_RUNGS: Final = 100
_MAX_ITERATION: Final = 10**12


@dataclass(frozen=True, slots=True)
class Metric:
    """What is optimised.

    Attributes:
        name: the metric.
        mode: ``"min"`` or ``"max"``.
        target: the sweep ends as soon as a trial reaches this; None for no such value.
    """

    name: str
    mode: str
    target: float | None = None


@dataclass(frozen=True, slots=True)
class Hyperband:
    """W&B's ``early_terminate``.

    Attributes:
        rungs: the iterations at which trials are compared, the first one first.
        eta: one in so many goes on.
    """

    rungs: tuple[int, ...]
    eta: float


@dataclass(frozen=True, slots=True)
class SweepFile:
    """A sweep's config, checked.

    Attributes:
        source: the config itself, and where it is from.
        method: ``"grid"``, ``"random"`` or ``"bayes"``.
        parameters: the search space.
        metric: what is optimised; None if the config does not say.
        run_cap: the largest number of trials; None for no limit.
        hyperband: when trials are stopped early; None for never.
        ignored: the keys that have no meaning here.
    """

    source: Source
    method: str
    parameters: Tree
    metric: Metric | None = None
    run_cap: int | None = None
    hyperband: Hyperband | None = None
    ignored: tuple[str, ...] = ()

    def text(self, key: str) -> str | None:
        """The value of ``name``, ``project`` or ``entity``; None if there is none."""
        value = self.source.config.get(key)
        return value if isinstance(value, str) else None


def read(public_name: str, given: Any) -> SweepFile:
    """Read and check a sweep's config.

    Args:
        public_name: what the user called, for messages.
        given: the path of a YAML file, or a mapping.

    Raises:
        ConfigurationError: for anything that W&B would refuse, or that has no counterpart here.

    >>> read("f", {"method": "grid", "parameters": {"lr": {"values": [1, 2]}}}).parameters
    {'lr': Categorical(values=(1, 2), probabilities=())}
    """
    source = sweep_source.read(public_name, given)
    config = source.config
    for key in config:
        if key not in _KEYS:
            raise _not_here(source, key)
    method = _method(source)
    if "parameters" not in config:
        raise source.error(
            (), "it has no parameters. Write parameters: {lr: {values: [0.1, 1.0]}}."
        )
    parameters = read_parameters(source, config["parameters"], ("parameters",))
    if method == GRID:
        for path, leaf in leaves(parameters):
            _check_in_grid(source, path, leaf)
    for key in ("name", "description", "project", "entity"):
        if config.get(key) is not None and not isinstance(config[key], str):
            raise source.error((key,), f"expected text, got {config[key]!r}.")
    return SweepFile(
        source,
        method,
        parameters,
        _metric(source),
        _run_cap(source),
        _hyperband(source),
        tuple(_ignored(config)),
    )


def leaves(tree: Tree, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Leaf]]:
    """The parameters one by one, with their paths: ``("model", "lr")``."""
    for name, one in tree.items():
        if isinstance(one, Mapping):
            yield from leaves(one, (*path, name))
        else:
            yield (*path, name), one


def key_of(path: KeyPath) -> KeyPath:
    """Where a parameter stands in the config.

    >>> key_of(("model", "lr"))
    ('parameters', 'model', 'parameters', 'lr')
    """
    return tuple(itertools.chain.from_iterable(("parameters", name) for name in path))


def _not_here(source: Source, key: str) -> Exception:
    if key == "metrics":
        return source.error(
            (key,), "Tune's schedulers have one metric. Write metric: {name, goal}."
        )
    return source.unknown((key,), _KEYS)


def _method(source: Source) -> str:
    method = source.config.get("method")
    if method in {GRID, RANDOM, BAYES}:
        return str(method)
    if method is None:
        raise source.error((), "it has no method. Write method: grid, random or bayes.")
    if method == CUSTOM:
        cure = "Write method: random, and give wandb_tuner the search: "
        cure += "tune_config=TuneConfig(search_alg=...)."
        raise source.error(("method",), f"the custom search is not in the file. {cure}")
    meant = near(method, (GRID, RANDOM, BAYES)) if isinstance(method, str) else None
    cure = f" Did you mean {meant}?" if meant else ""
    raise source.error(("method",), f"expected grid, random or bayes, got {method!r}.{cure}")


def _check_in_grid(source: Source, path: KeyPath, leaf: Leaf) -> None:
    match leaf:
        case Constant() | Categorical(probabilities=()):
            return
        case Categorical():
            cure = "Leave the probabilities out, or write method: random"
        case _ if leaf.name == "q_uniform" or leaf.family is Family.INTEGERS:
            return
        case _:
            cure = "Write values, int_uniform or q_uniform, or method: random"
    raise source.error(key_of(path), f"a grid has no {leaf.name}. {cure}.")


def _mapping(source: Source, key: str, keys: tuple[str, ...]) -> Mapping[str, Any] | None:
    given = source.config.get(key)
    if given is None:
        return None
    if not isinstance(given, dict):
        raise source.error((key,), f"expected a mapping, got {given!r}.")
    for inner in given:
        if inner not in keys:
            raise source.unknown((key, inner), keys)
    return given


def _metric(source: Source) -> Metric | None:
    given = _mapping(source, "metric", _METRIC)
    if given is None:
        return None
    name, goal, target = given.get("name"), given.get("goal", "minimize"), given.get("target")
    if not isinstance(name, str) or not name:
        raise source.error(("metric",), f"expected a name, got {name!r}.")
    if not isinstance(goal, str) or goal not in _MODES:
        meant = near(goal, _MODES) if isinstance(goal, str) else None
        meant = _MODES_MEANT.get(str(goal), meant)
        cure = f" Did you mean {meant}?" if meant else ""
        problem = f"expected minimize or maximize, got {goal!r}.{cure}"
        raise source.error(("metric", "goal"), problem)
    if target is not None and not is_number(target):
        raise source.error(("metric", "target"), f"expected a number, got {target!r}.")
    return Metric(name, _MODES[goal], target)


_MODES_MEANT: Final = {mode: goal for goal, mode in _MODES.items()}


def _run_cap(source: Source) -> int | None:
    cap = source.config.get("run_cap")
    if cap is None:
        return None
    if type(cap) is not int or cap <= 0:
        raise source.error(("run_cap",), f"expected a whole number, 1 or more, got {cap!r}.")
    return cap


def _hyperband(source: Source) -> Hyperband | None:
    given = _mapping(source, "early_terminate", _HYPERBAND)
    if given is None:
        return None
    if given.get("type") != "hyperband":
        problem = f"expected hyperband, which is all that W&B has, got {given.get('type')!r}."
        raise source.error(("early_terminate", "type"), problem)
    eta = given.get("eta", _ETA)
    if not is_number(eta) or eta <= 1:
        raise source.error(("early_terminate", "eta"), f"expected more than 1, got {eta!r}.")
    whole = {key: _whole(source, key, given[key]) for key in _WHOLE if given.get(key) is not None}
    last = whole.get("max_iter", _MAX_ITERATION)
    if "max_iter" in whole and "s" in whole:
        possible = (whole["max_iter"] / eta**at for at in range(1, whole["s"] + 1))
        rungs = [int(one) for one in itertools.takewhile(lambda rung: rung >= 1, possible)]
    elif "min_iter" in whole:
        possible = (whole["min_iter"] * eta**at for at in range(_MAX_RUNGS))
        rungs = [int(one) for one in itertools.takewhile(lambda rung: rung <= last, possible)]
    else:
        raise source.error(("early_terminate",), "expected min_iter, or max_iter and s.")
    if not rungs:
        # Cure: Write a greater max_iter, or a smaller eta.
        problem = f"no trial would ever be compared: eta is {eta:g}, and there is no rung"
        raise source.error(("early_terminate",), f"{problem} up to iteration {last}.")
    return Hyperband(tuple(sorted(set(rungs))), eta)


_WHOLE: Final = ("min_iter", "max_iter", "s")


def _whole(source: Source, key: str, value: Any) -> int:
    if is_number(value) and value == math.floor(value) and value >= 1:
        return int(value)
    problem = f"expected a whole number, 1 or more, got {value!r}."
    raise source.error(("early_terminate", key), problem)


def _ignored(config: Mapping[str, Any]) -> Iterator[str]:
    yield from (key for key in _OF_AGENTS if key in config)
    yield from (f"metric.{key}" for key in _IMPUTE if key in (config.get("metric") or {}))
    if (config.get("early_terminate") or {}).get("strict") is False:
        yield "early_terminate.strict"
