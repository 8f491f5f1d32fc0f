"""Trainables that open their own runs, and the checks before Tune sends one to a trial.

`tune.Tuner` has no hook for a decorated function or a class with the mixin. But ``fit`` pickles
the function, or derives a class from the class: at that moment, whatever can be known before any
trial is checked.
"""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from wbtune._data.config_keys import keys_in, refuse_key
from wbtune._data.options import RunOptions
from wbtune._place import sender
from wbtune._run import run_spec
from wbtune._upstream import ray_launch, wandb_settings
from wbtune.errors import ConfigurationError

logger = logging.getLogger("wbtune")

#: Environment variables that may name a project, if the declaration does not.
_NAMED_BY: Final = (run_spec.PROJECT_ENV, "WANDB_PROJECT", run_spec.LOCATION_HOOK)


#: The last ``fit()`` calls that were checked: Tune sends an object many times in each.
_SEEN: Final[deque[object]] = deque(maxlen=64)


class OwnsRun:
    """Marks a trainable class that opens its own run; the callback leaves it alone.

    Attributes:
        wbtune_sender: the name of the driver that starts the trials (:mod:`wbtune._place.sender`).
            Ray derives an actor's class from the trainable, and pickles it with its attributes.
        wbtune_tuner_options: the options of `wandb_tuner`, for decorated functions that the
            trainable calls (:mod:`wbtune._trial.tuner_options`).
    """

    __slots__ = ()

    wbtune_sender: ClassVar[str] = ""
    wbtune_tuner_options: ClassVar[RunOptions | None] = None

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if ray_launch.may_be_launching():  # Ray is deriving an actor's class from it
            public_name = "WandbMixin" if hasattr(cls, "wbtune_options") else "wandb_trial"
            cls.wbtune_sender = send(public_name, cls.wbtune_sender)


def send(public_name: str, before: str) -> str:
    """Run the checks, and hand over the login, when an object is about to be sent to a trial.

    Args:
        public_name: what the user called, for messages.
        before: the name with which the object reached this process, see `sender.name`.

    Returns:
        The name that is sent with it.

    Raises:
        ConfigurationError: see `check`.
    """
    launch = ray_launch.launch()
    if launch is None or launch.started not in _SEEN:
        check(public_name)
        sender.hand_over()
        if launch is not None:
            _SEEN.append(launch.started)
    return sender.name(before)


def check(public_name: str) -> None:
    """Check what the calling ``fit()`` is about to start, if there is one.

    Raises:
        ConfigurationError: for an API key in its ``param_space``; for a declaration without
            a project, if it is certain that no trial gets one from elsewhere.
    """
    launch = ray_launch.launch()
    if launch is None:
        return
    if launch.restored:
        if keys_in(launch.param_space):
            # Cause: An earlier release, or Ray's own integration, wrote
            #   `config["wandb"]["api_key"]` there.
            # Cure: Revoke that key at W&B, and delete it from the files.
            logger.warning("%s: the experiment's files hold an API key, in clear.", public_name)
        return
    refuse_key(public_name, launch.param_space)
    options = _declared(launch.trainable)
    if options is not None and not _has_project(public_name, options, launch):
        then = ", and W&B would put the runs into 'uncategorized'"
        raise ConfigurationError(run_spec.no_project(public_name, then))


def _has_project(public_name: str, options: RunOptions, launch: ray_launch.Launch) -> bool:
    inner = launch.param_space.get("wandb") if isinstance(launch.param_space, Mapping) else None
    if inner is not None and (not isinstance(inner, Mapping) or inner.get("project")):
        return True  # or it is sampled, and each trial will check it
    if run_spec.locate(public_name, options).project or wandb_settings.wandb_setting("project"):
        return True
    given = ray_launch.runtime_environment()
    return not ray_launch.has_started_cluster() or any(name in given for name in _NAMED_BY)


def _declared(trainable: Any) -> RunOptions | None:
    """Return the declaration of a decorated function or a class with the mixin, or None."""
    for mixin in getattr(trainable, "__mixins__", ()):
        if getattr(mixin, "wbtune_tuner_options", None) is not None:
            return None  # `wandb_tuner` has checked it
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
