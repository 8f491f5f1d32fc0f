"""Hand data over from a driver to its trials, and decide which of the two writes a run.

Both use Ray's own key-value store, which is in memory: the data is in no file, no environment, no
process's arguments and no pickle. It is stored under the name of the ``fit()`` that it
is for (`new_fit`), or of the driver's process (`process`), because several experiments on one
cluster, even of one driver, may have the same names, storages and trial ids.

The store does not answer while the head of the cluster is restarted. Then requests are repeated,
for a bounded time.
"""

from __future__ import annotations

import atexit
import functools
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, Final, TypeVar

from wbtune._data import timeouts
from wbtune._data.outcomes import Kind, Outcome
from wbtune._upstream import ray_store

logger = logging.getLogger("wbtune")

T = TypeVar("T")


#: How the name of one ``fit()`` begins, and how that of a process begins.
_FIT: Final = "fit-"
_PROCESS: Final = "process-"


class StoreError(ConnectionError):
    """Ray's key-value store did not answer in time."""


def new_fit() -> str:
    """A name for one ``fit()``, unlike any other in the cluster."""
    return _FIT + uuid.uuid4().hex


def is_of_one_fit(name: str) -> bool:
    """Whether this is the name of one ``fit()``."""
    return name.startswith(_FIT)


@functools.cache
def process() -> str:
    """The name under which this driver hands its login over with any decorated object."""
    return _PROCESS + uuid.uuid4().hex


def hand_over(name: str, handed: dict[str, Any]) -> None:
    """Hand something over under this name; without a cluster, do nothing.

    Raises:
        StoreError: if Ray's store does not answer.
    """
    job = ray_store.job()
    if job is not None:
        text = json.dumps(handed)
        ask(lambda: ray_store.store(f"login/{job}/{name}", text))
        _take_back_at_exit(job)


def handed_over(*names: str) -> dict[str, Any] | None:
    """What was handed over under the first of these names that has anything.

    Without any name (a worker of Ray Train V2 with a bare `setup_wandb`), it is the login that all
    running experiments of the driver have in common, or if there are none, all its decorated
    objects. It is None if these differ, because any of them may be somebody else's login.

    Raises:
        StoreError: when Ray's store does not answer.
    """
    job = ray_store.job()
    if job is None:
        return None
    names = tuple(name for name in names if name)

    def found() -> dict[str, Any] | None:
        if not names:
            return _common(f"login/{job}/")
        texts = (ray_store.stored(f"login/{job}/{name}") for name in names)
        return next((json.loads(text) for text in texts if text is not None), None)

    return ask(found)


def _common(prefix: str) -> dict[str, Any] | None:
    keys = ray_store.stored_keys(prefix)
    for kind in (_FIT, _PROCESS):
        texts = [ray_store.stored(key) for key in keys if key.startswith(prefix + kind)]
        handed = [json.loads(text) for text in texts if text is not None]
        if handed:
            # These are each experiment's own, so they are not compared.
            own = dict.fromkeys(("objective", "options", "sweep"))
            alike = [one | own for one in handed]
            return alike[0] if all(one == alike[0] for one in alike) else None
    return None


def take_back(name: str) -> None:
    """Remove what was handed over to an experiment that has ended.

    Raises:
        StoreError: when Ray's store does not answer.
    """
    job = ray_store.job()
    if job is not None and name:
        ask(lambda: ray_store.remove_stored(f"login/{job}/{name}"), timeouts.STORE_IN_LOOP_S)
        ask(lambda: ray_store.remove_stored(f"end/{job}/{name}"), timeouts.STORE_IN_LOOP_S)


def announce_end(fit: str, outcome: Outcome) -> None:
    """Record for the trials of one ``fit()`` why Tune stops them all.

    Raises:
        StoreError: when Ray's store does not answer.
    """
    job = ray_store.job()
    if job is not None and fit:
        text = json.dumps([outcome.kind.value, outcome.reason])
        ask(lambda: ray_store.store(f"end/{job}/{fit}", text), timeouts.STORE_IN_LOOP_S)


def announced_end(fit: str) -> Outcome | None:
    """The outcome of all trials that have not ended, if the driver has recorded one."""
    job = ray_store.job()
    if job is None or not fit:
        return None
    try:
        text = ask(lambda: ray_store.stored(f"end/{job}/{fit}"), timeouts.STORE_IN_LOOP_S)
    except StoreError:
        return None  # the driver records it when the trial is gone
    if not text:
        return None
    kind, reason = json.loads(text)
    return Outcome(Kind(kind), reason)


@functools.cache
def _take_back_at_exit(job: str) -> None:
    """When this driver exits, remove what it handed over: the cluster may outlive it."""

    def take_all_back() -> None:
        if ray_store.job() == job:
            try:
                ask(lambda: ray_store.remove_stored(f"login/{job}/"), timeouts.STORE_IN_LOOP_S)
            except StoreError as error:  # the cluster may be ending, too, and its store with it
                logger.info("wbtune: the login was not taken back: %s", error)

    # Only the driver of the job does this, also for trials that are themselves drivers.
    if ray_store.is_driver():
        atexit.register(take_all_back)


def claim(trial: str, owner: str, seconds: float | None = None) -> str:
    """Claim the right to write one trial's run; the first claim counts.

    The driver's callback can't know whether a function calls `setup_wandb`, and the trial
    can't know whether there is a callback. So both look in Ray's store.

    The driver's callback removes the claims of its experiment. A trial does not: a callback
    that makes its claim only after the trial has ended would open the run again. So
    without a callback, a few bytes for each trial stay until the cluster ends.

    Args:
        trial: a name of the trial that is unique in the cluster.
        owner: the process that claims the run: ``"driver"`` or ``"trial"``.
        seconds: how long to wait for Ray's store; `timeouts.STORE_S` by default.

    Returns:
        The owner.

    Raises:
        StoreError: when Ray's store does not answer.
    """
    if ray_store.job() is None:
        return owner
    key = f"claim/{trial}"

    def claimed() -> str | None:
        ray_store.store(key, owner, overwrite=False)
        return ray_store.stored(key)

    return ask(claimed, seconds) or owner


def unclaim(trials: str) -> None:
    """Remove all claims of an experiment that has ended: those that begin with ``trials``.

    Raises:
        StoreError: when Ray's store does not answer.
    """
    if ray_store.job() is not None:
        ask(lambda: ray_store.remove_stored(f"claim/{trials}"), timeouts.STORE_IN_LOOP_S)


def ask(question: Callable[[], T], seconds: float | None = None) -> T:
    """Call something that needs Ray's store, and retry for `timeouts.STORE_S` by default.

    Raises:
        StoreError: if there is no answer; says why.
    """
    seconds = timeouts.STORE_S if seconds is None else seconds
    answers: list[T] = []
    trouble: list[Exception] = [TimeoutError("no answer")]
    deadline = time.monotonic() + seconds
    given_up = threading.Event()

    def work() -> None:
        while not given_up.is_set():
            try:
                answers.append(question())
            except Exception as error:  # noqa: BLE001 - whatever gRPC raises
                trouble.append(error)
                given_up.wait(timeouts.STORE_RETRY_S)
            else:
                return

    # In a thread of its own: Ray waits for its head without a time limit.
    thread = threading.Thread(target=work, name="wbtune-store", daemon=True)
    thread.start()
    thread.join(max(0.0, deadline - time.monotonic()))
    given_up.set()
    if answers:
        return answers[0]
    why = f"{type(trouble[-1]).__name__}: {trouble[-1]}"
    msg = f"Ray's key-value store did not answer for {seconds:g} s ({why})"
    # Message: a warning by itself.
    # Cause: Ray's head is overloaded or away.
    # Cure: Nothing to do: the run is kept on disk; the line names the command that sends it.
    raise StoreError(msg)
