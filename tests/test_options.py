"""`RunOptions`: what is merged, what is refused, and with which words."""

# Over 250 lines: every option, what it takes and what it refuses.

from __future__ import annotations

import contextlib
import copy
import pickle
import re
import threading
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import hypothesis
import numpy as np
import pytest
import strategies
import wandb
from hypothesis import assume, example, given
from hypothesis import strategies as st
from ray import cloudpickle
from strategies import examples, given_options, init_kwargs, run_options

from wbtune import WandbLoggerCallback, WandbMixin, setup_wandb, wandb_trial, wandb_tuner
from wbtune._data import ignored_options
from wbtune._data.keywords import SetupOptions, TunerOptions
from wbtune._data.option_table import DECIDED
from wbtune._data.options import RunOptions, parse, take_from_config
from wbtune._upstream import wandb_settings
from wbtune.errors import ConfigurationError, UnknownOptionError

INIT = wandb_settings.init_parameters()
OURS = frozenset(f.name for f in fields(RunOptions)) - {"init_kwargs"}
KEY = "k" * 40

TEXTS = {"name", "notes", "entity", "group", "job_type", "id", "project", "api_key_file"}
FLAGS = {
    *(
        "log_config",
        "log_results",
        "checkpoint_references",
        "rank_zero_only",
        "system_metrics",
        "monitor_gym",
    ),
    *("allow_val_change", "force", "save_code", "tensorboard", "sync_tensorboard"),
}
REFUSED = {"dir", "reinit", "resume", "resume_from", "fork_from"}
LISTS = {"excludes", "unmask", "tags", "config_exclude_keys", "config_include_keys"}


OPENS = {"wandb_trial", "WandbMixin", "setup_wandb"}
DRIVER = {"wandb_tuner", "WandbLoggerCallback"}

WANDB_CALLS_IT = {
    "id": "run_id",
    "name": "run_name",
    "notes": "run_notes",
    "tags": "run_tags",
    "job_type": "run_job_type",
}

anything = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=3)
    | st.lists(st.text(max_size=3) | st.integers(), max_size=2)
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
    | st.sampled_from([object(), Path("p"), SimpleNamespace(), np.int64(1), np.bool_(1), {"a"}])
)


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
    options = parse("way", written, INIT)
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
    if name in REFUSED:
        with pytest.raises(ConfigurationError):
            parse("way", {name: None}, INIT)
    else:
        assert parse("way", {name: None}, INIT) == RunOptions()


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
        parse("way", {typo: 1}, INIT)
    assert str(caught.value) == f"way: unknown option {typo}=. Did you mean {name}=?"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("init_kwargs", "."), ("zzzzzz", ". See 'Options' in the documentation.")],
)
def test_a_name_that_is_no_option_is_refused(name: str, hint: str) -> None:
    """Also the name of the field that keeps the rest: it is no argument."""
    with pytest.raises(UnknownOptionError) as caught:
        parse("way", {name: {}}, INIT)
    assert str(caught.value).startswith(f"way: unknown option {name}={hint}")
    assert f"{name}=?" not in str(caught.value)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"project": "a/b"}, "Write entity='a', project='b'."),
        ({"project": "/a/b/"}, "Write entity='a', project='b'."),
        ({"project": "a/b/c"}, "W&B does not accept project='a/b/c'"),
        *(
            ({name: 5}, f"expected {name}= to be text, got 5. Write {name}='5'.")
            for name in ("name", "notes", "entity", "group", "job_type", "id", "api_key_file")
        ),
        *(({name: ["a"]}, f"expected {name}= to be text, got ['a'].") for name in sorted(TEXTS)),
        *(
            ({name: " "}, f"expected {name}= to be a name, got ' '. Leave it out")
            for name in sorted(TEXTS - {"notes"})
        ),
        *(
            ({name: "yes"}, f"expected {name}= to be True or False, got 'yes'.")
            for name in sorted(FLAGS)
        ),
        *(({name: 2}, f"expected {name}= to be True or False, got 2.") for name in sorted(FLAGS)),
        *(({name: "loss"}, f"expected {name}= to be a list of text") for name in sorted(LISTS)),
        *(({name: {"a": 1}}, f"expected {name}= to be a list of text") for name in sorted(LISTS)),
        ({"config_exclude_keys": [5]}, "expected text in config_exclude_keys=, got 5"),
        ({"config": SimpleNamespace(lr=1)}, "expected config= to be a dict"),
        ({"config": "config.yaml"}, "expected config= to be a dict"),
        ({"upload_checkpoints": "bset"}, "all, best, last, got 'bset'. Did you mean 'best'?"),
        ({"settings": {"slient": True}}, "W&B has no setting 'slient'. Did you mean 'silent'?"),
        ({"settings": {"init_timeout": "long"}}, "does not accept these settings: 'init_timeout'"),
        ({"settings": {"base_url": f"ftp://u:{KEY}@x"}}, "accept these settings: 'base_url'"),
        ({"project": "p" * 129}, "at most 128 characters"),
        ({"project": ""}, "expected project= to be a name, got ''. Leave it out"),
        ({"project": 5}, "expected project= to be text, got 5. Write project='5'."),
        ({"name": True}, "expected name= to be text, got True."),
        ({"id": "a:b"}, "W&B does not accept id='a:b'"),
        ({"id": "it's"}, "W&B does not accept id="),
        ({"id": ""}, "expected id= to be a name"),
        ({"group": ""}, "expected group= to be a name"),
        ({"api_key_file": b"path"}, "expected api_key_file= to be text"),
        ({"api_key_file": KEY}, "what it was given looks like an API key. Give it as api_key=."),
        ({"tags": "one"}, "Make it ['one']"),
        ({"tags": ""}, "expected tags= to be a list of text, got ''."),
        ({"tags": 5}, "expected tags= to be a list of text, got 5"),
        ({"tags": [""]}, "a tag has 1 to 64 characters, got ''. Correct it, or leave it out."),
        ({"tags": ["t" * 65]}, "a tag has 1 to 64 characters"),
        ({"tags": [5]}, "a tag has 1 to 64 characters, got 5"),
        ({"excludes": "loss"}, "Make it ['loss']"),
        ({"excludes": 5}, "expected excludes= to be a list of text, got 5"),
        ({"excludes": ["loss", 5]}, "expected text in excludes=, got 5"),
        ({"excludes": ["/"]}, "expected text in excludes=, got '/'"),
        ({"excludes": [""]}, "expected text in excludes=, got ''"),
        (
            {"mode": "ofline"},
            "shared, got 'ofline'. Did you mean 'offline'?",
        ),
        ({"settings": {"mode": "nowhere"}}, "expected mode= to be one of"),
        ({"upload_timeout": -1}, "expected upload_timeout= to be seconds, 0 or more, got -1"),
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
        ({"fork_from": "a?_step=1"}, "fork_from= can't be given: W&B resumes no run"),
        ({"resume_from": "a?_step=1"}, "resume_from= can't be given: it names one run"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_value_that_cannot_work_is_refused(written: dict[str, Any], words: str) -> None:
    """Before any trial, by a message that says who, what and how; never with the key."""
    with pytest.raises(ConfigurationError) as caught:
        parse("way", written, INIT)
    message = str(caught.value)
    assert message.startswith("way: ")
    assert words in message
    assert "Make it [''" not in message
    assert "'True'" not in message
    assert KEY not in message


@given(st.dictionaries(st.sampled_from(sorted(OURS | INIT)), anything, max_size=3))
@hypothesis.settings(max_examples=examples(300))
def test_whatever_is_given_is_taken_or_refused_by_name(written: dict[str, Any]) -> None:
    """No other error, and what is taken is of a kind that W&B takes."""
    try:
        options = parse("way", written, INIT)
    except ConfigurationError:
        return
    pickle.dumps(options)
    given = {WANDB_CALLS_IT.get(name, name): value for name, value in options.init_kwargs.items()}
    given |= {"project": options.project, "run_group": options.group}
    known = wandb.Settings.model_fields.keys() - {"anonymous"}
    wandb.Settings(**{name: value for name, value in given.items() if name in known})


def test_ten_thousand_inputs_are_taken_or_refused() -> None:
    """By wbtune's own errors, and never by another, whatever is given to whichever option."""
    random = Random(19)
    names = sorted((OURS | INIT) - {"settings"})
    values = [None, True, 0, -1, 2.5, float("inf"), "", "a", "a/b", b"a", [], ["a"], [5], {"a"}]
    values += [{}, {"a": 1}, {1: 2}, object(), Path("a"), np.int64(3), np.bool_(0), np.ones(2), int]
    taken = 0
    for _ in range(10_000):
        with contextlib.suppress(ConfigurationError):
            written = {random.choice(names): random.choice(values)}
            taken += isinstance(parse("way", written, INIT), RunOptions)
    assert 1000 < taken < 9000


def test_the_typed_keywords_are_those_of_wandb() -> None:
    """Each parameter of ``wandb.init`` is in the types that check a call, and no other."""
    not_typed = {"anonymous", "project", "group", *REFUSED}
    assert set(TunerOptions.__annotations__) == INIT - not_typed
    known = {*INIT, *OURS, "trial_id", "trial_name"}
    assert set(SetupOptions.__annotations__) < known


# --- one way and another ----------------------------------------------------------------

WAYS = {
    "wandb_trial": wandb_trial,
    "WandbMixin": lambda **given: type("Train", (WandbMixin,), {}, **given),
    "setup_wandb": lambda **given: setup_wandb({}, **given),
    "WandbLoggerCallback": lambda **given: WandbLoggerCallback("p", **given),
    "wandb_tuner": lambda **given: wandb_tuner(lambda config: None, project="p", **given),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("name", "value", "at", "cure"),
    [
        ("upload_checkpoints", "last", OPENS, "give it to wandb_tuner or WandbLoggerCallback"),
        ("checkpoint_references", True, OPENS, "give it to wandb_tuner or WandbLoggerCallback"),
        ("system_metrics", True, OPENS, "it is for wandb_tuner and WandbLoggerCallback"),
        ("rank_zero_only", False, DRIVER, "give it to @wandb_trial or setup_wandb"),
        ("log_results", True, {"WandbLoggerCallback"}, "@wandb_trial(log_results=...)"),
        ("checkpoint_references", True, DRIVER, "without upload_checkpoints="),
    ],
)
def test_an_option_without_effect_is_refused(
    way: str, name: str, value: Any, at: set[str], cure: str
) -> None:
    """By its name, with the way where it has one; the ways where it has take it."""
    if way not in at:
        return
    with pytest.raises(ConfigurationError, match=re.escape(cure)) as caught:
        WAYS[way](**{name: value})
    assert f"{name}= has no effect" in str(caught.value)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("metric", "metric= is Tune's: tune_config=TuneConfig(metric=...)."),
        ("num_samples", "num_samples= is Tune's: tune_config=TuneConfig(num_samples=...)."),
        ("scheduler", "tune_config=TuneConfig(scheduler=...)."),
        ("stop", "run_config=RunConfig(stop=...)."),
        ("storage_path", "run_config=RunConfig(storage_path=...)."),
        ("num_to_keep", "CheckpointConfig(num_to_keep=...)"),
        ("max_failures", "FailureConfig(max_failures=...)"),
        ("resources_per_trial", "Write tune.with_resources(train, ...)."),
        ("base_url", "Set WANDB_BASE_URL, or write settings={'base_url': ...}."),
        ("init_timeout", "is a setting of W&B: settings={'init_timeout': ...}."),
        ("run_notes", "Did you mean notes=?"),
        ("projct", "Did you mean project=?"),
    ],
)
def test_an_option_of_somebody_else_says_whose_it_is(way: str, name: str, hint: str) -> None:
    """At every way alike: Tune's, W&B's settings, or a slip."""
    with pytest.raises(UnknownOptionError, match=re.escape(hint)):
        WAYS[way](**{name: 1})


@pytest.mark.parametrize("name", ["id", "project"])
@given(
    st.text("ab \t:;,#?/'\\%.", min_size=1, max_size=5) | st.text("a", min_size=127, max_size=130)
)
@example(" a")
@example("a\n")
def test_a_name_that_the_client_refuses_is_refused_before_any_trial(name: str, text: str) -> None:
    """W&B's own client is asked: what passes here passes there."""
    try:
        parse("way", {name: text}, INIT)
    except ConfigurationError:
        return
    wandb.Settings(**{"run_id" if name == "id" else name: text})


@pytest.mark.parametrize("tags", [["t" * 64], ("a", "b"), {"a"}, []])
def test_tags_may_be_any_collection_of_text(tags: Any) -> None:
    """At most 64 characters each."""
    assert parse("way", {"tags": tags}, INIT).init_kwargs["tags"] == tags


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
    assert parse("way", written, INIT).mode == mode


def test_a_settings_object_becomes_what_was_set_in_it() -> None:
    """W&B writes a run's id into the object that it is given: two runs can't share one."""
    settings = wandb.Settings(silent=True, init_timeout=7)
    kept = parse("way", {"settings": settings}, INIT).init_kwargs["settings"]
    assert kept == {"silent": True, "init_timeout": 7}
    plain = {"silent": True}
    assert parse("way", {"settings": plain}, INIT).init_kwargs["settings"] is not plain


def test_what_rays_own_takes_and_wbtune_decides_is_set_aside(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With a warning, unless it asks for what happens anyway; old modes have new names."""
    given = {"reinit": True, "resume": None, "dir": "x", "mode": "dryrun", "name": "n"}
    rest, taken = ignored_options.set_aside(given)
    assert (rest, taken) == ({"mode": "offline", "name": "n"}, {"reinit": True, "dir": "x"})
    assert ignored_options.set_aside({"mode": "run"}) == ({"mode": "online"}, {})
    ignored_options.warn_without_effect("way", taken)
    assert caplog.messages == [f"way: dir='x' has no effect: {DECIDED['dir']}."]


# --- config["wandb"] -----------------------------------------------------------------------


@given(strategies.configs, given_options, init_kwargs)
def test_the_config_may_carry_options(
    labelled: tuple[dict[str, Any], Any], ours: dict[str, Any], rest: dict[str, Any]
) -> None:
    """``config["wandb"]`` is what it says there, and is not logged; the config is left alone."""
    config, _ = labelled
    ours = {name: value for name, value in ours.items() if name != "rank_zero_only"}
    written = {**config, "wandb": {**ours, **rest, "api_key": KEY}}
    before = copy.deepcopy(written)
    options, kept, key = take_from_config("way", written, INIT)
    assert options == parse("way", {**ours, **rest}, INIT)
    assert kept == config
    assert key == KEY
    assert KEY not in repr((options, kept))
    assert written == before


@pytest.mark.parametrize(
    "config", [None, {}, {"lr": 1}, {"wandb": True}, {"wandb": None}, {"wandb": 2}]
)
def test_a_config_without_options_is_the_config(config: dict[str, Any] | None) -> None:
    """A hyperparameter that happens to be called ``wandb`` stays one."""
    options, kept, key = take_from_config("way", config, INIT)
    assert (options, kept, key) == (RunOptions(), config or {}, None)
    assert kept is not config


def test_a_bad_option_in_the_config_says_where_it_stands() -> None:
    """The message names the place."""
    with pytest.raises(UnknownOptionError, match=r'way: config\["wandb"\]: unknown option projct'):
        take_from_config("way", {"wandb": {"projct": "p"}}, INIT)


@pytest.mark.parametrize(
    ("who", "name"),
    [
        ("wandb_trial", "rank_zero_only"),
        ("wandb_tuner", "rank_zero_only"),
        ("WandbLoggerCallback", "upload_checkpoints"),
        ("WandbLoggerCallback", "system_metrics"),
    ],
)
def test_an_option_that_the_config_cannot_hold_is_refused(who: str, name: str) -> None:
    """It is read before there is a config, or by the callback itself."""
    with pytest.raises(ConfigurationError, match=rf'config\["wandb"\]: {name}= has no effect'):
        take_from_config(who, {"wandb": {name: True}}, INIT)


@pytest.mark.parametrize("value", ["p", ["p"], ("a", "b")])
def test_options_in_the_config_are_a_dict(value: Any) -> None:
    """A text or a list was meant as options, and would be logged as a hyperparameter."""
    with pytest.raises(ConfigurationError, match="expected a dict, got"):
        take_from_config("way", {"wandb": value}, INIT)


class Text(StrEnum):
    """As a user's main program may have it."""

    GROUP = "baseline"
    OFFLINE = "offline"


def test_text_of_a_kind_of_its_own_becomes_plain_text() -> None:
    """An enum's value, where it stands alone or in a list or dict: any process can read it."""
    options = parse(
        "way",
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
        (lambda bad: {"video_kwargs": {"caption": bad}}, "video_kwargs['caption']"),
        (lambda bad: {"image_kwargs": {"caption": bad}}, "image_kwargs['caption']"),
    ],
)
def test_what_cannot_be_sent_is_refused_on_the_driver(
    given: Any, names: str, bad: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the option's name, before any trial, and not by a helper process in the middle."""
    monkeypatch.setattr("__main__.InMain", InMain, raising=False)  # or pickle itself refuses it
    with pytest.raises(ConfigurationError) as caught:
        WandbLoggerCallback(project="p", **given(bad))
    message = str(caught.value)
    assert message.startswith(f"WandbLoggerCallback: {names} can't be sent")
    assert "Give plain data" in message
    for good in ("text", Text.GROUP, Text):
        WandbLoggerCallback(project="p", **given(good))


def test_a_function_in_the_settings_cannot_be_sent() -> None:
    """Not one of the main program, or one without a name."""
    with pytest.raises(ConfigurationError, match=r"settings\['stop_fn'\] can't be sent"):
        WandbLoggerCallback(project="p", settings={"stop_fn": lambda: None})
