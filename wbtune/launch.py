"""On the driver: what Tune is about to start, looked at by whatever of ours it is about to send.

A decorated function or a class with the mixin has no hook in `tune.Tuner`. But ``fit`` pickles
the one and derives a class of the other: then what can be known before any trial is checked.
"""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from wbtune import _compat, origin, runs
from wbtune.config_keys import keys_in, refuse_key
from wbtune.errors import ConfigurationError
from wbtune.options import RunOptions

logger = logging.getLogger("wbtune")

#: Where a project may be named besides the declaration.
_NAMED_BY: Final = (runs.PROJECT_ENV, "WANDB_PROJECT", runs.LOCATION_HOOK)


#: The last ``fit()`` calls that were looked at: Tune sends an object many times in each.
_SEEN: Final[deque[object]] = deque(maxlen=64)


def send(who: str, before: str) -> str:
    """Do what there is to do when an object of ours is about to be sent.

    Args:
        who: what was called.
        before: the name under which the object has come here, see `origin.name`.

    Returns:
        The name that it takes along.

    Raises:
        ConfigurationError: as `check` does.
    """
    launch = _compat.launch()
    if launch is None or launch.started not in _SEEN:
        check(who)
        origin.hand_over()
        if launch is not None:
            _SEEN.append(launch.started)
    return origin.name(before)


def check(who: str) -> None:
    """Check what the ``fit()`` that is calling is about to start, if one is.

    Raises:
        ConfigurationError: for an API key in its ``param_space``; for a declaration without
            a project, where it is certain that no trial gets one from elsewhere.
    """
    launch = _compat.launch()
    if launch is None:
        return
    if launch.restored:
        if keys_in(launch.param_space):
            logger.warning("%s: the experiment's files hold an API key, in clear.", who)
        return
    refuse_key(who, launch.param_space)
    options = _declared(launch.trainable)
    if options is not None and not _has_project(who, options, launch):
        raise ConfigurationError(
            f"{runs.no_project(who)} (W&B would put its runs into the project 'uncategorized'.)"
        )


def _has_project(who: str, options: RunOptions, launch: _compat.Launch) -> bool:
    inner = launch.param_space.get("wandb") if isinstance(launch.param_space, Mapping) else None
    if inner is not None and (not isinstance(inner, Mapping) or inner.get("project")):
        return True  # or sampled, which each trial will see
    if runs.locate(who, options).project or _compat.wandb_setting("project"):
        return True
    given = _compat.runtime_environment()
    return not _compat.has_started_cluster() or any(name in given for name in _NAMED_BY)


def _declared(trainable: Any) -> RunOptions | None:
    """The declaration of a decorated function or a class with the mixin; None for others."""
    while isinstance(trainable, functools.partial):
        trainable = trainable.func
    for name in ("wbtune_options", "declared"):
        options = getattr(trainable, name, None)
        if isinstance(options, RunOptions):
            return options
    for cell in getattr(trainable, "__closure__", None) or ():  # `tune.with_parameters`
        if hasattr(trainable, "__mixins__") and hasattr(cell.cell_contents, "__mixins__"):
            return _declared(cell.cell_contents)
    return None
