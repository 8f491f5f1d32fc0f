"""The keyword arguments of the public functions as types, so that type checkers find typos.

``wandb_tuner(train, projct="mnist")`` and ``upload_checkpoints="bset"`` are errors for mypy
and pyright. At run time, :mod:`wbtune._data.option_table` has the checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict

if TYPE_CHECKING:
    import os

    import wandb

#: Several names. Not ``Sequence[str]``, because text is one too.
Names = list[str] | tuple[str, ...] | set[str] | frozenset[str]

#: Which checkpoints to upload; True is all of them, False none.
Checkpoints = bool | Literal["all", "best", "last"]

Mode = Literal["online", "offline", "disabled", "shared"]


class ConfigObject(Protocol):
    """A config that is an object, such as RLlib's ``PPOConfig``: Tune asks for its dict."""

    def to_dict(self) -> dict[str, Any]:
        """The config as a dict."""


class RunKeywords(TypedDict, total=False):
    """The arguments of ``wandb.init`` that any run may have, except its config."""

    entity: str | None
    name: str | None
    notes: str | None
    tags: Names | None
    config_exclude_keys: Names | None
    config_include_keys: Names | None
    allow_val_change: bool | None
    job_type: str | None
    mode: Mode | None
    force: bool | None
    save_code: bool | None
    tensorboard: bool | None
    sync_tensorboard: bool | None
    monitor_gym: bool | None
    settings: wandb.Settings | Mapping[str, Any] | None


class InitOptions(RunKeywords, total=False):
    """What a declaration passes on to ``wandb.init``."""

    config: Mapping[str, Any] | None


class TunerOptions(InitOptions, total=False):
    """What `wandb_tuner` passes on to ``wandb.init``."""

    id: str | None


class DecidedKeywords(TypedDict, total=False):
    """Arguments that Ray's own callback and `setup_wandb` accept, and wbtune decides itself."""

    dir: str | os.PathLike[str] | None
    reinit: bool | str | None
    resume: bool | str | None
    resume_from: str | None
    fork_from: str | None
    anonymous: str | bool | None


class DropInOptions(TunerOptions, DecidedKeywords, total=False):
    """What `WandbLoggerCallback` accepts in addition to its named parameters."""


class TrialOptions(InitOptions, total=False):
    """What ``@wandb_trial`` accepts in addition to its named parameters."""

    upload_timeout: float | None


class DeclaredOptions(TrialOptions, total=False):
    """The class keywords of a `WandbMixin`: the options of ``@wandb_trial``."""

    project: str | None
    group: str | None
    api_key_file: str | os.PathLike[str] | None
    excludes: Names | None
    log_config: bool | None
    video_kwargs: Mapping[str, Any] | None
    image_kwargs: Mapping[str, Any] | None
    log_results: bool | None
    unmask: Names | None
    rank_zero_only: bool | None


class SetupOptions(RunKeywords, DecidedKeywords, total=False):
    """What `setup_wandb` accepts in addition to its four parameters."""

    id: str | None
    upload_timeout: float | None
    project: str | None
    group: str | None
    trial_id: str | None
    trial_name: str | None
    excludes: Names | None
    unmask: Names | None
    log_config: bool | None
    log_results: bool | None
    video_kwargs: Mapping[str, Any] | None
    image_kwargs: Mapping[str, Any] | None
