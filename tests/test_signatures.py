"""One vocabulary: the same words, defaults and order at every way; and they are explained."""

from __future__ import annotations

import importlib.metadata
import inspect
import re
from dataclasses import replace
from typing import Any

import pytest

import wbtune
from wbtune import WandbLoggerCallback, WandbMixin, setup_wandb, wandb_trial, wandb_tuner
from wbtune._data import timeouts
from wbtune._data.options import RunOptions

WAYS = {
    "wandb_trial": wandb_trial,
    "wandb_tuner": wandb_tuner,
    "WandbLoggerCallback": WandbLoggerCallback,
    "RunOptions": RunOptions,
}
PUBLIC = {**WAYS, "setup_wandb": setup_wandb, "WandbMixin": WandbMixin}
del PUBLIC["RunOptions"]

NO = inspect.Parameter.empty

#: What Ray's guide documents: names, order, defaults.
GUIDE = {
    WandbLoggerCallback: {
        "project": None,
        "group": None,
        "api_key_file": None,
        "api_key": None,
        "excludes": None,
        "log_config": False,
        "upload_checkpoints": False,
        "save_checkpoints": False,
        "upload_timeout": 1800,
        "video_kwargs": None,
        "image_kwargs": None,
    },
    setup_wandb: {
        "config": None,
        "api_key": None,
        "api_key_file": None,
        "rank_zero_only": True,
    },
}

#: Where a way's default is its own: "nobody said" is None, where declarations are merged.
DEFAULTS = {"log_config": {None, False}, "upload_checkpoints": {None, False}} | {
    "upload_timeout": {None, timeouts.UPLOAD_TIMEOUT_S},
    "log_results": {None, True},
    "checkpoint_references": {None, False},
    "system_metrics": {None, False},
    "sweep": {None, False},
}


def parameters(way: Any) -> dict[str, inspect.Parameter]:
    """A way's parameters by name."""
    return dict(inspect.signature(way).parameters)


@pytest.mark.parametrize("way", GUIDE, ids=lambda way: way.__name__)
def test_the_guides_signature(way):
    """A program written after the guide, by position or by name, means the same here."""
    *named, rest = parameters(way).values()
    guides = [(p.name, p.default) for p in named[: len(GUIDE[way])]]
    assert guides == list(GUIDE[way].items())
    assert {p.default for p in named[len(GUIDE[way]) :]} <= {None, False}
    assert {p.kind for p in named} == {inspect.Parameter.POSITIONAL_OR_KEYWORD}
    assert rest.kind is inspect.Parameter.VAR_KEYWORD


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("other", WAYS)
def test_one_order(way, other):
    """What two ways share stands in the same order in both."""
    ours, theirs = list(parameters(WAYS[way])), list(parameters(WAYS[other]))
    assert [n for n in ours if n in theirs] == [n for n in theirs if n in ours]


@pytest.mark.parametrize("name", parameters(RunOptions))
def test_one_default(name):
    """An option means the same when it is not given, whichever way it is not given to."""
    defaults = {
        parameters(way)[name].default
        for way in WAYS.values()
        if name in parameters(way) and name != "init_kwargs"
    }
    assert defaults <= DEFAULTS.get(name, {None})


def test_one_vocabulary():
    """No way has an option of its own, but for what only it can need."""
    own = {
        "wandb_trial": {"trainable", "run_arg"},
        "wandb_tuner": {"trainable", "param_space", "tune_config", "run_config", "api_key"},
        "WandbLoggerCallback": {"api_key", "save_checkpoints"},
        "RunOptions": set(),
    }
    words = set(parameters(RunOptions))
    for name, way in WAYS.items():
        assert set(parameters(way)) - words == own[name]
    for name in ("wandb_trial", "wandb_tuner"):
        kinds = {p.kind for n, p in parameters(WAYS[name]).items() if n in words}
        assert kinds == {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD}


def test_no_other_word_for_the_same():
    """What a way takes but does not name (`wandb_trial` in ``**init_kwargs``) is the same."""
    declared = wandb_trial(log_config=False, group="g", tags=["a"])
    in_class: Any = type("Train", (WandbMixin,), {}, log_config=False, group="g", tags=["a"])
    callback = WandbLoggerCallback(group="g", tags=["a"])
    given = RunOptions(log_config=False, group="g", init_kwargs={"tags": ["a"]})
    assert declared(lambda config: None).declared == given
    assert in_class.wbtune_options == given
    driver = RunOptions(upload_checkpoints=False, upload_timeout=timeouts.UPLOAD_TIMEOUT_S)
    # Its default is not given, so that config["wandb"] can say otherwise.
    assert callback.options == driver | replace(given, log_config=None)


# --- The docstrings ---------------------------------------------------------------------

SECTIONS = ("Args", "Returns", "Raises", "Example")


def section(text: str, name: str) -> str:
    """The body of one section of a docstring, or nothing."""
    found = re.search(rf"^{name}:\n((?:    .*\n|\n)+)", text + "\n", re.MULTILINE)
    return found[1] if found else ""


def described(text: str, name: str) -> list[str]:
    """The names that a section explains."""
    return re.findall(
        r"^    (\*{0,2}\w+):? ?\S",
        re.sub(r"^     .*$", "", section(text, name), flags=re.MULTILINE),
        re.MULTILINE,
    )


def test_all():
    """`__all__` is sorted, and every name of it is there."""
    assert wbtune.__all__ == sorted(set(wbtune.__all__))
    assert set(PUBLIC) < set(wbtune.__all__)
    assert all(hasattr(wbtune, name) for name in wbtune.__all__)


@pytest.mark.parametrize("name", wbtune.__all__)
def test_first_line(name):
    """A public name's docstring begins with one sentence, which is not its name again."""
    first, _, rest = (inspect.getdoc(getattr(wbtune, name)) or "").partition("\n")
    assert first.endswith(".") and len(first.split()) > 3
    assert not rest or rest.startswith("\n")


@pytest.mark.parametrize("name", PUBLIC)
def test_sections(name):
    """A public name says its arguments, errors, place, example and source."""
    text = inspect.getdoc(PUBLIC[name]) or ""
    assert re.search(r"^Runs on: .*\b(driver|trial)\b", text, re.MULTILINE)
    assert re.search(r"^Source: https://docs\.ray\.io/.*tune-wandb\.html", text, re.MULTILINE)
    assert ">>> " in section(text, "Examples")
    if inspect.isfunction(PUBLIC[name]):
        assert section(text, "Returns")


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - {"WandbMixin"}))
def test_arguments(name):
    """`Args` explains every parameter, in order, and none that does not exist."""
    prefix = {inspect.Parameter.VAR_KEYWORD: "**", inspect.Parameter.VAR_POSITIONAL: "*"}
    names = [prefix.get(p.kind, "") + n for n, p in parameters(PUBLIC[name]).items()]
    assert described(inspect.getdoc(PUBLIC[name]) or "", "Args") == names


@pytest.mark.parametrize("name", PUBLIC)
def test_errors(name):
    """`Raises` names wbtune's public errors, each with its condition."""
    raised = described(inspect.getdoc(PUBLIC[name]) or "", "Raises")
    assert raised
    for error in raised:
        assert issubclass(getattr(wbtune, error), wbtune.WbtuneError)
    assert "UnknownOptionError" in raised


def test_what_a_newcomer_sees():
    """`dir` has the public names, `help` opens with which of them to take; the version is said."""
    public = {name for name in dir(wbtune) if not name.startswith("_")}
    assert public == set(wbtune.__all__)
    assert all(f"`{name}`" in wbtune.__doc__ for name in (*PUBLIC, "restore_wandb_tuner"))
    assert wbtune.__version__ == importlib.metadata.version("wbtune")
