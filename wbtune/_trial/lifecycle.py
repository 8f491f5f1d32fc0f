"""A `Trainable`'s life becomes its run's life: open, log, close. Trial side.

`attach` shadows six methods on one `Trainable` instance; Tune and Ray find them there,
because ``Trainable.train``, ``stop`` and ``reset`` look them up on ``self``. (Patching the
class has no effect: Ray's actor class has a traced copy of every method.) The decorator,
the mixin and `setup_wandb` share it:

=================== ==================================================================
Tune calls          here
=================== ==================================================================
``step``            notes an error that it raises; says ``done`` after "Stop run" at W&B;
                    closes the run when a function has returned;
                    noted, too, are the errors of saving and loading a checkpoint,
                    of ``log_result`` and ``reset_config``
``log_result``      notes ``done``; logs the result too, if ``log_results``
``reset_config``    (``reuse_actors=True``) closes the run of the trial that was, and,
                    for a mixin, opens the one of the trial that comes
``cleanup``         lets the training thread unwind, closes the run, ends wandb's core
=================== ==================================================================

A worker of Ray Train has no `Trainable`: there a run's life is that of the training loop
(`attach_to_worker`).

The run itself is a `TrialRun` (:mod:`wbtune._trial.trial_run`).
"""

# Over 250 lines: what ties a run to each kind of trainable, side by side.

from __future__ import annotations

import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from wbtune._data import timeouts
from wbtune._data.outcomes import FINISHED, Kind, Outcome
from wbtune._place import identity
from wbtune._run import closing, opening
from wbtune._trial.trial_run import ProcessLock, TrialRun
from wbtune._upstream import ray_train, ray_trial

if TYPE_CHECKING:
    from ray.tune import Trainable
    from wandb import Run

    from wbtune._data.options import RunOptions

logger = logging.getLogger("wbtune")

__all__ = [
    "TrialRun",
    "around_function",
    "attach",
    "attach_to_worker",
    "attached",
    "of_caller",
    "visible",
]


#: What Ray does to the workers of a training loop that still runs.
SHUT_DOWN: Final = Outcome(
    Kind.INTERRUPTED,
    reason="Ray Train shut the worker down (another worker failed, or the run was aborted)",
)

_ATTACHING: Final = ProcessLock()

#: By process, the last trainable that was given a run: an actor has one.
_ATTACHED: Final[dict[int, weakref.ref[Trainable]]] = {}


def attach(trainable: Trainable, trial_run: TrialRun, *, reopens: bool = False) -> None:
    """Tie a run's life to a `Trainable`'s.

    Args:
        trainable: the instance, in its actor; its ``setup`` may not have run yet.
        trial_run: its run.
        reopens: when the actor is reused, open the next trial's run before the user's
            ``reset_config`` is called, instead of when it is needed.
    """
    # Over 40 lines: the shadows of one object, which are read side by side.
    step = trial_run.watched(trainable.step)
    log_result = trial_run.watched(trainable.log_result)
    cleanup: Callable[[], None] = trainable.cleanup
    is_function = ray_trial.is_function(type(trainable))

    def watched_step() -> Any:
        trial_run.trains = True
        result = step()
        if ray_trial.is_duplicate(result):  # a function returned, and what it returned is logged
            trial_run.close(trial_run.outcome(trainable))
        if trial_run.stop_asked and isinstance(result, dict):
            return {**result, "done": True}  # Tune stops the trial, and only this one
        return result

    def watched_log_result(result: dict[str, Any]) -> None:
        log_result(result)
        if not is_function:  # a function opens its run itself
            trial_run.open_expected()
        trial_run.result(result)

    def watched_cleanup() -> None:
        thread = ray_trial.training_thread()
        ended = trial_run.outcome(trainable)
        try:
            cleanup()
        finally:
            if thread is not None and thread.is_alive():
                threading.Thread.join(thread, timeouts.UNWIND_S)
            trial_run.close(ended)
            closing.end_core()

    trial_run.can_stop = trial_run.keeps_open = True
    trial_run.trains = False
    trial_run.iteration = lambda: int(trainable.iteration)
    shadows: dict[str, Any] = vars(trainable)
    shadows["step"] = watched_step
    for name in ("save_checkpoint", "load_checkpoint"):
        shadows[name] = trial_run.watched(getattr(trainable, name))
    shadows["log_result"] = watched_log_result
    shadows["reset_config"] = _reset_config(trainable, trial_run, reopens=reopens)
    shadows["cleanup"] = watched_cleanup
    shadows["wbtune_run"] = trial_run
    _ATTACHED[os.getpid()] = weakref.ref(trainable)


def _of_this_process() -> Trainable | None:
    """The trainable of a thread that its user started, whose stack does not lead to it."""
    if threading.current_thread() is threading.main_thread():
        return None
    trainable = _ATTACHED.get(os.getpid(), lambda: None)()
    trial_run = None if trainable is None else attached(trainable)
    return trainable if trial_run is not None and trial_run.is_open else None


def _reset_config(
    trainable: Trainable, trial_run: TrialRun, *, reopens: bool
) -> Callable[[dict[str, Any]], Any]:
    """What stands in for a trainable's ``reset_config``: another trial comes to its actor."""
    reset_config = trial_run.watched(trainable.reset_config)
    is_function = ray_trial.is_function(type(trainable))

    def watched_reset_config(new_config: dict[str, Any]) -> Any:
        ended, coming = trial_run.outcome(trainable), identity.of_trainable(trainable)
        if is_function:
            done = reset_config(new_config)  # waits for the function to unwind
            trial_run.close(ended)
            if done:
                trial_run.expect(coming, visible(new_config))
            return done
        if not trial_run.goes_on(coming, visible(new_config)):
            trial_run.close(ended)
            trial_run.trains = False
            trial_run.expect(coming, visible(new_config))
            if reopens:
                trial_run.open_expected()
        return reset_config(new_config)

    return watched_reset_config


def attach_to_worker(worker: ray_train.TrainWorker, trial_run: TrialRun) -> None:
    """Tie a run's life to that of the training loop of a worker of Ray Train."""

    def ended(error: BaseException | None) -> None:
        trial_run.close(FINISHED if error is None else Outcome.failed(error))
        closing.end_core()

    def shut_down() -> None:
        trial_run.close(SHUT_DOWN)
        closing.end_core()

    try:
        ray_train.watch_training_loop(worker, ended, shut_down)
        worker.home.wbtune_run = trial_run
        trial_run.keeps_open = True
    except (AttributeError, ImportError) as error:  # a Ray that nobody has read yet
        logger.warning(
            "%s: this Ray does not say when its training loop ends (%s). Decorate the loop with "
            "@wandb_trial, or call run.finish() in the end.",
            trial_run.who,
            error,
        )


def attached(owner: object) -> TrialRun | None:
    """The run that was tied to this `Trainable` or training loop, if one was."""
    found = getattr(owner, "wbtune_run", None)
    return found if isinstance(found, TrialRun) else None


def of_caller(
    who: str,
    options: RunOptions,
    api_key: str | None = None,
    *,
    declared: bool = True,
    only: bool = True,
    trial: identity.Identity | None = None,
) -> tuple[TrialRun, identity.Identity]:
    """The run of the code that calls, tied to the life of what it runs in; and who that is.

    Args:
        who: what was called.
        options: for a run that is not there yet.
        api_key: the same.
        declared: the options are a declaration, not an argument in the trial.
        only: in distributed training, whether only the worker of rank 0 has a run.
        trial: the trial of Tune that started the training, where that is known.
    """
    worker = ray_train.train_worker()
    trainable = (ray_trial.find_trainable() or _of_this_process()) if worker is None else None
    with _ATTACHING:  # several threads of the trial may ask at once
        trial_run = attached(trainable if worker is None else worker.home)
        if trial_run is None:
            trial_run = TrialRun(who, options, api_key, declared=declared)
            if worker is not None:
                attach_to_worker(worker, trial_run)
            elif trainable is not None:
                attach(trainable, trial_run)
    if worker is not None:
        return trial_run, identity.of_worker(worker, only=only, trial=trial)
    who_am_i = identity.of_trainable(trainable)
    if trial is not None and not who_am_i.sender:  # of a function that a plain one calls
        who_am_i = who_am_i._replace(sender=trial.sender)
    return trial_run, who_am_i


@contextlib.contextmanager
def around_function(
    who: str,
    options: RunOptions,
    config: Mapping[str, Any] | None,
    trial: identity.Identity | None = None,
) -> Iterator[Run]:
    """The run of one call of a decorated function: open before it, closed after it.

    Closed before Tune hears that the function returned, so with all its rows. Outside Tune
    it is a run of its own.

    Args:
        who: what was called.
        options: the declaration.
        config: what the function is called with.
        trial: that the function was sent away from, as a training loop of Ray Train.
    """
    only = options.rank_zero_only is not False
    if only and identity.rank():
        yield opening.disabled_run()
        return
    trial_run, who_am_i = of_caller(who, options, only=only, trial=trial)
    trial_run.options, trial_run.keeps_open = options, True
    trial_run.trains = True
    run = trial_run.open(who_am_i, config)
    try:
        yield run
    except BaseException as error:
        trial_run.close(_ended_by(error, trial_run))
        raise
    else:
        trial_run.function_returned()


def _ended_by(error: BaseException, trial_run: TrialRun) -> Outcome:
    """How a decorated function ended that raised this."""
    if isinstance(error, GeneratorExit) or ray_trial.is_tunes_stop(error):
        return trial_run.stopped()
    if not trial_run.can_stop:  # called by hand, as any function of a program
        if isinstance(error, KeyboardInterrupt):
            return Outcome(Kind.INTERRUPTED, "KeyboardInterrupt")
        if isinstance(error, SystemExit) and not error.code:
            return FINISHED
    return Outcome.failed(error)


def visible(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """A trainable's config without what Tune puts there for itself, in double underscores."""
    return {
        key: value
        for key, value in (config or {}).items()
        if not (isinstance(key, str) and key.startswith("__") and key.endswith("__"))
    }
