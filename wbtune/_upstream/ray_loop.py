"""Tune's loop on the driver: how it ends, what it optimizes, which callbacks it has."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final, NamedTuple

from wbtune._upstream import frames, ray_storage
from wbtune._upstream.capabilities import Capability, uses

_CONTROLLER: Final = "ray.tune.execution.tune_controller:TuneController"
ENDINGS: Final = Capability(
    "why an experiment has ended",
    without="the runs do not say what ended their experiment early (Ctrl-C, an error, fail_fast)",
    since="ray 2.41",
    needs=(
        *("ray.tune.tune:run.experiment_interrupted_event", "ray.tune.tune:run.runner"),
        *(f"{_CONTROLLER}._fail_fast", f"{_CONTROLLER}._has_errored"),
        *(f"{_CONTROLLER}._should_stop_experiment", f"{_CONTROLLER}._trial_task_failure.trial"),
    ),
)
SETUP: Final = Capability(
    "what Tune was asked to do",
    without=(
        "WandbLoggerCallback does not know the tuner's metric, mode and storage (wandb_tuner "
        "knows the first two), and experiments that one driver runs at a time share a login"
    ),
    since="ray 2.41",
    needs=(
        *(f"ray.tune.tune:run.{name}" for name in ("metric", "mode", "scheduler")),
        *(f"ray.tune.tune:run.{name}" for name in ("experiments", "runner", "config")),
        *(f"ray.tune.tune:run.{name}" for name in ("search_alg", "num_samples")),
        f"{_CONTROLLER}._trials",
    ),
)
MODE: Final = Capability(
    "the mode of a scheduler",
    without="what is best is not known where only the scheduler was given metric and mode",
    since="ray 2.41",
    needs=("ray.tune.schedulers.async_hyperband:AsyncHyperBandScheduler._mode",),
)
CHECKPOINTS: Final = Capability(
    "which checkpoints Tune keeps",
    without="a checkpoint that Tune deletes while it is copied is uploaded as far as it was copied",
    since="ray 2.41",
    needs=(
        "ray.tune.trainable.metadata:_TrainingRunMetadata.checkpoint_manager",
        "ray.train._internal.checkpoint_manager:_CheckpointManager._checkpoint_results",
        "ray.tune.experiment.trial:Trial.run_metadata",
    ),
)


class End(NamedTuple):
    """Why Tune's loop has ended, as far as Tune does not tell its callbacks.

    Attributes:
        error: that it raised.
        trial: that raised this, and Tune passed it on (``fail_fast="raise"``).
        signal: it was interrupted.
        failed_fast: a trial failed, and ``fail_fast`` is set.
        asked: somebody asked Tune to stop it.
    """

    error: BaseException | None = None
    trial: Any = None
    signal: bool = False
    failed_fast: bool = False
    asked: bool = False


@uses(ENDINGS, otherwise=lambda: bool)
def interrupted_from_now() -> Callable[[], bool]:
    """Return a function that tells whether somebody has pressed Ctrl-C since; in a callback.

    The first one is caught by Tune, which only notes it: at the end of an experiment, that its
    loop is to end [Ray 2.60, ``tune/tune.py``, ``_setup_signal_catching``].
    """
    for frame in frames.callers():
        event = frame.f_locals.get("experiment_interrupted_event")
        if isinstance(event, threading.Event):
            return bool if event.is_set() else event.is_set
    return bool


@uses(ENDINGS, otherwise=End)
def end_of_loop() -> End:
    """Return why the experiment is ending, in ``on_experiment_end``.

    Tune tells its callbacks the same for a finished experiment, Ctrl-C, and an error in its
    loop. An error that is being handled is the loop's if it came through the loop; else
    ``fit()`` itself was called in somebody's ``except``
    [Ray 2.60, ``tune/tune.py``, ``run``: ``experiment_interrupted_event``, ``runner``;
    ``tune/execution/tune_controller.py``, ``_trial_task_failure``].
    """
    for frame in frames.callers():
        event = frame.f_locals.get("experiment_interrupted_event")
        if not isinstance(event, threading.Event):
            continue
        controller = frame.f_locals.get("runner")
        for error in _being_handled():
            passed = list(_passed(error))
            if frame in passed:
                trials = [one.f_locals.get("trial") for one in passed if _is_task_failure(one)]
                return End(error, trials[-1] if trials else None)
        return End(
            signal=event.is_set(),
            failed_fast=bool(
                getattr(controller, "_fail_fast", False)
                and getattr(controller, "_has_errored", False)
            ),
            asked=bool(getattr(controller, "_should_stop_experiment", False)),
        )
    return End()


@uses(ENDINGS, otherwise=lambda: None)
def interruption_event() -> threading.Event | None:
    """Return the event that a signal sets while Tune's loop runs [Ray 2.60, ``tune.run``]."""
    for frame in frames.callers():
        event = frame.f_locals.get("experiment_interrupted_event")
        if isinstance(event, threading.Event):
            return event
    return None


def _is_task_failure(frame: FrameType) -> bool:
    return frame.f_code.co_name == "_trial_task_failure"


def _being_handled() -> Iterator[BaseException]:
    """Yield the exceptions that are being handled, the innermost first."""
    error = sys.exception()
    while error is not None:
        yield error
        error = error.__context__


def _passed(error: BaseException) -> Iterator[FrameType]:
    """Yield the frames that an exception came through."""
    step = error.__traceback__
    while step is not None:
        yield step.tb_frame
        step = step.tb_next


class Sweep(NamedTuple):
    """What Tune was asked to do, as far as it does not tell its callbacks.

    Attributes:
        metric: that the tuner, or else its scheduler, looks at.
        mode: ``"min"`` or ``"max"``.
        filesystem: pyarrow's, of the experiment's storage.
        experiment: the name of its folder.
        directory: that folder, if it is one of this machine.
        space: the ``param_space``.
        search_alg: what chooses the values.
        scheduler: what stops trials.
        num_samples: how often the space is sampled.
    """

    metric: str | None = None
    mode: str | None = None
    filesystem: Any = None
    experiment: str = ""
    directory: str | None = None
    space: Any = None
    search_alg: Any = None
    scheduler: Any = None
    num_samples: Any = None


@uses(SETUP, otherwise=Sweep)
def sweep() -> Sweep:
    """Return what Tune was asked to do, in `Callback.setup`; elsewhere nothing is known.

    ``setup`` is told the experiment's ``public_spec``, which has neither metric nor
    storage; its caller has both [Ray 2.60, ``tune/tune.py``, ``run``: ``metric``,
    ``mode``, ``scheduler``, ``experiments``].
    """
    names = tune_run()
    if names is None:
        return Sweep()
    scheduler = names["scheduler"]
    metric, mode = names["metric"], names.get("mode")
    if not metric:
        metric, mode = getattr(scheduler, "metric", None), None
    mode = mode or getattr(scheduler, "_mode", None)
    storage = ray_storage.storage_in(names["experiments"][0], "storage")
    experiment, _ = ray_storage.trial_folder(storage)
    filesystem, local = ray_storage.filesystem(storage), ray_storage.local_experiment_path(storage)
    asked = [names.get(name) for name in ("config", "search_alg", "scheduler", "num_samples")]
    return Sweep(metric, mode, filesystem, experiment, local, *asked)


def tune_run() -> dict[str, Any] | None:
    """Return the locals of the calling ``tune.run``; None elsewhere [Ray 2.60]."""
    for frame in frames.callers():
        names = frame.f_locals
        if frame.f_code.co_name == "run" and {"metric", "scheduler", "experiments"} <= set(names):
            return names
    return None


@uses(CHECKPOINTS, otherwise=lambda *_: True)
def keeps(trial: Any, checkpoint: Any) -> bool:
    """Return whether Tune still keeps a checkpoint: it forgets one before it deletes it.

    [Ray 2.60, ``train/_internal/checkpoint_manager.py``, ``register_checkpoint``.]
    """
    manager = getattr(trial.run_metadata, "checkpoint_manager", None)
    results = getattr(manager, "_checkpoint_results", None)
    if results is None:
        return True
    return any(kept.checkpoint.path == checkpoint.path for kept in results)


def callbacks_of(tuner: Any) -> list[Any]:
    """Return the callbacks of a restored tuner, which unpickled them.

    It gives no access to its `RunConfig`; that is found in what the tuner is made of
    [Ray 2.60, ``tune/tuner.py``, ``tune/impl/tuner_internal.py``].
    """
    for owner in (tuner, *vars(tuner).values()):
        for value in getattr(owner, "__dict__", {}).values():
            if type(value).__name__ == "RunConfig":
                return list(value.callbacks or [])
    return []


@uses(SETUP, otherwise=lambda _: False)
def name_fit(name: str) -> bool:
    """Give this ``fit()`` a name that its trials can read; in `Callback.setup`.

    Two of them can have the same experiment, storage and second. Tune sends its
    ``StorageContext`` to each trial, which is the only thing of one ``fit()`` that a trial
    has, and pickles it with whatever attributes it has
    [Ray 2.60, ``tune/tune.py``, ``run``: ``experiments``, ``runner``; ``Trial.storage``].

    Returns:
        Whether they will.
    """
    names = tune_run()
    if names is None:
        return False
    owners = [*names["experiments"], *getattr(names.get("runner"), "_trials", ())]  # restored ones
    for storage in [ray_storage.storage_in(owner, "storage") for owner in owners]:
        if storage is not None:
            storage.wbtune_fit = name
    return True


def fit_of(storage: Any) -> str:
    """Return the name of the ``fit()`` that a ``StorageContext`` came from; empty for none."""
    return str(getattr(storage, "wbtune_fit", ""))
