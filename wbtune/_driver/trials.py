"""The trials of an experiment: which run each one gets, and with which config."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from wbtune._data import ignored_options
from wbtune._data.checkpoint import Objective
from wbtune._data.filtering import excludes_of
from wbtune._data.options import RunOptions, take_from_config
from wbtune._data.routing import Router
from wbtune._data.secret import Secret
from wbtune._driver import endings, restoring
from wbtune._driver.folders import Folders
from wbtune._driver.trial_state import TrialState, owns_run
from wbtune._place import identity
from wbtune._place.credentials import Login, needs_key
from wbtune._run import environment, run_spec
from wbtune._upstream import wandb_settings
from wbtune.errors import WbtuneError

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

logger = logging.getLogger("wbtune")


class Trials:
    """The trials that Tune has passed to the driver, in that order.

    Args:
        public_name: what the user called, for messages.
        options: located and checked.
        login: the key and the server.
        given: the options before they were located, which ``config["wandb"]`` does not override.
        objective: which checkpoint is the best.
        restored: what `for_restoring` returned before the driver ended; None for a new
            experiment.

    Attributes:
        folders: the folders that their runs are in.
    """

    def __init__(
        self,
        public_name: str,
        options: RunOptions,
        login: Login,
        *,
        given: RunOptions | None = None,
        objective: Objective | None = None,
        restored: Mapping[str, Any] | None = None,
    ) -> None:
        self.public_name = public_name
        self.options = options
        self._given = options if given is None else given
        self.login = login
        self.objective = objective
        self.is_restored, self.restored = restored is not None, dict(restored or {})
        self.folders = Folders()
        self._states: dict[str, TrialState] = {}
        self._trial_of_run = {one.get("id"): trial_id for trial_id, one in self.restored.items()}
        self._trial_of_tag: dict[str, str] = {}
        self._explained_ids = False

    def __iter__(self) -> Iterator[TrialState]:
        return iter(self._states.values())

    def get(self, trial: Trial) -> TrialState | None:
        """A trial's state; None if it is new."""
        return self._states.get(trial.trial_id)

    def for_restoring(self) -> dict[str, Any]:
        """What a restored experiment needs: plain data, without secrets."""
        known = {trial_id: state.for_restoring() for trial_id, state in self._states.items()}
        # Tune has not yet come to the others, and may be restored again before it does.
        return {**self.restored, **known}

    def add(self, trial: Trial) -> TrialState:
        """Add a new trial."""
        identified = identity.of_trial(trial)
        inner, config = self._split_config(trial)
        options = self.options | inner | self._given
        init = ignored_options.for_driver(self.public_name, options.init_kwargs)
        options = replace(options, init_kwargs=init)
        excludes = excludes_of(options.excludes, options.unmask)
        kept = excludes.config(config)
        spec = run_spec.spec(options, identified, kept, self.login.settings)
        spec = run_spec.in_sweep(spec, self.login.sweep)
        state = TrialState(
            spec=self._with_its_own_id(trial, spec)._replace(objective=self.objective),
            router=Router(excludes, log_config=bool(options.log_config)),
            claim=identified.claim,
            config=kept,
            owns_run=owns_run(trial),
            experiment_key=identified.experiment_key,
            directory=identified.directory,
        )
        self._continue(trial, state)
        if self.options.system_metrics and not state.owns_run:
            state.spec = environment.described(state.spec, environment.command_line())
        self._states[trial.trial_id] = state
        self._trial_of_tag.setdefault(str(trial.experiment_tag), trial.trial_id)
        if state.directory is not None:
            self.folders.add(state.directory, identified.remote)
        return state

    def secret_for(self, state: TrialState) -> Secret | None:
        """The key that a trial's run needs; None if no server is to have it."""
        mode = state.spec.init.get("mode") or state.spec.settings.get("mode")
        return self.login.secret if mode is None or needs_key(str(mode)) else None

    def copy_live(self, directory: str | None, run_ids: Iterable[str]) -> None:
        """Copy offline runs that the driver writes to a remote storage while they are written."""
        if directory is not None and self.login.secret is None:
            self.folders.copy_live(directory, run_ids)

    def _continue(self, trial: Trial, state: TrialState) -> None:
        """Take over what a restored experiment knows about a trial."""
        before = self.restored.get(trial.trial_id)
        if before is not None:
            state.attempt = max(before["attempt"], 1 + trial.num_failures)
            state.is_continued = not trial.is_finished()
            state.perturbations = list(before["perturbations"])
            state.best = before.get("best")
        # If the trial had called `setup_wandb`, it is about to claim its run again, and Tune's
        # results were never in that run.
        owned = before is not None and before.get("own", False)
        if self.is_restored and not state.owns_run and not owned:
            state.fill_in_from, state.delivered = trial, restoring.Known()

    def _split_config(self, trial: Trial) -> tuple[RunOptions, dict[str, Any]]:
        """The options in a trial's ``config["wandb"]``, and its other hyperparameters."""
        try:
            inner, config, _ = take_from_config(
                self.public_name, trial.config, wandb_settings.init_parameters()
            )
        except WbtuneError as error:
            # Samples are drawn one by one, so this was not known before this trial. It gives one
            # warning, and none if the trial opens its run itself: there it is raised.
            if trial.trial_id not in self._states and not owns_run(trial):
                # Cause: `config["wandb"]` of this trial has an option that can't be used.
                # Cure: Correct the option.
                logger.warning("%s Trial %s is logged without it.", error, trial)
            return RunOptions(), {k: v for k, v in trial.config.items() if k != "wandb"}
        return inner, config

    def _with_its_own_id(self, trial: Trial, spec: run_spec.RunSpec) -> run_spec.RunSpec:
        """The trial's run, with an id that no other trial has.

        ``id=`` names one run: the first trial gets it, and each further one an id
        made from it. A restored experiment knows which trial had which id.
        """
        given, before = spec.init["id"], self.restored.get(trial.trial_id, {})
        is_free = self._trial_of_run.setdefault(given, trial.trial_id) == trial.trial_id
        own = before.get("id") or (given if is_free else f"{given}-{trial.trial_id}")
        self._trial_of_run.setdefault(own, trial.trial_id)
        if own == given:
            return spec
        if not self._explained_ids:
            self._explained_ids = True
            logger.warning(
                "%s: id=%r is one run's, and there are several trials: the others get that and "
                "their trial's id, such as %r. Leave id= out: a trial's id is its run's.",
                self.public_name,
                given,
                own,
            )
        return spec._replace(init={**spec.init, "id": own})

    def note_perturbation(self, trial: Trial, state: TrialState) -> dict[str, Any]:
        """Compare the config of a trial that is started again with the one that it had.

        Returns:
            The changes to its run's config; empty if nothing changed.
        """
        _, config = self._split_config(trial)
        kept = state.router.excludes.config(config)
        found = endings.perturbation(trial, state.config, kept, self._trial_of_tag)
        if found is None:
            return {}
        state.config = kept
        state.spec = state.spec._replace(config={**state.spec.config, **kept})
        state.perturbations.append(found.plain())
        return {**found.new, **state.perturbations_in_config}
