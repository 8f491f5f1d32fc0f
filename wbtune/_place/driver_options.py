"""The options of the tuner or callback, as defaults for `setup_wandb` in the trials.

The driver hands them over to the trials with its login (:mod:`wbtune._place.handover`), as plain
data: values that JSON can't hold are left out.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, Final

from wbtune._data.masking import looks_secret
from wbtune._data.options import RunOptions
from wbtune._place import handover
from wbtune._place.identity import Identity

logger = logging.getLogger("wbtune")

#: The options that are handed over; the others concern the driver alone.
_HANDED: Final = (
    *("project", "group", "excludes", "log_config", "video_kwargs", "image_kwargs"),
    *("log_results", "unmask"),
)
#: Arguments for ``wandb.init`` that are not handed over, as they name one run.
_OWN: Final = frozenset({"id"})


def plain(options: RunOptions) -> dict[str, Any]:
    """The options in the form in which they are handed over."""
    handed = {name: _plain(getattr(options, name)) for name in _HANDED}
    init = {name: _plain(v) for name, v in options.init_kwargs.items() if name not in _OWN}
    return {**_without_none(handed), "init_kwargs": _without_none(init)}


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _plain(value: Any) -> Any:
    """The value in JSON's types, without anything that looks secret; None if JSON can't hold it."""
    if isinstance(value, Mapping):
        return {
            key: kept
            for key, inner in value.items()
            if isinstance(key, str) and not looks_secret(key)
            if (kept := _plain(inner)) is not None
        }
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=str)
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError, RecursionError):
        return None


def handed_over(trial: Identity) -> RunOptions:
    """The options that a trial's driver has handed over, or none."""
    try:
        handed = handover.handed_over(trial.fit) if handover.is_of_one_fit(trial.fit) else None
    except handover.StoreError:
        return RunOptions()  # looking up the login gives the warning
    given = dict((handed or {}).get("options") or {})
    init = given.pop("init_kwargs", {})
    for name in ("excludes", "unmask"):
        if name in given:
            given[name] = tuple(given[name])
    return RunOptions(**given, init_kwargs=init)


def warn_of_overrides(
    public_name: str, trial: Identity, drivers: RunOptions, own: RunOptions
) -> None:
    """Warn, once per experiment, if a trial's own options override the driver's."""
    differ = [
        f"{name}={mine!r} (the driver has {theirs!r})"
        for name, mine, theirs in _both(drivers, own)
        if mine != theirs
    ]
    if not differ:
        return
    # Cure: Nothing to do, if that is meant; else give the option in one place only.
    text = f"{public_name}: these options of the trial override the driver's: {', '.join(differ)}."
    try:
        first = handover.claim(f"{trial.fit}/warned/{public_name}", str(trial.trial_id))
    except handover.StoreError:
        first = str(trial.trial_id)
    if first == str(trial.trial_id):
        logger.warning(text)


def _both(drivers: RunOptions, own: RunOptions) -> list[tuple[str, Any, Any]]:
    """The options that both have, and that are not merged: ``(name, own, driver's)``."""
    one_holds = ("project", "group", "log_config", "log_results")
    pairs = [(name, getattr(own, name), getattr(drivers, name)) for name in one_holds]
    pairs += [
        (name, _plain(value), drivers.init_kwargs.get(name))
        for name, value in own.init_kwargs.items()
        if not isinstance(value, Mapping)
    ]
    return [pair for pair in pairs if pair[1] is not None and pair[2] is not None]
