"""A `param_space` becomes a valid W&B sweep config, and what is sampled lies inside it.

The schema, ``wandb_sweep_schema.json``, is ``sweeps/config/schema.json`` of the package sweeps
0.3.0 (https://github.com/wandb/sweeps, MIT licence, (c) 2021 Weights and Biases), as it is there.
"""

# Over 250 lines: one translation, read, written and sampled.

from __future__ import annotations

import doctest
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import strategies
from hypothesis import example, given
from hypothesis import strategies as st
from ray import tune
from ray.tune.search import sample
from ray.tune.search.variant_generator import generate_variants
from strategies import Point, Rude
from wandb.apis.public.sweeps import _validate_config_and_fill_distribution

from wbtune._data import search_space, sweep_config
from wbtune._data.filtering import Excludes
from wbtune._data.masking import MASK
from wbtune._data.sweep_config import MAX_VALUES, flat, parameters_of_trial, seen
from wbtune._driver import sweep_space
from wbtune._driver.sweep_space import declared
from wbtune._upstream import ray_spaces

# --- what W&B's server checks --------------------------------------------------------------

SCHEMA = json.loads((Path(__file__).parent / "wandb_sweep_schema.json").read_text("utf-8"))
FORMATS = jsonschema.FormatChecker(())
FORMATS.checkers = {
    "float": (lambda value: isinstance(value, float), ()),
    "integer": (lambda value: isinstance(value, int), ()),
}
VALIDATOR = jsonschema.Draft7Validator(SCHEMA, format_checker=FORMATS)
NAME = re.compile(SCHEMA["definitions"]["parameters"]["propertyNames"]["pattern"].strip("^$"))


def violations(parameters: Mapping[str, Any]) -> list[str]:
    """Whatever W&B's server, wandb or JSON have against a config with these parameters."""
    config = sweep_config.sweep_config("tune", parameters, "loss", "min", method="random")
    found = [error.message for error in VALIDATOR.iter_errors(config)]
    found += [name for name in names_of(config["parameters"]) if not NAME.fullmatch(name)]
    for name, one in flat(config["parameters"]).items():
        if {"min", "max"} <= one.keys() and not one["min"] < one[
            "max"
        ]:  # sweeps, `validate_min_max`
            found.append(f"{name}: {one}")
    assert _validate_config_and_fill_distribution(config) == config
    assert len(json.dumps(config, allow_nan=False)) <= 2 * sweep_config.MAX_PARAMETERS
    return found


def names_of(parameters: Mapping[str, Any]) -> Iterator[str]:
    for name, one in parameters.items():
        yield name
        yield from names_of(one.get("parameters", {}))


# --- an oracle: is a run's config inside? --------------------------------------------------


def outside(parameters: Mapping[str, Any], config: Any) -> Iterator[tuple[str, Any, Any]]:
    """What of a config contradicts the parameters; a name that it does not have does not."""
    for name, one in parameters.items():
        if name not in config:
            continue
        value = config[name]
        if "parameters" in one:
            if isinstance(value, dict):
                yield from outside(one["parameters"], value)
            else:
                yield name, one, value
        elif not lies_inside(one, value):
            yield name, one, value


def lies_inside(parameter: Mapping[str, Any], value: Any) -> bool:
    if "value" in parameter or "values" in parameter:
        listed = parameter.get("values", [parameter.get("value")])
        return json.dumps(value) in map(json.dumps, listed)
    if type(value) not in {int, float}:
        return False
    q = parameter.get("q")
    if q is not None and not math.isclose(value / q, round(value / q), abs_tol=1e-9):
        return False
    if parameter["distribution"] == "int_uniform" and type(value) is not int:
        return False
    return parameter.get("min", -math.inf) <= value <= parameter.get("max", math.inf)


def missing(parameters: Mapping[str, Any], config: Any) -> list[str]:
    """The names of a sweep that a run's config does not have."""
    found = [name for name in parameters if name not in config]
    for name, one in parameters.items():
        if "parameters" in one and name in config:
            found += missing(one["parameters"], config[name])
    return found


def sampled(space: Any, excludes: Excludes, seed: int = 0, number: int = 4) -> list[Any]:
    """The configs of some runs, sampled by Tune itself: the first of each walk over the grids."""
    rng = np.random.default_rng(seed)
    try:
        specs = [
            spec
            for _ in range(number)
            for _, spec in itertools.islice(
                generate_variants({"config": space}, random_state=rng), 2
            )
        ]
    except ValueError:  # Tune refuses the space, as a grid of choices with NaN: there are no runs
        return []
    return [excludes.config(spec["config"]) for spec in specs]


@given(strategies.param_spaces, strategies.excludes, st.integers(0, 2**32))
@example({"lr": tune.loguniform(0.1, 0.1)}, (), 0)  # exp(log(0.1)) > 0.1
@example({"x": dict.fromkeys("abcdefgh", tune.quniform(0.0, 0.3, 0.1))}, (), 5)  # 3 * 0.1 > 0.3
@example({"lr": tune.lograndint(10**12, 10**12 + 1)}, (), 0)
def test_whatever_is_sampled_lies_inside_a_valid_sweep(space, patterns, seed):
    """Any space of Tune's domains, nested, in lists, in grids, and conditional."""
    excludes = Excludes(patterns)
    known = declared(space, excludes)
    assert violations(known.parameters) == []
    for config in sampled(space, excludes, seed):
        assert [*outside(known.parameters, config)] == []


@given(st.deferred(lambda: strategies.spaces(conditional=False)), strategies.excludes)
def test_the_names_are_those_of_the_runs(space, patterns):
    """What a sweep lists is in each run's config, under that name."""
    excludes = Excludes(patterns)
    parameters = declared(space, excludes).parameters
    for config in sampled(space, excludes, number=1):
        assert missing(parameters, config) == []
        assert not [path for path in flat(parameters) if excludes.drops_config(path)]


@given(st.deferred(strategies.domains), st.integers(0, 2**32))
def test_what_w_and_b_can_express_is_there(domain, seed):
    """A sampled parameter is described, unless a function computes it; bounds are not invented."""
    known = declared({"x": domain}, Excludes())
    assert ("x" in known.parameters) != bool(known.undescribed)
    assert known.parameters or isinstance(domain, sample.Function)
    one = known.parameters.get("x", {})
    if isinstance(domain, (sample.Float, sample.Integer)) and "min" in one:
        slack = one.get("q", 0.0) + 1e-6 * abs(domain.upper) + (type(domain.upper) is int) * 2
        assert domain.lower - slack <= one["min"] <= one["max"] <= domain.upper + slack


# --- each domain ---------------------------------------------------------------------------


def parameter_of(domain: Any) -> Any:
    return declared({"x": domain}, Excludes()).parameters.get("x")


def named(value):
    """An id without an object's address, which differs between pytest's processes."""
    return re.sub(r" object at 0x[0-9a-f]+", "", str(value))[:60]


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        (tune.uniform(0, 1), ("uniform", 0.0, 1.0)),
        (tune.quniform(0.1, 0.9, 0.1), ("q_uniform", 0.1, 0.9, 0.1)),
        (tune.quniform(0, 0.3, 0.1), ("q_uniform", 0.0, 3 * 0.1, 0.1)),
        (tune.loguniform(1e-4, 1e-1), ("log_uniform_values", 1e-4, 1e-1)),
        (tune.qloguniform(0.1, 10, 0.1), ("q_log_uniform_values", 0.1, 10.0, 0.1)),
        (tune.randint(1, 5), ("int_uniform", 1, 4)),
        (tune.randint(-5, 5), ("int_uniform", -5, 4)),
        (tune.qrandint(1, 10, 3), ("q_uniform", 3, 9, 3)),
        (tune.qrandint(2, 10, 2), ("q_uniform", 2, 10, 2)),
        (tune.qrandint(1, 10), ("int_uniform", 1, 9)),
        (tune.lograndint(1, 100), ("q_log_uniform_values", 1, 99, 1)),
        (tune.qlograndint(2, 100, 2), ("q_log_uniform_values", 2, 100, 2)),
    ],
    ids=named,
)
def test_each_range(domain, expected):
    """By name; what is sampled of it reaches both ends, if it can."""
    got = parameter_of(domain)
    assert (got.pop("distribution"), *got.values()) == expected
    assert [type(one) for one in got.values()] == [type(one) for one in expected[1:]]
    values = set(itertools.chain(domain.sample(size=5000, random_state=1)))
    assert min(values) >= got["min"]
    assert max(values) <= got["max"]
    if "q" in got or type(got["max"]) is int:
        assert (min(values), max(values)) == pytest.approx((got["min"], got["max"]), rel=0.1)


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        (tune.randn(1, 2), {"distribution": "normal", "mu": 1.0, "sigma": 2.0}),
        (tune.qrandn(0, 2, 0.5), {"distribution": "q_normal", "mu": 0.0, "sigma": 2.0, "q": 0.5}),
        (tune.choice(["a", None, 1, 1.0, True]), {"values": ["a", None, 1, 1.0, True]}),
        (tune.choice([(1, 2), Path("a"), np.float64(1)]), {"values": [[1, 2], "a", 1.0]}),
        (tune.choice([math.inf, math.nan]), {"values": ["Infinity", "NaN"]}),
        (tune.choice([Point(1, 2), None]), {"values": [{"x": 1, "y": 2}, None]}),
        (tune.choice([tune.choice([1, 2]), 3]), {"values": [1, 2, 3]}),
        (tune.choice([0, tune.uniform(1, 2)]), {"distribution": "uniform", "min": 0.0, "max": 2.0}),
        (tune.choice([1, tune.randint(3, 5)]), {"distribution": "int_uniform", "min": 1, "max": 4}),
        (tune.choice([tune.randn(0, 1)]), {"distribution": "normal", "mu": 0.0, "sigma": 1.0}),
        (tune.grid_search([1, 2]), {"values": [1, 2]}),
        ({"grid_search": range(2)}, {"values": [0, 1]}),
        ([tune.choice([1, 2]), 3], {"values": [[1, 3], [2, 3]]}),
        (({"a": tune.choice([1, 2])},), {"values": [[{"a": 1}], [{"a": 2}]]}),
        (tune.uniform(1, 1), {"value": 1.0}),
        (tune.randint(1, 2), {"value": 1}),
        (tune.uniform(2, 1), {"distribution": "uniform", "min": 1.0, "max": 2.0}),
        (None, {"value": None}),
        ({}, {"value": {}}),
        (math.inf, {"value": "Infinity"}),
        ({"a": {"b": tune.uniform(0, 1)}, "c": 1}, {
            "parameters": {
                "a": {"parameters": {"b": {"distribution": "uniform", "min": 0.0, "max": 1.0}}},
                "c": {"value": 1},
            }
        }),
        (tune.choice([{"opt": "sgd", "momentum": tune.uniform(0, 1)}, {"opt": "adam"}]), {
            "parameters": {
                "opt": {"values": ["sgd", "adam"]},
                "momentum": {"distribution": "uniform", "min": 0.0, "max": 1.0},
            }
        }),
        (tune.choice(list(range(MAX_VALUES + 1))),
            {"distribution": "int_uniform", "min": 0, "max": MAX_VALUES}),
        (tune.choice([*range(MAX_VALUES), 0.5]),
            {"distribution": "uniform", "min": 0.0, "max": MAX_VALUES - 1.0}),
    ],
    ids=named,
)  # fmt: skip
def test_each_other_kind(domain, expected):
    """Distributions, choices, grids, constants, nested spaces."""
    assert json.dumps(parameter_of(domain)) == json.dumps(expected)
    assert violations({"x": expected}) == []


class Own(sample.Float):
    """A domain of the user's."""

    def sample(self, *args: Any, **kwargs: Any) -> float:
        return 99.0


class OwnSampler(sample.Uniform):
    def sample(self, *args: Any, **kwargs: Any) -> float:
        return 99.0


def with_sampler(sampler: Any) -> Any:
    domain = sample.Float(0, 1)
    domain.set_sampler(sampler)
    return domain


def test_what_w_and_b_can_not_express_is_named():
    """None of it is left out without a word, and none of it is wrong."""
    space = {
        "f": tune.sample_from(lambda _: 1),
        "e": {"eval": "spec.config.x"},
        "own": Own(0, 1),
        "sampler": with_sampler(OwnSampler()),
        "endless": sample.Float(0, None),
        "list": [tune.uniform(0, 1)],
        "kinds": tune.choice([tune.uniform(0, 1), "a"]),
        "texts": tune.choice([str(i) for i in range(MAX_VALUES + 1)]),
        "long": tune.choice(["a" * sweep_config.MAX_PARAMETER, "b"]),
        "none": tune.choice([]),
        "generator": {"grid_search": (i for i in range(3))},
        "learning rate": tune.choice([1, 2]),
        "a": {"b c": {"d": tune.uniform(0, 1)}},
    }
    known = declared(space, Excludes())
    assert known.parameters == {}
    assert known.undescribed == (
        "f (computed by a function)",
        "e (computed from an expression)",
        "own (<test_sweep_config.Own>)",
        "sampler (sampled by <test_sweep_config.OwnSampler>)",
        "endless (<ray.tune.search.sample.Float>)",
        "list (a list with sampled items)",
        "kinds (one of several kinds of value)",
        f"texts (one of {MAX_VALUES + 1:,} values)",
        "long (one of 2 values)",
        "none (one of several kinds of value)",
        "generator (one of a generator's values)",
        'learning rate ({"values": [1, 2]})',
        'a.b c.d ({"distribution": "uniform", "min": 0.0, "max": 1.0})',
    )
    assert list(space["generator"]["grid_search"]) == [0, 1, 2]  # type: ignore[index]


def test_an_older_ray_does_not_round_to_integers(monkeypatch):
    monkeypatch.setattr(ray_spaces, "_rounds_to_integers", lambda: False)
    assert parameter_of(tune.quniform(0, 9, 1))["distribution"] == "uniform"
    assert parameter_of(tune.qrandn(0, 9, 1))["distribution"] == "normal"


def test_only_grids_and_constants_are_a_grid():
    grid = tune.grid_search([1, 2])
    assert declared({"x": grid, "y": 1, "z": {"w": grid}, "l": [grid]}, Excludes()).is_grid
    assert declared({"x": tune.grid_search([{"a": 1}, {"a": grid}])}, Excludes()).is_grid
    for other in (tune.choice([1]), tune.uniform(0, 1), {"y": tune.sample_from(lambda: 1)}):
        assert not declared({"x": grid, "y": other}, Excludes()).is_grid
    assert not declared({"x": 1}, Excludes()).is_grid
    assert not declared({"x": tune.grid_search([tune.choice([1]), 2])}, Excludes()).is_grid


# --- secrets -------------------------------------------------------------------------------

SECRET = "hunter2"
forms = st.sampled_from(
    [
        SECRET,
        tune.choice([SECRET, "b"]),
        tune.grid_search([SECRET, 1]),
        tune.choice([tune.choice([SECRET, "b"]), 3]),
        [tune.choice([SECRET, "b"])],
        {"grid_search": [[SECRET]]},
        tune.choice([{"inner": SECRET}, {"inner": "b"}]),
        tune.choice([{"inner": SECRET}, None]),
        tune.sample_from(lambda: SECRET),
        tune.choice([SECRET, *map(str, range(MAX_VALUES))]),
        {"value": [{"deep": SECRET}]},
    ]
)


@given(forms, st.sampled_from(["password", "api_key", "token"]), st.booleans())
def test_masked_keys_appear_nowhere(form, name, nested):
    """Neither as names, nor their values, nor as what replaces them in the runs."""
    space = {"x": tune.uniform(0, 1), "db": {name: form}} if nested else {name: form}
    text = json.dumps(declared(space, Excludes()))
    assert not [one for one in (SECRET, name, MASK) if one in text]
    unmasked = json.dumps(declared({"seed": form}, Excludes((), (name,))))
    assert "seed" in unmasked


@given(forms, st.sampled_from(["debug", "*/debug", "x/debug", "config/x"]))
def test_excluded_keys_appear_nowhere(form, pattern):
    space = {"x": {"debug": form}, "wandb": {"api_key": form, "debug": form}}
    text = json.dumps(declared(space, Excludes((pattern,))))
    assert not [one for one in (SECRET, "debug", "wandb") if one in text]


@pytest.mark.parametrize("pattern", ["debug", "*/debug"])
def test_excluded_keys_of_options_appear_nowhere(pattern):
    """Where an option is a mapping and another is none, the options are listed as they are."""
    space = {"x": tune.choice([{"debug": SECRET, "y": 1}, None])}
    known = declared(space, Excludes((pattern,)))
    assert known.parameters == {"x": {"values": [{"y": 1}, None]}}


@pytest.mark.parametrize("form", [SECRET, tune.choice([SECRET, "b"]), [tune.choice([SECRET])]])
@pytest.mark.parametrize("name", ["password", tune.choice(["password", "user"])])
def test_the_name_beside_a_value_masks_it(name, form):
    """``{"name": "password", "value": ...}``, even if the name is sampled, too."""
    text = json.dumps(declared({"env": {"name": name, "value": form}}, Excludes()))
    assert SECRET not in text
    assert "user" not in text or "values" in text


def test_numbers_are_never_secrets():
    """As in the runs' configs."""
    space = {"max_tokens": tune.randint(1, 9), "token": tune.choice([1, 2])}
    assert set(declared(space, Excludes()).parameters) == set(space)


# --- hostile values ------------------------------------------------------------------------


class BadKey:
    """A key that was put into a dict, and regrets it."""

    calls = 0

    def __hash__(self) -> int:
        self.calls += 1
        if self.calls > 1:
            raise RuntimeError
        return 1

    def __eq__(self, other: object) -> bool:
        raise RuntimeError


class BadDomain(sample.Domain):
    @property
    def sampler(self) -> Any:  # type: ignore[override]
        raise KeyError

    def get_sampler(self) -> Any:
        raise BaseException  # noqa: TRY002 - the worst that there is

    def __repr__(self) -> str:
        raise RuntimeError


class BadDict(dict[Any, Any]):
    def items(self) -> Any:
        raise RuntimeError

    __len__ = __contains__ = __iter__ = items  # type: ignore[assignment]


class EndlessList(list[int]):
    def __iter__(self) -> Any:
        return itertools.count()


def deep() -> Any:
    node: Any = 1
    for _ in range(5000):
        node = tune.choice([node])
    return node


HOSTILE = [
    BadDomain(),
    BadDict(a=tune.uniform(0, 1)),
    Rude(),
    {BadKey(): tune.uniform(0, 1)},
    {"grid_search": Rude()},
    {"grid_search": 3},
    {"grid_search": [BadDomain(), {BadKey(): 1}]},
    tune.grid_search(EndlessList()),
    strategies.cycle("dict", tune.uniform(0, 1)),
    strategies.cycle("list", tune.uniform(0, 1)),
    strategies.nested("dict", 99, tune.uniform(0, 1)),
    with_sampler(Rude()),
    sample.Float(math.nan, math.nan),
    sample.Float("a", "b"),  # type: ignore[arg-type]
    sample.Integer(10**400, 10**401),
    sample.Integer(5, 5),
    sample.Float(0, 1).quantized(math.inf),
    sample.Integer(1, 5).quantized(-2),
    sample.Integer(1, 5).quantized(0.3),
    tune.choice([BadDomain(), Rude()]),
    [tune.choice(list(range(300))), tune.choice(list(range(300)))],
]


@pytest.mark.parametrize("value", [*HOSTILE, pytest.param(deep(), id="deep")], ids=type)
def test_hostile_values_never_raise(value):
    """Nor do they cost the parameters beside them."""
    known = declared({"x": value, "lr": tune.choice([1, 2])}, Excludes())
    assert violations(known.parameters) == []
    assert known.parameters["lr"] == {"values": [1, 2]}
    assert violations(declared(value, Excludes()).parameters) == []


@given(strategies.nasty, st.booleans())
def test_any_value_is_a_constant_or_an_option(value, as_choice):
    space = {"x": tune.choice([value, 1]) if as_choice else value}
    known = declared(space, Excludes())
    assert violations(known.parameters) == []
    assert violations(declared(value, Excludes()).parameters) == []
    assert violations(seen([{"x": value}, {"x": 1}])) == []


def test_a_space_that_can_not_be_declared_is_one_line(monkeypatch, caplog):
    """Its text may be a secret, so it is not said."""

    def refuse(space: Any) -> Any:
        raise ValueError(SECRET)

    caplog.set_level("INFO", "wbtune")
    monkeypatch.setattr(sweep_space.ray_spaces, "read", refuse)
    assert declared({"x": 1}, Excludes()) == declared({}, Excludes())
    assert "ValueError" in caplog.text
    assert SECRET not in caplog.text


def test_no_space_is_no_parameters():
    assert declared(None, Excludes()) == declared({}, Excludes()) == ({}, (), False)
    assert violations({}) == []


def test_a_large_space_is_cut_and_says_so():
    """What W&B would have to load with each view of the sweep has a bound."""
    space = {f"p{i}": tune.choice(["x" * 9_000, i]) for i in range(100)}
    known = declared(space, Excludes())
    assert violations(known.parameters) == []
    assert len(known.parameters) + len(known.undescribed) == 100
    assert known.undescribed
    assert max(map(len, known.undescribed)) < 300


# --- the config ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "mode", "expected"),
    [
        ("loss", "min", {"name": "loss.min", "goal": "minimize"}),
        ("eval/acc", "max", {"name": "eval/acc.max", "goal": "maximize"}),
        ("loss", None, None),
        (None, "min", None),
        (["a", "b"], ["min", "max"], None),
    ],
)
def test_the_metric(metric, mode, expected):
    """The runs define it with a summary, so its best value is in the summary as ``loss.min``."""
    config = sweep_config.sweep_config("n", {}, metric, mode, description="d", method="custom")
    assert config.get("metric") == expected
    assert [*VALIDATOR.iter_errors(config)] == []
    assert config["description"] == "d"


def test_a_broken_config_is_noticed():
    """The checks of these tests are checks."""
    assert violations({"x": {"distribution": "uniform", "min": 1}})
    assert violations({"x": {"distribution": "int_uniform", "min": 1, "max": 1}})
    assert violations({"x": {"distribution": "int_uniform", "min": 1, "max": 2.0}})
    assert violations({"a b": {"value": 1}})
    assert violations({"a\n": {"value": 1}})
    assert violations({"x": {"parameters": {}}})
    assert violations({"x": {"values": []}})
    assert [*outside({"x": {"value": 1}}, {"x": 1.0})]
    assert [*outside({"x": {"parameters": {"y": {"value": 1}}}}, {"x": 1})]
    assert not lies_inside({"distribution": "q_uniform", "min": 0, "max": 9, "q": 2}, 3)


# --- without a space -----------------------------------------------------------------------


@given(st.lists(strategies.configs.map(lambda pair: pair[0]) | strategies.nasty, max_size=4))
@example([{"x": 1}, {"x": 2.5}, {"x": {"y": 1}}])
@example([{"x": {}}, {"x": None}, {"y": {"z": 1}}, {"y": {}}])
def test_what_was_seen_lies_inside(configs):
    """For a search that has no space: numbers become a range, others the values that there were."""
    shown = [Excludes().config(config) for config in configs]
    parameters = seen(shown)
    assert violations(parameters) == []
    assert MASK not in json.dumps(parameters)
    for config in shown:
        assert [*outside(parameters, config)] == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5], {"value": 5}),
        ([5, 7, 6], {"distribution": "int_uniform", "min": 5, "max": 7}),
        ([5, 7.5], {"distribution": "uniform", "min": 5.0, "max": 7.5}),
        ([True, False], {"values": [True, False]}),
        (["a", 1], {"values": ["a", 1]}),
        ([MASK, "a"], None),
        ([1, {"y": 1}], None),
        (list(map(str, range(MAX_VALUES + 1))), None),
    ],
)
def test_each_kind_that_was_seen(values, expected):
    assert seen([{"x": value} for value in values]).get("x") == expected
    if len(values) == 1:
        assert parameters_of_trial({"x": values[0]}) == {"x": expected}


def test_a_nested_config_and_a_flat_name():
    parameters = seen([{"a": {"b": 1}, "c d": 1}, {"a": {"b": 2}}])
    assert flat(parameters) == {"a.b": {"distribution": "int_uniform", "min": 1, "max": 2}}


def test_the_docstrings_examples_are_true():
    """Doctest."""
    for module in (search_space, sweep_config, ray_spaces, sweep_space):
        failed, attempted = doctest.testmod(module)
        assert (failed, attempted > 0) == (0, True)
