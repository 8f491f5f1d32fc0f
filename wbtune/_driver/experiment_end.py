"""The end of an experiment: close every run with its true outcome, and wait for uploads.

The driver corrects a run that a trial's own process wrote if that process was killed, or could not
know why it was stopped.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from wbtune._data import timeouts
from wbtune._data.outcomes import FINISHED, Kind, Outcome
from wbtune._driver import endings, last_lines
from wbtune._driver.artifacts import Artifacts
from wbtune._driver.patience import Patience
from wbtune._driver.reopening import reopening_arguments
from wbtune._driver.run_tags import RunTags
from wbtune._driver.trial_runs import TrialRuns
from wbtune._driver.trial_state import TrialState, owns_run
from wbtune._driver.trials import Trials
from wbtune._driver.writer import Writer
from wbtune._place import handover
from wbtune._run import links, run_files, run_log, segments
from wbtune._upstream import ray_loop, ray_stops

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

    from wbtune._driver.experiment_run import ExperimentRun
    from wbtune._driver.sweep_end import Conclusion

logger = logging.getLogger("wbtune")


class ExperimentEnd:
    """Closes what is still open, waits for uploads, and prints where the runs are.

    Args:
        trials: the experiment's trials.
        runs: their runs.
        artifacts: their checkpoints.
        writer: writes the runs.
        stops: what ``stop=`` and the time budget have decided; None if that can't be known.
        place: where the runs are at W&B, if that is known.
        whole: the run for the whole experiment, with ``sweep=True``.
    """

    def __init__(
        self,
        trials: Trials,
        runs: TrialRuns,
        artifacts: Artifacts,
        writer: Writer,
        *,
        stops: ray_stops.Stops | None,
        place: links.Place | None,
        whole: ExperimentRun | None = None,
    ) -> None:
        self._trials = trials
        self._runs = runs
        self._artifacts = artifacts
        self._writer = writer
        self._stops = stops
        self._place = place
        self._whole = whole
        # The exit codes that a restored experiment's runs had before it was restored.
        self._codes_before: dict[str, int | None] | None = None

    def close(self, tune_trials: Sequence[Trial]) -> None:
        """Close the experiment.

        Args:
            tune_trials: its trials as Tune has them.
        """
        rest, failures = endings.for_unended_trials(self._stops)
        patience = Patience(self._timeout(rest), ray_loop.interrupted_from_now())
        conclusion: Conclusion | None = None
        try:
            with patience:
                self._end_open_runs(tune_trials, rest, failures)
                self._artifacts.finish_copying(patience)
                self._complete_runs_of_trials()
                RunTags(self._trials, self._writer, self._place).forget_outcomes_before()
                conclusion = self._conclude(tune_trials, rest, patience)
        finally:  # whatever went wrong, end the helper and its runs, and release the claims
            complete = False
            try:
                with patience:
                    self._upload_rest(patience.left)
                    complete = self._writer.close(patience.left, patience.is_over)
            finally:
                last_lines.print_folders(self._trials, self._trials.folders.deliver(patience))
                last_lines.print_sync_command(self._trials, complete=complete)
                last_lines.print_best(self._trials, tune_trials, self._place, conclusion)
                self._artifacts.discard_not_uploaded()
                self._release_claims()

    def _conclude(
        self, tune_trials: Sequence[Trial], rest: Outcome, patience: Patience
    ) -> Conclusion | None:
        if self._whole is None:
            return None
        from wbtune._driver.sweep_end import SweepEnd  # noqa: PLC0415 - only with sweep=True

        end = SweepEnd(self._whole, self._trials, self._writer, self._place)
        try:
            return end.conclude(tune_trials, rest, patience.is_over)
        except Exception:  # the trials' runs are not to suffer from it
            # Cause: An error in wbtune, of which the traceback follows.
            # Cure: Report it with the traceback. The trials' runs are complete; the run for the
            #   whole is not.
            logger.exception("wbtune: the experiment as a whole is not complete at W&B")
            return None

    def _timeout(self, rest: Outcome) -> float:
        """Seconds to wait for uploads."""
        timeout = self._trials.options.upload_timeout
        timeout = timeouts.UPLOAD_TIMEOUT_S if timeout is None else timeout
        if rest.kind is Kind.INTERRUPTED:
            return min(timeout, timeouts.INTERRUPTED_UPLOAD_S)
        return timeout

    # --- runs that the driver writes ---

    def _end_open_runs(
        self, tune_trials: Sequence[Trial], rest: Outcome, failures: Mapping[str, Outcome]
    ) -> None:
        for trial in tune_trials:
            state = self._trials.get(trial)
            failed = trial.status == "ERROR"
            if state is None and self._trials.is_restored and trial.is_finished():
                self._complete_restored(trial, endings.failure(trial) if failed else FINISHED)
                continue
            if state is None and owns_run(trial):
                state = self._runs.add(trial)  # interrupted before Tune passed it to the callback
            if state is not None and not state.ended:
                outcome = endings.failure(trial) if failed else failures.get(trial.trial_id)
                self._runs.end(state, outcome or state.outcome or rest)

    def _complete_restored(self, trial: Trial, outcome: Outcome) -> None:
        """End the run of a trial that had ended before the restore, unless it is complete."""
        state = self._runs.add(trial)
        if self._codes_before is None:
            self._trials.folders.fetch_once()
            self._codes_before = self._trials.folders.exit_codes()
        codes = self._codes_before
        code = next((codes[run_id] for run_id in state.spec.ids if run_id in codes), None)
        if code == outcome.exit_code:  # the code is written last, so everything is there
            state.ended, state.outcome, state.due = True, outcome, 0.0
        else:
            self._runs.end(state, outcome)

    # --- runs of the trials' own processes, which are gone, so that the driver may write ---

    def _complete_runs_of_trials(self) -> None:
        """Correct outcomes that the trials could not know, and upload checkpoints held back."""
        if any(state.owns_run for state in self._trials):
            self._trials.folders.fetch()
        codes = self._trials.folders.exit_codes()
        for state in self._trials:
            run_id = next((run_id for run_id in state.spec.ids if run_id in codes), "")
            if state.owns_run and (run_id or state.failed_to_start):
                self._correct(state, run_id, codes.get(run_id))
            self._artifacts.upload_held_back(state)

    def _correct(self, state: TrialState, run_id: str, code: int | None) -> None:
        """Give a run the outcome that the driver knows, if the run has a different one.

        Args:
            state: its trial.
            run_id: the id that its trial opened it with; empty if the trial opened none.
            code: the exit code that it was closed with; None if it was not closed.
        """
        outcome = state.outcome
        if outcome is None:
            return
        agrees = code is not None and (code == 0) == (outcome.exit_code == 0)
        if agrees and not state.perturbations:
            return
        paths = run_files.logs(state.directory, run_id) if state.directory else []
        if code is None and outcome.exit_code == 0 and not segments.had_finished(paths):
            outcome = Outcome(Kind.LOST, reason="the trial's process died before it could say")
            state.outcome = outcome
        spec = state.spec
        if run_id and state.directory is not None:
            log = run_log.read_runs(state.directory, run_id).get(run_id)
            spec = spec._replace(init=reopening_arguments(spec.init, log))
        self._writer.start(state.key, spec, state.router, self._trials.secret_for(state))
        if state.perturbations:
            self._writer.configure(state.key, state.perturbations_in_config)
        self._writer.end(state.key, outcome, state.notes)

    # --- afterwards ---

    def _upload_rest(self, seconds: float) -> None:
        """Upload what an outage of the server left on disk, once every run is closed."""
        login = self._trials.login
        base_url = login.settings.get("base_url")
        if login.secret is not None and base_url:
            for directory in self._trials.folders:
                self._writer.upload_rest(directory, base_url, login.secret, seconds)

    def _release_claims(self) -> None:
        for prefix in {state.claim.rpartition("/")[0] for state in self._trials}:
            try:
                handover.unclaim(f"{prefix}/")
            except handover.StoreError as error:
                logger.info("wbtune: a few bytes stay in Ray's store: %s", error)
