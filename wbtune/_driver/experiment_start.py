"""Start an experiment: check here, before any trial, whatever can be checked."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wbtune._data.checkpoint import Objective, objective_of
from wbtune._data.options import RunOptions
from wbtune._driver.checkpoint_references import missing_for_references, scheme_of
from wbtune._driver.experiment import Experiment
from wbtune._place import driver_login, driver_options, handover, outer_job
from wbtune._place.credentials import Login
from wbtune._run import links, ownership, run_spec
from wbtune._upstream import capabilities, ray_loop, ray_stops
from wbtune.errors import ConfigurationError

if TYPE_CHECKING:
    from wbtune._driver.description import Description

logger = logging.getLogger("wbtune")

# Cause: This release of Ray does not tell callbacks the metric.
# Cure: Use wandb_tuner, which knows it, or another release of Ray.
_NOT_KNOWN: Final = "%s: what is best is not known: the last checkpoints are kept."


class Started(NamedTuple):
    """An experiment that has started.

    Attributes:
        experiment: the experiment.
        options: its options, located.
        fit: the name under which its trials find what the driver hands over to them.
    """

    experiment: Experiment
    options: RunOptions
    fit: str


def start_experiment(
    public_name: str,
    options: RunOptions,
    api_key: str | None,
    *,
    objective: Objective | None = None,
    description: Description | None = None,
    restored: Mapping[str, Any] | None,
    whole_restored: Mapping[str, Any] | None = None,
    info: Mapping[str, Any] | None = None,
) -> Started:
    """Check the options, log in, and hand the login over to the trials.

    Runs on: driver, in ``Callback.setup``.

    Args:
        public_name: what the user called, for messages.
        options: the options, each checked by itself.
        api_key: the API key, if it was given as an argument.
        objective: what the tuner optimises; if it is not given, it is read from Tune's loop.
        description: what the tuner searches; if it is not given, it is read from Tune's loop.
        restored: the state of a restored experiment; None for a new one.
        whole_restored: the same of its run for the whole.
        info: what Tune tells its callbacks: ``time_budget_s``, ``total_num_samples``, ...

    Raises:
        ConfigurationError: if there is no project, if checkpoints can't be uploaded as asked,
            or if no run can be written.
        CredentialsError: if the server needs a key and there is none.
    """
    ownership.check(public_name)
    given, options = options, run_spec.locate(public_name, options)
    if not options.project:
        raise ConfigurationError(run_spec.no_project(public_name))
    sweep = ray_loop.sweep()
    objective = objective or objective_of(sweep.metric, sweep.mode)
    if options.checkpoints == "best" and objective is None and not ray_loop.SETUP.is_here:
        logger.warning(_NOT_KNOWN, public_name)
        given, options = (replace(one, upload_checkpoints="last") for one in (given, options))
    _check_checkpoints(public_name, options, objective, sweep.filesystem)
    outer_job.warn_once(public_name, options.group or sweep.experiment)
    _check_folder(public_name, options, sweep.directory)
    capabilities.warn_of_lost()
    fit = _name_fit()
    login = driver_login.log_in(public_name, options, api_key)
    info, whole = info or {}, None
    if options.sweep and (options.mode or login.settings.get("mode")) != "disabled":
        from wbtune._driver import sweep_start  # noqa: PLC0415 - paid for only with sweep=True

        before = whole_restored or {}
        whole = sweep_start.describe_whole(options, sweep, description, info, before)
        login = sweep_start.in_sweep(login, options, whole, objective)
    driver_login.hand_over(login, fit, objective, driver_options.plain(options))
    place = links.of_experiment(options, _with_entity(login), sweep.experiment)
    if place is not None:
        links.print_experiment(place)
    experiment = Experiment(
        public_name,
        options,
        login,
        given=given,
        objective=objective,
        stops=ray_stops.observe_stops(info.get("time_budget_s")),
        restored=restored,
        place=place,
        whole=whole,
    )
    if login.sweep is not None:
        experiment.begin_sweep(sweep.directory)
    return Started(experiment, options, fit)


def _with_entity(login: Login) -> Login:
    """The login with the entity that its sweep has, if it names none."""
    if login.sweep is None or login.settings.get("entity"):
        return login
    return login._replace(settings={**login.settings, "entity": login.sweep.entity})


def _name_fit() -> str:
    fit = handover.new_fit()
    # If Tune's loop has changed, the trials can't learn the name of this `fit`.
    return fit if ray_loop.name_fit(fit) else handover.process()


def _check_folder(public_name: str, options: RunOptions, experiment: str | None) -> None:
    """Check that runs can be written: otherwise each would be lost while its trial continues."""
    if options.mode == "disabled" or experiment is None:
        return
    folder = Path(experiment, "wandb")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or type(error).__name__
        msg = f"{public_name}: can't write runs to {folder} ({reason})."
        cure = "Make it a folder that can be written, or give RunConfig another storage_path."
        raise ConfigurationError(f"{msg} {cure}") from error


def _check_checkpoints(
    public_name: str, options: RunOptions, objective: Objective | None, filesystem: Any
) -> None:
    if options.checkpoints == "best" and objective is None:
        raise ConfigurationError(
            f'{public_name}: upload_checkpoints="best" needs to know what is best. '
            'Give TuneConfig(metric=..., mode="min" or "max").'
        )
    if options.checkpoints and options.checkpoint_references and filesystem is not None:
        cure = missing_for_references(filesystem)
        if cure is not None:
            raise ConfigurationError(
                f"{public_name}: checkpoint_references= to {scheme_of(filesystem)}:// need a "
                f"library that is not installed. Run: {cure}"
            )
