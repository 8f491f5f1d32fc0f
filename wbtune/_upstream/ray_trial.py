"""A trial's `Trainable`, in its own process."""

from __future__ import annotations

import contextlib
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wbtune._upstream import frames, ray_storage
from wbtune._upstream.capabilities import Capability, uses

if TYPE_CHECKING:
    from ray.tune import Trainable

TRIAL: Final = Capability(
    "which trial a trainable is of",
    without="the run of a WandbMixin may have a name and an id of its own",
    since="ray 2.41",
    needs=(*("ray.tune.result:TRIAL_INFO", "ray.tune.trainable.trainable:Trainable._trial_info"),),
)
ENDS: Final = Capability(
    "how a function's trial ends",
    without="a run that setup_wandb opens may be `stopped` though its function returned or raised",
    since="ray 2.41",
    needs=(
        "ray.train._internal.session:get_session",
        "ray.train._internal.session:_TrainSession.training_thread",
        "ray.air._internal.util:RunnerThread._propagate_exception",
        "ray.tune.trainable:FunctionTrainable._last_training_result",
        "ray.tune.result:RESULT_DUPLICATE",
    ),
)


class TrialNames(NamedTuple):
    """What a trial is called, as far as that is known."""

    trial_id: str
    trial_name: str
    experiment_name: str | None


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


def _thread_in_tune() -> threading.Thread | None:
    """Return the thread, besides the main one, that runs code of Tune's."""
    stacks = sys._current_frames()  # noqa: SLF001 - documented, and needed
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            for frame in frames.up(stacks.get(thread.ident or 0)):
                if str(frame.f_globals.get("__name__")).startswith("ray.tune.trainable."):
                    return thread
    return None


@uses(ENDS, otherwise=_thread_in_tune)
def training_thread() -> threading.Thread | None:
    """Return the thread that a function trainable runs in [Ray 2.60, ``_TrainSession``]."""
    from ray.train._internal.session import get_session  # noqa: PLC0415 - needs ray

    session = get_session()
    thread = getattr(session, "training_thread", None)
    return thread if isinstance(thread, threading.Thread) else None


@uses(ENDS, otherwise=lambda _: None)
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


@uses(ENDS, otherwise=lambda _: False)
def function_returned(trainable: Trainable) -> bool:
    """Return whether the function of this function trainable returned by itself.

    Its last result is then Tune's "duplicate" [Ray 2.60, ``FunctionTrainable.step``].
    """
    last = getattr(trainable, "_last_training_result", None)
    return last is not None and is_duplicate(last.metrics)


@uses(ENDS, otherwise=lambda result: isinstance(result, dict) and "__duplicate__" in result)
def is_duplicate(result: Any) -> bool:
    """Return whether a result only says that a function has returned [``RESULT_DUPLICATE``]."""
    from ray.tune.result import RESULT_DUPLICATE  # noqa: PLC0415 - needs ray

    return isinstance(result, dict) and RESULT_DUPLICATE in result


def _public_names(
    trainable: Trainable | None, config: Mapping[str, Any] | None = None
) -> TrialNames | None:
    """Return a trial's names by what is public; before ``__init__``, by what the config has."""
    for value in (config or {}).values():
        if hasattr(value, "trial_id") and hasattr(value, "trial_name"):
            experiment = getattr(value, "experiment_name", None)
            return TrialNames(value.trial_id, value.trial_name, experiment)
    if trainable is None:
        return None
    names = (getattr(trainable, name, "default") for name in ("trial_id", "trial_name"))
    trial_id, trial_name = ("" if name in ("default", None) else str(name) for name in names)
    trial_id = trial_id or of_context("get_trial_id")
    if not trial_id:
        return None
    trial_name = trial_name or of_context("get_trial_name") or trial_id
    experiment, _ = ray_storage.trial_folder(ray_storage.storage_of(trainable))
    return TrialNames(trial_id, trial_name, experiment or of_context("get_experiment_name") or None)


@uses(TRIAL, otherwise=_public_names)
def trial_info(trainable: Trainable | None, config: Mapping[str, Any] | None = None) -> Any:
    """Return Tune's ``_TrialInfo`` of a trainable, or of the config that builds one.

    [Ray 2.60, ``Trainable.__init__`` takes it out of the config before ``setup``.]
    """
    from ray.tune.result import TRIAL_INFO  # noqa: PLC0415 - needs ray

    info = getattr(trainable, "_trial_info", None)
    return info if info is not None else (config or {}).get(TRIAL_INFO)


def of_context(method: str) -> str:
    """Return what Tune's public context says in a function's trial; empty where it says nothing."""
    from ray import tune  # noqa: PLC0415 - needs ray

    said = None
    with contextlib.suppress(Exception):  # it raises what it likes
        said = getattr(tune.get_context(), method)()
    return "" if said is None else str(said)


def public_folder(trainable: Trainable) -> str | None:
    """Return a folder for a trial's run, by Ray's public API; None for none.

    For a function it is the one that the driver keeps what it writes of the experiment in,
    and copies to the storage, if that is the same machine's.
    """
    folder = of_context("get_trial_dir") or getattr(trainable, "logdir", None)
    return str(Path(folder).parent) if folder else None
