"""What Tune is about to start, read on the driver from the frames of ``fit``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final, NamedTuple

from wbtune._upstream import frames
from wbtune._upstream.capabilities import Capability, uses

CHECKS: Final = Capability(
    "checking what fit() is about to start",
    without=(
        "a declaration without a project, or an API key in param_space, is not refused by fit()"
    ),
    since="ray 2.41",
    needs=(
        *(f"ray.tune.tune:run.{name}" for name in ("run_or_experiment", "config")),
        *(f"ray.tune.tune:run.{name}" for name in ("resume_config", "all_start")),
    ),
)
HEAD: Final = Capability(
    "whether trials have the driver's environment",
    without="a declaration without a project is not refused where trials might have a project",
    since="ray 2.41",
    needs=("ray._private.worker:_global_node", "ray._private.node:Node.is_head"),
)


class Launch(NamedTuple):
    """What Tune is about to start.

    Attributes:
        trainable: what the user gave it.
        param_space: the same.
        restored: an experiment is taken up again.
        started: when; tells one call from another.
    """

    trainable: Any
    param_space: Any
    restored: bool
    started: object


@uses(CHECKS, otherwise=lambda: None)
def launch() -> Launch | None:
    """Return what the calling ``tune.run`` is about to start, also for ``fit``; None elsewhere.

    Tune hands this to neither a trainable nor a callback; both find it in their caller's locals
    [Ray 2.60, ``tune/tune.py``, ``run``: ``run_or_experiment``, ``config``, ``all_start``].
    """
    for frame in frames.callers():
        names = frame.f_locals
        if frame.f_code.co_name == "run" and {"run_or_experiment", "config"} <= set(names):
            restored, started = names.get("resume_config") is not None, names.get("all_start")
            return Launch(names["run_or_experiment"], names["config"], restored, started)
    return None


def may_be_launching() -> bool:
    """Return whether ``tune.run`` may be what calls; without a look at its frame, it may."""
    return not CHECKS.is_here or launch() is not None


def runtime_environment() -> dict[str, str]:
    """Return the variables that the ``runtime_env`` of this job, or of this worker, has."""
    import ray  # noqa: PLC0415 - needs ray

    if not ray.is_initialized():
        return {}
    return dict(ray.get_runtime_context().runtime_env.get("env_vars") or {})


@uses(HEAD, otherwise=lambda: False)
def has_started_cluster() -> bool:
    """Return whether this driver started its cluster, so that workers have its environment.

    [Ray 2.60, ``worker._global_node``.]
    """
    from ray._private import worker  # noqa: PLC0415 - needs ray

    node = worker._global_node  # noqa: SLF001 - as above
    return node is not None and bool(node.is_head())


def own_environment() -> dict[str, str]:
    """Return this worker's variables, without those that it has from the node it runs on.

    They come from a ``runtime_env``, or the user's code set them in this process; the others
    are what the node's raylet was started with, which may be long ago
    [Ray 2.60: a worker's parent is its raylet].
    """
    given = runtime_environment()
    try:
        raw = Path(f"/proc/{os.getppid()}/environ").read_bytes()
    except OSError:  # not Linux: what the code has set can't be told from the node's
        return {name: text for name, text in os.environ.items() if name in given}
    node = set(raw.split(b"\0"))
    return {
        name: text
        for name, text in os.environ.items()
        if name in given or os.fsencode(f"{name}={text}") not in node
    }
