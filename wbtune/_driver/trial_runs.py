"""The runs that the driver writes: open them in time, fill them in after a crash, end them.

The driver writes a run unless the trial's own process has claimed it, because it is a decorated
function or a `WandbMixin`, or because it called `setup_wandb` first.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wbtune._data import timeouts
from wbtune._data.outcomes import Outcome
from wbtune._driver import restoring
from wbtune._driver.trial_state import TrialState
from wbtune._driver.trials import Trials
from wbtune._driver.writer import Writer
from wbtune._place import arrivals, handover
from wbtune._place.server import RefusedError, Server
from wbtune._run import run_files, run_spec
from wbtune._upstream import ray_trials, wandb_settings
from wbtune.errors import WbtuneError

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

    from wbtune._place.arrivals import Arrival

logger = logging.getLogger("wbtune")


class TrialRuns:
    """Opens and ends the trials' runs.

    Args:
        trials: the experiment's trials.
        writer: writes the runs.
    """

    def __init__(self, trials: Trials, writer: Writer) -> None:
        self._trials = trials
        self._writer = writer
        # The trials whose runs are not open yet: Tune's loop checks them often.
        self._unopened: list[TrialState] = []
        self._store_is_away_until = 0.0

    def add(self, trial: Trial) -> TrialState:
        """Add a new trial to the experiment, and start the helper if it is not running."""
        state = self._trials.add(trial)
        if state.directory is not None:
            self._writer.launch(Path(state.directory, "wandb", "wbtune.log"))
        return state

    # --- opening ---

    def open_when_due(self, trial: Trial, state: TrialState) -> None:
        """Open a trial's run once the trial has had enough time to claim it itself."""
        if state.owns_run:
            return
        # With system metrics, at the first result, which shows which process the trial runs in.
        state.due = math.inf if self._trials.options.system_metrics else time.monotonic()
        if ray_trials.may_run_function(trial):
            state.due += timeouts.CLAIM_S  # its first line is still to come
        self._unopened.append(state)
        self.open_overdue()

    def open_overdue(self) -> None:
        """Open the runs that their trials have had enough time to claim."""
        now = time.monotonic()
        for state in [state for state in self._unopened if state.due <= now]:
            self._unopened = [other for other in self._unopened if other is not state]
            if state.due:
                self.open(state)

    def open(self, state: TrialState) -> None:
        """Open a run, unless it is open, or the trial's own process writes it."""
        state.due = 0.0
        if state.owns_run or state.is_open:
            return
        if self._writer_of(state) != "driver":
            state.owns_run = True
            return
        state.is_open = True
        if state.fill_in_from is not None and self._trials.folders.has_remote:
            self._writer.call(self._trials.folders.fetch_once)
        self._writer.start(state.key, state.spec, state.router, self._trials.secret_for(state))
        self._trials.copy_live(state.directory, state.spec.ids)
        if state.fill_in_from is not None:
            # First the results that a crashed driver had not yet logged.
            self._writer.log_all(state.key, partial(self._missing, state, state.fill_in_from))
            state.fill_in_from = None
        if state.perturbations:
            self._writer.configure(state.key, state.perturbations_in_config)

    def _writer_of(self, state: TrialState) -> str:
        """Which process writes the run. If the store does not answer: better two than none."""
        if time.monotonic() < self._store_is_away_until:
            return "driver"
        try:
            return handover.claim(state.claim, "driver", timeouts.STORE_IN_LOOP_S)
        except handover.StoreError as error:
            # So that Tune's loop does not wait for the store again at once.
            self._store_is_away_until = time.monotonic() + timeouts.CLAIM_S
            # Cause: Ray's head does not answer, which knows who writes a run.
            # Cure: Use @wandb_trial instead of setup_wandb: then it is known beforehand.
            logger.warning(
                "%s: %s. A run that the trial opens by setup_wandb may get rows from both.",
                self._trials.public_name,
                error,
            )
            return "driver"

    def _missing(self, state: TrialState, trial: Trial) -> Iterator[Mapping[str, Any]]:
        """The results that a crashed driver had not logged."""
        directory = state.directory or ""
        logs = [run_files.logs(directory, run_id) for run_id in state.spec.ids]
        # Tune continues meanwhile, and the results that this driver gets are logged as they come.
        found = next(filter(None, logs), [])
        results = partial(restoring.missing, trial, found, state.delivered)
        arrived = None if found or next(results(), None) is None else self._arrived(state)
        if arrived is None:
            yield from results()
        else:
            yield from restoring.after(results, arrived.rows, arrived.last)
        state.delivered = None

    def _arrived(self, state: TrialState) -> Arrival | None:
        """What the server has of an online run whose log is gone with the session of Ray."""
        secret, spec = self._trials.secret_for(state), state.spec
        if secret is None:
            return None
        base_url = spec.settings.get("base_url") or wandb_settings.wandb_setting("base_url")
        entity = spec.init.get("entity") or spec.settings.get("entity")
        project, run_id = spec.init.get("project") or "uncategorized", spec.init["id"]
        server = Server(str(base_url), secret, timeouts.DRIVER_SERVER_S, spec.settings)
        try:
            theirs = server.run_config(entity, project, run_id) if spec.experiment else None
            if theirs is not None and theirs.get(run_spec.EXPERIMENT_KEY) != spec.experiment:
                run_id = spec.ids[0]  # as where the run is opened
            return arrivals.ask(server, entity, project, run_id)
        except (WbtuneError, RefusedError) as error:
            # Cause: The experiment was restored in a new Ray, and the server does not answer.
            # Cure: If it has, delete the run at W&B, and import the experiment: wbtune import DIR.
            logger.warning(
                "%s: run %s may have rows twice: what the server has of it can't be known: %s",
                *(self._trials.public_name, run_id, error),
            )
            return None

    # --- changing and ending ---

    def perturb(self, trial: Trial, state: TrialState) -> None:
        """Update the config of a restarted trial's run, if its hyperparameters changed."""
        changes = self._trials.note_perturbation(trial, state)
        if changes and state.is_open:
            self._writer.configure(state.key, changes)

    def end(self, state: TrialState, outcome: Outcome) -> None:
        """End a trial's run, with its last checkpoint."""
        state.outcome, state.ended = outcome, True
        self.open(state)
        copy_last, state.copy_last = state.copy_last, None
        try:
            if copy_last is not None:
                copy_last()
        finally:  # a full disk, say, must not leave the run open
            if state.is_open:
                state.is_open = False
                self._writer.end(state.key, outcome, state.notes)
