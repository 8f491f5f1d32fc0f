"""The run for a whole experiment: what it searches, how far it is, and which trial is the best.

It is a run of its own beside those of the trials, in their group, with the job type ``"sweep"``,
and never a member of the experiment's sweep.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wbtune._data import sweep_config, timeouts
from wbtune._data.checkpoint import Objective
from wbtune._data.filtering import excludes_of
from wbtune._data.outcomes import Kind, Outcome
from wbtune._data.routing import Router
from wbtune._data.sweep import GIVEN, JOB_TYPE
from wbtune._driver.best import finite
from wbtune._driver.run_tags import request_of
from wbtune._driver.sweep_start import Whole, config_of
from wbtune._driver.trial_state import TrialState
from wbtune._driver.trials import Trials
from wbtune._driver.writer import Writer
from wbtune._helper.messages import ChangeSweep
from wbtune._place import sweeps
from wbtune._place.identity import Identity
from wbtune._run import links, run_spec
from wbtune._upstream import ray_trials

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

#: Arguments of ``wandb.init`` that describe a trial's run, not this one.
_OF_A_TRIAL: Final = frozenset({"id", "name", "job_type", "notes", "config"})

#: Tune's statuses of trials that have not ended, as the rows name them.
_UNENDED: Final = {"PENDING": "pending", "RUNNING": "running", "PAUSED": "paused"}


class ExperimentRun:
    """Logs how an experiment goes on, to a run of its own.

    Args:
        trials: the experiment's trials.
        writer: writes the run.
        whole: what is known of the experiment before its first trial.

    Attributes:
        description: what the experiment searches.
        name: the experiment's name.
        key: the run's id.
        objective: what makes a trial the best; None if it is not known, or not to be shown.
    """

    def __init__(
        self,
        trials: Trials,
        writer: Writer,
        whole: Whole,
    ) -> None:
        self.description = whole.description
        self.name = whole.name
        before = whole.before
        self.key: str = before.get("run") or f"sweep-{uuid.uuid4().hex[:8]}"
        options = trials.options
        self.excludes = excludes_of(options.excludes, options.unmask)
        objective = trials.objective
        hidden = objective is None or self.excludes.drops(objective.metric)
        self.objective: Objective | None = None if hidden else objective
        self._trials = trials
        self._writer = writer
        # Tune's word for "as long as there is time" is `sys.maxsize`.
        total = whole.total or 0
        self._total = total if total < sys.maxsize else 0
        self._best: float | None = before.get("best")
        self._counts: Counter[str] = Counter()
        self._is_open = False
        self._due = 0.0

    def for_restoring(self) -> dict[str, Any]:
        """What a restored experiment needs: plain data, without secrets."""
        sweep = self._trials.login.sweep
        return {
            "run": self.key,
            "best": self._best,
            "sweep": sweep and list(sweep),
            "description": self.description._asdict(),
        }

    def begin(self, place: links.Place | None, directory: str | None) -> None:
        """Print the sweep's page, and start the helper: it ends the sweep when it ends itself.

        Args:
            place: where the runs are at W&B, if that is known.
            directory: the experiment's folder, if it is one of this machine.
        """
        login = self._trials.login
        request = request_of(self._trials.options, login)
        if login.sweep is not None and place is not None:
            links.print_sweep(place, login.sweep)
        if login.sweep is not None and request is not None:
            self._writer.request(ChangeSweep(request, login.sweep, state=sweeps.FINISHED))
            self._writer.launch(Path(directory, "wandb", "wbtune.log") if directory else None)

    def open(self, trial: Trial, state: TrialState) -> None:
        """Open the run, if it is not open: together with the first trial, whose folder it is in.

        Args:
            trial: that trial.
            state: the same, as the driver sees it.
        """
        if self._is_open:
            return
        self._is_open = True
        self.name = self.name or ray_trials.experiment_of(trial).name
        login, options = self._trials.login, self._trials.options
        given = {k: v for k, v in options.init_kwargs.items() if k not in _OF_A_TRIAL}
        sweep = login.sweep
        config = {
            "space": self.description.parameters,
            "method": self.description.method,
            **self.description.config,
            "metric": self.objective and self.objective.metric,
            "mode": self.objective and self.objective.mode,
            "sweep": sweep and sweep.id,
        }
        if self.description.given is not None:  # from it, `wbtune sync` makes the sweep
            config[GIVEN] = config_of(self.name, self.description, self.objective)
        spec = run_spec.spec(
            replace(options, init_kwargs=given),
            Identity(self.key, self.name, self.name, state.directory),
            config,
            login.settings,
        )
        spec = spec._replace(init={**spec.init, "job_type": JOB_TYPE}, logs_results=False)
        self._writer.start(self.key, spec, Router(), login.secret)
        self._trials.copy_live(state.directory, [self.key])
        self.describe_by_trials([trial], now=True)

    def describe_by_trials(self, tune_trials: Sequence[Trial], *, now: bool = False) -> None:
        """If only the search algorithm knows the space, describe it by the trials' parameters.

        Args:
            tune_trials: the trials as Tune has them.
            now: whether the experiment is still running.
        """
        options, login = self._trials.options, self._trials.login
        request = request_of(options, login)
        if self.description.parameters or self.description.given or request is None:
            return
        if login.sweep is None:
            return
        configs = (self.excludes.config(trial.config) for trial in tune_trials)
        seen = self.description._replace(parameters=sweep_config.seen(configs))
        config = config_of(self.name, seen, self.objective)
        self._writer.request(ChangeSweep(request, login.sweep, config=config, now=now))

    def result(self, trial: Trial, result: Mapping[str, Any]) -> None:
        """Log the best value so far, if a result improves it; Tune's loop calls this for each."""
        objective = self.objective
        if objective is None:
            return
        value = finite(objective.value(result))
        if objective.improves(value, self._best):
            self._best = value
            row = {f"best/{objective.metric}": value, "best/trial": trial.trial_id}
            self._writer.log(self.key, row)

    def count_when_due(self, tune_trials: Sequence[Trial]) -> None:
        """Log how many trials are pending, running and done, every few seconds if that changed."""
        now = time.monotonic()
        if now >= self._due and self._is_open:
            self._due = now + timeouts.COUNT_EVERY_S
            self.count(tune_trials)

    def count(self, tune_trials: Sequence[Trial]) -> None:
        """Log how many trials are pending, running and done, if that changed."""
        counts = Counter(map(self._stage, tune_trials))
        counts["pending"] += max(0, self._total - len(tune_trials))  # Tune has not made these yet
        if counts != self._counts:
            self._counts = counts
            names = [*_UNENDED.values(), *(kind.value for kind in Kind)]
            self._writer.log(self.key, {f"trials/{name}": counts[name] for name in names})

    def _stage(self, trial: Trial) -> str:
        if trial.status in _UNENDED:
            return _UNENDED[trial.status]
        state = self._trials.get(trial)
        if state is not None and state.outcome is not None:
            return str(state.outcome.kind.value)
        ended = Kind.FAILED if trial.status == "ERROR" else Kind.FINISHED
        return str(ended.value)

    def end(
        self,
        outcome: Outcome,
        table: tuple[list[str], list[list[Any]]],
        page: str,
        notes: Mapping[str, Any],
    ) -> None:
        """Log the table and the overview, and close the run.

        Args:
            outcome: how the experiment ended.
            table: the columns and the rows of the table of trials.
            page: the path of the overview; empty if there is none.
            notes: the entries of its summary.
        """
        if self._is_open:
            self._is_open = False
            self._writer.conclude(self.key, *table, page)
            self._writer.end(self.key, outcome, notes)
