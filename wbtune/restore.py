"""`restore_wandb_tuner`: continues an experiment whose driver has died, with the same runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ray import tune

from wbtune._data.config_keys import take_key
from wbtune._data.options import OPTION_NAMES
from wbtune._trial import tuner_options
from wbtune._upstream import ray_loop, wandb_settings
from wbtune.callback import WandbLoggerCallback, declaration_of
from wbtune.errors import ConfigurationError, UnknownOptionError

if TYPE_CHECKING:
    from ray.tune import Tuner

PUBLIC_NAME = "restore_wandb_tuner"


def restore_wandb_tuner(
    path: str,
    trainable: Callable[..., Any] | type | str,
    *,
    api_key: str | None = None,
    **restore_options: Any,
) -> Tuner:
    """Continue an experiment whose driver has died, with the same runs.

    Each trial continues in the run that it had: the ids are the same, results that Tune has on
    disk and W&B lacks are filled in, and trials that had ended stay as they are. The
    options are those of the `wandb_tuner` that began the experiment. They are stored with it;
    the API key is not.

    Args:
        path: the experiment's folder, ``<storage_path>/<experiment>``.
        trainable: the same trainable as before.
        api_key: the API key, if it was given as an argument before.
        **restore_options: for ``tune.Tuner.restore``: ``resume_errored=``, ...

    Returns:
        The tuner; call ``fit()`` on it.

    Raises:
        ConfigurationError: if there is no experiment in that folder, or if it was begun neither
            by `wandb_tuner` nor with a `WandbLoggerCallback`.
        UnknownOptionError: for an option that is stored with the experiment, or unknown.
        InvalidTrainableError: for a name that is not registered.
        CredentialsError: in ``fit``, before any trial, if there is no key that the server
            accepts.
        ServerUnreachableError: in ``fit``, before any trial, if the server does not answer.

    Runs on: driver.

    Examples:
        ```python
        if tune.Tuner.can_restore(path):
            tuner = restore_wandb_tuner(path, train, resume_errored=True)
        else:
            tuner = wandb_tuner(train, project="mnist", run_config=run_config)
        results = tuner.fit()
        ```

    Source: ``tune.Tuner.restore``; for the runs, https://github.com/ray-project/ray/pull/29916.
    """
    _check_restore(path, restore_options)
    if restore_options.get("param_space") is not None:
        restore_options["param_space"], inner_key = take_key(
            PUBLIC_NAME, restore_options["param_space"]
        )
        api_key = api_key or inner_key
    tuner = tune.Tuner.restore(path, trainable, **restore_options)
    declared, _ = tuner_options.with_tuner_options(
        PUBLIC_NAME, trainable, declaration_of(_callback_of(tuner, path))
    )
    if declared is not trainable:
        tuner = tune.Tuner.restore(path, declared, **restore_options)
    callback = _callback_of(tuner, path)
    WandbLoggerCallback.use(callback, PUBLIC_NAME, declaration_of(callback), api_key)
    return tuner


def _check_restore(path: str, options: Mapping[str, Any]) -> None:
    for name in options:
        if name in inspect.signature(tune.Tuner.restore).parameters:
            continue
        if name in OPTION_NAMES or name in wandb_settings.init_parameters():
            msg = f"{name}= is stored with the experiment, as it was given to wandb_tuner"
            raise UnknownOptionError(f"{PUBLIC_NAME}: {msg}. Leave it out.")
        msg = f"{PUBLIC_NAME}: {name}= is no argument of tune.Tuner.restore."
        raise UnknownOptionError(f"{msg} Leave it out.")
    try:
        there = tune.Tuner.can_restore(path, options.get("storage_filesystem"))
    except (OSError, ValueError) as error:  # from pyarrow, for an address that it can't read
        msg = f"{PUBLIC_NAME}: can't look into {path!r}: {error}. Check the path."
        raise ConfigurationError(msg) from error
    if not there:
        raise ConfigurationError(
            f"{PUBLIC_NAME}: no experiment in {path!r}. Give <storage_path>/<experiment>; "
            "tune.Tuner.can_restore(path) tells whether one is there."
        )


def _callback_of(tuner: Tuner, path: str) -> WandbLoggerCallback:
    for callback in ray_loop.callbacks_of(tuner):
        if isinstance(callback, WandbLoggerCallback):
            return callback
    msg = f"{PUBLIC_NAME}: the experiment in {path} has no WandbLoggerCallback. Use Tuner.restore."
    raise ConfigurationError(msg)
