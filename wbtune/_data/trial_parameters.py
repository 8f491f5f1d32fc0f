"""The parameters that were chosen for a trial, by the names that they have at W&B."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from wbtune._data.filtering import Excludes

#: How many characters of a trial's parameters one line has.
LONGEST: Final = 300


def chosen(
    config: Mapping[str, Any],
    sampled: Iterable[str],
    excludes: Excludes,
    space: Collection[str] = (),
) -> dict[str, Any]:
    """The parameters that were chosen for a trial, flat, as they are in its run's config.

    Args:
        config: the trial's.
        sampled: the names that Tune sampled, nested ones joined by "/".
        excludes: what is left out and masked.
        space: the names of the parameters in the search space; of a trial whose search has none,
            and for which none was sampled, all parameters count.

    >>> chosen({"lr": 0.1, "model": {"act": "relu"}, "seed": 3}, ["lr", "model/act"], Excludes())
    {'lr': 0.1, 'model.act': 'relu'}
    """
    flat = dict(_flat(excludes.config(config), ""))
    names = {name.replace("/", ".") for name in sampled} | {*space}
    if not names:
        return flat
    return {name: value for name, value in flat.items() if _is_chosen(name, names)}


def _is_chosen(name: str, chosen: Collection[str]) -> bool:
    """Is it, or something that it is a part of, one of these?"""
    name = name.replace("/", ".")
    parts = name.split(".")
    return any(".".join(parts[: end + 1]) in chosen for end in range(len(parts)))


def _flat(config: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def listed(parameters: Mapping[str, Any]) -> str:
    """Parameters in one line, no longer than a person would read.

    >>> listed({"lr": 0.1 + 0.2, "model.layers": 2})
    'lr=0.3, model.layers=2'
    """
    shown = [
        f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in parameters.items()
    ]
    text = ", ".join(shown)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
