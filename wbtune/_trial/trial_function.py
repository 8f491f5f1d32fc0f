"""The wrapper that `@wandb_trial` puts around a function: opens, injects and closes its run.

Only the one class here uses wrapt, because wrapt's wrappers and cloudpickle disagree: wrapt
forwards ``__class__``, so cloudpickle takes a wrapper for the plain function inside it,
and on the worker the decoration is silently gone. `WandbTrial` works differently:

- ``__class__`` is the wrapper's own class, so cloudpickle asks it how to be pickled;
- ``__reduce_ex__`` answers with the wrapped callable and the declaration;
- ``copy`` and ``deepcopy`` return the object itself: it has no state of its own.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any

import wrapt

from wbtune._data.options import RunOptions
from wbtune._place import identity
from wbtune._run import ownership
from wbtune._trial import run_parameter
from wbtune._upstream import ray_functions
from wbtune.errors import InvalidTrainableError

PUBLIC_NAME = "wandb_trial"

#: The attributes by which `inspect` recognises a function.
_FUNCTION_LIKE = frozenset({"__name__", "__code__", "__defaults__", "__kwdefaults__"})

_POSITIONAL = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}


if TYPE_CHECKING:
    Proxy = wrapt.ObjectProxy[Any]
else:
    Proxy = wrapt.ObjectProxy  # before wrapt 2.1 it is generic for type checkers only


class WandbTrial(Proxy):
    """A trainable function with the declaration of its run."""

    __mixins__ = (ownership.OwnsRun,)  # Tune makes them bases of the function's Trainable

    def __init__(self, wrapped: Callable[..., Any], options: RunOptions, run_arg: str) -> None:
        Proxy.__init__(self, wrapped)
        ray_functions.is_a_function_to_tune(WandbTrial)
        self._self_options = options
        self._self_run_arg = run_arg
        self._self_signature = inspect.signature(wrapped)
        self._self_resources: Any = getattr(wrapped, "_resources", None)
        self._self_trial: identity.Identity | None = None

    @property  # type: ignore[misc]  # wrapt's own is written by its C extension
    def __class__(self) -> Any:
        return WandbTrial

    @property
    def __signature__(self) -> inspect.Signature:
        """The function's signature, without the parameter that takes the run."""
        signature = self._self_signature
        kept = [p for name, p in signature.parameters.items() if name != self._self_run_arg]
        return signature.replace(parameters=kept)

    def __getattr__(self, name: str) -> Any:
        # A partial has no code: `inspect.isgeneratorfunction`, which Tune calls, would not
        # recognise a partial of a generator function.
        wrapped = self.__wrapped__
        return getattr(_innermost(wrapped) if name in _FUNCTION_LIKE else wrapped, name)

    @property
    def _resources(self) -> Any:
        # `tune.with_resources` sets this, which a bound method or a partial can't hold.
        return self._self_resources

    @_resources.setter
    def _resources(self, resources: Any) -> None:
        self._self_resources = resources

    @property
    def declared(self) -> RunOptions:
        """The declaration."""
        return self._self_options

    def declaring(self, options: RunOptions) -> WandbTrial:
        """The same function under another declaration."""
        return _rebuild(self.__wrapped__, options, self._self_run_arg, self._self_resources)

    def __get__(self, instance: object, owner: type | None = None) -> WandbTrial:
        bind = getattr(type(self.__wrapped__), "__get__", None)
        if instance is None or bind is None:  # a callable object is not bound by Python
            return self
        bound = bind(self.__wrapped__, instance, owner)
        return _rebuild(bound, self._self_options, self._self_run_arg, self._self_resources)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, with a run of its own around the call."""
        passed, args, kwargs = self._without_run(args, kwargs)
        if passed is not None:
            positional, named = self._injected(args, kwargs, passed)
            return self.__wrapped__(*positional, **named)
        if inspect.isgeneratorfunction(self.__wrapped__):
            return self._generate(args, kwargs)
        with self._running(args, kwargs) as (positional, named):
            return self.__wrapped__(*positional, **named)

    def _without_run(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        """The run that the caller passed, or None, and the rest of the call."""
        name, parameters = self._self_run_arg, self._self_signature.parameters
        if name in kwargs and name in parameters:
            return kwargs[name], args, {k: v for k, v in kwargs.items() if k != name}
        by_place = [n for n, parameter in parameters.items() if parameter.kind in _POSITIONAL]
        if name in by_place and len(args) == len(by_place):
            place = by_place.index(name)
        else:
            return None, args, kwargs
        if args[place] is None or type(args[place]).__module__.startswith("wandb."):
            return args[place], (*args[:place], *args[place + 1 :]), kwargs
        return None, args, kwargs

    def _generate(self, args: Any, kwargs: Any) -> Generator[Any, Any, Any]:
        with self._running(args, kwargs) as (positional, named):
            return (yield from self.__wrapped__(*positional, **named))

    @contextlib.contextmanager
    def _running(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = [*args, *kwargs.values()]
        config = given[0] if given and isinstance(given[0], Mapping) else None
        trial = self._self_trial
        # Opening runs is the trial's work, and half of what the driver would import.
        from wbtune._trial.function_run import around_function  # noqa: PLC0415 - see above

        with around_function(PUBLIC_NAME, self._self_options, config, trial) as run:
            yield self._injected(args, kwargs, run)

    def _injected(self, args: tuple[Any, ...], kwargs: dict[str, Any], run: Any) -> Any:
        """The arguments of the call, with the run in the place of its parameter."""
        names = list(self._self_signature.parameters)
        if self._self_run_arg not in names:
            return args, kwargs
        place = names.index(self._self_run_arg)
        kind = self._self_signature.parameters[self._self_run_arg].kind
        if kind is inspect.Parameter.KEYWORD_ONLY or place > len(args):
            return args, {**kwargs, self._self_run_arg: run}
        return (*args[:place], run, *args[place:]), kwargs

    def __reduce_ex__(self, protocol: Any) -> Any:
        # It may be on its way to Ray Train's workers, which know neither the trial nor the driver.
        trial = identity.of_here() or self._self_trial or identity.Identity()
        trial = trial._replace(sender=ownership.send(PUBLIC_NAME, trial.sender))
        rest = (self._self_options, self._self_run_arg, self._self_resources, trial)
        return _rebuild, (self.__wrapped__, *rest)

    def __copy__(self) -> WandbTrial:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> WandbTrial:
        return self

    def __repr__(self) -> str:
        return f"<{PUBLIC_NAME} {self.__wrapped__!r}>"


def _rebuild(
    wrapped: Any,
    options: RunOptions,
    run_arg: str,
    resources: Any,
    trial: identity.Identity | None = None,
) -> WandbTrial:
    rebuilt = WandbTrial(wrapped, options, run_arg)
    rebuilt._resources = resources  # noqa: SLF001 - Tune's name for it
    rebuilt._self_trial = trial  # noqa: SLF001 - as in `__init__`
    return rebuilt


def decorated(trainable: Any, options: RunOptions, run_arg: str) -> Any:
    """The function with the declaration of its run.

    If ``tune.with_parameters`` made the function, the one inside it is decorated: Ray's own
    function takes only the config, and calls the one inside without a run.

    Raises:
        InvalidTrainableError: for anything that can't be a trainable function, or has no signature.
    """
    inner = ray_functions.with_parameters_of(trainable)
    if inner is not None:
        outer = ray_functions.with_parameters_around(trainable, decorated(inner, options, run_arg))
        outer.__dict__.setdefault("__mixins__", WandbTrial.__mixins__)
        return outer
    _check(trainable)
    try:
        made = WandbTrial(trainable, options, run_arg)
    except ValueError as error:
        problem = f"{trainable!r} does not tell its signature"
        msg = f"{PUBLIC_NAME}: {problem}. Wrap it in 'def train(config)'."
        raise InvalidTrainableError(msg) from error
    run_parameter.check(PUBLIC_NAME, trainable, run_arg)
    return made


def _check(trainable: Any) -> None:
    """Refuse anything that can't be a trainable function.

    Raises:
        InvalidTrainableError: says what was given, and what to do instead.
    """
    got = f"got {getattr(trainable, '__qualname__', None) or repr(trainable)}"
    if type(_innermost(trainable)) is WandbTrial:
        problem, cure = "is decorated already", "Merge the two declarations into one."
    elif isinstance(trainable, type):
        problem, cure = "is a class", "Give it the mixin: class Train(WandbMixin, tune.Trainable)."
    elif not callable(trainable):
        problem, cure = "can't be called", "Decorate the function: @wandb_trial(project=...)."
    elif _is_asynchronous(trainable):
        problem, cure = "is a coroutine function", "Make it 'def train(config)'."
    else:
        return
    msg = f"{PUBLIC_NAME}: expected a plain or generator function, {got}, which {problem}. {cure}"
    raise InvalidTrainableError(msg)


def _is_asynchronous(trainable: Any) -> bool:
    trainable = _innermost(trainable)
    return any(
        inspect.iscoroutinefunction(candidate) or inspect.isasyncgenfunction(candidate)
        for candidate in (trainable, type(trainable).__call__)
    )


def _innermost(trainable: Any) -> Any:
    """The function inside a partial, however often it is nested."""
    while isinstance(trainable, functools.partial):
        trainable = trainable.func
    return trainable
