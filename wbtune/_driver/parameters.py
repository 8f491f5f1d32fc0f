"""The parameters that were chosen for a trial, by the names that they have at W&B."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from wbtune._data.filtering import Excludes

if TYPE_CHECKING:
    from ray.tune.experiment import Trial


def parameters_of(trial: Trial, excludes: Excludes, space: set[str]) -> dict[str, Any]:
    """The parameters that were chosen for a trial, flat, as they are in its run's config.

    Args:
        trial: the trial.
        excludes: what is left out and masked.
        space: the names of the parameters in the search space; of a trial whose search has none,
            all parameters count.
    """
    flat = dict(_flat(excludes.config(trial.config), ""))
    sampled = getattr(trial, "evaluated_params", None) or {}
    chosen = {name.replace("/", ".") for name in sampled} | space
    if not chosen:
        return flat
    return {name: value for name, value in flat.items() if _is_chosen(name, chosen)}


def _is_chosen(name: str, chosen: set[str]) -> bool:
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
