"""What Tune makes of functions: its classes of them, and what it has registered."""

from __future__ import annotations

import functools
import inspect
import logging
import types
from typing import Any, Final

from wbtune._upstream import frames
from wbtune._upstream.capabilities import Capability, uses

FUNCTIONS: Final = Capability(
    "what Tune makes of functions",
    without="wandb_tuner's options do not reach a decorated function that is registered by name",
    since="ray 2.41",
    needs=(
        "ray.tune.registry:get_trainable_cls",
        "ray.tune.trainable:FunctionTrainable._trainable_func",
        "ray.tune.trainable.function_trainable:wrap_function.train_func",
    ),
)


def with_parameters_of(trainable: Any) -> Any:
    """Return the function that ``tune.with_parameters`` was given; None for any other object.

    It is the only callable in the closure of what that returns
    [Ray 2.60, ``tune/trainable/util.py``, ``with_parameters``].
    """
    is_one = getattr(trainable, "__qualname__", "").startswith("with_parameters.")
    if not is_one or not isinstance(trainable, types.FunctionType):
        return None
    found = (cell.cell_contents for cell in trainable.__closure__ or ())
    return next((value for value in found if callable(value)), None)


def with_parameters_around(trainable: types.FunctionType, inner: Any) -> types.FunctionType:
    """Return another function with the same parameters; the user's own stays as it is."""
    given = with_parameters_of(trainable)
    cells = [
        types.CellType(inner) if cell.cell_contents is given else cell
        for cell in trainable.__closure__ or ()
    ]
    made = types.FunctionType(
        trainable.__code__,
        trainable.__globals__,
        trainable.__name__,
        trainable.__defaults__,
        tuple(cells),
    )
    made.__qualname__ = trainable.__qualname__
    vars(made).update(vars(trainable))
    return made


@uses(FUNCTIONS, otherwise=lambda name: name)
def registered(name: str) -> Any:
    """Return what ``tune.register_trainable`` stored under a name; None for an unknown one.

    Where that can't be known, it is the name.

    A function, where Tune made its class of one: that keeps it in a closure
    [Ray 2.60, ``tune/registry.py``; ``function_trainable.py``, ``wrap_function``].
    """
    from ray.tune import TuneError, registry  # noqa: PLC0415 - needs ray

    try:
        stored = registry.get_trainable_cls(name)
    except TuneError:
        return None
    if not is_function(stored):
        return stored
    method: Any = getattr(stored, "_trainable_func", None)
    return inspect.getclosurevars(method).nonlocals.get("train_func", stored)


def _is_named_like_one(trainable: type | None) -> bool:
    return any(base.__name__ == "FunctionTrainable" for base in getattr(trainable, "__mro__", ()))


@uses(FUNCTIONS, otherwise=_is_named_like_one)
def is_function(trainable: type | None) -> bool:
    """Return whether this is a class that Tune made of a function."""
    from ray.tune.trainable import FunctionTrainable  # noqa: PLC0415 - needs ray

    return trainable is not None and issubclass(trainable, FunctionTrainable)


@functools.cache
def is_a_function_to_tune(kind: type) -> None:
    """Keep Tune from calling objects of this class an "unknown callable".

    For a function it says nothing; it asks for the very type, which a wrapper can't have. A
    filter of its logger leaves out the line for these alone
    [Ray 2.60, ``tune/registry.py``, ``register_trainable``].
    """

    def is_of_others(record: logging.LogRecord) -> bool:
        if "unknown callable" not in record.msg:
            return True
        named = (f for f in frames.callers() if f.f_code.co_name == "register_trainable")
        frame = next(named, None)
        return frame is None or type(frame.f_locals.get("trainable")) is not kind

    logging.getLogger("ray.tune.registry").addFilter(is_of_others)
