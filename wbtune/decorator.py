"""`@wandb_trial`: opens, injects and closes a run for a trainable function.

:mod:`wbtune._trial.trial_function` is the wrapper that it puts around the function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any, TypeVar, Unpack, overload

from wbtune._data.checks import key_in_code
from wbtune._data.keywords import Names, TrialOptions
from wbtune._data.option_table import refused_at
from wbtune._data.options import parse
from wbtune._trial.trial_function import PUBLIC_NAME, decorated
from wbtune._upstream import wandb_settings
from wbtune.errors import ConfigurationError

R = TypeVar("R")


@overload
def wandb_trial(trainable: Callable[..., R], /) -> Callable[..., R]: ...


@overload
def wandb_trial(
    *,
    project: str | None = ...,
    group: str | None = ...,
    api_key_file: str | PathLike[str] | None = ...,
    excludes: Names | None = ...,
    log_config: bool | None = ...,
    video_kwargs: Mapping[str, Any] | None = ...,
    image_kwargs: Mapping[str, Any] | None = ...,
    log_results: bool | None = ...,
    unmask: Names | None = ...,
    rank_zero_only: bool | None = ...,
    run_arg: str = ...,
    **init_kwargs: Unpack[TrialOptions],
) -> Callable[[Callable[..., R]], Callable[..., R]]: ...


def wandb_trial(
    trainable: Callable[..., Any] | None = None,
    /,
    *,
    project: str | None = None,
    group: str | None = None,
    api_key_file: str | PathLike[str] | None = None,
    excludes: Names | None = None,
    log_config: bool | None = None,
    video_kwargs: Mapping[str, Any] | None = None,
    image_kwargs: Mapping[str, Any] | None = None,
    log_results: bool | None = None,
    unmask: Names | None = None,
    rank_zero_only: bool | None = None,
    run_arg: str = "run",
    **init_kwargs: Unpack[TrialOptions],
) -> Any:
    """Give a trainable function its own W&B run, one for each trial.

    The run is open before the function's first line and closed, with all its rows, before
    Tune learns that the trial is done, whether the function returned, raised, or was
    stopped. (With ``log_results``, what it returns is a row too.) The run is passed as the
    parameter ``run``, if the function has one, and is also `wandb.run`.

    Args:
        trainable: a plain or generator function, lambda, bound method, callable object or
            `functools.partial` that takes Tune's ``config``.
        project: name of the W&B project.
        group: name of the W&B group. Defaults to the experiment's name.
        api_key_file: path of a file, on every node, whose first line is the API key.
        excludes: metrics and config keys to leave out: names, prefixes, globs.
        log_config: also log the config that is part of each result.
        video_kwargs: keyword arguments for ``wandb.Video``.
        image_kwargs: keyword arguments for ``wandb.Image``.
        log_results: also log what the function reports to Tune. Defaults to False, and to
            True under `wandb_tuner`.
        unmask: config keys that look like secrets (``*token*``, ``*password*``, ...) but
            are not; text under any other such key is masked.
        rank_zero_only: in a training loop of Ray Train, give a run to the worker of rank 0
            only, as in `setup_wandb`. Defaults to True; the others get a disabled run.
        run_arg: the name of the parameter that the run is passed as.
        **init_kwargs: for ``wandb.init``: ``tags=``, ``mode=``, ``job_type=``, ...; and
            ``upload_timeout=``, the seconds that a trial's end waits for uploads, at most 10.

    Returns:
        The function, with its name, docstring and signature (without the injected parameter).

    Raises:
        InvalidTrainableError: for a class, a coroutine function, or a function that is
            decorated already.
        UnknownOptionError: for an option that neither wbtune nor ``wandb.init`` has.
        ConfigurationError: for a value that W&B does not accept, an ``api_key=`` or an ``id=``,
            or an option that only the driver can use (``upload_checkpoints=``).

    Runs on: driver (the decoration) and trial (the run).

    Examples:
        >>> @wandb_trial(project="docs", mode="offline")
        ... def train(config, run):
        ...     run.log({"loss": config["lr"] * 2})
        >>> train.__name__
        'train'

    Source: https://docs.ray.io/en/latest/tune/examples/tune-wandb.html, ``setup_wandb`` ("It
    automatically initializes the Wandb API with Tune's training information"), as a
    declaration.
    """
    if "api_key" in init_kwargs:
        raise ConfigurationError(key_in_code(PUBLIC_NAME, "api_key= in a decorator"))
    named = {
        "project": project,
        "group": group,
        "api_key_file": api_key_file,
        "excludes": excludes,
        "log_config": log_config,
        "video_kwargs": video_kwargs,
        "image_kwargs": image_kwargs,
        "log_results": log_results,
        "unmask": unmask,
        "rank_zero_only": rank_zero_only,
    }
    names = wandb_settings.init_parameters() if init_kwargs else frozenset()
    options = parse(PUBLIC_NAME, {**named, **init_kwargs}, names, refused_at(PUBLIC_NAME))

    def decorate(trainable: Any) -> Any:
        return decorated(trainable, options, run_arg)

    return decorate if trainable is None else decorate(trainable)
