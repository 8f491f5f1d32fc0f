"""Send a tuner's options along with a trainable that opens its own run.

Runs on the driver, in `wandb_tuner`. What the trainable declares overrides the tuner's options.
A decorated function and a class with the mixin are copied, with both merged as the declaration.
A function that calls a decorated one (a partial, a lambda, what ``tune.with_parameters`` returns)
gets a mixin with the options. Tune makes the mixin a base of the function's `Trainable`, and in
the trial the decorated function's declaration overrides them. The user's own objects do not change.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Iterator
from typing import Any

from wbtune._data.options import RunOptions
from wbtune._run.ownership import OwnsRun
from wbtune._trial.trial_function import WandbTrial
from wbtune._upstream import ray_functions
from wbtune.errors import InvalidTrainableError


def with_tuner_options(
    public_name: str, trainable: Any, options: RunOptions
) -> tuple[Any, RunOptions]:
    """The trainable with a tuner's options, and the options overridden by its declaration.

    Args:
        public_name: what the user called, for messages.
        trainable: a function, a class, or the name of a registered one.
        options: the tuner's.

    Returns:
        Both, unchanged if the trainable does not open its own run.

    Raises:
        InvalidTrainableError: for a name that is not registered.
    """
    if not isinstance(trainable, str):
        return _with_options(trainable, options)
    registered = ray_functions.registered(trainable)
    if registered is None:
        msg = (
            f"{public_name}: no trainable is registered as {trainable!r}. "
            "Give the trainable itself."
        )
        raise InvalidTrainableError(msg)
    made, merged = _with_options(registered, options)
    return (trainable if made is registered else made), merged


def check_takes_config(public_name: str, trainable: Any) -> None:
    """Refuse a decorated function that can't be called as Tune does, with only the config.

    Raises:
        InvalidTrainableError: says what else the function requires.
    """
    if type(trainable) is not WandbTrial:
        return
    try:
        inspect.signature(trainable).bind({})
    except TypeError as error:
        msg = f"{public_name}: Tune calls {trainable.__name__} with the config alone: {error}."
        cure = (
            f"If it is for the run, name it 'run'; else tune.with_parameters({trainable.__name__}"
        )
        raise InvalidTrainableError(f"{msg} {cure}, ...).") from error


def _with_options(trainable: Any, options: RunOptions) -> tuple[Any, RunOptions]:
    if type(trainable) is WandbTrial:
        merged = options | trainable.declared
        return trainable.declaring(merged), merged
    if isinstance(trainable, type) and issubclass(trainable, OwnsRun):
        declared = getattr(trainable, "wbtune_options", None)
        if not isinstance(declared, RunOptions):
            return trainable, options
        names = {name: getattr(trainable, name) for name in ("__module__", "__qualname__")}
        merged = options | declared
        return type(trainable.__name__, (trainable,), {**names, "wbtune_options": merged}), merged
    called = [*_decorated_functions(trainable)]
    if not called:
        return trainable, options
    made = _with_mixin(trainable, options)
    for function in called:
        options |= function.declared
    return made, options


def _decorated_functions(trainable: Any) -> Iterator[WandbTrial]:
    """The decorated functions that a function calls, as far as that is certain.

    Those are the function inside a partial, the one that ``tune.with_parameters`` was given
    (its closure holds it), and those that a lambda refers to in its closure or module, since a
    lambda is usually there to call them.
    """
    if type(trainable) is WandbTrial:
        yield trainable
    elif isinstance(trainable, functools.partial):
        yield from _decorated_functions(trainable.func)
    elif isinstance(trainable, types.FunctionType):
        is_lambda = trainable.__name__ == "<lambda>"
        found: list[Any] = []
        if is_lambda or _owns_run(trainable):
            found += [cell.cell_contents for cell in trainable.__closure__ or ()]
        if is_lambda:
            found += [trainable.__globals__.get(name) for name in trainable.__code__.co_names]
        for value in found:
            if type(value) is WandbTrial or _owns_run(value):
                yield from _decorated_functions(value)


def _owns_run(function: Any) -> bool:
    is_function = isinstance(function, types.FunctionType)
    mixins = getattr(function, "__mixins__", ()) if is_function else ()
    return any(issubclass(mixin, OwnsRun) for mixin in mixins)


def _with_mixin(function: Any, options: RunOptions) -> Any:
    """A partial of the function, with the function's attributes and the options."""
    mixin = type("OwnsRun", (OwnsRun,), {"__slots__": (), "wbtune_tuner_options": options})
    given: dict[str, Any] = {**vars(function)}
    given["__mixins__"] = (mixin, *given.get("__mixins__", ()))
    if isinstance(function, functools.partial):
        made = functools.partial(function.func, *function.args, **function.keywords)
    else:
        made = functools.partial(function)
        given.setdefault("__name__", function.__name__)  # Tune names the trials after it
    vars(made).update(given)
    return made
