"""A W&B sweep's config becomes Tune's space, search, scheduler and stopper, or an error that helps.

Without a Ray; `test_sweep_file_runs` runs whole files.
"""

# Over 250 lines: one format, read, sampled, and refused.

from __future__ import annotations

import itertools
import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import page_examples
import pytest
import strategies_sweeps as sweeps
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from ray.tune.search import BasicVariantGenerator
from ray.tune.search.optuna import OptunaSearch
from ray.tune.search.variant_generator import generate_variants
from ray.tune.stopper import MaximumIterationStopper
from test_sweep_config import SCHEMA, VALIDATOR

from wbtune import WandbLoggerCallback, wandb_tuner
from wbtune._data import notice, sweep_file
from wbtune._data.distributions import Numeric
from wbtune._data.filtering import Excludes
from wbtune._data.masking import MASK
from wbtune._driver.description import Description
from wbtune._driver.sweep_plan import plan
from wbtune._driver.sweep_shown import shown
from wbtune._driver.sweep_space import declared
from wbtune._upstream import ray_sweep
from wbtune.errors import ConfigurationError

FILES = sorted(Path(__file__).with_name("sweep_files").glob("*.yaml"))
METHODS = st.sampled_from(["random", "grid", "bayes"])


def planned(config: Any, space: Any = None, run_config: Any = None, **tune_config: Any) -> Any:
    given = tune.TuneConfig(**tune_config) if tune_config else None
    return plan("wandb_tuner", config, space, given, run_config)


def simple(method: str = "random", **more: Any) -> dict[str, Any]:
    """A config with one parameter."""
    one = {"method": method, "parameters": {"lr": {"values": [1, 2, 3]}}, "run_cap": 2}
    return {**one, "metric": {"name": "loss"}, **more}


def refused(config: Any, **given: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        planned(config, **given)
    return str(caught.value)


def variants(space: Any, number: int = 3) -> list[Any]:
    """What Tune's own search makes of a space."""
    found = [generate_variants({"config": space}) for _ in range(number)]
    return [spec["config"] for one in found for _, spec in itertools.islice(one, 3)]


def suggested(made: Any, number: int = 3) -> list[Any]:
    """What the plan's own search algorithm makes of its space."""
    search = made.tune_config.search_alg
    with warnings.catch_warnings():  # lists and mappings as choices are for no database
        warnings.simplefilter("ignore", UserWarning)
        search.set_search_properties("loss", "min", made.param_space)
        found = [search.suggest(str(at)) for at in range(number)]
    return [merged(made.param_space, one) for one in found]


def merged(space: Any, chosen: Any) -> Any:
    """Constants, and what was chosen for the others: as `SearchGenerator` has it."""
    return {
        name: merged(one, chosen.get(name, {}))
        if isinstance(one, dict) and isinstance(chosen.get(name, {}), dict)
        else chosen.get(name, one)
        for name, one in space.items()
    }


# --- what is sampled -----------------------------------------------------------------------


@given(METHODS.flatmap(sweeps.configs), st.integers(0, 2**32 - 1))
def test_samples_lie_in_the_declared_set(config, seed):
    """For any config that the schema allows: values, types, nesting, and no name lost."""
    assert [error.message for error in VALIDATOR.iter_errors(config)] == []
    before = json.dumps(config)
    made = planned(config)
    assert json.dumps(config) == before == json.dumps(made.file.source.config)
    np.random.seed(seed)  # noqa: NPY002 - Tune's domains draw from it
    for sampled in suggested(made) if config["method"] == "bayes" else variants(made.param_space):
        for name, one, value in sweeps.leaves(config["parameters"], sampled):
            is_grid = config["method"] == "grid"
            assert sweeps.lies_inside(one, value, is_grid=is_grid), (name, one, value)


KINDS = {
    "categorical": {"values": ["a", 1, 1.5, None]},
    "categorical_w_probabilities": {"values": ["a", "b", "c"], "probabilities": [0.5, 0.1, 0.4]},
    "inferred ints": {"min": 1, "max": 6},
    "inferred floats": {"min": 0.0, "max": 1.5},
    "int_uniform": {"min": -3, "max": 3},
    "uniform": {"min": 0, "max": 5},
    "q_uniform": {"min": 1, "max": 11, "q": 3},
    "q_uniform floats": {"min": 0, "max": 1, "q": 0.4},
    "log_uniform": {"min": -9.2, "max": -2.3},
    "log_uniform_values": {"min": 1e-4, "max": 1e-1},
    "q_log_uniform": {"min": 2, "max": 5, "q": 8},
    "q_log_uniform_values": {"min": 1, "max": 100, "q": 1},
    "inv_log_uniform": {"min": 0, "max": 3},
    "inv_log_uniform_values": {"min": 0.1, "max": 10},
    "normal": {"mu": 3, "sigma": 0.5},
    "q_normal": {},
    "log_normal": {"mu": 1},
    "q_log_normal": {"q": 2},
    "beta": {"a": 2, "b": 5},
    "q_beta": {"a": 0.5, "b": 0.5, "q": 0.25},
}


def parameter(kind: str) -> dict[str, Any]:
    is_inferred = kind.startswith(("categorical", "inferred"))
    name = {} if is_inferred else {"distribution": kind.partition(" ")[0]}
    return {**name, **KINDS[kind]}


@pytest.mark.parametrize("kind", KINDS)
def test_quantiles_are_those_of_w_and_bs_own_sampler(kind):
    """Thousands of samples of each distribution, against W&B's formula at even probabilities."""
    one, number = parameter(kind), 4000
    assert [*VALIDATOR.iter_errors(simple(parameters={"x": one}))] == []
    domain = planned(simple(parameters={"x": one})).param_space["x"]
    np.random.seed(1)  # noqa: NPY002 - as above
    ours = domain.sample(size=number)
    theirs = [sweeps.quantile(one, (at + 0.5) / number) for at in range(number)]
    assert {*map(type, ours)} <= {*map(type, theirs), np.float64, np.int64}
    if "values" in one:
        shares = {repr(value): theirs.count(value) / number for value in theirs}
        found = {key: [*map(repr, ours)].count(key) / number for key in shares}
        assert found == pytest.approx(shares, abs=0.03)
    else:
        both = np.sort(ours), np.sort(theirs)
        at = np.unique(np.concatenate(both))
        first, second = (np.searchsorted(one, at, side="right") / number for one in both)
        # Smirnov's distance, of which a thousandth of all samples are above this bound.
        assert np.abs(first - second).max() < 1.95 * number**-0.5


class At:
    """A source of random numbers that gives the quantile at a probability."""

    def __init__(self, u: float) -> None:
        self.u = u

    def uniform(self, low: float, high: float) -> float:
        return low + self.u * (high - low)

    def normal(self, loc: float, scale: float) -> float:
        return sweeps.NormalDist(loc, scale).inv_cdf(self.u)

    def beta(self, a: float, b: float) -> float:
        return sweeps.beta_quantile(a, b, self.u)


@given(st.sampled_from([*sweeps.DISTRIBUTIONS]).flatmap(sweeps.DISTRIBUTIONS.get), st.data())
def test_what_is_drawn_at_a_probability_is_what_w_and_b_draws(one, data):
    """The formulas, exactly: of multiples of q the same one, and integers where W&B has them."""
    leaf = sweep_file.read("f", simple(parameters={"x": one})).parameters["x"]
    u = data.draw(st.floats(1e-6, 1, exclude_max=True))
    if isinstance(leaf, Numeric):
        ours, theirs = leaf.draw(At(u)), sweeps.quantile(one, u)
        step = one.get("q", 1.0) if leaf.q else 0
        # By a rounding error, a number may be on the other side of the middle between two.
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12) or abs(ours - theirs) <= step
        assert type(ours) is type(theirs) or leaf.q is None


def test_a_grid_has_the_values_of_w_and_bs_own():
    """All once; the upper bound of q_uniform is not among them, that of int_uniform is."""
    space = planned(
        simple("grid", parameters={
            "a": {"values": [1, 1, 1.0, True, "1", [1], {"b": 1}]},
            "n": {"min": 1, "max": 3},
            "q": {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.25},
            "w": {"distribution": "q_uniform", "min": 0, "max": 9, "q": 4},
            "c": {"value": 7},
        })
    ).param_space  # fmt: skip
    values = {name: one["grid_search"] for name, one in space.items() if name != "c"}
    assert json.dumps(values["a"]) == json.dumps([1, 1.0, True, "1", [1], {"b": 1}])
    assert (values["n"], values["q"], values["w"]) == ([1, 2, 3], [0, 0.25, 0.5, 0.75], [0, 4, 8])
    assert space["c"] == 7


BAYES = {
    "q_uniform": ({"min": 30, "max": 100, "q": 32}, {32, 64, 96}),
    "q_uniform ones": ({"min": 1, "max": 3, "q": 1}, {1, 2, 3}),
    "q_uniform floats": ({"min": 0, "max": 1, "q": 0.25}, {0.0, 0.25, 0.5, 0.75, 1.0}),
    "q_log_uniform_values": ({"min": 1, "max": 4, "q": 1}, {1, 2, 3, 4}),
    "int_uniform": ({"min": 1, "max": 3}, {1, 2, 3}),
}


@pytest.mark.parametrize("kind", BAYES)
def test_optuna_suggests_all_values_and_no_others(kind):
    """The bounds of Tune's domains, of which some include the upper one, are W&B's."""
    given, expected = BAYES[kind]
    one = {"distribution": kind.partition(" ")[0], **given}
    made = planned(simple("bayes", parameters={"a": {"parameters": {"x": one}}}))
    search = made.tune_config.search_alg
    search.set_search_properties("loss", "min", made.param_space)
    suggested = {search.suggest(str(at))["a"]["x"] for at in range(60)}
    assert suggested == expected
    assert {*map(type, suggested)} == {*map(type, expected)}


# --- what Tune is asked to do --------------------------------------------------------------


def test_random_and_bayes_have_run_cap_trials_and_a_grid_one_of_each():
    assert planned(simple(run_cap=7)).tune_config.num_samples == 7
    assert planned(simple(run_cap=7), num_samples=3).tune_config.num_samples == 3
    made = planned(simple("bayes", run_cap=7, parameters={"x": {"min": 1, "max": 2}}))
    assert made.tune_config.num_samples == 7
    assert isinstance(made.tune_config.search_alg, OptunaSearch)
    grid = simple("grid")
    del grid["run_cap"]
    assert planned(grid).tune_config.search_alg is None
    assert planned(grid).tune_config.num_samples == 1
    capped = planned(simple("grid"), max_concurrent_trials=2).tune_config
    assert capped.max_concurrent_trials is None
    assert capped.search_alg.max_concurrent == 2


def test_a_time_budget_is_an_end_too():
    config = simple()
    del config["run_cap"]
    assert planned(config, time_budget_s=5).tune_config.num_samples == -1


@given(st.integers(1, 40), st.sampled_from([2, 3, 4, 1.5, 2.7]), st.integers(1, 6))
def test_the_rungs_are_w_and_bs(iteration, eta, s):
    """From the first one or from the last, whole numbers, as W&B's `hyperband_stopping` has them.

    The rungs are the scheduler's private ones: what it does at them is shown by runs.
    """

    def rungs_of(**hyperband: Any) -> list[int]:
        config = simple(early_terminate={"type": "hyperband", "eta": eta, **hyperband})
        (bracket,) = planned(config).tune_config.scheduler._brackets
        return [rung for rung, _ in reversed(bracket._rungs)]

    expected = sorted({int(iteration * eta**at) for at in range(20)})
    assert rungs_of(min_iter=iteration)[:8] == expected[:8]
    band, bands = float(iteration), []
    for _ in range(s):
        band /= eta
        if band < 1:
            break
        bands.append(int(band))
    if bands:
        assert rungs_of(max_iter=iteration, s=s) == sorted({*bands})


def test_without_the_private_names_the_rungs_are_those_of_the_same_sequence(monkeypatch):
    monkeypatch.setattr(ray_sweep.RUNGS, "_trouble", "gone")
    config = simple(early_terminate={"type": "hyperband", "min_iter": 2, "eta": 2})
    (bracket,) = planned(config).tune_config.scheduler._brackets
    assert [rung for rung, _ in reversed(bracket._rungs)][:4] == [2, 4, 8, 16]


def test_a_target_ends_the_experiment_and_keeps_what_stops_trials():
    config = simple(metric={"name": "val/loss", "goal": "minimize", "target": 0.5})
    third, also_third = MaximumIterationStopper(3), [MaximumIterationStopper(3)]
    for stop in ({"training_iteration": 3}, third, also_third, lambda _, r: r["n"] == 3):
        given = tune.RunConfig(stop=stop)
        stopper = planned(config, run_config=given).run_config.stop
        assert given.stop is stop
        for n in (1, 2):
            row = {"training_iteration": n, "n": n, "val": {"loss": 1.0}}
            assert not stopper("a", row)
        assert stopper("a", {"training_iteration": 3, "n": 3, "val": {"loss": 1.0}})
        assert not stopper.stop_all()
        assert stopper("b", {"training_iteration": 1, "n": 1, "val": {"loss": 0.5}})
        assert stopper.stop_all()
    upwards = ray_sweep.SweepTarget(sweep_file.Metric("acc", "max", 0.9))
    assert not upwards("a", {"acc": 0.8})
    assert not upwards("a", {"acc": float("nan")})
    assert not upwards("a", {"other": 1})
    assert upwards("a", {"acc": np.float32(0.95)})


def test_arguments_come_before_the_file_by_name():
    """Parameters at any depth, the search, the scheduler; the rest stays."""
    config = simple(
        early_terminate={"type": "hyperband", "min_iter": 1},
        parameters={
            "lr": {"distribution": "normal"},
            "model": {"parameters": {"act": {"value": "relu"}, "layers": {"min": 1, "max": 2}}},
            "whole": {"parameters": {"x": {"value": 1}}},
        },
    )
    given = {"lr": 0.1, "model": {"layers": 5, "new": 1}, "seed": 2, "whole": {"grid_search": [1]}}
    scheduler = FIFOScheduler()
    made = planned(config, given, scheduler=scheduler, metric="loss")
    model = {"act": "relu", "layers": 5, "new": 1}
    assert made.param_space == {"lr": 0.1, "model": model, "seed": 2, "whole": {"grid_search": [1]}}
    assert made.tune_config.scheduler is scheduler
    assert (made.tune_config.metric, made.tune_config.mode) == ("loss", "min")
    own = BasicVariantGenerator(max_concurrent=1)
    assert planned(simple(), search_alg=own).tune_config.search_alg is own
    no_metric = {"method": "random", "run_cap": 1, "parameters": {"x": {"value": 1}}}
    assert planned(no_metric, metric="acc", mode="max").tune_config.metric == "acc"


CONTRADICTIONS = [
    (simple(), {"metric": "acc"}, ["metric='loss', mode='min' (goal: minimize)", "metric='acc'"]),
    (simple(), {"mode": "max"}, ["goal: minimize", "mode='max'"]),
    (
        simple(),
        {"scheduler": ASHAScheduler(metric="acc", mode="max")},
        ["metric='loss'", "AsyncHyperBandScheduler(metric='acc')"],
    ),
    (simple("grid"), {"search_alg": OptunaSearch()}, ["grid", "search_alg=OptunaSearch"]),
    (simple("grid"), {"search_alg": BasicVariantGenerator()}, ["run_cap", "BasicVariantGenerator"]),
]


@pytest.mark.parametrize(
    ("config", "given", "shown"), CONTRADICTIONS, ids=range(len(CONTRADICTIONS))
)
def test_a_contradiction_is_an_error_that_shows_both(config, given, shown):
    message = refused(config, **given)
    assert [part for part in shown if part not in message] == []


def test_what_has_no_meaning_here_is_named_in_one_line(caplog):
    notice.warn_once.cache_clear()
    config = simple(
        program="train.py",
        command=["python"],
        controller={"type": "local"},
        job="j",
        image_uri="i",
        apiVersion="v1",
        kind="sweep",
        scheduler={"engine": "wandb"},
        metric={"name": "loss", "impute": "best"},
        early_terminate={"type": "hyperband", "min_iter": 1, "strict": False},
    )
    planned(config)
    (line,) = caplog.messages
    assert line == (
        "wandb_tuner: sweep=: no effect here: program, command, job, image_uri, controller, "
        "scheduler, apiVersion, kind, metric.impute, early_terminate.strict."
    )


def test_that_bayes_is_another_search_is_said_once(caplog):
    notice.warn_once.cache_clear()
    for _ in range(2):
        planned(simple("bayes"))
    (line,) = caplog.messages
    assert "TPE" in line
    assert "Gaussian process" in line


# --- what is wrong -------------------------------------------------------------------------

HEAD = "method: random\nrun_cap: 2\nparameters:\n"
WRONG = [
    (
        "method: randm\nparameters: {x: {value: 1}}",
        1,
        "method: expected grid, random or bayes, got 'randm'. Did you mean random?",
    ),
    ("parameters: {x: {value: 1}}", None, "it has no method."),
    (
        "method: custom\nparameters: {x: {value: 1}}",
        1,
        "method: the custom search is not in the file.",
    ),
    ("method: random", None, "it has no parameters. Write parameters: {lr: {values: [0.1, 1.0]}}."),
    ("method: random\nparameters: {}", 2, "parameters: expected a mapping with at least one"),
    (
        "method: random\nparamters: {}",
        2,
        "paramters: W&B's sweeps have no such key. Did you mean parameters?",
    ),
    (
        "method: random\nparameters: {x: {value: 1}}",
        1,
        "method: random has no end. Write run_cap: 20",
    ),
    (
        "method: bayes\nrun_cap: 2\nparameters: {x: {min: 1, max: 2}}",
        1,
        "method: bayes needs a metric.",
    ),
    (
        "method: bayes\nmetric: {name: loss}\nparameters:\n  x: {value: 1}",
        3,
        "bayes has nothing to search",
    ),
    (
        HEAD + "  x: {distribution: unifrom, min: 0, max: 1}",
        4,
        "parameters.x.distribution: W&B has no distribution 'unifrom'. Did you mean uniform?",
    ),
    (
        HEAD + "  x:\n    min: 0\n    max: 1.5",
        4,
        "parameters.x: one of its bounds is an int and the other is not (0, 1.5).",
    ),
    (HEAD + "  x: {min: 3, max: 1}", 4, "parameters.x: min has to be less than max, got 3 and 1."),
    (
        HEAD + "  x: {distribution: int_uniform, min: 1,\n    max: 2.5}",
        5,
        "parameters.x.max: int_uniform has ints, got 2.5.",
    ),
    (HEAD + "  x: {distribution: uniform, min: 1}", 4, "parameters.x: uniform needs max."),
    (
        HEAD + "  x: {distribution: uniform, min: 1, max: 2, q: 3}",
        4,
        "parameters.x.q: uniform has none",
    ),
    (
        HEAD + "  x: {distribution: log_uniform_values, min: 0, max: 2}",
        4,
        "parameters.x.min: expected more than 0, got 0. For exponents of e, write log_uniform.",
    ),
    (
        HEAD + "  x: {distribution: log_uniform, min: 1, max: 2000}",
        4,
        "For bounds as values, write log_uniform_values.",
    ),
    (HEAD + "  x: {distribution: q_normal, q: 0}", 4, "parameters.x.q: expected more than 0"),
    (HEAD + "  x: {distribution: normal, sigma: 0}", 4, "parameters.x.sigma: expected more than 0"),
    (HEAD + "  x: {distribution: beta, b: -1}", 4, "parameters.x.b: expected more than 0, got -1."),
    (
        HEAD + "  x: {min: '1e-5', max: 1.0}",
        4,
        "parameters.x.min: expected a number, got '1e-5'. Write 1e-05, without quotes.",
    ),
    (HEAD + "  x: {min: true, max: 2}", 4, "parameters.x.min: expected a number, got True."),
    (
        HEAD + "  x: {values: [1, 2], probabilities: [0.5, 0.6]}",
        4,
        "parameters.x.probabilities: their sum is 1.1, and has to be 1.",
    ),
    (
        HEAD + "  x: {values: [1, 2], probabilities: [1]}",
        4,
        "parameters.x.probabilities: there are 1 probabilities for 2 values.",
    ),
    (HEAD + "  x: {values: [1, 2], probabilities: [-1, 2]}", 4, "expected numbers, 0 or more"),
    (HEAD + "  x: {values: 1}", 4, "parameters.x.values: expected a list"),
    (
        HEAD + "  x: {valeus: [1]}",
        4,
        "parameters.x.valeus: W&B's sweeps have no such key. Did you mean value",
    ),
    (HEAD + "  x: {min: 1}", 4, "parameters.x: expected value, values, min and max"),
    (HEAD + "  x: 0.1", 4, "parameters.x: expected a mapping. Write x: {value: ...}."),
    (
        HEAD + "  x:\n    parameters:\n      y: {value: 1, max: 2}",
        6,
        "parameters.x.parameters.y.max: constant has none",
    ),
    (
        HEAD + "  x: {parameters: {y: {value: 1}}, min: 2}",
        4,
        "parameters.x.min: a parameter with nested parameters has none",
    ),
    (HEAD + "  learning rate: {value: 1}", 4, "W&B accepts letters, digits"),
    (HEAD + "  wandb: {value: 1}", 4, "Rename the parameter."),
    (HEAD + "  x: {value: 1}\n  x: {value: 2}", 5, "parameters.x: it is also in line 4."),
    (HEAD + "  x: {value: 2020-01-01}", 4, "got date. Put it in quotes."),
    (HEAD + "  1: {value: 1}", 3, "parameters: a key is text, got 1."),
    (
        HEAD + "  x: {value: 1}\nmetric: {name: loss, goal: minimise}",
        5,
        "metric.goal: expected minimize or maximize, got 'minimise'. Did you mean minimize?",
    ),
    (HEAD + "  x: {value: 1}\nmetric: {name: loss, goal: max}", 5, "Did you mean maximize?"),
    (HEAD + "  x: {value: 1}\nmetric: {goal: minimize}", 5, "metric: expected a name"),
    (
        HEAD + "  x: {value: 1}\nmetric: {name: a, target: low}",
        5,
        "metric.target: expected a number",
    ),
    (HEAD + "  x: {value: 1}\nmetrics: []", 5, "metrics: Tune's schedulers have one metric."),
    (
        HEAD + "  x: {value: 1}\nearly_terminate: {type: hyperbnd}",
        5,
        "early_terminate.type: expected hyperband",
    ),
    (
        HEAD + "  x: {value: 1}\nearly_terminate: {type: hyperband}",
        5,
        "expected min_iter, or max_iter and s.",
    ),
    (
        HEAD + "  x: {value: 1}\nearly_terminate: {type: hyperband, min_iter: 1}",
        5,
        "it needs a metric. Write metric: {name: ...}.",
    ),
    (
        HEAD + "  x: {value: 1}\nearly_terminate: {type: hyperband, max_iter: 2, s: 1}",
        5,
        "no trial would ever be compared: eta is 3, and there is no rung up to iteration 2",
    ),
    (
        HEAD + "  x: {value: 1}\nearly_terminate: {type: hyperband, min_iter: 2000000000000}",
        5,
        "no trial would ever be compared",
    ),
    (
        HEAD + "  x: {value: 1}\nearly_terminate: {type: hyperband, min_iter: 0}",
        5,
        "early_terminate.min_iter: expected a whole number",
    ),
    (
        HEAD + "  x: {value: 1}\nearly_terminate: {type: hyperband, min_iter: 1, eta: 1}",
        5,
        "early_terminate.eta: expected more than 1",
    ),
    (
        "method: random\nrun_cap: 0\nparameters: {x: {value: 1}}",
        2,
        "run_cap: expected a whole number, 1 or more, got 0.",
    ),
    (
        "method: random\nproject: 7\nparameters: {x: {value: 1}}",
        2,
        "project: expected text, got 7.",
    ),
    (
        "method: grid\nparameters:\n  x: {distribution: normal}",
        3,
        "parameters.x: a grid has no normal.",
    ),
    (
        "method: grid\nparameters:\n  x: {values: [1], probabilities: [1]}",
        3,
        "Leave the probabilities out",
    ),
    (
        "method: grid\nparameters:\n  x: {min: 0, max: 1000000}",
        3,
        "a grid of more than 100,000 values",
    ),
    ("method: [random\nx: {", 2, "this is not YAML"),
    ("method: random\ndescription: 2024-02-30", 2, "'2024-02-30' is no timestamp. If it is text"),
    (HEAD + "  x: {values: [1, 0x_]}", 4, "'0x_' is no int"),
    (HEAD + "  x: {value: !!bool maybe}", 4, "'maybe' is no bool"),
    (HEAD + "  x: {value: !!timestamp soon}", 4, "'soon' is no timestamp"),
    ("- method", None, "expected a sweep's config"),
    ("", None, "expected a sweep's config"),
    ("a: &a\n  b: *a", 2, "it contains itself"),
]


@pytest.mark.parametrize(("text", "line", "problem"), WRONG, ids=range(len(WRONG)))
def test_each_error_has_its_line_and_key(text, line, problem, tmp_path):
    """One line, the file, where it is in the file, and what to write instead."""
    path = tmp_path / "sweep.yaml"
    path.write_text(text, encoding="utf-8")
    message = refused(path)
    where = f", line {line}: " if line else ": "
    assert message.startswith(f"wandb_tuner: sweep.yaml{where}")
    assert problem in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("one", "problem"),
    [
        ({"distribution": "normal"}, "OptunaSearch can't take normal. Write uniform, or method:"),
        ({"distribution": "beta"}, "there is none for beta. Write uniform"),
        ({"distribution": "q_log_normal"}, "none for q_log_normal. Write log_uniform_values"),
        ({"values": [1], "probabilities": [1]}, "Write values without probabilities"),
        ({"distribution": "q_log_uniform_values", "min": 8, "max": 64, "q": 8}, "only with q: 1"),
    ],
)
def test_what_bayes_can_not_take_is_named_with_a_cure(one, problem):
    """Parameter, distribution and cure; Tune's own search can take all."""
    message = refused(simple("bayes", parameters={"a": {"parameters": {"x": one}}}))
    assert message.startswith("wandb_tuner: sweep=: parameters.a.parameters.x: ")
    assert problem in message
    assert planned(simple(parameters={"x": one})).param_space
    assert planned(simple("bayes", parameters={"x": one}), {"x": 1}).param_space == {"x": 1}


def test_no_such_file_and_no_optuna(tmp_path, monkeypatch):
    assert "No such file" in refused(str(tmp_path / "none.yaml"))
    assert "can't read sweep=" in refused(tmp_path)
    (tmp_path / "latin").write_bytes(b"\xff\xfe\x00")
    assert "not text in UTF-8" in refused(tmp_path / "latin")
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    assert "bayes needs Optuna: pip install optuna." in refused(simple("bayes"))


def test_other_ways_take_no_file(tmp_path):
    for config in ("sweep.yaml", Path("sweep.yaml"), simple()):
        with pytest.raises(ConfigurationError, match=r"wandb_tuner\(train, sweep=\.\.\.\)"):
            WandbLoggerCallback("p", sweep=config)


# --- reading, and showing ------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_are_read_as_yaml_reads_them(path):
    """What is published is valid; only numbers with an exponent are more than YAML 1.1 has."""
    config = planned(path, num_samples=1).file.source.config
    assert [error.message for error in VALIDATOR.iter_errors(config)] == []
    text = re.sub(r"\b(\d)(e-?\d+)", r"\1.0\2", path.read_text(encoding="utf-8"))
    assert config == yaml.safe_load(text)


@given(METHODS.flatmap(sweeps.configs))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_a_file_is_its_mapping(tmp_path, config):
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    read = sweep_file.read("f", path)
    both = read.source.config, sweep_file.read("f", config).source.config
    assert json.dumps(both[0], sort_keys=True) == json.dumps(both[1], sort_keys=True)


def test_the_sweep_shows_the_file_without_secrets():
    """As it is, except for what is masked or left out in the runs."""
    config = simple(
        command=["python", "--api-key=hunter2"],
        parameters={
            "lr": {"min": 0.1, "max": 0.2},
            "api_token": {"values": ["hunter2", 3]},
            "seed": {"value": 1},
            "db": {"parameters": {"password": {"value": "hunter2"}}},
        },
    )
    made = sweep_file.read("f", config)
    known = shown(Description({}), made, Excludes(("seed",)), None)
    assert "hunter2" not in str(known)
    assert known.given is not None
    assert known.given["parameters"] == known.parameters == {
        "lr": {"min": 0.1, "max": 0.2},
        "api_token": {"values": [MASK, 3]},
        "db": {"parameters": {"password": {"value": MASK}}},
    }  # fmt: skip
    del config["command"]
    whole = shown(
        Description({"lr": {"value": 3}}), sweep_file.read("f", simple()), Excludes(), None
    )
    assert whole.given == simple()
    assert whole.parameters == {"lr": {"value": 3}}
    assert [*whole.given] == [*simple()]


def test_the_project_of_the_file_is_the_last_resort(monkeypatch):
    """An argument and config["wandb"] come before it, and the file before the environment."""

    def project(config: Any, **given: Any) -> Any:
        tuner = wandb_tuner(lambda config: None, sweep=config, **given)
        (callback,) = tuner._local_tuner._run_config.callbacks
        return callback.options.project

    monkeypatch.setenv("WANDB_PROJECT_NAME", "environment")
    assert project(simple(project="file")) == "file"
    assert project(simple(project="file"), project="argument") == "argument"
    wandb = {"wandb": {"project": "config"}}
    assert project(simple(project="file"), param_space=wandb) == "config"
    assert project(simple()) == "environment"


def test_the_page_is_true(tmp_path, monkeypatch):
    """Its file is what it says in Tune's words, and its other examples are built as they stand."""
    path = page_examples.ROOT / "docs/experiment/from-wandb-sweeps.md"
    page = path.read_text(encoding="utf-8")
    (file,) = (one for one in page_examples.fenced(path) if one.title == "sweep.yaml")
    (tmp_path / "sweep.yaml").write_text(file.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    found = []
    for example in page_examples.blocks(path):
        names: dict[str, Any] = {"__name__": "tune"}
        exec(example.text.replace("results = tuner.fit()\n", ""), names)
        inner = names["tuner"]._local_tuner
        found.append((declared(inner._param_space, Excludes()).parameters, inner._tune_config))
    (by_file, first), (by_words, second), (overridden, third) = found
    assert by_file == by_words
    for name in ("metric", "mode", "num_samples"):
        assert getattr(first, name) == getattr(second, name)
    for name in ("search_alg", "scheduler"):
        assert type(getattr(first, name)) is type(getattr(second, name))
    assert (overridden["lr"]["max"], third.num_samples) == (1e-2, 5)
    assert set(overridden["model"]["parameters"]) == {"layers", "width"}
    keys = re.findall(r"`([\w.]+)`", page.partition("## What corresponds")[2].partition("##")[0])
    known = {*SCHEMA["properties"], "metric.target", "metric.name", "metric.goal"}
    assert known - {*keys, "metric", "parameters", "method"} == set()
