"""`WandbLoggerCallback`: logs each result that reaches Tune to its trial's run.

This module has the parameters and Tune's hooks; :mod:`wbtune._driver.experiment` does the work.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, Unpack

from ray.tune.logger import LoggerCallback

from wbtune._data import ignored_options, timeouts
from wbtune._data.checkpoint import Objective
from wbtune._data.hooks import never_raises
from wbtune._data.keywords import Checkpoints, DropInOptions, Names
from wbtune._data.masking import looks_secret
from wbtune._data.option_table import refused_at
from wbtune._data.options import RunOptions, check_travels, parse
from wbtune._data.secret import Secret
from wbtune._place import credentials, driver_login
from wbtune._upstream import wandb_settings
from wbtune.errors import ConfigurationError

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

    from wbtune._driver.description import Description
    from wbtune._driver.experiment import Experiment

PUBLIC_NAME = "WandbLoggerCallback"

#: The key under which Tune's saved state holds the callback's.
STATE = "wbtune"
WHOLE = "wbtune/experiment"


class _Declaration:
    """``callback.options``, read-only; a subclass may have an attribute of the same name."""

    def __get__(self, callback: WandbLoggerCallback, _: type) -> RunOptions:
        return declaration_of(callback)


class WandbLoggerCallback(LoggerCallback):
    """Log every trial of an experiment to its own W&B run.

    Args:
        project: name of the W&B project. Mandatory, here or as the environment variable
            ``WANDB_PROJECT_NAME``.
        group: name of the W&B group. Defaults to the experiment's name.
        api_key_file: path of a file on the driver's node whose first line is the API key.
        api_key: the API key. It is never pickled with the experiment.
        excludes: metrics and config keys to leave out: names, prefixes (``"debug"`` also
            drops ``debug/x``) and globs (``"*/token"``).
        log_config: also log the config that is part of each result; useful if it changes
            during training, as with PopulationBasedTraining.
        upload_checkpoints: upload model checkpoints as artifacts: True or ``"all"``, or
            ``"best"`` (each checkpoint that is the trial's best so far, by the tuner's metric
            and mode), or ``"last"`` (the one that the trial ended with).
        save_checkpoints: the deprecated name of ``upload_checkpoints``.
        upload_timeout: seconds to wait for uploads when the experiment ends; what is not
            uploaded by then stays on disk.
        video_kwargs: keyword arguments for ``wandb.Video``, for arrays of 5 dimensions
            (N, T, C, H, W).
        image_kwargs: keyword arguments for ``wandb.Image``, for arrays of 3 dimensions
            (H, W, C) or 4 (N, H, W, C).
        checkpoint_references: upload a reference to a checkpoint in a remote storage (S3, ...)
            instead of a copy.
        unmask: config keys that look like secrets (``*token*``, ``*password*``, ...) but
            are not; text under any other such key is masked.
        system_metrics: record for runs that the driver writes what a trial's own run records:
            git, command line (without secrets), packages, machine, and what the trial's process
            uses, if it is on the driver's node. Such runs are opened at the first result.
        sweep: make the experiment one thing at W&B: a sweep that the trials' runs belong to, the
            tag ``best`` at the best trial's run, a run for the whole, and ``overview.html``.
        **init_kwargs: for ``wandb.init``. ``dir=``, ``resume=``, ``reinit=``, ``fork_from=``
            and ``resume_from=`` have no effect; one line says so.

    Raises:
        UnknownOptionError: for an option that neither wbtune nor ``wandb.init`` has.
        ConfigurationError: for a value that W&B does not accept. In ``setup``: if there is no
            project, no metric to choose the best checkpoints by, or no library that wandb
            needs for references.
        CredentialsError: for both ``api_key`` and ``api_key_file``. In ``setup``: if there is
            no key that the server accepts.
        ServerUnreachableError: in ``setup``, if the server does not answer.

    Runs on: driver.

    Examples:
        >>> from ray import tune
        >>> run_config = tune.RunConfig(
        ...     callbacks=[WandbLoggerCallback(project="Optimization_Project")]
        ... )

    Source: https://docs.ray.io/en/latest/tune/examples/tune-wandb.html
    """

    def __init__(
        self,
        project: str | None = None,
        group: str | None = None,
        api_key_file: str | PathLike[str] | None = None,
        api_key: str | None = None,
        excludes: Names | None = None,
        log_config: bool = False,
        upload_checkpoints: Checkpoints = False,
        save_checkpoints: bool = False,
        upload_timeout: float = timeouts.UPLOAD_TIMEOUT_S,
        video_kwargs: Mapping[str, Any] | None = None,
        image_kwargs: Mapping[str, Any] | None = None,
        checkpoint_references: bool = False,
        unmask: Names | None = None,
        system_metrics: bool = False,
        sweep: bool = False,
        **init_kwargs: Unpack[DropInOptions],
    ) -> None:
        if save_checkpoints:
            warnings.warn(
                "save_checkpoints= is deprecated, use upload_checkpoints=.",
                DeprecationWarning,
                stacklevel=2,
            )
        named = {
            "project": project,
            "group": group,
            "api_key_file": api_key_file,
            "excludes": excludes,
            "log_config": None if log_config is False else log_config,
            "upload_checkpoints": upload_checkpoints or save_checkpoints,
            "upload_timeout": upload_timeout,
            "video_kwargs": video_kwargs,
            "image_kwargs": image_kwargs,
            "unmask": unmask,
            "system_metrics": system_metrics or None,
            "sweep": sweep or None,
            "checkpoint_references": checkpoint_references or None,
        }
        rest, taken = ignored_options.set_aside(init_kwargs)
        ignored_options.warn_without_effect(PUBLIC_NAME, taken)
        names = wandb_settings.init_parameters() if rest else frozenset()
        self.use(
            PUBLIC_NAME,
            parse(PUBLIC_NAME, {**named, **rest}, names, refused_at(PUBLIC_NAME)),
            api_key,
        )
        self.__experiment: Experiment | None = None
        self.__state: dict[str, Any] | None = None

    # The attributes have two underscores, so that a subclass can't happen to use the same names.
    __objective: Objective | None = None
    __description: Description | None = None
    __whole: Mapping[str, Any] = {}

    def use(
        self,
        public_name: str,
        options: RunOptions,
        api_key: str | None = None,
        objective: Objective | None = None,
        description: Description | None = None,
    ) -> None:
        """Use options that are already checked, and what is known of the tuner.

        Raises:
            ConfigurationError: for a value that can't be sent to another process, or an
                option that has no effect without another.
            CredentialsError: for both an ``api_key_file`` and an ``api_key``.
        """
        self.__public_name = public_name
        if options.checkpoint_references and not options.checkpoints:
            msg = "checkpoint_references= has no effect without upload_checkpoints=. Give both."
            raise ConfigurationError(f"{public_name}: {msg}")
        check_travels(public_name, options)
        if api_key is not None:
            credentials.refuse_two(public_name, api_key, options.api_key_file)
        self.__options = options
        # A restored callback keeps its own.
        self.__objective = objective or self.__objective
        self.__description = description or self.__description
        self.__api_key = None if api_key is None else Secret(api_key)

    #: The declaration.
    options = _Declaration()

    def __getstate__(self) -> dict[str, Any]:
        """What Tune pickles into the experiment's storage: the declaration, without secrets.

        A subclass's own attributes are kept too, except text under a name that looks like a
        secret's, and text that is the API key.
        """
        key = None if self.__api_key is None else self.__api_key.reveal()
        kept = {
            name: None if type(value) is str and (looks_secret(name) or value == key) else value
            for name, value in vars(self).items()
        }
        ours = f"_{PUBLIC_NAME}__"
        return (
            kept
            | {f"{ours}{name}": None for name in ("api_key", "experiment", "state")}
            | {f"{ours}whole": {}}
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    # --- Tune's hooks, in the order in which they are called ---

    def setup(self, *args: Any, **info: Any) -> None:  # noqa: ARG002 - Tune's signature
        """Check whatever can be checked before any trial.

        Raises:
            ConfigurationError: if there is no project, if checkpoints can't be uploaded as
                asked, if no run can be written, or for an API key in the ``param_space``.
            CredentialsError: if the server needs a key and there is none.
        """
        # It would be a third of the time to import wbtune, and no trial's process needs it.
        from wbtune._driver.experiment_start import start_experiment  # noqa: PLC0415 - see above

        # Both are of the experiment that starts now: the callback may be used for another one.
        state, self.__state = self.__state, None
        whole, self.__whole = self.__whole, {}
        self.__experiment, self.__options, self.__fit = start_experiment(
            self.__public_name,
            self.__options,
            None if self.__api_key is None else self.__api_key.reveal(),
            objective=self.__objective,
            description=self.__description,
            restored=state,
            whole_restored=whole,
            info=info,
        )

    @never_raises
    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:  # noqa: ARG002
        """Open the runs that have waited long enough to be claimed; pass its end on."""
        if self.__experiment is not None:
            self.__experiment.step_end(trials)
            self.__experiment.pass_end_on(self.__fit)

    @never_raises
    def log_trial_start(self, trial: Trial) -> None:
        """A trial starts, or starts again: after a failure, a pause, a perturbation."""
        if self.__experiment is not None:
            self.__experiment.start(trial)

    @never_raises
    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:  # noqa: ARG002
        """Log one result; this takes a few microseconds of Tune's loop."""
        if self.__experiment is not None:
            self.__experiment.result(trial, result)

    @never_raises
    def log_trial_save(self, trial: Trial) -> None:
        """Upload the checkpoint that was just saved, if the options ask for it."""
        if self.__experiment is not None and self.__options.upload_checkpoints:
            self.__experiment.save(trial)

    @never_raises
    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """Close the trial's run with the trial's outcome."""
        if self.__experiment is not None:
            self.__experiment.end(trial, failed=failed)

    @never_raises
    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:  # noqa: ARG002
        """Close the runs that are still open, and wait up to ``upload_timeout`` for uploads."""
        experiment, self.__experiment = self.__experiment, None
        if experiment is not None:
            try:
                experiment.close(trials)
            finally:
                driver_login.take_back(self.__fit)

    def get_state(self) -> dict[str, Any]:
        """What `tune.Tuner.restore` needs in order to continue the same runs.

        It is under keys of wbtune's, so that a subclass can add its own.
        """
        if self.__experiment is None:
            return {}
        whole = self.__experiment.state_of_whole()
        return {STATE: self.__experiment.state(), **({WHOLE: whole} if whole else {})}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take the state of an experiment that Tune restores; called before ``setup``."""
        self.__state, self.__whole = state.get(STATE, {}), state.get(WHOLE, {})


def declaration_of(callback: WandbLoggerCallback) -> RunOptions:
    """The callback's options, whatever attributes a subclass has."""
    options: RunOptions = vars(callback)[f"_{PUBLIC_NAME}__options"]
    return options
