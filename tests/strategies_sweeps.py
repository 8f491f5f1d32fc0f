"""Strategies for the configs of W&B sweeps, and W&B's own formulas for what is drawn from them."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
from hypothesis import strategies as st

Config = dict[str, Any]


# --- W&B's sampler -------------------------------------------------------------------------------


def quantile(parameter: Mapping[str, Any], u: float) -> Any:  # noqa: C901 - formula by formula
    """What W&B's sampler draws from a parameter at a probability.

    Written from the formulas of ``HyperParameter.ppf`` (https://github.com/wandb/sweeps,
    ``params.py``, 0.3.0), whose answers were compared with these.
    """
    if "value" in parameter:
        return parameter["value"]
    if "values" in parameter:
        values = parameter["values"]
        weights = parameter.get("probabilities", [1 / len(values)] * len(values))
        return values[int(np.argmin(u >= np.cumsum(weights)))]
    low, high = parameter.get("min"), parameter.get("max")
    mu, sigma = parameter.get("mu", 0.0), parameter.get("sigma", 1.0)
    name = parameter.get("distribution") or ("uniform" if float in {type(low), type(high)} else "")
    match name.removeprefix("q_"):
        case "" | "int_uniform":
            return min(low + int(u * (high + 1 - low)), high)
        case "uniform":
            number = low + u * (high - low)
        case "log_uniform":
            number = math.exp(low + u * (high - low))
        case "log_uniform_values":
            number = math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
        case "inv_log_uniform":
            number = math.exp(-(low + (1 - u) * (high - low)))
        case "inv_log_uniform_values":
            low, high = -math.log(high), -math.log(low)
            number = math.exp(-(low + (1 - u) * (high - low)))
        case "normal":
            number = NormalDist(mu, sigma).inv_cdf(u)
        case "log_normal":
            number = math.exp(NormalDist(mu, sigma).inv_cdf(u))
        case "beta":
            number = beta_quantile(parameter.get("a", 1), parameter.get("b", 1), u)
    if not name.startswith("q_"):
        return number
    q = parameter.get("q", 1.0)
    rounded = np.round(number / q) * q
    return int(rounded) if isinstance(q, int) else float(rounded)


def beta_quantile(a: float, b: float, u: float) -> float:
    """By numerical integration; good to a thousandth."""
    x, below = _beta(a, b)
    return float(np.interp(u, below, x))


@functools.cache
def _beta(a: float, b: float) -> tuple[Any, Any]:
    # Evenly on an axis where neither end has a pole.
    x = np.sin(np.linspace(0, math.pi / 2, 20_001)[1:-1]) ** 2
    mass = np.cumsum(x ** (a - 0.5) * (1 - x) ** (b - 0.5))
    return x, mass / mass[-1]


def support(parameter: Mapping[str, Any]) -> tuple[float, float]:
    """The least and the greatest number that W&B's sampler can draw."""
    name = str(parameter.get("distribution"))
    if "normal" in name:
        return (0.0 if "log" in name else -math.inf), math.inf
    if "beta" in name:
        q = parameter.get("q", 1.0) if name.startswith("q_") else 0.0
        return (0.0, round(1 / q) * q) if q else (0.0, 1.0)
    return quantile(parameter, 0.0), quantile(parameter, 1.0)


def lies_inside(parameter: Mapping[str, Any], value: Any, *, is_grid: bool = False) -> bool:
    """Whether a value is one that W&B's sampler can draw, or that its grid has."""
    if is_grid and parameter.get("distribution") == "q_uniform":
        bounds = parameter["min"], parameter["max"], parameter.get("q", 1.0)
        return repr(value) in map(repr, np.arange(*bounds).tolist())
    if "value" in parameter or "values" in parameter:
        listed = parameter.get("values", [parameter.get("value")])
        weights = parameter.get("probabilities", [1] * len(listed))
        possible = [one for one, weight in zip(listed, weights, strict=True) if weight]
        return repr(value) in map(repr, possible)
    low, high = support(parameter)
    name = str(parameter.get("distribution", ""))
    q = parameter.get("q", 1.0) if name.startswith("q_") else None
    whole = type(q) is int or name == "int_uniform" or (not name and type(parameter["min"]) is int)
    slack = 1e-9 * max(abs(low), abs(high)) if math.isfinite(low) and math.isfinite(high) else 0
    if (type(value) is int) != whole or not low - slack <= value <= high + slack:
        return False
    return q is None or math.isclose(value / q, round(value / q), rel_tol=1e-9, abs_tol=1e-9)


def leaves(parameters: Mapping[str, Any], sampled: Any) -> Iterator[tuple[str, Any, Any]]:
    """Each parameter, with what was sampled for it."""
    assert set(parameters) == set(sampled)
    for name, one in parameters.items():
        if "parameters" in one:
            yield from leaves(one["parameters"], sampled[name])
        else:
            yield name, one, sampled[name]


# --- configs that W&B's schema allows --------------------------------------------------------

_numbers = st.floats(-1e3, 1e3, allow_subnormal=False).map(lambda x: round(x, 6))
_positive = st.floats(1e-3, 1e3).map(lambda x: round(x, 6))
_exponents = st.floats(-9, 9).map(lambda x: round(x, 3))
_q = st.sampled_from([1, 2, 8, 1.0, 0.1, 0.25, 0.5, 3.0])
_scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab1", max_size=3)
_json = st.recursive(
    _scalars | _numbers,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xy"), inner),
    max_leaves=3,
)


def _between(numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[Config]:
    pairs = st.lists(numbers, min_size=2, max_size=2, unique=True).map(sorted)
    return pairs.map(lambda pair: {"min": pair[0], "max": pair[1]})


def _some(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Config]:
    return st.fixed_dictionaries({}, optional=keys)


def _called(name: str, keys: st.SearchStrategy[Config]) -> st.SearchStrategy[Config]:
    return keys.map(lambda one: {"distribution": name, **one})


def _with_q(keys: st.SearchStrategy[Config]) -> st.SearchStrategy[Config]:
    return st.builds(lambda one, q: {**one, **q}, keys, _some(q=_q))


@st.composite
def _weighted(draw: Any) -> Config:
    values = draw(st.lists(_json, min_size=1, max_size=4))
    weights = draw(st.lists(st.integers(0, 9), min_size=len(values), max_size=len(values)))
    total = sum(weights)
    weights = [weight / total for weight in weights] if total else [1.0] + [0.0] * len(weights[1:])
    return {"values": values, "probabilities": weights}


_normal = _some(mu=_exponents, sigma=st.floats(0.1, 2))
_shapes = _some(a=st.floats(0.1, 5) | st.integers(1, 5), b=st.floats(0.1, 5))
_mixed = _numbers | st.integers(-99, 99)
_one_kind = _between(st.integers(-99, 99)) | _between(_numbers.map(float))

#: By the distribution's name.
DISTRIBUTIONS: dict[str, st.SearchStrategy[Config]] = {
    "constant": st.builds(lambda value: {"value": value}, _json),
    "categorical": st.builds(lambda values: {"values": values}, st.lists(_json, min_size=1)),
    "categorical_w_probabilities": _weighted(),
    "": _one_kind,
    "int_uniform": _called("int_uniform", _between(st.integers(-99, 99))),
    "uniform": _called("uniform", _between(_mixed)),
    "q_uniform": _called("q_uniform", _with_q(_between(_mixed))),
    "log_uniform": _called("log_uniform", _between(_exponents)),
    "log_uniform_values": _called("log_uniform_values", _between(_positive)),
    "q_log_uniform": _called("q_log_uniform", _with_q(_between(_exponents))),
    "q_log_uniform_values": _called("q_log_uniform_values", _with_q(_between(_positive))),
    "inv_log_uniform": _called("inv_log_uniform", _between(_exponents)),
    "inv_log_uniform_values": _called("inv_log_uniform_values", _between(_positive)),
    "normal": _called("normal", _normal),
    "q_normal": _called("q_normal", _with_q(_normal)),
    "log_normal": _called("log_normal", _normal),
    "q_log_normal": _called("q_log_normal", _with_q(_normal)),
    "beta": _called("beta", _shapes),
    "q_beta": _called("q_beta", _with_q(_shapes)),
}

_OF_A_GRID = ("constant", "categorical", "int_uniform", "q_uniform")
_OF_BAYES = ("constant", "categorical", "", "int_uniform", "uniform", "q_uniform", "log_uniform",
             "log_uniform_values", "inv_log_uniform", "inv_log_uniform_values")  # fmt: skip
_names = st.sampled_from(["lr", "a.b", "_x", "layers-2", "min", "value", "parameters"])


def parameters(names: tuple[str, ...]) -> st.SearchStrategy[Config]:
    """A mapping of parameters, some of them nested."""
    leaf = st.sampled_from(names).flatmap(DISTRIBUTIONS.__getitem__)
    return st.recursive(
        st.dictionaries(_names, leaf, min_size=1, max_size=4),
        lambda inner: st.dictionaries(
            _names, leaf | inner.map(lambda one: {"parameters": one}), min_size=1, max_size=3
        ),
        max_leaves=3,
    )


_metric = st.fixed_dictionaries(
    {"name": st.sampled_from(["loss", "val/acc"])},
    optional={
        "goal": st.sampled_from(["minimize", "maximize"]),
        "target": st.integers(-5, 5) | st.floats(-5, 5),
        "impute": st.sampled_from(["latest", "best", "worst"]),
    },
)
_hyperband = st.fixed_dictionaries(
    {"type": st.just("hyperband"), "min_iter": st.integers(1, 9)},
    optional={"eta": st.integers(2, 5) | st.floats(1.5, 4), "strict": st.booleans()},
) | st.fixed_dictionaries(
    {"type": st.just("hyperband"), "max_iter": st.integers(6, 99), "s": st.integers(1, 5)},
    optional={"eta": st.integers(2, 5) | st.floats(1.5, 4)},
)


def configs(method: str) -> st.SearchStrategy[Config]:
    """Configs with this method, which wbtune can run with an Optuna at hand."""
    names = {"grid": _OF_A_GRID, "bayes": _OF_BAYES}.get(method, tuple(DISTRIBUTIONS))
    optional: dict[str, st.SearchStrategy[Any]] = {
        "program": st.just("train.py"),
        "command": st.just(["${env}", "python3", "${program}", "${args}"]),
        "name": st.text("ab ", max_size=5),
        "description": st.text(max_size=5),
        "project": st.just("p"),
        "kind": st.just("sweep"),
    }
    space = parameters(names)
    if method == "bayes":  # there has to be something to search
        space = space.map(lambda one: {**one, "varied": {"min": 0.0, "max": 1.0}})
    return st.builds(
        lambda one, more, early: {**one, **more, **early},
        st.fixed_dictionaries(
            {
                "method": st.just(method),
                "parameters": space,
                "metric": _metric,
                "run_cap": st.integers(1, 5),
            }
        ),
        st.fixed_dictionaries({}, optional=optional),
        st.just({}) | _hyperband.map(lambda one: {"early_terminate": one}),
    )
