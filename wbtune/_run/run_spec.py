"""`RunSpec`: everything that ``wandb.init`` needs for a trial's run, as picklable data."""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wbtune._data import timeouts
from wbtune._data.checkpoint import Objective
from wbtune._data.filtering import excludes_of
from wbtune._data.sweep import Sweep
from wbtune._data.text import clean
from wbtune._place.identity import Identity
from wbtune.errors import ConfigurationError

if TYPE_CHECKING:
    from wbtune._data.options import RunOptions


X_AXIS: Final = "training_iteration"

PROJECT_ENV: Final = "WANDB_PROJECT_NAME"
GROUP_ENV: Final = "WANDB_GROUP_NAME"
LOCATION_HOOK: Final = "WANDB_POPULATE_RUN_LOCATION_HOOK"

#: The config key that distinguishes one experiment's runs from another's.
EXPERIMENT_KEY: Final = "wbtune/experiment"

#: W&B settings of every run that wbtune opens.
SETTINGS: Final = {
    "silent": True,  # wandb's greetings; its warnings still come through
    "symlink": False,  # many processes would fight over one `latest-run`
    "x_transaction_log_flush_interval": timeouts.FLUSH_S,
    "finish_timeout_raises": False,
}


class RunSpec(NamedTuple):
    """Everything that opening one run needs, except the key; picklable.

    Attributes:
        init: arguments for ``wandb.init``, without ``settings`` and ``config``.
        config: the run's config, filtered and sanitised.
        settings: W&B settings by name.
        video_kwargs: for ``wandb.Video``.
        image_kwargs: for ``wandb.Image``.
        experiment: marks the run on the server as one of this experiment; empty if the
            user chose the id, perhaps to continue another experiment's run.
        objective: what makes a result the best; None if it is not known.
        command: the command line that the run shows; empty for none.
        plain: the run is not a trial's, and the environment applies as for ``wandb.init``.
        logs_results: Tune's results are logged to it, so its rows have an iteration.
    """

    init: Mapping[str, Any]
    config: Mapping[str, Any] = {}
    settings: Mapping[str, Any] = {}
    video_kwargs: Mapping[str, Any] = {}
    image_kwargs: Mapping[str, Any] = {}
    experiment: str = ""
    objective: Objective | None = None
    plain: bool = False
    command: tuple[str, ...] = ()
    logs_results: bool = True

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids that the run may have; if there are runs with both, the first one counts.

        Another experiment may already have a run with the second one: see `open_run`.
        """
        own = self.init.get("id")
        if not own:
            return ()
        return (f"{own}-{self.experiment}", own) if self.experiment else (own,)


def locate(public_name: str, options: RunOptions) -> RunOptions:
    """Fill in project and group from the environment and the location hook.

    In this order: the argument, the environment variables ``WANDB_PROJECT_NAME`` and
    ``WANDB_GROUP_NAME``, then ``WANDB_POPULATE_RUN_LOCATION_HOOK``, which sets those
    (https://docs.ray.io/en/latest/tune/examples/tune-wandb.html).

    Raises:
        ConfigurationError: if the hook can't be imported or raises.
    """
    hook = os.environ.get(LOCATION_HOOK)
    if hook and not options.project and not os.environ.get(PROJECT_ENV):
        try:
            pkgutil.resolve_name(hook)()
        except Exception as error:
            problem = f"the hook {LOCATION_HOOK}={hook} raised {error!r}"
            msg = f"{public_name}: {problem}. Fix it, or unset it."
            raise ConfigurationError(msg) from error
    return replace(
        options,
        project=options.project or os.environ.get(PROJECT_ENV) or os.environ.get("WANDB_PROJECT"),
        group=options.group or os.environ.get(GROUP_ENV) or os.environ.get("WANDB_RUN_GROUP"),
    )


def no_project(public_name: str, then: str = "") -> str:
    """Return the message for what was given no project, and what W&B does ``then``."""
    cure = f"Give project=, or set the environment variable {PROJECT_ENV}."
    return f"{public_name}: no project{then}. {cure}"


def spec(
    options: RunOptions,
    identity: Identity,
    config: Mapping[str, Any],
    login: Mapping[str, str] | None = None,
) -> RunSpec:
    """Return the spec of a trial's run: explicit options override the trial's identity.

    Args:
        options: located (see `locate`).
        identity: the defaults for id, name, group and folder.
        config: the run's config, filtered and sanitised; ``config=`` of the options
            overrides it.
        login: the settings of a `credentials.Login`.
    """
    given = dict(options.init_kwargs)
    settings = {**SETTINGS, **(login or {}), **(given.pop("settings", None) or {})}
    if options.upload_timeout is not None:
        # 0 would mean "forever" to wandb.
        settings.setdefault("finish_timeout", max(1.0, float(options.upload_timeout)))
    extra = given.pop("config", None)
    excludes = excludes_of(options.excludes, options.unmask)
    defaults = {
        "project": options.project,
        "group": options.group or identity.experiment,
        "id": identity.trial_id,
        "name": identity.trial_name,
        "dir": identity.directory,
        "resume": "allow" if identity.trial_id else None,
        "allow_val_change": True,
    }
    if "resume_from" in given or "fork_from" in given:  # outside Ray; wandb accepts only one
        defaults["resume"] = None
    init = {**defaults, **given}
    return RunSpec(
        init={name: _sendable(value) for name, value in init.items() if value is not None},
        config={**config, **(excludes.config(extra) if isinstance(extra, Mapping) else {})},
        settings=settings,
        video_kwargs=dict(options.video_kwargs or {}),
        image_kwargs=dict(options.image_kwargs or {}),
        experiment="" if "id" in given or not identity.trial_id else identity.experiment_key,
        plain=identity == Identity(),
    )


def in_sweep(spec: RunSpec, sweep: Sweep | None) -> RunSpec:
    """Return the spec of the same run as one of a sweep, if both are in the same project.

    The environment variable ``WANDB_SWEEP_ID`` would do more: with it, wandb drops the run's id
    and project [wandb 0.31, ``sdk/wandb_init.py``, ``clear_run_path_if_sweep_or_launch``].
    """
    if sweep is None or spec.init.get("project") != sweep.project:
        return spec
    entity = spec.init.get("entity") or spec.settings.get("entity")
    if entity not in {None, sweep.entity}:
        return spec
    return spec._replace(settings={"sweep_id": sweep.id, **spec.settings})


def _sendable(value: Any) -> Any:
    """Return an argument for ``wandb.init`` with text that W&B's protocol can send."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value)(map(_sendable, value))
    return value


def offline(spec: RunSpec) -> RunSpec:
    """Return the spec of the same run, kept on disk."""
    return spec._replace(init={**spec.init, "mode": "offline"})
