"""Tie a trial's run to the life of its `Trainable`: open, log, close.

`attach` shadows six methods on one `Trainable` instance. Tune and Ray find them there, because
``Trainable.train``, ``stop`` and ``reset`` look them up on ``self``. (Patching the class has no
effect: Ray's actor class has a traced copy of every method.) The decorator, the mixin and
`setup_wandb` share it:

=================== ==================================================================
Tune calls          what is added
=================== ==================================================================
``step``            notes an error that it raises; returns ``done`` after "Stop run" at
                    W&B; closes the run when a function has returned
``save_checkpoint`` notes an error that it raises; so does ``load_checkpoint``
``log_result``      notes an error that it raises, and ``done``; logs the result too, if
                    ``log_results``
``reset_config``    (``reuse_actors=True``) notes an error that it raises; closes the last
                    trial's run and, for a mixin, opens the next trial's
``cleanup``         lets the training thread unwind, closes the run, ends wandb-core
=================== ==================================================================

The run itself is a `TrialRun` (:mod:`wbtune._trial.trial_run`).
"""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from wbtune._data import timeouts
from wbtune._data.deadline import Deadline
from wbtune._data.options import RunOptions
from wbtune._place import identity
from wbtune._run import closing
from wbtune._trial.trial_run import TrialRun
from wbtune._upstream import ray_functions, ray_trial

if TYPE_CHECKING:
    from ray.tune import Trainable

P = ParamSpec("P")
R = TypeVar("R")

#: The last trainable in each process to be given a run: an actor has one trainable.
_ATTACHED: Final[dict[int, weakref.ref[Trainable]]] = {}


def attach(trainable: Trainable, trial_run: TrialRun, *, reopens: bool = False) -> None:
    """Tie a run's life to a `Trainable`'s.

    Args:
        trainable: the instance, in its actor; its ``setup`` may not have run yet.
        trial_run: its run.
        reopens: when the actor is reused, open the next trial's run before the user's
            ``reset_config`` is called, rather than when it is needed.
    """
    trial_run.can_stop = trial_run.keeps_open = True
    trial_run.has_trained = False
    trial_run.iteration = lambda: int(trainable.iteration)
    trial_run.tuner_options = getattr(trainable, "wbtune_tuner_options", None) or RunOptions()
    shadows: dict[str, Any] = vars(trainable)
    shadows["step"] = _step(trainable, trial_run)
    for name in ("save_checkpoint", "load_checkpoint"):
        shadows[name] = _noting_errors(trial_run, getattr(trainable, name))
    shadows["log_result"] = _log_result(trainable, trial_run)
    shadows["reset_config"] = _reset_config(trainable, trial_run, reopens=reopens)
    shadows["cleanup"] = _cleanup(trainable, trial_run)
    shadows["wbtune_run"] = trial_run
    _ATTACHED[os.getpid()] = weakref.ref(trainable)


def attached_run(owner: object) -> TrialRun | None:
    """The run that is tied to this `Trainable` or training loop, if there is one."""
    found = getattr(owner, "wbtune_run", None)
    return found if isinstance(found, TrialRun) else None


def trainable_of_process() -> Trainable | None:
    """This process's trainable, for a thread that the user started, while its run is open.

    Such a thread can't find the trainable through its own stack.
    """
    if threading.current_thread() is threading.main_thread():
        return None
    trainable = _ATTACHED.get(os.getpid(), lambda: None)()
    trial_run = None if trainable is None else attached_run(trainable)
    return trainable if trial_run is not None and trial_run.is_open else None


def without_tunes_keys(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """A trainable's config without the keys that Tune adds, in double underscores."""
    return {
        key: value
        for key, value in (config or {}).items()
        if not (isinstance(key, str) and key.startswith("__") and key.endswith("__"))
    }


# --- The functions that shadow a trainable's methods ------------------------------------


def _step(trainable: Trainable, trial_run: TrialRun) -> Callable[[], Any]:
    step = _noting_errors(trial_run, trainable.step)

    def hooked_step() -> Any:
        trial_run.has_trained = True
        result = step()
        if ray_trial.is_duplicate(result):  # a function returned, and its return value is logged
            trial_run.close(trial_run.outcome(trainable))
        if trial_run.stop_asked and isinstance(result, dict):
            return {**result, "done": True}  # Tune stops the trial, and only this one
        return result

    return hooked_step


def _log_result(trainable: Trainable, trial_run: TrialRun) -> Callable[[dict[str, Any]], None]:
    log_result = _noting_errors(trial_run, trainable.log_result)
    is_function = ray_functions.is_function(type(trainable))

    def hooked_log_result(result: dict[str, Any]) -> None:
        log_result(result)
        if not is_function:  # a function opens its run itself
            trial_run.open_next()
        trial_run.result(result)

    return hooked_log_result


def _reset_config(
    trainable: Trainable, trial_run: TrialRun, *, reopens: bool
) -> Callable[[dict[str, Any]], Any]:
    """Shadow ``reset_config``, which Tune calls when an actor gets another trial."""
    reset_config = _noting_errors(trial_run, trainable.reset_config)
    is_function = ray_functions.is_function(type(trainable))

    def hooked_reset_config(new_config: dict[str, Any]) -> Any:
        ended, coming = trial_run.outcome(trainable), identity.of_trainable(trainable)
        if is_function:
            done = reset_config(new_config)  # waits for the function to unwind
            trial_run.close(ended)
            if done:
                trial_run.open_when_needed(coming, without_tunes_keys(new_config))
            return done
        if not trial_run.continue_with(coming, without_tunes_keys(new_config)):
            trial_run.close(ended)
            trial_run.has_trained = False
            trial_run.open_when_needed(coming, without_tunes_keys(new_config))
            if reopens:
                trial_run.open_next()
        return reset_config(new_config)

    return hooked_reset_config


def _cleanup(trainable: Trainable, trial_run: TrialRun) -> Callable[[], None]:
    cleanup: Callable[[], None] = trainable.cleanup

    def hooked_cleanup() -> None:
        trial_run.end_by = end_by = Deadline(timeouts.END_S)
        thread = ray_trial.training_thread()
        ended = trial_run.outcome(trainable)
        try:
            cleanup()
        finally:
            keep = timeouts.CLOSING_KEEPS_S
            if end_by.left < keep:
                # The user's own cleanup took this long and Tune still waited, so the experiment
                # is not ending, and Tune's limit does not apply.
                trial_run.end_by = end_by = Deadline(timeouts.END_S)
            if thread is not None and thread.is_alive():
                threading.Thread.join(thread, end_by.within(timeouts.UNWIND_S, keep=keep))
            trial_run.close(ended)
            closing.end_core(end_by)

    return hooked_cleanup


def _noting_errors(trial_run: TrialRun, method: Callable[P, R]) -> Callable[P, R]:
    """The method, with its errors noted as the trial's."""

    @functools.wraps(method)
    def noting(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except BaseException as error:
            trial_run.note_error(error)
            if _exits_process(error):
                trial_run.close(trial_run.outcome())
                closing.end_core()
            raise

    return noting


def _exits_process(error: BaseException | None) -> bool:
    """Whether Ray ends the trial's process for this error, without calling ``cleanup``.

    It does so for ``SystemExit`` and ``KeyboardInterrupt``, and for what is raised from them.
    """
    while error is not None and isinstance(error, Exception):
        error = error.__cause__
    return error is not None
