"""The end of a run: its user's own ``finish``, and whether its uploads took too long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from wbtune._upstream.capabilities import Capability

OWN_FINISH: Final = Capability(
    "rows after the user's own finish()",
    without="what a trial logs after its own run.finish() or wandb.finish() is lost",
    since="wandb 0.22",
    needs=("wandb.sdk.wandb_run:Run._finish", "wandb.sdk.wandb_run:Run._is_finished"),
)

TIMED_OUT: Final = Capability(
    "uploads that took too long are noticed",
    without="a run whose uploads took too long is not uploaded at the end; `wandb sync` does it",
    since="wandb 0.27",
    needs=("wandb.sdk.wandb_run:Run._finish_timed_out",),
)


def keep_open(run: Any, finished: Callable[[int | None], None]) -> None:
    """Let a run's ``finish`` call `finished` instead, until `let_finish`.

    ``wandb.finish`` and ``wandb.init(reinit=True)`` call it; ``with run:`` calls what it calls
    [wandb 0.31, ``Run._finish``].
    """

    def finish(exit_code: int | None = None, **_: Any) -> None:
        finished(exit_code)

    # At the end of a `with` block it says 1 for Tune's stop, too: that is not noted.
    run.__dict__.update(finish=finish, _finish=lambda exit_code=None: None)  # noqa: ARG005


def let_finish(run: Any) -> None:
    """Give a run its ``finish`` back that `keep_open` took from it."""
    for name in ("finish", "_finish"):
        vars(run).pop(name, None)


def is_finished(run: Any) -> bool:
    """Return whether ``finish`` was called [wandb 0.31, ``Run._is_finished``]."""
    return bool(getattr(run, "_is_finished", False))


def finish_timed_out(run: Any) -> bool:
    """Return whether ``finish`` ended before all was uploaded [``Run._finish_timed_out``]."""
    return bool(getattr(run, "_finish_timed_out", False))
