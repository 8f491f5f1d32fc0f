"""Log Tune's results to a trial's own run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from wbtune._data.signals import is_of_a_signal
from wbtune._run import closing, media, opening, run_spec, steps
from wbtune._trial.row_joiner import RowJoiner
from wbtune._upstream import wandb_run

if TYPE_CHECKING:
    from wandb import Run

    from wbtune._data.routing import Router
    from wbtune._trial.run_start import StartedRun

logger = logging.getLogger("wbtune")

#: The key of the trial's attempt, from the second one on.
ATTEMPT: Final = "wbtune/attempt"


class ResultLog:
    """The results of one trial, on their way into its run.

    Args:
        public_name: what the user called, for messages.
        started: the run, and what it was opened by.
        router: picks what is logged of a result; None if results are not logged.
        iteration: returns how many results the trial has had; None where that is unknown.
        warned_keys: keys with values that could not be logged and that a warning has named;
            further ones are added.

    Attributes:
        run: the open run. If the user finishes it, it is reopened for the next result, as another
            object.
        dropped: how many results could not be logged.
    """

    def __init__(
        self,
        public_name: str,
        started: StartedRun,
        router: Router | None,
        iteration: Callable[[], int] | None,
        warned_keys: set[str],
    ) -> None:
        self.run: Run = started.run
        self.dropped = 0
        self._public_name = public_name
        self._spec = started.spec
        self._attempt = started.attempt
        self._router = router
        self._iteration = iteration
        self._warned_keys = warned_keys
        self._steps = steps.Steps(wandb_run.first_step(started.run))
        self._joiner: RowJoiner | None = None

    @property
    def is_on(self) -> bool:
        """Whether results are logged."""
        return self._router is not None

    def prepare(self) -> None:
        """Define the run's metrics, and intercept the rows that the trial logs itself.

        If that fails, the run is open all the same: one warning, and the trial continues.
        """
        try:
            self.close()
            self._joiner = None
            if self.is_on and self._iteration is not None:
                self._joiner = RowJoiner(self.run, run_spec.X_AXIS, self._iteration)
            opening.define_metrics(self.run, self._spec, logs_results=self.is_on)
            if self._attempt > 1 and not self.is_on:
                # Not a row of its own: it joins the next row that the trial logs.
                self.run.log({ATTEMPT: self._attempt}, commit=False)
        except Exception as error:  # noqa: BLE001 - W&B's trouble is not the trial's
            # Cause: W&B raised an error after the run was opened.
            # Cure: Correct what the error names; what the trial logs itself is not affected.
            logger.warning(
                "%s: could not prepare run %s: %s", self._public_name, self.run.id, error
            )

    def log(self, result: Mapping[str, Any]) -> None:
        """Log one result. One that can't be logged is counted; the first gives a warning."""
        if self._router is None:
            return
        try:
            self._log(result, self._router)
        except BaseException as error:
            if is_of_a_signal(error):
                raise
            self.dropped += 1
            if self.dropped == 1:
                # Cause: W&B refuses a value of the result.
                # Cure: Correct what the error names; `wbtune/dropped` counts the results.
                logger.warning("%s: could not log a result: %s", self._public_name, error)

    def _log(self, result: Mapping[str, Any], router: Router) -> None:
        run = closing.reopen_if_finished(self.run)
        if run is not self.run:
            self.run = run
            self.prepare()
        # Copies, because wandb ties media objects to the run: Tune could not pickle those.
        row, config = router.route(router.snapshot(result, media.detached_copy))
        if self._attempt > 1:
            row[ATTEMPT] = self._attempt
        if config:
            opening.update_config(run, config)
        with self._joining(row) as (rest, joins):
            iteration = None if joins else row.get(run_spec.X_AXIS)
            step = self._steps.next(iteration, at_least=closing.next_step(run))
            new, left_out = media.log_media(run, rest, self._spec, step)
            for key in left_out.keys() - self._warned_keys:
                # Cause: wandb can't encode the image or video.
                # Cure: Correct what the error names; the row has its other metrics.
                logger.warning("%s: left out %s (%s)", self._public_name, key, left_out[key])
            self._warned_keys |= left_out.keys()
            run.log(new, step=step, commit=True)

    def _joining(
        self, row: dict[str, Any]
    ) -> contextlib.AbstractContextManager[tuple[dict[str, Any], bool]]:
        joiner = self._joiner
        return contextlib.nullcontext((row, False)) if joiner is None else joiner.result(row)

    def close(self) -> None:
        """Stop waiting for results: the run is about to be closed."""
        if self._joiner is not None:
            self._joiner.close()

    def notes(self) -> dict[str, int]:
        """The entries of the run's summary about its results."""
        notes = {"wbtune/dropped": self.dropped}
        if self._attempt > 1:
            notes[ATTEMPT] = self._attempt
        return notes
