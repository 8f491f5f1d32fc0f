"""Decide which keys reach W&B (`excludes`), and which values of a config are masked.

The key of a nested value is its path, joined by ``/``: ``{"debug": {"x": 1}}`` has the
key ``debug/x``. A pattern drops a key if it is the key (``loss``), if it is a prefix
of the path (``debug`` drops ``debug/x``), or if it is a glob that matches the path or
a prefix of it (``*/token``; ``*`` crosses ``/``).

In a *config* a plain name is dropped at any depth, because there it is usually a secret:
``excludes=["password"]`` also drops ``config["db"]["password"]``. In a result it is
not: ``loss`` leaves ``train/loss`` alone.

Text in a config whose key looks like a secret (`masking.looks_secret`) is masked, unless
``unmask`` names the key: ``unmask=["token_type"]``. Pairs in a list and the fields of objects
(`fields`) have keys too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from wbtune._data.masking import MASK, looks_secret, mask_given
from wbtune._data.sanitize import plain

_GLOB = frozenset("*?[")

_PAIR = 2


class Excludes(NamedTuple):
    """The patterns of ``excludes=`` and ``unmask=``.

    >>> excludes = Excludes(("debug", "*/token"))
    >>> excludes.drops("debug/x"), excludes.drops("auth/token"), excludes.drops("loss")
    (True, True, False)
    """

    patterns: tuple[str, ...] = ()
    unmask: tuple[str, ...] = ()

    def drops(self, path: str) -> bool:
        """Is this key of a result left out?"""
        return any(_matches(pattern, path) for pattern in self.patterns)

    def drops_config(self, path: str) -> bool:
        """Is this key of a config left out? A pattern may call ``lr`` ``config/lr``."""
        if self.drops(path) or self.drops(f"config/{path}"):
            return True
        names = path.split("/")
        return any(pattern in names for pattern in self.patterns)

    def hides(self, experiment_tag: object) -> bool:
        """Is Tune's tag left out? It repeats the config in one text: "0_lr=0.1,secret=x"."""
        text = experiment_tag if isinstance(experiment_tag, str) else ""
        return bool(text) and (bool(self.patterns) or looks_secret(text))

    def metrics(self, result: Mapping[Any, Any]) -> dict[str, Any]:
        """A result as plain data, without its config and without excluded keys."""
        kept = pruned(plain(result), "", lambda path: path == "config" or self.drops(path))
        if isinstance(kept, dict) and self.hides(kept.get("experiment_tag")):
            del kept["experiment_tag"]
        return kept if isinstance(kept, dict) else {}

    def config(self, config: Any) -> dict[str, Any]:
        """A config as plain data, without excluded keys; the argument is not changed.

        It is sanitised first, which turns records into mappings and cuts cycles.
        """
        kept = _without_wandb(plain(config, hides=self._hides))
        kept = self._masked(pruned(kept, "", self.drops_config, pairs=True), "")
        return kept if isinstance(kept, dict) else {}

    def _hides(self, name: str) -> bool:
        return self.drops_config(name) or self.masks(name)

    def masks(self, path: str) -> bool:
        """Is the text under this key of a config masked?"""
        if not any(looks_secret(name) for name in path.split("/")):
            return False
        return not self._shows(path)

    def _shows(self, path: str) -> bool:
        return bool(self.unmask) and Excludes(self.unmask).drops_config(path)

    def _masked(self, value: Any, path: str) -> Any:
        """Plain data with its secrets masked; a number (``max_tokens``) is never a secret."""
        if type(value) is dict:
            named = _named_value(value)
            return {
                key: self._masked(inner, _join(path, named if key == "value" and named else key))
                for key, inner in value.items()
            }
        if type(value) is list:
            paths = [path] * len(value)
            for at, name in enumerate(value[:-1]):
                # The key of a pair, or an option of a command line, applies to the next item.
                if type(name) is str and (len(value) == _PAIR or name.startswith("-")):
                    paths[at + 1] = _join(path, name.lstrip("-"))
            return [self._masked(*one) for one in zip(value, paths, strict=True)]
        if type(value) is not str:
            return value
        if self.masks(path):
            return MASK
        return value if self._shows(path) else mask_given(value)


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def _named_value(mapping: dict[str, Any]) -> str | None:
    """The name in ``{"name": ..., "value": ...}``, Kubernetes' form of an environment variable."""
    name = mapping.get("name", mapping.get("key"))
    return name if type(name) is str and "value" in mapping else None


def pruned(value: Any, prefix: str, drops: Callable[[str], bool], *, pairs: bool = False) -> Any:
    """Plain data without the keys for which ``drops`` is true, at any depth, in lists too.

    Args:
        value: plain data.
        prefix: the prefix of its keys.
        drops: whether to drop a key, given its path.
        pairs: treat lists of two items of which the first is text as a key and its value.
    """
    if type(value) is dict:
        return {
            key: pruned(inner, f"{prefix}{key}/", drops, pairs=pairs)
            for key, inner in value.items()
            if not drops(f"{prefix}{key}")
        }
    if type(value) is list:
        return [
            pruned(item, prefix, drops, pairs=pairs)
            for item in value
            if not (pairs and _is_pair(item) and drops(f"{prefix}{item[0]}"))
        ]
    return value


def _is_pair(item: Any) -> bool:
    return type(item) is list and len(item) == _PAIR and type(item[0]) is str


def _matches(pattern: str, path: str) -> bool:
    if path == pattern or path.startswith(f"{pattern}/"):
        return True
    if _GLOB.isdisjoint(pattern):
        return False
    end = len(path)
    while end != -1:
        if fnmatchcase(path[:end], pattern):
            return True
        end = path.rfind("/", 0, end)
    return False


def _without_wandb(config: Any) -> Any:
    """A plain config without ``config["wandb"]``, the arguments for W&B.

    They are not logged, and may contain an API key.
    """
    if type(config) is dict and type(config.get("wandb")) is dict:
        return {key: value for key, value in config.items() if key != "wandb"}
    return config


def excludes_of(patterns: Sequence[str] | None, unmask: Sequence[str] | None = None) -> Excludes:
    """The ``excludes=`` and ``unmask=`` of a user's call, as an :class:`Excludes`."""
    return Excludes(tuple(patterns or ()), tuple(unmask or ()))
