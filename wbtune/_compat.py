"""The only module that imports a private name of Ray or wandb.

Each name says why it is needed and in which version it was read. When one of them moves,
this is the file to change. Nothing here is imported before it is needed: `import wbtune`
must not import wandb.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.tune import Trainable


@functools.cache
def init_parameters() -> frozenset[str]:
    """The names that the installed ``wandb.init`` takes."""
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    return frozenset(inspect.signature(wandb.init).parameters)


# --- wandb ------------------------------------------------------------------------------


def wandb_setting(name: str) -> Any:
    """One of W&B's settings as files and environment give it, without starting its core.

    ``wandb.setup()`` is public but starts wandb-core and exports ``WANDB_SERVICE``, which
    every process started later would attach to [wandb 0.31, ``wandb_setup.singleton``].
    """
    from wandb.sdk import wandb_setup  # noqa: PLC0415 - wandb is imported when first needed

    return getattr(wandb_setup.singleton().settings, name)


def logged_in(base_url: str) -> bool:
    """Would wandb find credentials for this server: a netrc entry, a key, a token file?

    ``wandb.login(prompt=False)`` is public but prints, writes settings files and says
    False when offline [wandb 0.31, ``wandb.sdk.lib.wbauth``].
    """
    from wandb.sdk.lib import wbauth  # noqa: PLC0415 - wandb is imported when first needed

    found = wbauth.authenticate_session(
        host=base_url, source="wbtune", prompt=False, update_session=False
    )
    return found is not None


@functools.cache
def core_is_gone() -> tuple[type[BaseException], ...]:
    """What wandb raises when wandb-core is no more [wandb 0.31]."""
    from wandb.sdk import mailbox  # noqa: PLC0415 - wandb is imported when first needed

    return (ConnectionError, mailbox.MailboxClosedError, mailbox.HandleAbandonedError)


def forget_core() -> None:
    """Drop the connection to wandb-core, so that the next run starts another."""
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    wandb.teardown()


def record_type() -> Any:
    """The type of the records in a run's transaction log [wandb 0.31].

    ``wandb leet inspect --json`` is the supported reader, and takes half a second a run.
    """
    from wandb.proto import wandb_internal_pb2  # noqa: PLC0415 - when first needed

    return wandb_internal_pb2.Record


# --- Ray Tune ---------------------------------------------------------------------------


def find_trainable() -> Trainable | None:
    """The `Trainable` on whose behalf this code runs, in a trial's process.

    Ray has no public way from a trainable function to its `Trainable`. It is the ``self``
    of a frame of the calling stack, for class trainables as for a function's training
    thread; for a thread that the user started, of the actor's main thread, which waits in
    ``step`` [Ray 2.60, ``tune/trainable/function_trainable.py``].
    """
    from ray.tune import Trainable  # noqa: PLC0415 - `import wbtune.setup` stays cheap

    stacks: list[FrameType | None] = [sys._getframe(1)]  # noqa: SLF001 - documented, and needed
    main = threading.main_thread().ident
    if in_trial() and threading.get_ident() != main and main is not None:
        stacks.append(sys._current_frames().get(main))  # noqa: SLF001 - as above
    for stack in stacks:
        for frame in _up(stack):
            candidate = frame.f_locals.get("self")
            if isinstance(candidate, Trainable):
                return candidate
    return None


def _up(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def in_trial() -> bool:
    """Is this process running a function trainable (or a Ray Train V1 worker)?

    [Ray 2.60, ``train/_internal/session.py``; ``tune.get_context`` builds on it.]
    """
    from ray.train._internal.session import get_session  # noqa: PLC0415 - needs ray

    return get_session() is not None


def train_rank() -> int | None:
    """The rank of a Ray Train worker; None in a trial of Tune, and outside Ray.

    ``ray.train.get_context()`` is public, but raises or warns outside a worker, and
    differs between V1 and V2 [Ray 2.60, ``train/v2/_internal/execution/context.py``].
    """
    from ray.train._internal.session import get_session  # noqa: PLC0415 - needs ray

    session = get_session()
    if session is not None:
        rank = session.world_rank
        return None if rank is None else int(rank)
    v2 = sys.modules.get("ray.train.v2._internal.execution.context")
    context = getattr(v2, "_train_context", None)
    return None if context is None else int(context.get_world_rank())


def training_thread() -> threading.Thread | None:
    """The thread that a function trainable runs in [Ray 2.60, ``_TrainSession``]."""
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
    thread = threading.current_thread()
    original = getattr(thread, "_propagate_exception", None)
    if original is None:
        return

    def propagate(error: BaseException) -> None:
        report(error)
        original(error)

    thread._propagate_exception = propagate  # type: ignore[attr-defined]  # noqa: SLF001


def function_returned(trainable: Trainable) -> bool:
    """Did this function trainable's function return by itself?

    Its last result is then Tune's "duplicate" [Ray 2.60, ``RESULT_DUPLICATE``].
    """
    from ray.tune.result import RESULT_DUPLICATE  # noqa: PLC0415 - needs ray

    last = getattr(trainable, "_last_training_result", None)
    return last is not None and RESULT_DUPLICATE in last.metrics


def trial_info(trainable: Trainable | None, config: Mapping[str, Any] | None = None) -> Any:
    """Tune's ``_TrialInfo``: of a trainable, or still in the config that builds one.

    [Ray 2.60, ``Trainable.__init__`` takes it out of the config before ``setup``.]
    """
    from ray.tune.result import TRIAL_INFO  # noqa: PLC0415 - needs ray

    info = getattr(trainable, "_trial_info", None)
    return info if info is not None else (config or {}).get(TRIAL_INFO)


def is_duplicate(result: Mapping[str, Any]) -> bool:
    """Is this Tune's own repetition of the last result, when a function returned?"""
    from ray.tune.result import RESULT_DUPLICATE  # noqa: PLC0415 - needs ray

    return RESULT_DUPLICATE in result


def storage_of(trainable: Trainable | None) -> Any:
    """A trainable's ``StorageContext`` [Ray 2.60, ``Trainable.__init__``]."""
    return getattr(trainable, "_storage", None)


def local_experiment_path(storage: Any) -> str | None:
    """``<storage_path>/<experiment>`` where that is a folder of this machine.

    [Ray 2.60, ``train/_internal/storage.py``.]
    """
    from pyarrow.fs import LocalFileSystem  # noqa: PLC0415 - needs pyarrow

    if storage is None or not isinstance(storage.storage_filesystem, LocalFileSystem):
        return None
    return str(storage.experiment_fs_path)
