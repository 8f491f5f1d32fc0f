"""What a run is opened with, the steps of its rows, and pictures; without opening one."""

# Over 250 lines: what a run is opened with, value by value.

from __future__ import annotations

import copy
import doctest
import itertools
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import strategies_functions as functions
import wandb
from hypothesis import given
from hypothesis import strategies as st
from strategies import run_options

from wbtune._data import timeouts
from wbtune._data.filtering import excludes_of
from wbtune._data.options import RunOptions
from wbtune._place.identity import Identity
from wbtune._run import opening, run_spec, steps
from wbtune._run.run_spec import locate, spec
from wbtune._run.steps import Steps
from wbtune.errors import ConfigurationError

WHO = Identity("trial_id", "trial_name", "experiment", "/folder")


# --- steps ---------------------------------------------------------------------------------

#: A step beyond 64 bits would be refused, and every later one with it.
HUGE = 10**30
odd = st.sampled_from([None, "3", 2.0, True, HUGE, -HUGE])
iterations = st.lists(st.integers(-2, 30) | odd, max_size=30)


@given(iterations, st.integers(0, 5))
def test_each_row_has_a_step_of_its_own_and_steps_only_grow(given: list[Any], free: int) -> None:
    """W&B drops a row whose step is lower, without an error; so none ever is."""
    steps = Steps(free)
    taken = [steps.next(iteration) for iteration in given]
    assert taken == sorted(set(taken))
    assert all(step >= free for step in taken)
    for before, iteration, step in zip([free - 1, *taken], given, taken, strict=False):
        wanted = iteration if type(iteration) is int and iteration < HUGE else 0
        assert step == max(wanted, before + 1), "the iteration, or the next free step"


@given(st.sets(st.integers(0, 1000)).map(sorted))
def test_steps_are_the_iterations_while_those_grow(iterations: list[int]) -> None:
    """In a trial that was never interrupted, W&B's step is Tune's."""
    steps = Steps()
    assert [steps.next(iteration) for iteration in iterations] == iterations


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=20))
def test_a_step_is_never_below_what_the_run_has_reached(pairs: list[tuple[int, int]]) -> None:
    """The user's own rows take steps of the same run."""
    steps = Steps()
    taken = [steps.next(iteration, at_least) for iteration, at_least in pairs]
    assert all(step >= least for step, (_, least) in zip(taken, pairs, strict=True))
    assert taken == sorted(set(taken))


# --- where a run goes ----------------------------------------------------------------------


def hook() -> None:
    """A location hook as the guide describes it."""
    os.environ["WANDB_PROJECT_NAME"] = "by hook"
    os.environ["WANDB_GROUP_NAME"] = "by hook"


def broken_hook() -> None:
    """A location hook that fails."""
    raise RuntimeError("no location")


@pytest.fixture
def location(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment in which nobody said anything, restored afterwards."""
    for name in ("WANDB_PROJECT_NAME", "WANDB_GROUP_NAME", "WANDB_PROJECT", "WANDB_RUN_GROUP"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("WANDB_POPULATE_RUN_LOCATION_HOOK", "")
    return monkeypatch


@pytest.mark.parametrize(
    ("argument", "guide", "wandbs"), list(itertools.product([True, False], repeat=3))
)
def test_the_argument_then_the_guides_variables_then_wandbs(
    location: pytest.MonkeyPatch, argument: bool, guide: bool, wandbs: bool
) -> None:
    """For project and group alike; a hook is not asked when the project is known."""
    if argument or guide:
        location.setenv("WANDB_POPULATE_RUN_LOCATION_HOOK", f"{__name__}:broken_hook")
    value = "argument" if argument else None
    if guide:
        location.setenv("WANDB_PROJECT_NAME", "guide")
        location.setenv("WANDB_GROUP_NAME", "guide")
    if wandbs:
        location.setenv("WANDB_PROJECT", "wandb")
        location.setenv("WANDB_RUN_GROUP", "wandb")
    options = RunOptions(project=value, group=value, log_config=True, init_kwargs={"id": "x"})
    found = locate("way", options)
    sources = [("argument", argument), ("guide", guide), ("wandb", wandbs)]
    expected = next((name for name, there in sources if there), None)
    assert (found.project or None, found.group or None) == (expected, expected)
    assert (found.log_config, found.init_kwargs) == (True, {"id": "x"})
    assert options.project == value


def test_a_hook_fills_in_what_nobody_said(location: pytest.MonkeyPatch) -> None:
    """It sets the guide's variables; an argument still counts more."""
    location.setenv("WANDB_POPULATE_RUN_LOCATION_HOOK", f"{__name__}:hook")
    found = locate("way", RunOptions(group="argument"))
    assert (found.project, found.group) == ("by hook", "argument")


@pytest.mark.parametrize("name", ["broken_hook", "absent"])
def test_a_hook_that_fails_is_named(location: pytest.MonkeyPatch, name: str) -> None:
    """Without a location the runs would go who knows where."""
    location.setenv("WANDB_POPULATE_RUN_LOCATION_HOOK", f"{__name__}:{name}")
    with pytest.raises(ConfigurationError, match=f"^way: the hook WANDB_POP.*:{name} raised"):
        locate("way", RunOptions())


# --- what a run is opened with -------------------------------------------------------------


@given(run_options, st.none() | st.just("trial_id"))
def test_what_was_said_counts_before_who_the_trial_is(
    options: RunOptions, trial_id: str | None
) -> None:
    """By default id, name and group are the trial's; each explicit option replaces its own."""
    before = copy.deepcopy(options)
    identity = WHO if trial_id else Identity()
    given = options.init_kwargs
    made = spec(options, identity, {"lr": 1})
    expected = {
        "id": given.get("id", identity.trial_id),
        "name": given.get("name", identity.trial_name),
        "group": options.group or identity.experiment,
        "project": options.project,
        "dir": identity.directory,
        "resume": "allow" if trial_id else None,
    }
    assert {name: made.init.get(name) for name in expected} == expected
    others = {"notes", "job_type", "tags", "mode"} & set(given)
    assert {name: made.init[name] for name in others} == {name: given[name] for name in others}
    assert None not in made.init.values()
    assert not {"settings", "config"} & set(made.init)
    excludes = excludes_of(options.excludes, options.unmask)
    assert made.config == {"lr": 1, **excludes.config(given.get("config", {}))}
    assert made.video_kwargs == (options.video_kwargs or {})
    assert made.image_kwargs == (options.image_kwargs or {})
    assert made.settings["silent"] is given.get("settings", {}).get("silent", True)
    timeout = options.upload_timeout  # 0 would be "for ever"
    assert made.settings.get("finish_timeout") == (None if timeout is None else max(1, timeout))
    assert pickle.loads(pickle.dumps(made)) == made
    assert options == before


@given(run_options)
def test_wandb_accepts_what_a_run_is_opened_with(options: RunOptions) -> None:
    """Each setting is one of W&B's, by name and by type."""
    made = spec(options, WHO, {})
    settings = wandb.Settings(**made.settings)
    assert settings.x_transaction_log_flush_interval == timeouts.FLUSH_S


def test_the_config_of_the_options_is_sanitised_and_laid_on_top() -> None:
    """``config=`` is the user's, with whatever values are in it."""
    options = RunOptions(init_kwargs={"config": {"lr": float("inf"), "s": {2, 1}}})
    assert spec(options, WHO, {"lr": 1, "x": 2}).config == {"lr": "Infinity", "s": [1, 2], "x": 2}


def test_the_config_of_the_options_is_filtered_as_the_trials_is() -> None:
    """``excludes`` and the mask hold for ``config=`` as well."""
    given = {"lr": 1, "db": {"password": "x"}, "tokenizer": "bpe"}
    options = RunOptions(excludes=("lr",), unmask=("tokenizer",), init_kwargs={"config": {**given}})
    assert spec(options, WHO, {}).config == {"db": {"password": "****"}, "tokenizer": "bpe"}


def test_a_run_may_have_to_give_way_to_another_experiments() -> None:
    """So that whoever looks for it on disk has to know both ids; a chosen id is what it is."""
    who = Identity("a", "trial", "sweep", None, experiment_key="x1")
    assert spec(RunOptions(), who, {}).ids == ("a-x1", "a")
    assert spec(RunOptions(init_kwargs={"id": "mine"}), who, {}).ids == ("mine",)
    assert spec(RunOptions(), Identity(), {}).ids == ()


def test_a_finish_timeout_of_the_settings_counts_before_upload_timeout() -> None:
    """W&B's own name for it is the more explicit one."""
    options = RunOptions(upload_timeout=5, init_kwargs={"settings": {"finish_timeout": 7.0}})
    assert spec(options, WHO, {}).settings["finish_timeout"] == 7.0


def test_the_docstrings_examples_are_true() -> None:
    """Doctest."""
    failed, attempted = doctest.testmod(steps)
    assert (failed, attempted > 0) == (0, True)


# --- many runs of one process ---------------------------------------------------------------

OPENS_ONE = """
import json, pathlib, sys
from wbtune._run import opening
from wbtune._run import run_spec
if sys.argv[2] == "prepared":
    opening.prepare_for_many()
init = {"project": "p", "mode": "offline", "dir": sys.argv[1]}
run = opening.open_run(run_spec.RunSpec(init, settings=run_spec.SETTINGS), for_trial_elsewhere=True)
names = run_spec.SETTINGS | opening.ELSEWHERE
settings = {name: getattr(run.settings, name) for name in names}
run.finish()
print(json.dumps([settings, (pathlib.Path(run.dir).parent / "logs/debug.log").read_text()]))
"""


def test_what_all_runs_have_in_common_holds_for_each(tmp_path: Path) -> None:
    """Given to wandb once; and the lines of the client's own log, which all runs read, are gone."""
    env = functions.clean_env(tmp_path)
    opened = {
        how: json.loads(functions.program(env, tmp_path, "-c", OPENS_ONE, str(tmp_path), how))
        for how in ("prepared", "alone")
    }
    expected = {**run_spec.SETTINGS, **opening.ELSEWHERE}
    assert opened["prepared"][0] == opened["alone"][0] == expected
    assert opened["prepared"][1] == ""
    assert "starting backend" in opened["alone"][1]
