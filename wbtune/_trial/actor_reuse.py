"""What the next trial's run takes over from the last one's when an actor is reused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from wbtune._data.options import RunOptions
from wbtune._place.identity import Identity


def options_for_next(options: RunOptions, last: Identity, coming: Identity) -> RunOptions:
    """The options of the last trial's run, with its id and name replaced by the next trial's.

    Args:
        options: those of the last trial's run.
        last: the last trial.
        coming: the next trial.
    """
    given = dict(options.init_kwargs)
    replaced = ((last.trial_name, coming.trial_name), (last.trial_id, coming.trial_id))
    for option in ("id", "name"):
        text = given.get(option)
        if not isinstance(text, str):
            continue
        for old, new in replaced:
            text = text.replace(old, new) if old and new else text
        if option == "id" and text == given["id"]:  # the last run's, so the next needs another
            text = f"{text}-{coming.trial_id}"
        given[option] = text
    return replace(options, init_kwargs=given)


def config_for_next(config: Mapping[str, Any], last: Mapping[str, Any]) -> Mapping[str, Any]:
    """The next trial's config, reduced to the keys that the last run's config had.

    The user may have given the last run only a part of its trial's config.
    """
    if set(config) <= set(last):
        return config
    return {key: config.get(key, value) for key, value in last.items()}
