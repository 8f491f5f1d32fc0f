"""Which keys reach W&B, and where: `excludes`, and the routing of a result.

A key of a nested mapping is its path, joined by ``/``: ``{"debug": {"x": 1}}`` has the
key ``debug/x``. A pattern drops a key when it names it (``loss``), when it is a prefix
of its path (``debug`` drops ``debug/x``), or when it is a glob that matches the path or
a prefix of it (``*/token``; ``*`` crosses ``/``).

Inside a *config* a plain name is dropped wherever it stands, because there it is most
often a secret: ``excludes=["password"]`` also drops ``config["db"]["password"]``. Among
metrics it is not: ``loss`` leaves ``train/loss`` alone.

Text in a config whose key looks like a secret (`masking.looks_secret`) is masked, unless
``unmask`` names the key: ``unmask=["token_type"]``. A list of pairs has keys, too, and so have
the fields of objects (`fields`).
"""

# Over 250 lines: what is left out, what is masked and where the rest goes is asked of each
# key in one place.

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

from wbtune._data.masking import MASK, looks_secret, mask_given
from wbtune._data.sanitize import is_clean, key_text, plain, plain_metric

#: Results that belong to the run's config, because they don't change (the guide's
#: callback, ``AUTO_CONFIG_KEYS``).
AUTO_CONFIG_KEYS: Final = frozenset(
    {"trial_id", "experiment_tag", "node_ip", "experiment_id", "hostname", "pid", "date"}
)

#: Tune's own bookkeeping in a result; it says nothing about the trial.
BOOKKEEPING: Final = frozenset({"done", "should_checkpoint", "checkpoint_dir_name"})

#: W&B writes these into each row itself and takes them from nobody.
RESERVED: Final = frozenset({"_step", "_runtime", "_timestamp", "_wandb"})

_GLOB = frozenset("*?[")

_LARGEST = sys.float_info.max
_PAIR = 2


class Route(Enum):
    """Where a flattened key goes."""

    LOG = "log"
    CONFIG = "config"
    NOWHERE = "nowhere"
    RESERVED = "reserved"


class Excludes(NamedTuple):
    """The patterns of ``excludes=``, ready to be asked.

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
        """Is this key of a config left out? ``config/lr`` is a name for ``lr`` here."""
        if self.drops(path) or self.drops(f"config/{path}"):
            return True
        names = path.split("/")
        return any(pattern in names for pattern in self.patterns)

    def hides(self, experiment_tag: object) -> bool:
        """Tune's "0_lr=0.1,secret=x" repeats the config in one text: is it left out?"""
        text = experiment_tag if isinstance(experiment_tag, str) else ""
        return bool(text) and (bool(self.patterns) or looks_secret(text))

    def metrics(self, result: Mapping[Any, Any]) -> dict[str, Any]:
        """A result without its config and without what is excluded, as plain data."""
        kept = pruned(plain(result), "", lambda path: path == "config" or self.drops(path))
        if isinstance(kept, dict) and self.hides(kept.get("experiment_tag")):
            del kept["experiment_tag"]
        return kept if isinstance(kept, dict) else {}

    def config(self, config: Any) -> dict[str, Any]:
        """A config without what is excluded, as plain data; the argument is left alone.

        Sanitised first: a record is a mapping of its fields by then, and cycles are cut.
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
        """Plain data with its secrets masked; a number is none (``max_tokens``)."""
        if type(value) is dict:
            named = _named_value(value)
            return {
                key: self._masked(inner, _join(path, named if key == "value" and named else key))
                for key, inner in value.items()
            }
        if type(value) is list:
            paths = [path] * len(value)
            for at, name in enumerate(value[:-1]):
                # A pair's key, or an option of a command line, and what comes after it.
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
    """The name in ``{"name": ..., "value": ...}``, as Kubernetes writes an environment."""
    name = mapping.get("name", mapping.get("key"))
    return name if type(name) is str and "value" in mapping else None


def pruned(value: Any, prefix: str, drops: Callable[[str], bool], *, pairs: bool = False) -> Any:
    """Plain data without the keys that ``drops`` names, at any depth, in lists too.

    Args:
        value: plain data.
        prefix: of its keys.
        drops: asked of each.
        pairs: lists of two, with a text first, have keys as well.
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


@dataclass(slots=True)
class Router:
    """Sends each key of a result to the log, to the config, or nowhere.

    Holds for one run: a value of the config is sent again only when it has changed.

    >>> router = Router(Excludes(("secret",)))
    >>> router.route({"loss": 1.0, "secret": 2, "pid": 7, "config": {"lr": 0.1}})
    ({'loss': 1.0}, {'pid': 7})

    Attributes:
        excludes: what never gets through.
        log_config: also log the config that comes along in every result (for
            PopulationBasedTraining, which changes it), as ``config/...``.
        reserved: keys that W&B keeps for itself and that were therefore left out.
    """

    excludes: Excludes = field(default_factory=Excludes)
    log_config: bool = False
    reserved: set[str] = field(default_factory=set)
    _routes: dict[str, Route] = field(default_factory=dict)
    _config: dict[str, Any] = field(default_factory=dict)
    # That of the result, if it is logged.
    _whole: dict[str, Any] = field(default_factory=dict)

    def route(self, result: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Split one result.

        Args:
            result: as Tune delivers it; it is not changed.

        Returns:
            ``(row, config)``: what to log, by flattened key, and what to update the
            run's config with. Both are plain data that W&B accepts; arrays that are
            images or videos are still arrays.
        """
        row: dict[str, Any] = {}
        config: dict[str, Any] = {}
        self._whole = {}
        for key, value in self._flat(result):
            route = self._routes.get(key)
            if route is None:
                route = self._routes[key] = self._decide(key)
            if key == "experiment_tag" and self.excludes.hides(value):
                continue
            if route is Route.LOG:
                row[key] = value
            elif route is Route.CONFIG:
                # A config has no arrays, and is compared; most of it is text.
                config[key] = value if type(value) is str else plain(value)
            elif route is Route.RESERVED:
                self.reserved.add(key)
        config.update(self._whole)
        changed = {
            key: value
            for key, value in config.items()
            if key not in self._config or self._config[key] != value
        }
        self._config.update(changed)
        return row, changed

    def snapshot(self, result: Mapping[Any, Any], take: Callable[[Any], Any]) -> dict[Any, Any]:
        """A result as it is now, whatever becomes of its values later; it is not changed.

        Args:
            result: as Tune delivers it. This is done in Tune's loop, for each.
            take: see `plain_metric`.
        """
        copy = {}
        for key, value in result.items():
            kind = type(value)
            if kind is float or kind is int or kind is str or kind is bool or value is None:
                copy[key] = value
            elif type(key) is str and key == "config":
                if self.log_config:
                    copy[key] = self.excludes.config(value)
            else:
                copy[key] = plain_metric(value, self.excludes.masks, take)
        return copy

    def _decide(self, key: str) -> Route:
        top, _, inside = key.partition("/")
        excluded = self.excludes.drops_config(inside) if top == "config" else False
        if excluded or top in BOOKKEEPING or self.excludes.drops(key):
            return Route.NOWHERE
        if top in AUTO_CONFIG_KEYS:
            return Route.CONFIG
        return Route.RESERVED if top in RESERVED else Route.LOG

    def _flat(self, result: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for name, value in result.items():
            key = name if type(name) is str and is_clean(name) else key_text(name)
            kind = type(value)
            if key == "config":
                if self.log_config:
                    # What is excluded or secret in it is dropped first.
                    config = self.excludes.config(value)
                    yield from self._flatten(key, plain_metric(config))
                    self._whole = config
            elif (
                ((kind is float or kind is int) and -_LARGEST <= value <= _LARGEST)
                or (kind is str and is_clean(value))
                or kind is bool
                or value is None
            ):
                yield key, value  # most of a result: it is plain already
            elif self._routes.get(key) is not Route.NOWHERE:
                yield from self._flatten(key, plain_metric(value, self.excludes.masks))

    def _flatten(self, key: str, value: Any) -> Iterator[tuple[str, Any]]:
        # `_type` marks W&B's own JSON forms (a histogram): they are values, not nesting.
        if type(value) is dict and value and "_type" not in value:
            for name, inner in value.items():
                yield from self._flatten(f"{key}/{name}", inner)
        else:
            yield key, pruned(value, f"{key}/", self.excludes.drops)


def _without_wandb(config: Any) -> Any:
    """A plain config without the arguments for W&B that the guide allows in it: not logged.

    They may hold an API key.
    """
    if type(config) is dict and type(config.get("wandb")) is dict:
        return {key: value for key, value in config.items() if key != "wandb"}
    return config


def excludes_of(patterns: Sequence[str] | None, unmask: Sequence[str] | None = None) -> Excludes:
    """The ``excludes=`` and ``unmask=`` of a user's call, as an :class:`Excludes`."""
    return Excludes(tuple(patterns or ()), tuple(unmask or ()))
