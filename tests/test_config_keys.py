"""API keys in a ``param_space``: all are found, and taking one out changes nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import wandb
from hypothesis import given
from hypothesis import strategies as st
from ray import tune

from wbtune._data.config_keys import keys_in, refuse_key, take_key
from wbtune.errors import ConfigurationError

KEY = "k" * 40
NAMES = st.sampled_from(["lr", "wandb", "api_key", "train_loop_config", "settings", ""])


def spaces(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Param spaces, with these values in them."""
    inner = st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
        max_leaves=8,
    )
    return st.dictionaries(NAMES, inner, max_size=4)


@given(spaces(st.integers() | st.just(KEY)))
def test_no_key_is_left(space: dict[str, Any]) -> None:
    """What has no key is the same object; of what has one, a key is all that is taken out."""
    before = repr(space)
    found = keys_in(space)
    try:
        rest, key = take_key("way", space)
    except ConfigurationError:
        assert any(one.key is None for one in found), "a number, or in settings"
        return
    assert repr(space) == before
    assert key == (KEY if found else None)
    assert keys_in(rest) == []
    if not found:
        assert rest is space


@pytest.mark.parametrize(
    "space",
    [
        {"wandb": {"api_key": tune.choice([KEY])}},
        {"wandb": {"api_key": {"grid_search": [KEY]}}},
        {"wandb": {"api_key": tune.sample_from(lambda spec: KEY)}},
        {"wandb": tune.choice([{"api_key": KEY}, {}])},
        {"wandb": tune.grid_search([{"api_key": KEY}])},
        {"loop": tune.grid_search([{"wandb": {"api_key": KEY}}])},
        {"wandb": {"api_key": KEY}, "loop": {"wandb": {"api_key": "o" * 40}}},
        {"wandb": {"settings": {"api_key": KEY}}},
        {"wandb": {"settings": wandb.Settings(api_key=KEY)}},
    ],
)
def test_a_sampled_key_is_refused(space: dict[str, Any]) -> None:
    """An experiment has one login; the message names the place and the cures, not the key."""
    for refused in (take_key, refuse_key):
        with pytest.raises(ConfigurationError, match=r"way: param_space.*wandb.*wandb login") as e:
            refused("way", space)
        assert KEY not in str(e.value)


@pytest.mark.parametrize(
    ("space", "rest"),
    [
        ({"lr": 1, "wandb": {"api_key": KEY}}, {"lr": 1}),
        ({"wandb": {"api_key": KEY, "tags": ["t"]}}, {"wandb": {"tags": ["t"]}}),
        ({"wandb": {"api_key": KEY}, "a": ({"wandb": 0},)}, {"a": ({"wandb": 0},)}),
        ({"a": [({"wandb": {"api_key": KEY}},)]}, {"a": [({},)]}),
    ],
)
def test_the_rest_stays(space: dict[str, Any], rest: dict[str, Any]) -> None:
    """Also a hyperparameter that is called ``wandb``; a path is no secret."""
    assert take_key("way", space) == (rest, KEY)
    assert take_key("way", {"wandb": {"api_key_file": "f"}})[1] is None
