"""`@wandb_trial`: a trainable function whose run is opened, injected and closed for it.

What it makes of the function is in :mod:`wbtune.decorated`, which is imported when there is
a function: a quarter of what ``import wbtune`` took was wrapt, for who has only the callback.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

from wbtune import _compat
from wbtune.errors import ConfigurationError, InvalidTrainableError
from wbtune.options import RunOptions, key_in_code, one_id, parse

R = TypeVar("R")

WHO = "wandb_trial"


@overload
def wandb_trial(trainable: Callable[..., R], /) -> Callable[..., R]: ...


@overload
def wandb_trial(
    *,
    project: str | None = ...,
    group: str | None = ...,
    api_key_file: str | None = ...,
    excludes: list[str] | tuple[str, ...] | None = ...,
    log_config: bool | None = ...,
    video_kwargs: Mapping[str, Any] | None = ...,
    image_kwargs: Mapping[str, Any] | None = ...,
    log_results: bool | None = ...,
    unmask: list[str] | tuple[str, ...] | None = ...,
    rank_zero_only: bool | None = ...,
    run_arg: str = ...,
    **init_kwargs: Any,
) -> Callable[[Callable[..., R]], Callable[..., R]]: ...


def wandb_trial(
    trainable: Callable[..., Any] | None = None,
    /,
    *,
    project: str | None = None,
    group: str | None = None,
    api_key_file: str | None = None,
    excludes: list[str] | tuple[str, ...] | None = None,
    log_config: bool | None = None,
    video_kwargs: Mapping[str, Any] | None = None,
    image_kwargs: Mapping[str, Any] | None = None,
    log_results: bool | None = None,
    unmask: list[str] | tuple[str, ...] | None = None,
    rank_zero_only: bool | None = None,
    run_arg: str = "run",
    **init_kwargs: Any,
) -> Any:
    """Give a trainable function its own W&B run, one for each trial.

    The run is open before the function's first line and closed, with all its rows, before
    Tune hears that the trial is done, whether the function returned, raised, or was
    stopped. (With ``log_results``, what it returns is a row as well.) It is injected as the
    parameter ``run``, if the function has one; it is `wandb.run` as well.

    Args:
        trainable: a plain or generator function, lambda, bound method, callable object or
            `functools.partial` that takes Tune's ``config``.
        project: name of the W&B project.
        group: name of the W&B group. Defaults to the experiment's name.
        api_key_file: path of a file, on every node, whose first line is the API key.
        excludes: metrics and config keys to leave out: names, prefixes, globs.
        log_config: also log the config that comes along in each result.
        video_kwargs: keyword arguments for ``wandb.Video``.
        image_kwargs: keyword arguments for ``wandb.Image``.
        log_results: log what the function reports to Tune, too. Defaults to False, and to
            True under `wandb_tuner`.
        unmask: config keys that look like secrets (``*token*``, ``*password*``, ...) and
            are none; the text of the others is masked.
        rank_zero_only: for a training loop of Ray Train: a run for the worker of rank 0
            only, as in `setup_wandb`. Defaults to True; the others get a disabled run.
        run_arg: the name of the parameter that the run is injected as.
        **init_kwargs: for ``wandb.init``: ``tags=``, ``mode=``, ``job_type=``, ...

    Returns:
        The function, with its name, docstring and signature (less the injected parameter).

    Raises:
        InvalidTrainableError: for a class, a coroutine function, or what is decorated already.
        UnknownOptionError: for an option that neither wbtune nor ``wandb.init`` has.
        ConfigurationError: for a value that W&B does not accept, an ``api_key=`` or an ``id=``.

    Runs on: the decoration, driver; the run, trial.

    Example:
        >>> @wandb_trial(project="docs", mode="offline")
        ... def train(config, run):
        ...     run.log({"loss": config["lr"] * 2})
        >>> train.__name__
        'train'

    Source: the guide's ``setup_wandb`` ("It automatically initializes the Wandb API with
    Tune's training information"), made a declaration.
    """
    if "api_key" in init_kwargs:
        raise ConfigurationError(key_in_code(WHO, "api_key= in a decorator"))
    if init_kwargs.get("id") is not None:
        raise ConfigurationError(one_id(WHO))
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
    names = _compat.init_parameters() if init_kwargs else frozenset()
    options = parse(WHO, {**named, **init_kwargs}, names)
    if trainable is None:
        return functools.partial(_decorate, options=options, run_arg=run_arg)
    return _decorate(trainable, options, run_arg)


def _decorate(trainable: Any, options: RunOptions, run_arg: str) -> Any:
    from wbtune.decorated import WandbTrial  # noqa: PLC0415 - as said

    _check(trainable)
    try:
        return WandbTrial(trainable, options, run_arg)
    except ValueError as error:
        msg = f"{WHO}: {trainable!r} does not tell its signature. Wrap it in 'def train(config)'."
        raise InvalidTrainableError(msg) from error


def _check(trainable: Any) -> None:
    """Refuse what can't be a trainable function.

    Raises:
        InvalidTrainableError: says what it is and what to do.
    """
    from wbtune.decorated import WandbTrial, innermost  # noqa: PLC0415 - as said

    got = f"got {getattr(trainable, '__qualname__', None) or repr(trainable)}"
    if type(innermost(trainable)) is WandbTrial:
        problem, cure = "is decorated already", "Merge the two declarations into one."
    elif isinstance(trainable, type):
        problem, cure = "is a class", "Give it the mixin: class Train(WandbMixin, tune.Trainable)."
    elif not callable(trainable):
        problem, cure = "can't be called", "Decorate the function: @wandb_trial(project=...)."
    elif _is_asynchronous(trainable):
        problem, cure = "is a coroutine function", "Make it 'def train(config)'."
    else:
        return
    msg = f"{WHO}: expected a plain or generator function, {got}, which {problem}. {cure}"
    raise InvalidTrainableError(msg)


def _is_asynchronous(trainable: Any) -> bool:
    from wbtune.decorated import innermost  # noqa: PLC0415 - as said

    trainable = innermost(trainable)
    return any(
        inspect.iscoroutinefunction(candidate) or inspect.isasyncgenfunction(candidate)
        for candidate in (trainable, type(trainable).__call__)
    )
