"""Make the W&B sweep of an experiment, before its first trial.

The request takes some milliseconds and is made here, because the trials need the sweep's id. It
touches neither the driver's environment nor its login (:mod:`wbtune._place.sweeps`). Whatever
happens to it, the runs themselves are logged as without a sweep.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from wbtune._data import sweep_config
from wbtune._data.checkpoint import Objective
from wbtune._data.filtering import excludes_of
from wbtune._data.options import RunOptions
from wbtune._data.sweep import Sweep
from wbtune._driver.description import Description, describe
from wbtune._driver.run_tags import request_of
from wbtune._place import sweeps
from wbtune._place.credentials import Login
from wbtune._place.server import RefusedError, Server
from wbtune._upstream import ray_loop
from wbtune.errors import WbtuneError

logger = logging.getLogger("wbtune")


class Whole(NamedTuple):
    """What is known of an experiment as one thing before its first trial.

    Attributes:
        description: what it searches.
        name: its name.
        total: how many trials it will have; None if that is not known.
        before: what `ExperimentRun.for_restoring` returned before the driver ended; empty for a
            new experiment.
    """

    description: Description
    name: str = ""
    total: int | None = None
    before: Mapping[str, Any] = {}


#: How many parameters that W&B can't express are named in a sweep's description.
_NAMED: Final = 20


def config_of(name: str, description: Description, objective: Objective | None) -> dict[str, Any]:
    """The sweep's config, in the form of W&B's schema; the user's own, if there is one."""
    if description.given is not None:
        hidden = {"metric"} if objective is None else set()
        return {key: one for key, one in description.given.items() if key not in hidden}
    text = "Ray Tune chooses the values."
    if description.undescribed:
        named = ", ".join(description.undescribed[:_NAMED])
        more = len(description.undescribed) - _NAMED
        text += f" Not described here: {named}{f', and {more} more' if more > 0 else ''}."
    return sweep_config.sweep_config(
        name,
        description.parameters,
        None if objective is None else objective.metric,
        None if objective is None else objective.mode,
        description=text,
        method=description.method,
    )


def begin(
    options: RunOptions,
    login: Login,
    name: str,
    config: dict[str, Any],
    before: Sweep | None,
) -> Sweep | None:
    """Make the experiment's sweep; a restored experiment goes on in the one that it had.

    Args:
        options: located and checked.
        login: the key and the server.
        name: the experiment's name.
        config: see `config_of`.
        before: the sweep of a restored experiment.

    Returns:
        The sweep; None without a server, or if it could not be made, of which a warning tells. If
        the server can't say whether it has the earlier one, that.
    """
    if "base_url" not in login.settings or not options.project:
        return before  # offline; a sweep needs a server
    request = request_of(options, login)
    if request is None:
        # Message: none by itself.
        _warn("an identity token can't make one, an API key can")
        return None
    assert login.secret is not None  # noqa: S101 - a request has it
    server = Server(request.base_url, login.secret, 0.0, request.settings)
    entity = login.settings.get("entity")
    try:
        sweep = before
        if sweep is not None and not sweeps.exists(server, sweep):
            # Cause: Somebody has deleted it.
            # Cure: Nothing to do.
            logger.warning("wbtune: W&B has no sweep %s any more; a new one is made", sweep.id)
            sweep = None
        if sweep is None:
            sweep, warnings = sweeps.create(server, entity, options.project, name, config)
            for text in warnings:
                logger.info("wbtune: W&B says of the sweep's config: %s", text)
    except Exception as error:  # noqa: BLE001 - a server may answer anything; the runs need no sweep
        known = isinstance(error, (WbtuneError, RefusedError))
        # Message: none by itself.
        _warn(str(error) if known else f"{type(error).__name__}: {error}")
        return before
    try:
        sweeps.change(server, sweep, state=sweeps.RUNNING)
    except (WbtuneError, RefusedError) as error:
        # The state is only shown, and "pending" is not wrong either.
        logger.info("wbtune: the sweep is not marked as running: %s", error)
    return sweep


def describe_whole(
    options: RunOptions,
    asked: ray_loop.Sweep,
    description: Description | None,
    info: Mapping[str, Any],
    before: Mapping[str, Any],
) -> Whole:
    """What is known of an experiment as one thing before its first trial.

    Args:
        options: located and checked.
        asked: what Tune was asked to do.
        description: what the tuner searches, if it has said so.
        info: what Tune tells its callbacks.
        before: what a restored experiment knew, which no longer has its space; empty for a new one.
    """
    known = before.get("description")
    if isinstance(known, Mapping) and "parameters" in known:
        # Perhaps of another release, which has other fields.
        own = {name: known[name] for name in Description._fields if name in known}
        description = Description(**own)
    if description is None:
        description = describe(
            excludes_of(options.excludes, options.unmask),
            space=asked.space,
            search_alg=asked.search_alg,
            scheduler=asked.scheduler,
            num_samples=asked.num_samples,
        )
    return Whole(description, asked.experiment, info.get("total_num_samples"), before)


def in_sweep(login: Login, options: RunOptions, whole: Whole, objective: Objective | None) -> Login:
    """The login, with the sweep that the runs belong to.

    Args:
        login: the key and the server.
        options: located and checked.
        whole: the experiment.
        objective: what the experiment optimises.
    """
    before = list(whole.before.get("sweep") or ())
    excludes = excludes_of(options.excludes, options.unmask)
    if objective is not None and excludes.drops(objective.metric):
        objective = None
    config = config_of(whole.name, whole.description, objective)
    is_known = len(before) == len(Sweep._fields)  # perhaps it is of another release
    shown = (whole.description.given or {}).get("name") or whole.name
    sweep = begin(options, login, shown, config, Sweep(*before) if is_known else None)
    return login._replace(sweep=sweep)


def _warn(reason: str) -> None:
    # Cause: The server refuses sweeps, does not answer, or needs an API key for them.
    # Cure: Nothing to do for the runs; they lack only the sweep.
    logger.warning(
        "wbtune: the experiment has no sweep at W&B (%s). Its runs are logged as without one.",
        reason,
    )
