"""Decide where each key of a result goes: to the log, to the run's config, or nowhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from wbtune._data.filtering import Excludes, pruned
from wbtune._data.sanitize import key_text, plain, plain_metric
from wbtune._data.text import is_clean

#: Results that belong to the run's config, because they don't change (Ray's
#: callback, ``AUTO_CONFIG_KEYS``).
AUTO_CONFIG_KEYS: Final = frozenset(
    {"trial_id", "experiment_tag", "node_ip", "experiment_id", "hostname", "pid", "date"}
)

#: Keys that Tune adds to a result for its own use.
BOOKKEEPING: Final = frozenset({"done", "should_checkpoint", "checkpoint_dir_name"})

#: Keys that W&B itself writes into each row and accepts from nobody else.
RESERVED: Final = frozenset({"_step", "_runtime", "_timestamp", "_wandb"})

_LARGEST = sys.float_info.max


class Route(Enum):
    """Where a flattened key goes."""

    LOG = "log"
    CONFIG = "config"
    NOWHERE = "nowhere"
    RESERVED = "reserved"


@dataclass(slots=True)
class Router:
    """Send each key of a result to the log, to the config, or nowhere.

    Each run has its own: a value of the config is sent again only when it has changed.

    >>> router = Router(Excludes(("secret",)))
    >>> router.route({"loss": 1.0, "secret": 2, "pid": 7, "config": {"lr": 0.1}})
    ({'loss': 1.0}, {'pid': 7})

    Attributes:
        excludes: which keys are left out.
        log_config: also log the config that is part of every result (for
            PopulationBasedTraining, which changes it), as ``config/...``.
        reserved: keys that W&B keeps for itself and that were therefore left out.
    """

    excludes: Excludes = field(default_factory=Excludes)
    log_config: bool = False
    reserved: set[str] = field(default_factory=set)
    _routes: dict[str, Route] = field(default_factory=dict)
    _config: dict[str, Any] = field(default_factory=dict)
    # The latest result's config, if it is logged.
    _whole: dict[str, Any] = field(default_factory=dict)

    def route(self, result: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Split one result.

        Args:
            result: as Tune delivers it; it is not changed.

        Returns:
            ``(row, config)``: what to log, by flattened key, and what to update in the
            run's config. Both are plain data that W&B accepts, except that images and videos
            are still arrays.
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
                # No arrays in the config: its values are compared. Most of them are text.
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
        """A copy of a result that later changes to the result's values do not affect.

        Args:
            result: as Tune delivers it; it is not changed. Tune's loop does this for each result.
            take: see `plain_metric`.
        """
        copy = dict(result)
        for key, value in result.items():
            kind = type(value)
            if kind is float or kind is int or kind is str or kind is bool or value is None:
                continue  # compared by identity: a class may have any `__eq__` and `__hash__`
            if type(key) is not str or key != "config":
                copy[key] = plain_metric(value, self.excludes.masks, take)
            elif self.log_config:
                copy[key] = self.excludes.config(value)
            else:
                del copy[key]
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
                    # Excluded and secret values are taken out first.
                    config = self.excludes.config(value)
                    yield from self._flatten(key, plain_metric(config))
                    self._whole = config
            elif (
                ((kind is float or kind is int) and -_LARGEST <= value <= _LARGEST)
                or (kind is str and is_clean(value))
                or kind is bool
                or value is None
            ):
                yield key, value  # most of a result is plain already
            elif self._routes.get(key) is not Route.NOWHERE:
                yield from self._flatten(key, plain_metric(value, self.excludes.masks))

    def _flatten(self, key: str, value: Any) -> Iterator[tuple[str, Any]]:
        # `_type` marks W&B's own JSON forms (a histogram): they are values, not nesting.
        if type(value) is dict and value and "_type" not in value:
            for name, inner in value.items():
                yield from self._flatten(f"{key}/{name}", inner)
        else:
            yield key, pruned(value, f"{key}/", self.excludes.drops)
