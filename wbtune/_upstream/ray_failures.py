"""What Ray's errors say about a trial's end, on the driver."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from wbtune._upstream import frames
from wbtune._upstream.capabilities import Capability, uses

_FAILURE: Final = "ray.tune.execution.tune_controller:TuneController._process_trial_failure"
ERRORS: Final = Capability(
    "what a trial raised",
    without="the run of a trial that failed may not have its error and traceback",
    since="ray 2.41",
    needs=(
        "ray.tune.experiment.trial:Trial.pickled_error_file",
        f"{_FAILURE}.trial",
        f"{_FAILURE}.exception",
    ),
)


def is_actor_death(error: BaseException) -> bool:
    """Return whether the trial's process or its node died, instead of raising."""
    from ray import exceptions  # noqa: PLC0415 - needs ray

    gone = (exceptions.OutOfMemoryError, exceptions.WorkerCrashedError, exceptions.NodeDiedError)
    if isinstance(error, exceptions.RayActorError):
        return not getattr(error, "actor_init_failed", False)
    return isinstance(error, gone)


def own_exit(error: BaseException) -> BaseException | None:
    """Return the exception of a trial by which Ray ended its process or task; None for another end.

    The death of an actor by ``SystemExit`` has its code, as text: that of a process which was
    killed has none, and that of one which got SIGTERM says so. A ``KeyboardInterrupt`` is
    passed on as a cancelled task; Tune cancels none
    [Ray 2.60, ``_raylet.pyx``, ``execute_task``, ``task_execution_handler``].
    """
    from ray.exceptions import RayActorError, TaskCancelledError  # noqa: PLC0415 - needs ray

    if isinstance(getattr(error, "cause", None), TaskCancelledError):
        return KeyboardInterrupt("Ray passes it on as a TaskCancelledError")
    found = _EXIT.search(str(error)) if isinstance(error, RayActorError) else None
    if found is None or found["code"].endswith(_RAYS_OWN_EXITS):
        return None
    return SystemExit(found["code"])


#: Ray's own exits have a code, too: that of a worker that can't import the trial's class, say.
_RAYS_OWN_EXITS: Final = (
    "The process receives a SIGTERM",
    "An unexpected internal error occurred while the worker was executing a task",
)
_EXIT: Final = re.compile(
    r"Worker exit detail: Worker exits (?:unexpectedly|by an user request)\. "
    r"Worker exits with an exit code (?P<code>.*)\.",
    re.DOTALL,  # the code may be any text
)


@uses(ERRORS, otherwise=lambda _: None)
def error_file(trial: Any) -> Path | None:
    """Return the file that Tune has just written a trial's error to; None for none.

    [Ray 2.60, ``tune/experiment/trial.py``.]
    """
    path = trial.pickled_error_file
    return None if path is None else Path(path)


def error_elsewhere(trial: Any) -> Any:
    """Return the error of a trial that there is no file of, as far as it can be had.

    ``Trial.get_pickled_error`` is public but looks in the storage, where the file comes
    only with the next copy.
    """
    ask = getattr(trial, "get_pickled_error", None)
    return (None if ask is None else ask()) or failure_of(trial)


def failure_of(trial: Any) -> BaseException | None:
    """Return the error of a trial, in a callback that hears of it, if Tune keeps it for itself.

    It writes only those that are a task's or an actor's, not that Ray has killed the process
    for want of memory [Ray 2.60, ``Trial.handle_error``; ``tune_controller.py``,
    ``_process_trial_failure``].
    """
    for frame in frames.callers():
        names = frame.f_locals
        if frame.f_code.co_name == "_process_trial_failure" and names.get("trial") is trial:
            error = names.get("exception")
            return error if isinstance(error, BaseException) else None
    return None
