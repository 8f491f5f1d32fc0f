"""Work out in a trial's own process how the trial ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from wbtune._data.outcomes import FINISHED, STOPPED_AT_WANDB, Kind, Outcome
from wbtune._place import handover
from wbtune._upstream import ray_trial

if TYPE_CHECKING:
    from ray.tune import Trainable

#: Tune does not tell a trial's process why it stops the trial.
STOPPED: Final = Outcome(
    Kind.STOPPED, reason="unknown: Tune stopped the trial, and does not tell its process why"
)


class OutcomeTracker:
    """What a trial's process knows about how the trial ended.

    Args:
        fit: the name of the ``fit()`` that the trial belongs to; may be empty.

    Attributes:
        error: the first error that the trial raised. It is the user's own; Tune wraps it in
            others.
        stop_asked: somebody pressed "Stop run" at W&B.
    """

    def __init__(self, fit: str = "") -> None:
        self.error: BaseException | None = None
        self.stop_asked = False
        self._fit = fit
        self._done = False

    def note_error(self, error: BaseException) -> None:
        """Note an error that the trial raised."""
        if self.error is None:
            self.error = error

    def note_result(self, result: Mapping[str, Any]) -> None:
        """Note whether a result says that the trial is done."""
        self._done = self._done or bool(result.get("done"))

    def outcome(self, trainable: Trainable | None = None) -> Outcome:
        """How the trial ended, as far as its own process knows."""
        if self.error is not None:
            return Outcome.failed(self.error)
        if self.stop_asked:
            return STOPPED_AT_WANDB
        returned = self._done or (trainable is not None and ray_trial.function_returned(trainable))
        return FINISHED if returned else self.stopped()

    def stopped(self) -> Outcome:
        """The outcome when Tune stops the trial: that of all, if the driver has noted one."""
        if self.stop_asked:
            return STOPPED_AT_WANDB
        return handover.announced_end(self._fit) or STOPPED
