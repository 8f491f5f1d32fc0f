"""A worker of Ray Train, V2 or V1, and the end of its training loop."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple


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


def train_worker() -> TrainWorker | None:
    """Return the worker of Ray Train that this process is; None in a trial of Tune and outside Ray.

    ``ray.train.get_context()`` is public, but raises or warns outside a worker, and knows
    neither a Train run's id nor whether it is V1's or V2's
    [Ray 2.60, ``train/_internal/session.py``, ``train/v2/_internal/execution/context.py``].
    """
    from ray.train._internal.session import get_session  # noqa: PLC0415 - needs ray

    session = get_session()
    if session is not None:
        info, rank = session.trial_info, session.world_rank
        if rank is None:
            return None
        home = session.training_thread
        return TrainWorker(int(rank), str(info.run_id), info.name, info, session.storage, home)
    v2 = sys.modules.get("ray.train.v2._internal.execution.context")
    context = getattr(v2, "_train_context", None)
    if context is None:
        return None
    return TrainWorker(
        rank=int(context.get_world_rank()),
        run_id=str(context.train_run_context.run_id),
        run_name=str(context.get_experiment_name()),
        trial=None,
        storage=context.get_storage(),
        home=context.execution_context.training_thread_runner,
    )


def watch_training_loop(
    worker: TrainWorker,
    ended: Callable[[BaseException | None], None],
    shut_down: Callable[[], None],
) -> None:
    """Call functions when a training loop ends, which Ray tells nobody on the worker.

    Args:
        worker: this one.
        ended: called before Ray hears of it, mostly in the loop's own thread: with None
            when it returned, or with what it raised.
        shut_down: called when Ray ends the worker (V2 only; V1 kills it).
    """
    if worker.trial is None:
        _watch_v2(worker.home, ended, shut_down)
    else:
        _watch_v1(worker.home, ended)


def _watch_v2(
    runner: Any, ended: Callable[[BaseException | None], None], shut_down: Callable[[], None]
) -> None:
    """Watch V2's loop [Ray 2.60, ``ThreadRunner._run_target``, ``RayTrainWorker.shutdown``].

    Its thread puts what the loop raised, or None, into a queue of the runner's, and Ray
    takes the worker to be running until the thread ends.
    """
    from ray._private.worker import global_worker  # noqa: PLC0415 - needs ray
    from ray.train.v2._internal.execution.callback import WorkerCallback  # noqa: PLC0415

    unwrap, queue = _unwrapped, runner._exc_queue  # noqa: SLF001 - see above

    class ObservedQueue:
        def put(self, error: Any) -> None:
            ended(unwrap(error))
            queue.put(error)

        def get(self) -> Any:
            return queue.get()

    class BeforeShutdown(WorkerCallback):
        def before_worker_shutdown(self) -> None:
            shut_down()

    runner._exc_queue = ObservedQueue()  # noqa: SLF001 - as above
    for actor in global_worker.actors.values():
        callbacks = getattr(actor, "_callbacks", None)
        if isinstance(callbacks, list):
            callbacks.append(BeforeShutdown())


def _watch_v1(thread: Any, ended: Callable[[BaseException | None], None]) -> None:
    """Watch V1's loop [Ray 2.60, ``air/_internal/util.py``, ``RunnerThread.run``].

    Its thread stores what the loop returned in an attribute, which is replaced by a property here;
    what it raised, it hands to a method of its own.
    """

    def returned(self: Any, value: Any) -> None:
        self.__dict__["_ret"] = value
        ended(None)

    ret = property(lambda self: self.__dict__.get("_ret"), returned)
    kind = type(thread)
    thread.__class__ = type(kind.__name__, (kind,), {"_ret": ret})
    original = thread._propagate_exception  # noqa: SLF001 - as above

    def propagate(error: BaseException) -> None:
        ended(_unwrapped(error))
        original(error)

    thread._propagate_exception = propagate  # noqa: SLF001 - as above


def _unwrapped(error: Any) -> BaseException | None:
    """Return what the loop raised, without Ray's wrappers around it."""
    from ray.air._internal.util import StartTraceback  # noqa: PLC0415 - needs ray

    error = getattr(error, "_base_exc", error)  # V2: ``UserExceptionWithTraceback``
    while isinstance(error, StartTraceback) and error.__cause__ is not None:  # V1
        error = error.__cause__
    return error if isinstance(error, BaseException) else None
