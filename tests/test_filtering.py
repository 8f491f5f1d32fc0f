"""`excludes` and the routing of a result: nothing gets out that should not, all else does."""

# Over 250 lines: a second, plain implementation of the rules, to compare with.

from __future__ import annotations

import copy
import doctest
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import strategies
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import Database, Leaf

from wbtune._data import filtering, routing
from wbtune._data.filtering import Excludes, excludes_of
from wbtune._data.masking import MASK
from wbtune._data.routing import AUTO_CONFIG_KEYS, BOOKKEEPING, RESERVED, Router

# --- an oracle: slow, and written from the docstring ---------------------------------------


def glob(pattern: str, text: str) -> bool:
    """Does the whole text match? ``*``, ``?``, ``[ab]``, ``[!ab]``, all of them over ``/``."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(glob(pattern[1:], text[start:]) for start in range(len(text) + 1))
    if not text:
        return False
    if pattern[0] == "[":
        inside, _, rest = pattern[1:].partition("]")
        hit = text[0] not in inside[1:] if inside[0] == "!" else text[0] in inside
        return hit and glob(rest, text[1:])
    return pattern[0] in ("?", text[0]) and glob(pattern[1:], text[1:])


def names_it(pattern: str, names: tuple[str, ...]) -> bool:
    """Does the pattern match the path, or a prefix of it?"""
    names = tuple("/".join(names).split("/"))
    return any(glob(pattern, "/".join(names[:end])) for end in range(1, len(names) + 1))


def excluded(patterns: tuple[str, ...], names: tuple[str, ...]) -> bool:
    """Should this key of a result get nowhere?"""
    if names[0] == "config":
        return any(names_it(pattern, names) for pattern in patterns) or excluded_in_config(
            patterns, names[1:]
        )
    return any(names_it(pattern, names) for pattern in patterns)


def excluded_in_config(patterns: tuple[str, ...], names: tuple[str, ...]) -> bool:
    """Should this key of a config get nowhere? There, a plain name counts anywhere."""
    return any(
        names_it(pattern, names) or names_it(pattern, ("config", *names)) or pattern in names
        for pattern in patterns
    )


def leaves(value: Any) -> Iterator[Any]:
    """Everything that is not a container."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value


def keys(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every key, at any depth."""
    if isinstance(value, list):
        for inner in value:
            yield from keys(inner, path)
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, *key.split("/"))
            yield from keys(inner, (*path, *key.split("/")))


#: For the properties that are about what is left out, not about what is masked.
NOTHING_IS_SECRET = ("*",)


# --- properties ----------------------------------------------------------------------------


@given(strategies.results, strategies.excludes, st.booleans())
@example(strategies.label({"x": {"token": None, "_type": None}}), ("x/token",), False)
@example(strategies.label({"config": Database([{"password": None}], 0, 0)}), ("password",), True)
@example(strategies.label({"config": {"x": [{"password": None}]}}), ("password",), True)
@example(strategies.label({"pid": [{"token": None}], "train/loss": None}), ("*/token",), False)
def test_each_leaf_of_a_result_gets_exactly_where_it_belongs(
    labelled: tuple[dict[str, Any], list[Leaf]], patterns: tuple[str, ...], log_config: bool
) -> None:
    """What is excluded is nowhere, at any depth; what is not is in the row or the config."""
    result, found = labelled
    before = copy.deepcopy(result)
    router = Router(excludes_of(patterns, NOTHING_IS_SECRET), log_config=log_config)
    row, config = router.route(result)

    to_row: set[str] = set()
    to_config: set[str] = set()
    reserved: set[str] = set()
    for leaf in found:
        top = leaf.names[0]
        if excluded(patterns, leaf.names) or top in BOOKKEEPING:
            continue
        if top == "config":
            to_row |= {leaf.value} if log_config else set()
            to_config |= {leaf.value} if log_config else set()
        elif top in RESERVED:
            reserved.add(leaf.key)
        elif top in AUTO_CONFIG_KEYS:
            to_config.add(leaf.value)
        else:
            to_row.add(leaf.value)
    assert set(leaves(row)) == to_row
    assert set(leaves(config)) == to_config
    assert reserved <= router.reserved
    assert not [key for key in keys(row) if excluded(patterns, key)]
    assert not [
        key
        for key in keys(config)
        if key[0] not in AUTO_CONFIG_KEYS and excluded_in_config(patterns, key)
    ]
    assert result == before


@given(strategies.results, strategies.excludes)
def test_a_rows_key_is_the_path_of_its_values(
    labelled: tuple[dict[str, Any], list[Leaf]], patterns: tuple[str, ...]
) -> None:
    """Nested mappings are flattened with ``/``, lists are not."""
    result, found = labelled
    row, _ = Router(excludes_of(patterns, NOTHING_IS_SECRET), log_config=True).route(result)
    key_of = {leaf.value: leaf.key for leaf in found}
    for key, value in row.items():
        assert {key_of[told] for told in leaves(value)} <= {key}
        assert not isinstance(value, dict) or not value


@given(strategies.configs, strategies.excludes)
def test_a_config_without_what_is_excluded(
    labelled: tuple[dict[str, Any], list[Leaf]], patterns: tuple[str, ...]
) -> None:
    """The same for a run's first config, which keeps its nesting; the argument is left alone."""
    config, found = labelled
    before = copy.deepcopy(config)
    kept = excludes_of(patterns, NOTHING_IS_SECRET).config(config)
    expected = {leaf.value for leaf in found if not excluded_in_config(patterns, leaf.names)}
    assert set(leaves(kept)) == expected
    assert not [key for key in keys(kept) if excluded_in_config(patterns, key)]
    assert config == before
    if not patterns:
        assert list(kept) == list(config)


def secret(names: tuple[str, ...]) -> bool:
    """Is there a name on the way that a secret would have?"""
    compact = ["".join(c for c in name.lower() if c not in "-_") for name in names]
    return any(word in name for name in compact for word in ("apikey", "token", "password"))


@given(strategies.configs, st.sampled_from([(), ("token",), ("*/x",)]))
@example(strategies.label({"db": {"API-Key": [None, {"x": None}]}, "token": None}), ("*/x",))
def test_the_text_of_a_secret_is_masked(
    labelled: tuple[dict[str, Any], list[Leaf]], unmask: tuple[str, ...]
) -> None:
    """In a run's first config and in what comes along in results, unless it was unmasked."""
    config, found = labelled
    shown = {
        leaf.value
        for leaf in found
        if not secret(tuple("/".join(leaf.names).split("/")))
        or excluded_in_config(unmask, tuple("/".join(leaf.names).split("/")))
    }
    masked = {MASK} if len(shown) < len(found) else set()
    excludes = excludes_of((), unmask)
    assert set(leaves(excludes.config(config))) == shown | masked
    row, changed = Router(excludes, log_config=True).route({"config": config})
    assert set(leaves(row)) == set(leaves(changed)) == shown | masked


def test_numbers_and_names_that_only_look_like_secrets() -> None:
    """A number is no secret, a metric neither; Tune's tag goes when it names one."""
    config = {"max_tokens": 5, "tokenizer": "bpe", "author": "me", "pad_token": "<pad>"}
    config |= {"password": None, "token_type": "bpe"}
    assert Excludes().config(config) == config | {"token_type": "****"}
    assert Excludes(unmask=("token_type",)).config(config) == config
    command = {"command": "train.py --api-key=abc"}
    assert Excludes(unmask=("command",)).config(command) == command
    row, sent = Router().route({"token": "a metric", "experiment_tag": "1_api_key=x"})
    assert (row, sent) == ({"token": "a metric"}, {})
    assert Router().route({"experiment_tag": "1_lr=2"}) == ({}, {"experiment_tag": "1_lr=2"})


@given(st.lists(strategies.results, min_size=1, max_size=4), st.booleans())
def test_a_config_is_sent_again_only_when_it_changed(
    many: list[tuple[dict[str, Any], list[Leaf]]], log_config: bool
) -> None:
    """A second, equal result sends no config; another one sends what is different in it."""
    router = Router(log_config=log_config)
    known: dict[str, Any] = {}
    for result, _ in many:
        _, whole = Router(log_config=log_config).route(result)
        _, sent = router.route(result)
        assert sent == {
            key: value for key, value in whole.items() if key not in known or known[key] != value
        }
        known.update(whole)
        assert router.route(copy.deepcopy(result))[1] == {}


@given(st.dictionaries(strategies.text | strategies.hashable, strategies.nasty, max_size=3))
@example({10**5000: 1})
@example({"seed": -(10**5000)})
@example({"date": np.zeros((2, 2, 3))})
def test_a_result_of_any_values_is_routed(result: dict[Any, Any]) -> None:
    """Tune's loop is never stopped by a value; what comes out is what W&B takes."""
    router = Router(Excludes(("secret",)), log_config=True)
    for _ in range(2):
        row, config = router.route(result)
        assert {type(key) for key in (*row, *config)} <= {str}
        json.dumps([row, config], allow_nan=False, default=lambda array: array.shape)


# --- examples ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "dropped", "kept"),
    [
        ("loss", ["loss", "loss/a/b"], ["train/loss", "losses", "los"]),
        ("debug", ["debug", "debug/x"], ["debugger", "a/debug", "debugger/x"]),
        ("debug/x", ["debug/x", "debug/x/y"], ["debug", "debug/xy", "a/debug/x"]),
        ("debug/*", ["debug/x", "debug/x/y"], ["debug", "debugger/x"]),
        ("*/token", ["a/token", "a/b/token", "a/token/b"], ["token", "a/tokens"]),
        ("*", ["a", "a/b"], []),
        ("v?l", ["val", "v/l", "val/x"], ["vl", "vaal"]),
        ("[ab]*", ["a", "b/c", "abc"], ["c", "ca"]),
        ("[!a]b", ["cb", "cb/x"], ["ab", "b"]),
        ("x[0]", ["x[0]", "x0", "x[0]/y"], ["x[1]", "x"]),
        ("Loss", ["Loss"], ["loss"]),
        ("L*s", ["Loss"], ["loss"]),
    ],
)
def test_a_pattern_drops(pattern: str, dropped: list[str], kept: list[str]) -> None:
    """A name, a prefix of a path, a glob over ``/``; case counts."""
    excludes = Excludes((pattern,))
    assert [path for path in dropped + kept if excludes.drops(path)] == dropped
    router = Router(excludes)
    assert list(router.route(dict.fromkeys(dropped + kept, 1))[0]) == kept


def test_a_plain_name_counts_anywhere_in_a_config_only() -> None:
    """``password`` is most often a secret in a config; among metrics it is one name."""
    excludes = Excludes(("password",))
    config = {"db": {"password": "p", "port": 1}, "list": [{"password": "p"}], "password": "p"}
    assert excludes.config(config) == {"db": {"port": 1}, "list": [{}]}
    row, _ = Router(excludes).route({"a": {"password": 1}, "password": 2})
    assert row == {"a/password": 1}
    assert Router(excludes).route({"config/db/password": "p", "config/x": 1})[0] == {"config/x": 1}


@pytest.mark.parametrize(
    "config", [{"lr": 1, "deep": {"x": [1]}}, Database(1, 2, 3), [1], "text", 1]
)
def test_without_log_config_nothing_of_a_results_config_gets_out(config: Any) -> None:
    """Each result carries the config, and would bring back what the first config left out."""
    assert Router().route({"config": config, "loss": 1}) == ({"loss": 1}, {})


@pytest.mark.parametrize("config", ["api_key=secret", None, 1, True])
def test_with_log_config_what_is_no_config_does_not_get_out_either(config: Any) -> None:
    """Nobody could tell what of it is excluded or secret."""
    row, _ = Router(log_config=True).route({"config": config, "loss": 1})
    assert row == {"config": {}, "loss": 1}


def test_what_wandb_keeps_for_itself_is_left_out_and_told() -> None:
    """A metric by one of W&B's own names would break the row."""
    router = Router()
    assert router.route({"_step": 3, "_wandb": {"a": 1}, "a_step": 1}) == ({"a_step": 1}, {})
    assert router.reserved == {"_step", "_wandb/a"}


def test_a_histogram_is_a_value_and_an_empty_mapping_is_one() -> None:
    """W&B's JSON form stays whole; a key is not lost because nothing is in it."""
    row, _ = Router().route({"weights": {"w": np.arange(99.0)}, "empty": {}, "text": "1"})
    assert row["weights/w"]["_type"] == "histogram"
    assert row["empty"] == {}
    assert row["text"] == "1"


def test_no_patterns_drop_nothing() -> None:
    """``excludes=None`` is what nobody said."""
    assert excludes_of(None) == excludes_of([]) == Excludes()


def test_the_docstrings_examples_are_true() -> None:
    """Doctest."""
    for module in (filtering, routing):
        failed, attempted = doctest.testmod(module)
        assert (failed, attempted > 0) == (0, True)


def test_tunes_tag_is_excluded_with_what_it_repeats() -> None:
    """Tune's "1_lr=2" says in text what `excludes` keeps out; neither row nor artifact has it."""
    result = {"experiment_tag": "1_lr=2", "loss": 1, "debug/x": 2}
    excludes = Excludes(("lr", "debug"))
    assert Router(excludes).route(result) == ({"loss": 1}, {})
    assert excludes.metrics(result) == {"loss": 1}
    kept = {"experiment_tag": "1_lr=2", "loss": 1}
    assert Excludes().metrics({**kept, "config": {"lr": 2}}) == kept
    assert excludes.metrics({"loss": 1}) == {"loss": 1}


def test_arguments_for_wandb_are_no_config() -> None:
    """``config["wandb"]`` may carry a key; `log_config` sends the config of each result."""
    result = {"loss": 1, "config": {"lr": 2, "wandb": {"api_key": "k" * 40, "project": "p"}}}
    assert Router(log_config=True).route(result) == ({"loss": 1, "config/lr": 2}, {"lr": 2})
