"""Which keys reach W&B, and where: `excludes`, and the routing of a result.

A key of a nested mapping is its path, joined by ``/``: ``{"debug": {"x": 1}}`` has the
key ``debug/x``. A pattern drops a key when it names it (``loss``), when it is a prefix
of its path (``debug`` drops ``debug/x``), or when it is a glob that matches the path or
a prefix of it (``*/token``; ``*`` crosses ``/``).

Inside a *config* a plain name is dropped wherever it stands, because there it is most
often a secret: ``excludes=["password"]`` also drops ``config["db"]["password"]``. Among
metrics it is not: ``loss`` leaves ``train/loss`` alone.

Text in a config whose key looks like a secret (`SECRETS`) is masked, unless ``unmask`` names
the key: ``unmask=["tokenizer"]``.
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

from wbtune.sanitize import key_text, plain, plain_metric

#: Results that belong to the run's config, because they don't change (the guide's
#: callback, ``AUTO_CONFIG_KEYS``).
AUTO_CONFIG_KEYS: Final = frozenset(
    {"trial_id", "experiment_tag", "node_ip", "experiment_id", "hostname", "pid", "date"}
)

#: Tune's own bookkeeping in a result; it says nothing about the trial.
BOOKKEEPING: Final = frozenset({"done", "should_checkpoint", "checkpoint_dir_name"})

#: W&B writes these into each row itself and takes them from nobody.
RESERVED: Final = frozenset({"_step", "_runtime", "_timestamp", "_wandb"})

#: What the key of a secret looks like: in lower case, without ``-`` and ``_``.
SECRETS: Final = ("apikey", "token", "secret", "password")

MASK: Final = "****"

_GLOB = frozenset("*?[")

_NUMBERS = frozenset({int, float})
_CONSTANTS = frozenset({bool, type(None)})
_LARGEST = sys.float_info.max


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

    def config(self, config: Mapping[Any, Any]) -> dict[str, Any]:
        """A config without what is excluded, as plain data; the argument is left alone.

        Sanitised first: a dataclass is a mapping of its fields by then, and cycles are cut.
        """
        kept = self._masked(pruned(plain(config), "", self.drops_config), "")
        return kept if isinstance(kept, dict) else {}

    def masks(self, path: str) -> bool:
        """Is the text under this key of a config masked?"""
        if not any(looks_secret(name) for name in path.split("/")):
            return False
        return not Excludes(self.unmask).drops_config(path)

    def _masked(self, value: Any, path: str) -> Any:
        """Plain data with its secrets masked; a number is none (``max_tokens``)."""
        if type(value) is dict:
            return {
                key: self._masked(inner, f"{path}/{key}" if path else key)
                for key, inner in value.items()
            }
        if type(value) is list:
            return [self._masked(item, path) for item in value]
        return MASK if type(value) is str and self.masks(path) else value


def pruned(value: Any, prefix: str, drops: Callable[[str], bool]) -> Any:
    """Plain data without the keys that ``drops`` names, at any depth, in lists too."""
    if type(value) is dict:
        return {
            key: pruned(inner, f"{prefix}{key}/", drops)
            for key, inner in value.items()
            if not drops(f"{prefix}{key}")
        }
    if type(value) is list:
        return [pruned(item, prefix, drops) for item in value]
    return value


def looks_secret(name: str) -> bool:
    """Is this what the key of a secret is called?

    >>> looks_secret("WANDB_API_KEY"), looks_secret("max_tokens"), looks_secret("lr")
    (True, True, False)
    """
    compact = name.lower().replace("_", "").replace("-", "")
    return any(word in compact for word in SECRETS)


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
        if self.log_config and "config" in result:
            config.update(self.excludes.config(_without_wandb(result["config"])))
        changed = {
            key: value
            for key, value in config.items()
            if key not in self._config or self._config[key] != value
        }
        self._config.update(changed)
        return row, changed

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
            key = name if type(name) is str and name.isascii() else key_text(name)
            kind = type(value)
            if key == "config":
                if self.log_config:
                    # What is excluded or secret in it is dropped first.
                    config = self.excludes.config(_without_wandb(value))
                    yield from self._flatten(key, plain_metric(config))
            elif (
                (kind in _NUMBERS and -_LARGEST <= value <= _LARGEST)
                or (kind is str and value.isascii())
                or kind in _CONSTANTS
            ):
                yield key, value  # most of a result: it is plain already
            elif self._routes.get(key) is not Route.NOWHERE:
                yield from self._flatten(key, plain_metric(value))

    def _flatten(self, key: str, value: Any) -> Iterator[tuple[str, Any]]:
        # `_type` marks W&B's own JSON forms (a histogram): they are values, not nesting.
        if type(value) is dict and value and "_type" not in value:
            for name, inner in value.items():
                yield from self._flatten(f"{key}/{name}", inner)
        else:
            yield key, pruned(value, f"{key}/", self.excludes.drops)


def _without_wandb(config: Any) -> Any:
    """A config without the arguments for W&B that the guide allows in it: not logged.

    They may hold an API key.
    """
    if isinstance(config, Mapping) and isinstance(config.get("wandb"), Mapping):
        return {key: value for key, value in config.items() if key != "wandb"}
    return config


def excludes_of(patterns: Sequence[str] | None, unmask: Sequence[str] | None = None) -> Excludes:
    """The ``excludes=`` and ``unmask=`` of a user's call, as an :class:`Excludes`."""
    return Excludes(tuple(patterns or ()), tuple(unmask or ()))
