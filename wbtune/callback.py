"""`WandbLoggerCallback`: each result that reaches Tune goes into its trial's run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.tune.logger import LoggerCallback

from wbtune import _compat, credentials, identity, lifecycle, runs
from wbtune.errors import ConfigurationError
from wbtune.filtering import Router, excludes_of
from wbtune.options import UPLOAD_TIMEOUT_S, RunOptions, parse, take_from_config
from wbtune.outcomes import FINISHED, Kind, Outcome
from wbtune.writer import Writer

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

WHO = "WandbLoggerCallback"


class WandbLoggerCallback(LoggerCallback):
    """Log every trial of an experiment to its own W&B run.

    Args:
        project: name of the W&B project. Mandatory, here or as the environment variable
            ``WANDB_PROJECT_NAME``.
        group: name of the W&B group. Defaults to the experiment's name.
        api_key_file: path of a file whose first line is the API key; on the driver's node.
        api_key: the API key. It is never pickled with the experiment.
        excludes: metrics and config keys to leave out: names, prefixes (``"debug"`` also
            drops ``debug/x``) and globs (``"*/token"``).
        log_config: also log the config that comes along in each result; makes sense if it
            changes during training, as with PopulationBasedTraining.
        upload_checkpoints: upload model checkpoints as artifacts.
        save_checkpoints: the deprecated name of ``upload_checkpoints``.
        upload_timeout: seconds to wait for uploads when the experiment ends; what is not
            uploaded by then stays on disk.
        video_kwargs: keyword arguments for ``wandb.Video``, for arrays of 5 dimensions
            (N, T, C, H, W).
        image_kwargs: keyword arguments for ``wandb.Image``, for arrays of 3 dimensions
            (H, W, C) or 4 (N, H, W, C).
        **init_kwargs: for ``wandb.init``.

    Raises:
        UnknownOptionError: for an option that neither wbtune nor ``wandb.init`` has.
        ConfigurationError: for a value that W&B does not accept; in ``setup``, without a
            project.
        CredentialsError: with both ``api_key`` and ``api_key_file``; in ``setup``, without
            a key that the server needs.

    Runs on: driver.

    Example:
        >>> from ray import tune
        >>> run_config = tune.RunConfig(
        ...     callbacks=[WandbLoggerCallback(project="Optimization_Project")]
        ... )

    Source: the guide, ``WandbLoggerCallback``.
    """

    def __init__(
        self,
        project: str | None = None,
        group: str | None = None,
        api_key_file: str | None = None,
        api_key: str | None = None,
        excludes: Sequence[str] | None = None,
        log_config: bool = False,
        upload_checkpoints: bool = False,
        save_checkpoints: bool = False,
        upload_timeout: float = UPLOAD_TIMEOUT_S,
        video_kwargs: Mapping[str, Any] | None = None,
        image_kwargs: Mapping[str, Any] | None = None,
        **init_kwargs: Any,
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
            "log_config": log_config,
            "upload_checkpoints": upload_checkpoints or save_checkpoints,
            "upload_timeout": upload_timeout,
            "video_kwargs": video_kwargs,
            "image_kwargs": image_kwargs,
        }
        names = _compat.init_parameters() if init_kwargs else frozenset()
        self._options = parse(WHO, {**named, **init_kwargs}, names)
        if api_key and api_key_file:
            credentials.explicit_key(WHO, api_key, api_key_file)  # raises
        self._api_key = None if api_key is None else credentials.Secret(api_key)
        self._begin()

    def _begin(self) -> None:
        self._writer = Writer()
        self._secret: credentials.Secret | None = None
        self._keys: dict[str, str] = {}
        self._open: set[str] = set()
        self._directory: str | None = None
        self._ready = False

    def use(self, options: RunOptions) -> None:
        """Take these options, which another door has checked."""
        self._options = options

    @property
    def options(self) -> RunOptions:
        """The declaration."""
        return self._options

    def __getstate__(self) -> dict[str, Any]:
        """What Tune pickles into the experiment's storage: the declaration, no more."""
        return {"_options": self._options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._options = state["_options"]
        self._api_key = None
        self._begin()

    # --- Tune's hooks, in the order in which they are called ---

    def setup(self, *args: Any, **info: Any) -> None:  # noqa: ARG002 - Tune's signature
        """Check what can be known before any trial.

        Raises:
            ConfigurationError: without a project.
            CredentialsError: without a key that the server needs.
        """
        self._options = runs.locate(WHO, self._options)
        options = self._options
        if not options.project:
            raise ConfigurationError(runs.no_project(WHO))
        key = None if self._api_key is None else self._api_key.reveal()
        self._secret = credentials.find(WHO, key, options.api_key_file, options.mode)
        self._ready = True

    def log_trial_start(self, trial: Trial) -> None:
        """Open the trial's run, unless it is open or the trial has one of its own."""
        if trial.trial_id in self._keys or not self._ready:
            return
        self._keys[trial.trial_id] = ""
        who_am_i = identity.of_trial(trial)
        self._directory = who_am_i.directory
        if _owns_run(trial):
            return
        inner, config, _ = take_from_config(WHO, trial.config, _compat.init_parameters())
        options = inner | self._options
        excludes = excludes_of(options.excludes)
        spec = runs.spec(options, who_am_i, excludes.config(config))
        key = str(spec.init["id"])
        self._keys[trial.trial_id] = key
        self._open.add(key)
        if who_am_i.directory is not None:
            self._writer.launch(Path(who_am_i.directory, "wandb", "wbtune.log"))
        router = Router(excludes, log_config=bool(options.log_config))
        self._writer.start(key, spec, router, self._secret)

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:  # noqa: ARG002
        """Log one result; a few microseconds of Tune's loop."""
        key = self._keys.get(trial.trial_id)
        if key is None:
            self.log_trial_start(trial)
            key = self._keys.get(trial.trial_id)
        if key:
            self._writer.log(key, result)

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """Close the trial's run with the truth about how it ended."""
        if trial.trial_id not in self._keys:
            self.log_trial_start(trial)  # its actor could not be built
        key = self._keys.get(trial.trial_id)
        if key and key in self._open:
            self._open.discard(key)
            self._writer.end(key, _failure(trial) if failed else FINISHED)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:  # noqa: ARG002
        """Close what is still open, and wait for uploads as long as ``upload_timeout``."""
        for key in sorted(self._open):
            self._writer.end(key, Outcome(Kind.INTERRUPTED))
        self._open.clear()
        self._writer.close(self._options.upload_timeout or UPLOAD_TIMEOUT_S)
        if self._directory is not None:
            print(f"wbtune: {len(self._keys)} runs in {Path(self._directory, 'wandb')}")  # noqa: T201
        self._begin()


def _owns_run(trial: Trial) -> bool:
    trainable = trial.get_trainable_cls()
    return trainable is not None and issubclass(trainable, lifecycle.OwnsRun)


def _failure(trial: Trial) -> Outcome:
    error = trial.get_pickled_error() or trial.get_error()
    if error is None:
        return Outcome(Kind.FAILED)
    cause = getattr(error, "cause", None)
    return Outcome.failed(cause if isinstance(cause, BaseException) else error, text=str(error))
