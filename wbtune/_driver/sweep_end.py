"""The end of an experiment as a whole: its best run is tagged, its overview written.

The sweep itself is ended by the helper, which outlives the driver (:mod:`wbtune._helper.requests`).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from wbtune._data.outcomes import FINISHED, Kind, Outcome
from wbtune._data.sweep import BEST, BEST_RUN
from wbtune._driver import conclusion, endings
from wbtune._driver.best import best_of
from wbtune._driver.experiment_run import ExperimentRun
from wbtune._driver.run_tags import RunTags
from wbtune._driver.trial_state import TrialState, opened_id
from wbtune._driver.trials import Trials
from wbtune._driver.writer import Writer
from wbtune._run import links

if TYPE_CHECKING:
    from ray.tune.experiment import Trial


class Conclusion(NamedTuple):
    """What is shown when an experiment has ended.

    Attributes:
        overview: where the overview is; empty if there is none.
        parameters: the best trial's parameters.
    """

    overview: str = ""
    parameters: Mapping[str, Any] = {}


class SweepEnd:
    """Concludes the run for a whole experiment, and tags the best trial's run.

    Args:
        run: the run for the whole.
        trials: the experiment's trials.
        writer: writes the runs.
        place: where the runs are at W&B, if that is known.
    """

    def __init__(
        self, run: ExperimentRun, trials: Trials, writer: Writer, place: links.Place | None
    ) -> None:
        self._run = run
        self._trials = trials
        self._place = place
        self._tags = RunTags(trials, writer, place)

    def conclude(
        self, tune_trials: Sequence[Trial], rest: Outcome, is_interrupted: Callable[[], bool]
    ) -> Conclusion:
        """Conclude the experiment, once every trial's run has its outcome.

        Args:
            tune_trials: its trials as Tune has them.
            rest: the outcome of the trials that had not ended.
            is_interrupted: whether somebody has pressed Ctrl-C again.
        """
        directories = list(self._trials.folders)
        if not directories:
            return Conclusion()  # no trial has started
        for trial in tune_trials:  # all of a restored experiment's may have ended before
            if (known := self._trials.get(trial)) is not None:
                self._run.open(trial, known)
                break
        on_disk = self._trials.folders.run_ids()
        best = best_of(tune_trials, self._trials.objective)
        state = None if best is None else self._trials.get(best)
        self._run.count(tune_trials)
        record = conclusion.record_of(
            self._run,
            self._trials,
            tune_trials,
            name=self._run.name,
            best=best,
            url_of=partial(self._url_of, on_disk),
            is_interrupted=is_interrupted,
        )
        of_best = next((one for one in record.trials if one.trial_id == record.best_trial), None)
        page = conclusion.write_overview(record, directories[0])
        summary = conclusion.summary_of(record, of_best, self._run.objective)
        before = self._tagged_before()
        if state is not None:
            summary[BEST_RUN] = opened_id(state, on_disk)
        ended_by_itself = rest.kind is not Kind.INTERRUPTED and rest.reason == endings.UNKNOWN
        outcome = FINISHED if ended_by_itself else rest
        table = conclusion.table_of(record)
        self._run.end(outcome, table, "" if page is None else str(page), summary)
        self._tag(state, before)
        self._run.describe_by_trials(tune_trials)
        where = "" if page is None else self._delivered(page, directories[0], is_interrupted)
        return Conclusion(where, {} if of_best is None else of_best.params)

    def _delivered(self, page: Path, directory: str, is_interrupted: Callable[[], bool]) -> str:
        """Where the overview is: in a remote storage, if the experiment is there."""
        remote = self._trials.folders.remote(directory)
        there = None if remote is None else remote.put(page, is_interrupted)
        return there or str(page)

    def _url_of(self, on_disk: Container[str], state: TrialState) -> str:
        if self._place is None:
            return ""
        place = links.place_of(self._place, state.spec.init)
        return place.run_url(opened_id(state, on_disk))

    # --- the tag ---

    def _tagged_before(self) -> str:
        """The run that was tagged when a restored experiment had ended before; empty for none."""
        if not self._trials.restored:
            return ""
        log = self._trials.folders.log_of(self._run.key)
        return "" if log is None else str(log.summary.get(BEST_RUN) or "")

    def _tag(self, best: TrialState | None, before: str) -> None:
        """Tag the best trial's run, and no longer the one that was the best before.

        Args:
            best: the best trial; None if there is none.
            before: the id of the run that was tagged before; empty for none.
        """
        if best is not None:
            self._tags.change(best, add=(BEST,))
        beaten = next((one for one in self._trials if before in one.spec.ids), None)
        if beaten is not None and beaten is not best:
            self._tags.change(beaten, remove=(BEST,))
