"""Combine a trial's options from all sources into its run's spec, and find its login."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from wbtune._data import ignored_options
from wbtune._data.config_keys import CURES as KEY_CURES
from wbtune._data.filtering import excludes_of
from wbtune._data.options import RunOptions, take_from_config
from wbtune._data.routing import Router
from wbtune._place import driver_options, identity, outer_job, trial_login
from wbtune._place.credentials import Login
from wbtune._run import run_spec
from wbtune._upstream import wandb_settings

logger = logging.getLogger("wbtune")


class RunPlan(NamedTuple):
    """How a trial's run is to be opened.

    Attributes:
        spec: what the run is.
        login: the login that it is uploaded with.
        trouble: why the run is kept on disk although it should be online; empty otherwise.
        router: picks what is logged of each of Tune's results; None if they are not logged.
    """

    spec: run_spec.RunSpec
    login: Login
    trouble: str
    router: Router | None


def plan_run(
    public_name: str,
    options: RunOptions,
    api_key: str | None,
    trial: identity.Identity,
    config: Mapping[str, Any] | None,
    *,
    declared: bool,
    tuner_options: RunOptions,
) -> RunPlan:
    """Decide how a trial's run is to be opened.

    Args:
        public_name: what the user called, for messages.
        options: the declaration, or the arguments of the call.
        api_key: the argument of that name, if it was given.
        trial: the trial.
        config: its config, as Tune gave it.
        declared: whether the options are a declaration. If they are not, options that the driver
            handed over apply where they leave something open.
        tuner_options: options that apply where a declaration leaves something open.

    Raises:
        WbtuneError: for options that can't work.
    """
    inner, rest, inner_key = take_from_config(public_name, config, wandb_settings.init_parameters())
    if declared:
        options = inner | tuner_options | options
    else:
        drivers = driver_options.handed_over(trial)
        driver_options.warn_of_overrides(public_name, trial, drivers, inner | options)
        options = drivers | inner | options
    options = run_spec.locate(public_name, options)
    if api_key:  # an argument overrides config["wandb"]
        options = replace(options, api_key_file=None)
    key = api_key or (None if options.api_key_file else inner_key)
    if trial.trial_id is not None:
        _warn(public_name, options, inner_key)
    login, trouble = trial_login.log_in_or_offline(
        public_name, options, trial, key, declared=declared
    )
    if trial != identity.Identity() and not trial.fit:  # no callback has warned on the driver
        outer_job.warn_once(public_name, options.group or trial.experiment)
    excludes = excludes_of(options.excludes, options.unmask)
    spec = run_spec.spec(options, trial, excludes.config(rest), login.settings)
    spec = run_spec.in_sweep(spec, login.sweep)
    router = Router(excludes, log_config=bool(options.log_config)) if options.log_results else None
    return RunPlan(spec._replace(objective=login.objective), login, trouble, router)


def _warn(public_name: str, options: RunOptions, inner_key: str | None) -> None:
    """Warn of problems that the driver had no chance to refuse before the trial."""
    ignored_options.warn_in_trial(public_name, options.init_kwargs)
    if not options.project and not wandb_settings.wandb_setting("project"):
        then = ", so W&B puts this trial's run into 'uncategorized'"
        logger.warning("%s", run_spec.no_project(public_name, then))
    if inner_key is not None and identity.rank() is None:
        logger.warning(
            '%s: config["wandb"] has an API key, and Tune has written it into the '
            "experiment's storage, in clear. %s.",
            *(public_name, KEY_CURES),
        )
