"""Where an experiment is imported to: the project, the folder of the runs' files, the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from wbtune._data import timeouts
from wbtune._data.checkpoint import Objective
from wbtune._data.filtering import Excludes, excludes_of
from wbtune._data.options import RunOptions
from wbtune._place import credentials, driver_login, identity
from wbtune._place.credentials import Login
from wbtune._place.identity import Identity
from wbtune._place.server import RunStatus, Server
from wbtune._place.storage import Remote
from wbtune._run import log_records, run_files, run_spec
from wbtune._tune_files.experiment_files import ExperimentFiles
from wbtune._tune_files.trial_files import TrialFiles
from wbtune.errors import ConfigurationError, CredentialsError, ServerUnreachableError

#: What messages begin with.
NAME: Final = "wbtune import"

_CURES: Final = (
    "Run `wandb login`, set the environment variable WANDB_API_KEY, or write the runs to disk "
    "only: --mode offline"
)


@dataclass(frozen=True)
class Target:
    """Where an experiment is imported to.

    Attributes:
        experiment: the experiment.
        options: located and checked.
        login: the key and the server.
        directory: the folder that has, or gets, ``wandb/`` with the runs' files.
        objective: what makes a result the best; None if that is not known.
    """

    experiment: ExperimentFiles
    options: RunOptions
    login: Login
    directory: Path
    objective: Objective | None

    @property
    def excludes(self) -> Excludes:
        """What is left out and masked."""
        return excludes_of(self.options.excludes, self.options.unmask)

    @property
    def is_online(self) -> bool:
        """Are the runs sent to a server?"""
        return credentials.needs_key(self.options.mode)

    @property
    def is_own_folder(self) -> bool:
        """Are the runs' files in the experiment's folder, and so of no other experiment?"""
        folder = self.experiment.folder
        return folder.is_local and self.directory == folder.local.expanduser().absolute()

    @property
    def key(self) -> str:
        """What distinguishes the experiment's runs from those of others."""
        return identity.key_of_folder(self.experiment.folder.path)

    @property
    def entity(self) -> str | None:
        """The user or team, if it was given."""
        return self.options.init_kwargs.get("entity") or self.login.settings.get("entity")

    @cached_property
    def server(self) -> Server | None:
        """The server, if the runs are sent to one and there is a key for it."""
        base_url, secret = self.login.settings.get("base_url"), self.login.secret
        if base_url is None or secret is None:
            return None
        return Server(base_url, secret, timeouts.LOGIN_SERVER_S)

    def spec(self, trial: TrialFiles, config: Mapping[str, Any]) -> run_spec.RunSpec:
        """The run of a trial."""
        who = Identity(
            trial_id=identity.as_run_id(trial.trial_id),
            trial_name=trial.name,
            experiment=self.experiment.name,
            directory=str(self.directory),
            experiment_key=self.key,
        )
        kept = self.excludes.config(config)
        spec = run_spec.spec(self.options, who, kept, self.login.settings)
        spec = spec._replace(objective=self.objective)
        return run_spec.in_sweep(spec, self.login.sweep)

    def logs(self, spec: run_spec.RunSpec) -> list[Path]:
        """The logs of a run that are on this machine, the oldest first."""
        found = (run_files.logs(self.directory, run_id) for run_id in spec.ids)
        return next(filter(None, found), [])

    def at_server(self, spec: run_spec.RunSpec) -> tuple[run_spec.RunSpec, RunStatus | None]:
        """Ask the server for a run that is not on this machine.

        Returns:
            ``(spec, status)``: with the id that the run has, or is to have; None if it is new.
        """
        if self.server is None:
            return spec, None
        project, group = str(self.options.project), spec.init.get("group")
        for run_id in reversed(spec.ids):
            status = self.server.run_status(self.entity, project, run_id)
            theirs = "" if status is None else status.config.get(run_spec.EXPERIMENT_KEY)
            if status is None or theirs == spec.experiment or status.group == group:
                return spec._replace(init={**spec.init, "id": run_id}), status
        return spec._replace(init={**spec.init, "id": spec.ids[0]}), None


def target_of(
    experiment: ExperimentFiles,
    options: RunOptions,
    directory: Path,
    objective: Objective | None,
) -> Target:
    """Check where an experiment is to be imported to, and log in.

    Raises:
        ConfigurationError: if there is no project, or the folder has runs of another one.
        CredentialsError: if the server needs a key and there is none.
        ServerUnreachableError: if it does not answer.
    """
    options = run_spec.locate(NAME, options)
    if not options.project:
        msg = f"no project. Give --project, or set the environment variable {run_spec.PROJECT_ENV}."
        raise ConfigurationError(msg)
    target = Target(experiment, options, Login(), directory, objective)
    folder = experiment.folder
    if not folder.is_local and not target.is_online:  # online, the server knows what it has
        Remote(folder.filesystem, f"{folder.path}/wandb").fetch(directory)
    _check_project(target)
    return replace(target, login=_log_in(options))


def _log_in(options: RunOptions) -> Login:
    try:
        return driver_login.log_in(NAME, options)
    except (CredentialsError, ServerUnreachableError) as error:
        text = str(error).replace(credentials.CURES, f"{_CURES[0].lower()}{_CURES[1:]}")
        text = text.replace('by mode="offline"', "by --mode offline")
        if credentials.NO_KEY in text:
            text = f"{credentials.NO_KEY}. {_CURES}."
        raise type(error)(text) from None


def _check_project(target: Target) -> None:
    """Refuse to continue runs of another project or entity: the two would be mixed."""
    asked = (target.options.init_kwargs.get("entity") or "", str(target.options.project))
    folder = target.directory / "wandb"
    for trial in target.experiment.trials:
        for path in target.logs(target.spec(trial, {})):
            run = next(
                (one.run for one in log_records.records(path) if one.HasField("run")),
                None,
            )
            if run is None:
                continue
            there = (run.entity if asked[0] else "", run.project)
            if there != asked:
                shown = "/".join(filter(None, there))
                raise ConfigurationError(
                    f"{folder} has runs of this experiment in project {shown!r}. Import into that "
                    f"one, or keep those of {'/'.join(filter(None, asked))!r} elsewhere: "
                    "--dir FOLDER."
                )
