"""A trial's `Trainable`, in its own process, and what Tune makes of functions."""

from __future__ import annotations

import functools
import inspect
import logging
import sys
import threading
import traceback
import types
from collections.abc import Callable, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any

from wbtune._upstream import frames

if TYPE_CHECKING:
    from ray.tune import Trainable


def find_trainable() -> Trainable | None:
    """Return the `Trainable` for which this code runs, in a trial's process; None elsewhere.

    Ray has no public way from a trainable function to its `Trainable`. It is the ``self``
    of a frame of the calling stack, for class trainables as for a function's training
    thread; for a thread that the user started, of the actor's main thread, which waits in
    ``step`` [Ray 2.60, ``tune/trainable/function_trainable.py``].
    """
    from ray.tune import Trainable  # noqa: PLC0415 - `import wbtune.setup` stays cheap

    stacks: list[FrameType | None] = [sys._getframe(1)]  # noqa: SLF001 - documented, and needed
    main = threading.main_thread().ident
    if threading.get_ident() != main and main is not None:
        stacks.append(sys._current_frames().get(main))  # noqa: SLF001 - as above
    for stack in stacks:
        for frame in frames.up(stack):
            candidate = frame.f_locals.get("self")
            if isinstance(candidate, Trainable):
                return candidate
    return None


def training_thread() -> threading.Thread | None:
    """Return the thread that a function trainable runs in [Ray 2.60, ``_TrainSession``]."""
    from ray.train._internal.session import get_session  # noqa: PLC0415 - needs ray

    session = get_session()
    thread = getattr(session, "training_thread", None)
    return thread if isinstance(thread, threading.Thread) else None


def on_training_error(report: Callable[[BaseException], None]) -> None:
    """Call ``report`` with what this trial's function raises, in its own thread.

    A function's error is put into a queue by its thread and raised in ``step``, which may
    already be running when somebody begins to listen. The thread's own method is looked
    up on the instance [Ray 2.60, ``air/_internal/util.py``, ``RunnerThread``].
    """
    thread: Any = threading.current_thread()
    if not hasattr(thread, "_propagate_exception"):  # one that the user started
        thread = training_thread()
    original = getattr(thread, "_propagate_exception", None)
    if original is None or getattr(thread, "wbtune_reports", None) == report:
        return

    def propagate(error: BaseException) -> None:
        report(error)
        original(error)

    thread._propagate_exception = propagate  # noqa: SLF001 - see above
    thread.wbtune_reports = report


def with_parameters_of(trainable: Any) -> Any:
    """Return the function that ``tune.with_parameters`` was given; None for any other object.

    [Ray 2.60, ``tune/trainable/util.py``, ``with_parameters``: ``inner``, in its closure.]
    """
    is_one = getattr(trainable, "__qualname__", "") == "with_parameters.<locals>.inner"
    if not is_one or not isinstance(trainable, types.FunctionType):
        return None
    return inspect.getclosurevars(trainable).nonlocals.get("trainable")


def with_parameters_around(trainable: types.FunctionType, inner: Any) -> types.FunctionType:
    """Return another function with the same parameters; the user's own stays as it is."""
    names = trainable.__code__.co_freevars
    cells = [
        types.CellType(inner) if name == "trainable" else cell
        for name, cell in zip(names, trainable.__closure__ or (), strict=True)
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


def is_tunes_stop(error: BaseException) -> bool:
    """Return whether Tune ended a function by this: ``sys.exit(0)`` inside of ``report``.

    The user's own ``sys.exit`` is none, whatever its code: Tune fails the trial
    [Ray 2.60, ``train/_internal/session.py``, ``report``].
    """
    found: BaseException | None = error
    while found is not None:
        by = [
            str(one.f_globals.get("__name__")) for one, _ in traceback.walk_tb(found.__traceback__)
        ]
        # While there is a run, ``sys.exit`` is wandb's [wandb 0.31, ``ExitHooks``].
        while by and by[-1].startswith("wandb."):
            by.pop()
        if isinstance(found, SystemExit) and by and by[-1].partition(".")[0] == "ray":
            return True
        found = found.__context__  # the user's ``finally:`` may exit, too
    return False


def registered(name: str) -> Any:
    """Return what ``tune.register_trainable`` stored under a name; None for an unknown one.

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


def function_returned(trainable: Trainable) -> bool:
    """Return whether the function of this function trainable returned by itself.

    Its last result is then Tune's "duplicate" [Ray 2.60, ``FunctionTrainable.step``].
    """
    last = getattr(trainable, "_last_training_result", None)
    return last is not None and is_duplicate(last.metrics)


def is_duplicate(result: Any) -> bool:
    """Return whether a result only says that a function has returned [``RESULT_DUPLICATE``]."""
    from ray.tune.result import RESULT_DUPLICATE  # noqa: PLC0415 - needs ray

    return isinstance(result, dict) and RESULT_DUPLICATE in result


def trial_info(trainable: Trainable | None, config: Mapping[str, Any] | None = None) -> Any:
    """Return Tune's ``_TrialInfo`` of a trainable, or of the config that builds one.

    [Ray 2.60, ``Trainable.__init__`` takes it out of the config before ``setup``.]
    """
    from ray.tune.result import TRIAL_INFO  # noqa: PLC0415 - needs ray

    info = getattr(trainable, "_trial_info", None)
    return info if info is not None else (config or {}).get(TRIAL_INFO)


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
