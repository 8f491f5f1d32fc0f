"""A worker of Ray Train, V2 or V1, and the end of its training loop."""

from __future__ import annotations

import contextlib
import sys
import threading
import uuid
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from wbtune._upstream import ray_storage
from wbtune._upstream.capabilities import Capability, uses

_SESSION: Final = "ray.train._internal.session"
_AIR: Final = "ray.air._internal.util"
_V2: Final = "ray.train.v2._internal.execution"
_RUNNER: Final = f"{_V2}.worker_group.thread_runner:ThreadRunner"
WORKERS: Final = Capability(
    "which worker of Ray Train V1 a process is",
    without="the run of a training loop of Ray Train V1 is named after the loop alone",
    since="ray 2.41",
    needs=(
        f"{_SESSION}:get_session",
        *(f"{_SESSION}:_TrainSession.{name}" for name in ("trial_info", "world_rank")),
    ),
)
WORKERS_V2: Final = Capability(
    "which worker of Ray Train V2 a process is",
    without="a training loop of Ray Train V2 has a run like any program, in a folder of its node",
    since="ray 2.41",
    needs=(
        f"{_V2}.context:_train_context",
        f"{_V2}.context:ExecutionContext.training_thread_runner",
    ),
)
LOOPS: Final = Capability(
    "how a training loop of Ray Train ends",
    without=(
        "a run that setup_wandb opens in a training loop of Ray Train is to be closed by "
        "run.finish(), or the loop to be decorated with @wandb_trial"
    ),
    since="ray 2.41",
    needs=(
        f"{_SESSION}:_TrainSession.training_thread",
        *(
            f"ray.air._internal.util:RunnerThread.{name}"
            for name in ("_ret", "_propagate_exception")
        ),
        f"{_V2}.context:ExecutionContext.training_thread_runner",
        f"{_RUNNER}._exc_queue | {_RUNNER}._exc",  # before Ray 2.50, the latter with `_ret`
        f"{_V2}.callback:WorkerCallback",
        f"{_V2}.worker_group.worker:RayTrainWorker._callbacks",
        "ray.train.v2._internal.exceptions:UserExceptionWithTraceback._base_exc",
        f"{_AIR}:StartTraceback",
    ),
)


# Small records are NamedTuples, here and elsewhere: a frozen dataclass takes seven times as
# long to make, and `import wbtune` is to be quick.
class TrainWorker(NamedTuple):
    """The worker of Ray Train that this process is.

    Attributes:
        rank: its rank; 0-based.
        run_id: of V2's Train run, the same when its workers are started again.
        run_name: of V2's Train run.
        trial: V1's, which always is a trial of Tune's: its ``TrialInfo``.
        storage: a ``StorageContext``.
        home: an object that lives as long as the training loop runs.
    """

    rank: int
    run_id: str
    run_name: str
    trial: Any
    storage: Any
    home: Any


def _public_worker() -> TrainWorker | None:
    """Return what Ray Train's public context says of this process."""
    from ray import train  # noqa: PLC0415 - needs ray

    said: dict[str, Any] = {}
    for name in ("world_rank", "experiment_name", "trial_id", "storage"):
        with contextlib.suppress(Exception):  # outside of a worker it raises, or returns None
            said[name] = getattr(train.get_context(), f"get_{name}")()
    if said.get("world_rank") is None or not said.get("experiment_name"):
        return None
    name, storage = str(said.get("experiment_name") or ""), said.get("storage")
    run_id = said.get("trial_id") or _run_id(storage, name)
    return TrainWorker(
        *(int(said["world_rank"]), run_id, name), None, storage, threading.current_thread()
    )


def _run_id(storage: Any, name: str) -> str:
    """Return an id for a Train run: another one of this name goes on with it in its folder."""
    return uuid.uuid5(uuid.NAMESPACE_URL, ray_storage.experiment_path(storage) or name).hex


def train_worker() -> TrainWorker | None:
    """Return the worker of Ray Train that this process is; None in a trial of Tune and outside Ray.

    ``ray.train.get_context()`` is public, but raises or warns outside a worker, and knows
    neither a Train run's id nor whether it is V1's or V2's.
    """
    worker = _worker_of_v1()
    # Its modules are not imported just to look, in each trial of Tune's.
    return _worker_of_v2() if worker is None and f"{_V2}.context" in sys.modules else worker


@uses(WORKERS, otherwise=_public_worker)
def _worker_of_v1() -> TrainWorker | None:
    """Return the worker by its session [Ray 2.60, ``train/_internal/session.py``]."""
    from ray.train._internal.session import get_session  # noqa: PLC0415 - needs ray

    session = get_session()
    if session is None or session.world_rank is None:
        return None
    info, home = session.trial_info, session.training_thread
    return TrainWorker(
        *(int(session.world_rank), str(info.run_id), info.name, info, session.storage, home)
    )


@uses(WORKERS_V2, otherwise=_public_worker)
def _worker_of_v2() -> TrainWorker | None:
    """Return the worker by its context [Ray 2.60, ``train/v2/_internal/execution/context.py``]."""
    from ray.train.v2._internal.execution import context as v2  # noqa: PLC0415 - needs ray

    context: Any = v2._train_context  # noqa: SLF001 - see above
    if context is None:
        return None
    name, storage = str(context.get_experiment_name()), context.get_storage()
    # Before Ray 2.49, no worker's id is that of the others, or of those that are started later.
    run_id = getattr(getattr(context, "train_run_context", None), "run_id", None)
    return TrainWorker(
        rank=int(context.get_world_rank()),
        run_id=str(run_id or _run_id(storage, name)),
        run_name=name,
        trial=None,
        storage=storage,
        home=context.execution_context.training_thread_runner,
    )


@uses(LOOPS, otherwise=lambda *_: False)
def watch_training_loop(
    worker: TrainWorker,
    ended: Callable[[BaseException | None], None],
    shut_down: Callable[[], None],
) -> bool:
    """Call functions when a training loop ends, which Ray tells nobody on the worker.

    Args:
        worker: this one.
        ended: called before Ray hears of it, mostly in the loop's own thread: with None
            when it returned, or with what it raised.
        shut_down: called when Ray ends the worker (V2 only; V1 kills it).

    Returns:
        Whether they will be called.
    """
    if worker.trial is None:
        _watch_v2(worker.home, ended, shut_down)
    else:
        _watch_v1(worker.home, ended)
    return True


def _watch_v2(
    runner: Any, ended: Callable[[BaseException | None], None], shut_down: Callable[[], None]
) -> None:
    """Watch V2's loop [Ray 2.60, ``ThreadRunner._run_target``, ``RayTrainWorker.shutdown``].

    Its thread puts what the loop raised, or None, into a queue of the runner's, and Ray
    takes the worker to be running until the thread ends. Before Ray 2.50 it stores the one
    or the other in an attribute.
    """
    from ray._private.worker import global_worker  # noqa: PLC0415 - needs ray
    from ray.train.v2._internal.execution.callback import WorkerCallback  # noqa: PLC0415

    class BeforeShutdown(WorkerCallback):
        def before_worker_shutdown(self) -> None:
            shut_down()

    if hasattr(runner, "_exc_queue"):
        _watch_queue(runner, ended)
    else:
        _on_storing(runner, _ret=lambda _: ended(None), _exc=lambda e: ended(_unwrapped(e)))
    for actor in getattr(global_worker, "actors", {}).values():
        callbacks = getattr(actor, "_callbacks", None)
        if isinstance(callbacks, list):
            callbacks.append(BeforeShutdown())


def _watch_queue(runner: Any, ended: Callable[[BaseException | None], None]) -> None:
    unwrap, queue = _unwrapped, runner._exc_queue  # noqa: SLF001 - see above

    class ObservedQueue:
        def put(self, error: Any) -> None:
            ended(unwrap(error))
            queue.put(error)

        def __getattr__(self, name: str) -> Any:
            return getattr(queue, name)

    runner._exc_queue = ObservedQueue()  # noqa: SLF001 - as above


def _watch_v1(thread: Any, ended: Callable[[BaseException | None], None]) -> None:
    """Watch V1's loop [Ray 2.60, ``air/_internal/util.py``, ``RunnerThread.run``].

    Its thread stores what the loop returned in an attribute, which is replaced by a property here;
    what it raised, it hands to a method of its own.
    """
    original = thread._propagate_exception  # noqa: SLF001 - as above
    _on_storing(thread, _ret=lambda _: ended(None))

    def propagate(error: BaseException) -> None:
        ended(_unwrapped(error))
        original(error)

    thread._propagate_exception = propagate  # noqa: SLF001 - as above


def _on_storing(owner: Any, **functions: Callable[[Any], None]) -> None:
    """Call functions with what is stored in an object's attributes from now on."""

    def stored(name: str, function: Callable[[Any], None]) -> property:
        def store(self: Any, value: Any) -> None:
            self.__dict__[name] = value
            function(value)

        return property(lambda self: self.__dict__.get(name), store)

    kind = type(owner)
    observed = {name: stored(name, function) for name, function in functions.items()}
    owner.__class__ = type(kind.__name__, (kind,), observed)


def _unwrapped(error: Any) -> BaseException | None:
    """Return what the loop raised, without Ray's wrappers around it."""
    from ray.air._internal.util import StartTraceback  # noqa: PLC0415 - needs ray

    error = getattr(error, "_base_exc", error)  # V2: ``UserExceptionWithTraceback``
    while isinstance(error, StartTraceback) and error.__cause__ is not None:  # V1
        error = error.__cause__
    return error if isinstance(error, BaseException) else None
