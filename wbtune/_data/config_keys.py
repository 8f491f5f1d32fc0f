"""Find API keys in ``param_space["wandb"]``: Ray's guide allows them, and Tune stores them.

Tune writes the ``param_space`` in clear into each trial's ``params.json`` and
``params.pkl``, into each line of ``result.json`` and into the experiment's state; sampled values
are also in the names of the trials' folders.

Source: https://docs.ray.io/en/latest/tune/examples/tune-wandb.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from wbtune._data.keywords import ConfigObject
from wbtune.errors import ConfigurationError

CURES: Final = (
    "Leave it out and use one of: `wandb login`, the environment variable WANDB_API_KEY, "
    "api_key_file=, or api_key= of wandb_tuner or WandbLoggerCallback"
)


class Found(NamedTuple):
    """An API key in a ``param_space``.

    Attributes:
        where: the place where it is, as the user would write it.
        key: its text; None if trials would get one of several keys, or it is inside an object.
    """

    where: str
    key: str | None


def keys_in(space: Any) -> list[Found]:
    """The API keys in a ``param_space``: under ``"wandb"`` at any depth, sampled ones included."""
    return list(_found(space, "param_space"))


def _found(value: Any, where: str) -> Iterator[Found]:
    choices = _choices(value)
    if choices is not None:
        for choice in choices:
            yield from (found._replace(key=None) for found in _found(choice, where))
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            there = f"{where}[{key!r}]"
            yield from _in_wandb(inner, there) if key == "wandb" else _found(inner, there)
    elif isinstance(value, (list, tuple)):
        for place, inner in enumerate(value):
            yield from _found(inner, f"{where}[{place}]")


def _in_wandb(value: Any, where: str) -> Iterator[Found]:
    choices = _choices(value)
    if choices is not None:
        for choice in choices:
            yield from (found._replace(key=None) for found in _in_wandb(choice, where))
    elif isinstance(value, Mapping):
        key, settings = value.get("api_key"), value.get("settings")
        if key:
            yield Found(f"{where}['api_key']", key if isinstance(key, str) else None)
        inside = settings.get("api_key") if isinstance(settings, Mapping) else None
        if inside or getattr(settings, "api_key", None):
            yield Found(f"{where}['settings']", None)


def _choices(value: Any) -> Any:
    """The candidates of a sampled value, as far as they are known; None if it is not sampled."""
    if isinstance(value, Mapping):
        return value["grid_search"] if set(value) == {"grid_search"} else None
    return getattr(value, "categories", None)  # `tune.choice`


def as_dict(space: object) -> Mapping[str, Any] | None:
    """A ``param_space`` as Tune reads it: RLlib's configs are objects that have a ``to_dict``.

    >>> as_dict({"lr": 0.1}), as_dict("lr")
    ({'lr': 0.1}, None)
    """
    if not isinstance(space, (Mapping, type)) and hasattr(space, "to_dict"):
        space = space.to_dict()
    return space if isinstance(space, Mapping) else None


def take_key(
    public_name: str, space: Mapping[str, Any] | ConfigObject | None
) -> tuple[Mapping[str, Any] | None, str | None]:
    """Take the API key out of a ``param_space``.

    Returns:
        ``(space, key)``: the space without the key, and the key, if it had one.

    Raises:
        ConfigurationError: for several keys or a sampled one: an experiment has one login.
    """
    space = as_dict(space)
    found = keys_in(space)
    keys = {one.key for one in found}
    if len(keys) > 1 or None in keys:
        raise ConfigurationError(
            _refusal(public_name, found[0].where, "An experiment has one account. ")
        )
    return (_without(space), keys.pop()) if keys else (space, None)


def refuse_key(public_name: str, space: Any) -> None:
    """Refuse an API key in a ``param_space`` that wbtune can't change.

    Raises:
        ConfigurationError: if there is a key in it.
    """
    for found in keys_in(space):
        raise ConfigurationError(_refusal(public_name, found.where))


def _refusal(public_name: str, where: str, why: str = "") -> str:
    files = "(params.json, result.json, experiment_state)"
    return (
        f"{public_name}: {where} is an API key, and Tune would write it into the experiment's "
        f"storage {files}. {why}{CURES}."
    )


def _without(value: Any) -> Any:
    if isinstance(value, Mapping):
        less = {key: _less(inner, key) for key, inner in value.items()}
        return {key: inner for key, inner in less.items() if key != "wandb" or inner != {}}
    if type(value) in {list, tuple}:
        return type(value)(_without(inner) for inner in value)
    return value


def _less(value: Any, key: Any) -> Any:
    if key != "wandb" or not isinstance(value, Mapping):
        return _without(value)
    return {name: inner for name, inner in value.items() if name != "api_key"}
