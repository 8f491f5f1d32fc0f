"""`RunOptions`: what is merged, what is refused, and with which words."""

# Over 250 lines: every option, what it takes and what it refuses.

from __future__ import annotations

import copy
import pickle
import threading
from dataclasses import fields
from enum import StrEnum
from typing import Any

import numpy as np
import pytest
import strategies
import wandb
from hypothesis import assume, example, given
from hypothesis import strategies as st
from ray import cloudpickle
from strategies import given_options, init_kwargs, run_options

from wbtune import WandbLoggerCallback, _compat
from wbtune.errors import ConfigurationError, UnknownOptionError
from wbtune.options import RunOptions, parse, take_from_config

INIT = _compat.init_parameters()
OURS = frozenset(f.name for f in fields(RunOptions)) - {"init_kwargs"}
KEY = "k" * 40


# --- merging -------------------------------------------------------------------------------


@given(run_options, run_options, run_options)
def test_merging_is_associative_and_nothing_said_changes_nothing(
    a: RunOptions, b: RunOptions, c: RunOptions
) -> None:
    """So it does not matter in which order a class, a decorator and a tuner meet."""
    assert (a | b) | c == a | (b | c)
    assert a | RunOptions() == a == RunOptions() | a
    assert a | a == a


@given(run_options, run_options)
def test_what_was_said_last_holds_and_nothing_said_is_lost(a: RunOptions, b: RunOptions) -> None:
    """Excludes add up, mappings merge by key, anything else is replaced, by False as well."""
    before = copy.deepcopy((a, b))
    both = a | b
    assert set(both.excludes or ()) == {*(a.excludes or ()), *(b.excludes or ())}
    for name in ("video_kwargs", "image_kwargs", "init_kwargs"):
        assert (getattr(both, name) or {}) == {
            **(getattr(a, name) or {}),
            **(getattr(b, name) or {}),
        }
    for name in OURS - {"excludes", "video_kwargs", "image_kwargs"}:
        said = [value for value in (getattr(a, name), getattr(b, name)) if value is not None]
        assert getattr(both, name) == (said[-1] if said else None)
    assert (a, b) == before


@given(run_options)
def test_options_travel(options: RunOptions) -> None:
    """To the trial by pickle and cloudpickle, and through Tune's deep copies."""
    assert pickle.loads(pickle.dumps(options)) == options
    assert cloudpickle.loads(cloudpickle.dumps(options)) == options
    assert copy.deepcopy(options) == options


# --- checking ------------------------------------------------------------------------------


@given(given_options, init_kwargs)
@example({"excludes": ["debug/"]}, {})
def test_what_is_valid_is_kept(ours: dict[str, Any], rest: dict[str, Any]) -> None:
    """Each option is where it belongs, with its value; what was given is left alone."""
    written = {**ours, **rest}
    before = copy.deepcopy(written)
    options = parse("door", written, INIT)
    for name, value in ours.items():
        expected = tuple(p.rstrip("/") for p in value) if name == "excludes" else value
        assert getattr(options, name) == expected
    for name in OURS - set(ours):
        assert getattr(options, name) is None
    assert options.init_kwargs == rest
    assert written == before


@pytest.mark.parametrize("name", sorted(OURS | INIT))
def test_none_is_what_nobody_said(name: str) -> None:
    """``project=None`` is no project; what wbtune decides itself is refused even so."""
    if name in ("dir", "reinit", "resume"):
        with pytest.raises(ConfigurationError):
            parse("door", {name: None}, INIT)
    else:
        assert parse("door", {name: None}, INIT) == RunOptions()


@given(
    st.sampled_from(sorted(name for name in OURS | INIT if len(name) >= 5)),
    st.integers(0, 30),
    st.sampled_from(["leave out", "double"]),
)
def test_a_typo_is_a_type_error_that_names_the_nearest_option(
    name: str, at: int, slip: str
) -> None:
    """A slip of one letter is recognised, and nothing else is suggested."""
    at %= len(name)
    typo = name[:at] + (name[at] * 2 if slip == "double" else "") + name[at + 1 :]
    assume(typo not in OURS | INIT)
    with pytest.raises(UnknownOptionError) as caught:
        parse("door", {typo: 1}, INIT)
    assert str(caught.value) == f"door: unknown option {typo}=. Did you mean {name}=?"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("init_kwargs", "."), ("zzzzzz", ". See the README for the options.")],
)
def test_a_name_that_is_no_option_is_refused(name: str, hint: str) -> None:
    """Also the name of the field that keeps the rest: it is no argument."""
    with pytest.raises(UnknownOptionError) as caught:
        parse("door", {name: {}}, INIT)
    assert str(caught.value).startswith(f"door: unknown option {name}={hint}")
    assert f"{name}=?" not in str(caught.value)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"project": "a/b"}, "W&B does not accept project='a/b'"),
        ({"project": "p" * 129}, "at most 128 characters"),
        ({"project": ""}, "expected project= to be text that is not empty, got ''"),
        ({"project": 5}, "expected project= to be text that is not empty, got 5"),
        ({"id": "a:b"}, "W&B does not accept id='a:b'"),
        ({"id": "it's"}, "W&B does not accept id="),
        ({"id": ""}, "expected id= to be text"),
        ({"group": ""}, "expected group= to be text"),
        ({"api_key_file": b"path"}, "expected api_key_file= to be text"),
        ({"tags": "one"}, "Make it ['one']"),
        ({"tags": 5}, "expected tags= to be a list of text, got 5"),
        ({"tags": [""]}, "a tag has 1 to 64 characters, got ''"),
        ({"tags": ["t" * 65]}, "a tag has 1 to 64 characters"),
        ({"tags": [5]}, "a tag has 1 to 64 characters, got 5"),
        ({"excludes": "loss"}, "Make it ['loss']"),
        ({"excludes": 5}, "expected excludes= to be a list of text, got 5"),
        ({"excludes": ["loss", 5]}, "expected text in excludes=, got 5"),
        ({"excludes": ["/"]}, "expected text in excludes=, got '/'"),
        ({"excludes": [""]}, "expected text in excludes=, got ''"),
        ({"mode": "ofline"}, "one of online, offline, disabled, shared, got 'ofline'"),
        ({"settings": {"mode": "nowhere"}}, "expected mode= to be one of"),
        ({"upload_timeout": -1}, "expected upload_timeout= in seconds, 0 or more, got -1"),
        ({"upload_timeout": float("nan")}, "0 or more, got nan"),
        ({"upload_timeout": "30"}, "0 or more, got '30'"),
        ({"video_kwargs": [1]}, "expected video_kwargs= to be a dict, got [1]"),
        ({"image_kwargs": "x"}, "expected image_kwargs= to be a dict, got 'x'"),
        ({"settings": 5}, "expected settings= to be a wandb.Settings or a dict, got int"),
        ({"settings": {"api_key": KEY}}, "or api_key_file="),
        ({"settings": wandb.Settings(api_key=KEY)}, "or api_key_file="),
        ({"dir": "x"}, "dir= can't be given: wbtune keeps"),
        ({"reinit": True}, "reinit= can't be given: wbtune opens one run per trial"),
        ({"resume": "allow"}, "resume= can't be given: wbtune resumes"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_value_that_cannot_work_is_refused(written: dict[str, Any], words: str) -> None:
    """Before any trial, by a message that says who, what and how; never with the key."""
    with pytest.raises(ConfigurationError) as caught:
        parse("door", written, INIT)
    message = str(caught.value)
    assert message.startswith("door: ")
    assert words in message
    assert KEY not in message


@pytest.mark.parametrize("name", ["id", "project"])
@given(
    st.text("ab \t:;,#?/'\\%.", min_size=1, max_size=5) | st.text("a", min_size=127, max_size=130)
)
@example(" a")
@example("a\n")
def test_a_name_that_the_client_refuses_is_refused_before_any_trial(name: str, text: str) -> None:
    """W&B's own client is asked: what passes here passes there."""
    try:
        parse("door", {name: text}, INIT)
    except ConfigurationError:
        return
    wandb.Settings(**{"run_id" if name == "id" else name: text})


@pytest.mark.parametrize("tags", [["t" * 64], ("a", "b"), {"a"}, []])
def test_tags_may_be_any_collection_of_text(tags: Any) -> None:
    """At most 64 characters each."""
    assert parse("door", {"tags": tags}, INIT).init_kwargs["tags"] == tags


@pytest.mark.parametrize(
    ("written", "mode"),
    [
        ({}, None),
        ({"mode": "offline"}, "offline"),
        ({"settings": {"mode": "offline"}}, "offline"),
        ({"settings": wandb.Settings(mode="offline")}, "offline"),
        ({"mode": "online", "settings": {"mode": "offline"}}, "online"),
        ({"settings": {}}, None),
    ],
    ids=["neither", "argument", "settings as dict", "settings", "both", "empty settings"],
)
def test_the_mode_may_stand_in_two_places(written: dict[str, Any], mode: str | None) -> None:
    """``mode=`` itself counts before the settings'."""
    assert parse("door", written, INIT).mode == mode


def test_a_settings_object_becomes_what_was_set_in_it() -> None:
    """W&B writes a run's id into the object that it is given: two runs can't share one."""
    settings = wandb.Settings(silent=True, init_timeout=7)
    kept = parse("door", {"settings": settings}, INIT).init_kwargs["settings"]
    assert kept == {"silent": True, "init_timeout": 7}
    plain = {"silent": True}
    assert parse("door", {"settings": plain}, INIT).init_kwargs["settings"] is not plain


# --- config["wandb"] -----------------------------------------------------------------------


@given(strategies.configs, given_options, init_kwargs)
def test_the_config_may_carry_options(
    labelled: tuple[dict[str, Any], Any], ours: dict[str, Any], rest: dict[str, Any]
) -> None:
    """``config["wandb"]`` is what it says there, and is not logged; the config is left alone."""
    config, _ = labelled
    written = {**config, "wandb": {**ours, **rest, "api_key": KEY}}
    before = copy.deepcopy(written)
    options, kept, key = take_from_config("door", written, INIT)
    assert options == parse("door", {**ours, **rest}, INIT)
    assert kept == config
    assert key == KEY
    assert KEY not in repr((options, kept))
    assert written == before


@pytest.mark.parametrize("config", [None, {}, {"lr": 1}, {"wandb": True}, {"wandb": None}])
def test_a_config_without_options_is_the_config(config: dict[str, Any] | None) -> None:
    """A hyperparameter that happens to be called ``wandb`` stays one."""
    options, kept, key = take_from_config("door", config, INIT)
    assert (options, kept, key) == (RunOptions(), config or {}, None)
    assert kept is not config


def test_a_bad_option_in_the_config_says_where_it_stands() -> None:
    """The message names the place."""
    with pytest.raises(UnknownOptionError, match=r'door: config\["wandb"\]: unknown option projct'):
        take_from_config("door", {"wandb": {"projct": "p"}}, INIT)


class Text(StrEnum):
    """As a user's main program may have it."""

    GROUP = "baseline"
    OFFLINE = "offline"


def test_text_of_a_kind_of_its_own_becomes_plain_text() -> None:
    """An enum's value, where it stands alone or in a list or dict: any process can read it."""
    options = parse(
        "door",
        {
            "project": Text.GROUP,
            "excludes": [Text.GROUP],
            "group": np.str_("g"),
            "tags": {Text.GROUP},
            "settings": {"mode": Text.OFFLINE},
            "image_kwargs": {"mode": Text.GROUP},
            "mode": Text.OFFLINE,
        },
        INIT,
    )
    assert type(options.project) is type(options.group) is type(options.mode) is str
    assert (options.project, options.excludes) == ("baseline", ("baseline",))
    assert b"Text" not in pickle.dumps(options)
    assert b"numpy" not in pickle.dumps(options)


class InMain:
    """Pretends to be of the main program."""


InMain.__module__ = "__main__"


@pytest.mark.parametrize("bad", [lambda: None, threading.Lock(), InMain(), InMain, [InMain()]])
@pytest.mark.parametrize(
    ("given", "names"),
    [
        (lambda bad: {"settings": {"stop_fn": bad}}, "settings['stop_fn']"),
        (lambda bad: {"image_kwargs": {"caption": bad}}, "image_kwargs['caption']"),
        (lambda bad: {"sync_tensorboard": bad}, "sync_tensorboard="),
    ],
)
def test_what_cannot_be_sent_is_refused_on_the_driver(given: Any, names: str, bad: Any) -> None:
    """By the option's name, before any trial, and not by a helper process in the middle."""
    with pytest.raises(ConfigurationError) as caught:
        WandbLoggerCallback(project="p", **given(bad))
    message = str(caught.value)
    assert message.startswith(f"WandbLoggerCallback: {names} can't be sent")
    assert "Give plain data" in message
    WandbLoggerCallback(project="p", **given("text"))
