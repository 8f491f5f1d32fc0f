"""One table of all options: the ways, their types and the pages in docs/ways say the same."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

import options_page
import pytest

from wbtune import WandbLoggerCallback, WandbMixin, setup_wandb, wandb_trial, wandb_tuner
from wbtune._data import keywords
from wbtune._data.option_table import DECIDED, INIT_OPTIONS, OPTIONS, WAYS
from wbtune._data.options import RunOptions
from wbtune._upstream import wandb_settings
from wbtune.errors import ConfigurationError

ALL = {**OPTIONS, **INIT_OPTIONS}
#: In the order of the table's columns.
CALLS: dict[str, Any] = {
    "wandb_tuner": lambda **given: wandb_tuner(lambda config: None, project="p", **given),
    "WandbLoggerCallback": lambda **given: WandbLoggerCallback("p", **given),
    "wandb_trial": wandb_trial,
    "WandbMixin": lambda **given: type("Train", (WandbMixin,), {}, **given),
    "setup_wandb": lambda **given: setup_wandb({}, **given),
}
#: A way's named parameters, and the types of the rest.
SIGNATURES: dict[str, tuple[Any, Any]] = {
    "wandb_tuner": (wandb_tuner, keywords.TunerOptions),
    "WandbLoggerCallback": (WandbLoggerCallback, keywords.DropInOptions),
    "wandb_trial": (wandb_trial, keywords.TrialOptions),
    "WandbMixin": (lambda: None, keywords.DeclaredOptions),
    "setup_wandb": (setup_wandb, keywords.SetupOptions),
}
#: What type checkers know of a way besides what is in the table.
NOT_OPTIONS = {
    *("trainable", "param_space", "tune_config", "run_config", "run_arg", "init_kwargs"),
    *("config", "api_key", "save_checkpoints", "trial_id", "trial_name", "anonymous"),
    *DECIDED,
}
#: A value of the kind that an option takes.
EXAMPLES: dict[str, Any] = {
    **dict.fromkeys(ALL, True),
    **dict.fromkeys(("project", "group", "api_key_file", "name", "notes", "entity"), "text"),
    **dict.fromkeys(("id", "job_type", "anonymous"), "text"),
    **{name: ["text"] for name in ("excludes", "unmask", "tags")},
    **{name: ["text"] for name in ("config_exclude_keys", "config_include_keys")},
    **{name: {} for name in ("video_kwargs", "image_kwargs", "config", "settings")},
    "mode": "disabled",
    "upload_timeout": 5,
}


def test_the_table_is_complete():
    """Everything that a declaration keeps, and every parameter of ``wandb.init``, is in it."""
    assert set(OPTIONS) == {field.name for field in fields(RunOptions)} - {"init_kwargs"}
    assert {*INIT_OPTIONS, *DECIDED, "project", "group"} == wandb_settings.init_parameters()
    assert {way for option in ALL.values() for way in option.ways} == WAYS == set(CALLS)


@pytest.mark.parametrize("way", CALLS)
@pytest.mark.parametrize("name", ALL)
def test_a_way_takes_what_has_an_effect_there(way, name):
    """And refuses everything else, by its name."""
    given = {name: EXAMPLES[name]}
    if name == "checkpoint_references" and way in ALL[name].ways:
        given["upload_checkpoints"] = True
    if way not in ALL[name].ways:
        with pytest.raises(ConfigurationError, match=f"{name}= (has no effect here|names one run)"):
            CALLS[way](**given)
    elif name != "project" or way not in {"wandb_tuner", "WandbLoggerCallback"}:
        if way == "setup_wandb":
            if name in {"config", "api_key_file", "mode"}:
                return  # named otherwise, or read at once
            given["mode"] = "disabled"
        CALLS[way](**given)


@pytest.mark.parametrize("way", SIGNATURES)
def test_type_checkers_know_the_same(way):
    """What a way refuses is no parameter of it, and what it takes is one."""
    function, rest = SIGNATURES[way]
    known = {*inspect.signature(function).parameters, *rest.__annotations__} - NOT_OPTIONS
    taken = {name for name, option in ALL.items() if way in option.ways} - NOT_OPTIONS
    assert known == taken


@pytest.mark.parametrize("way", SIGNATURES)
def test_one_default(way):
    """Where a way has a default of its own, it is the table's; None is "not given"."""
    for name, parameter in inspect.signature(SIGNATURES[way][0]).parameters.items():
        if name in OPTIONS and (way, name) != ("wandb_tuner", "log_results"):
            assert parameter.default in {None, OPTIONS[name].default}


@pytest.mark.parametrize("path", options_page.pages(), ids=lambda path: path.stem)
def test_the_pages_have_the_table(path):
    """What they say is what the code does; ``python tests/options_page.py`` writes it."""
    text = path.read_text(encoding="utf-8")
    assert options_page.between(text) == options_page.pages()[path]


def test_the_pages_are_of_the_ways():
    """Each way has a page, and the tables have the columns in the same order."""
    assert [*options_page.WAYS] == [*CALLS]
    assert {*options_page.WAYS} == WAYS
