"""Log in on the driver, and hand the login over to the trials (:mod:`wbtune._place.handover`)."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from wbtune._data import timeouts
from wbtune._data.checkpoint import Objective
from wbtune._data.masking import without_login
from wbtune._data.secret import Secret
from wbtune._place import credentials, handover, identity, trial_login
from wbtune._place.credentials import Login
from wbtune._place.server import Server
from wbtune._upstream import wandb_auth, wandb_settings
from wbtune.errors import CredentialsError

if TYPE_CHECKING:
    from wbtune._data.options import RunOptions

logger = logging.getLogger("wbtune")


#: Settings that the trials get together with the login.
_HANDED: Final = ("base_url", "entity", "identity_token_file")


#: wandb's mode unless another is set.
_DEFAULT_MODE: Final = "online"


def log_in(public_name: str, options: RunOptions, api_key: str | None = None) -> Login:
    """Log in on the driver: find the key, and check it with the server.

    A driver that is itself a trial logs in as that trial does, and needs no key.

    Args:
        public_name: what the user called, for messages.
        options: located and checked.
        api_key: the argument of that name, if it was given.

    Raises:
        CredentialsError: if there is no usable key, or if the server refuses it.
        ServerUnreachableError: if there is no answer within wandb's ``init_timeout``, or within
            20 s if that is longer.
    """
    here = identity.of_here()
    if here is not None:
        credentials.refuse_two(public_name, api_key, options.api_key_file)
        login, trouble = trial_login.log_in_or_offline(
            public_name, options, here, api_key, declared=False
        )
        if trouble:
            logger.warning("%s: %s", public_name, trouble)
        return login._replace(sweep=None)  # that is the outer experiment's
    given = options.init_kwargs.get("settings") or {}
    secret = credentials.find(
        public_name, api_key, options.api_key_file, options.mode, given.get("base_url")
    )
    arguments = {
        "key": api_key or options.api_key_file,
        "mode": options.mode,
        "base_url": given.get("base_url"),
    }
    named = tuple(name for name, value in arguments.items() if value)
    settings = _settings(options.mode)
    if not credentials.needs_key(options.mode):
        return Login(settings=settings, given=named)
    settings |= {name: str(given[name]) for name in _HANDED if given.get(name)}
    if options.init_kwargs.get("entity"):
        settings["entity"] = str(options.init_kwargs["entity"])
    if secret is None:
        secret = credentials.found_by_wandb(settings["base_url"])
    if secret is not None:
        settings.pop("identity_token_file", None)
        patience = given.get("init_timeout") or wandb_settings.wandb_setting("init_timeout")
        patience = min(float(patience), timeouts.LOGIN_SERVER_S)
        _check(public_name, Server(settings["base_url"], secret, patience, given))
    return Login(secret, settings, named)


def of_environment() -> Login:
    """The login of this driver's environment; nothing is checked, and a key may be missing."""
    settings = _settings(None)
    if not credentials.needs_key(None):
        return Login(settings=settings)
    secret, hook = None, os.environ.get(credentials.API_KEY_HOOK)
    with contextlib.suppress(Exception):  # a malformed key: each trial warns of it
        secret = credentials.found_by_wandb(settings["base_url"])
        if secret is None and hook and not wandb_auth.logged_in(settings["base_url"]):
            secret = _once_from_hook(hook)
    return Login(secret, settings)


@functools.cache
def _once_from_hook(hook: str) -> Secret:
    return Secret(credentials.key_from_hook("wbtune", hook))


def _settings(mode: str | None) -> dict[str, str]:
    """The settings of this process's environment that the trials need in addition to the key.

    wandb reads the environment only once, and a notebook may change it after that.
    """
    chosen = mode or os.environ.get("WANDB_MODE") or str(wandb_settings.wandb_setting("mode"))
    is_default = chosen == _DEFAULT_MODE and "WANDB_MODE" not in os.environ
    settings = {} if is_default else {"mode": chosen}
    if mode:
        settings["mode"] = mode
    if not credentials.needs_key(mode):
        return settings
    for name in _HANDED:
        value = os.environ.get(f"WANDB_{name.upper()}") or wandb_settings.wandb_setting(name)
        if value:
            settings[name] = str(value)
    return without_login(settings)


def hand_over(
    login: Login,
    fit: str,
    objective: Objective | None = None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Hand the driver's login over to the trials of one ``fit()``.

    If Ray's store does not answer, a warning says so, and the trials continue without it.

    Args:
        login: the login, and the sweep that the trials' runs belong to.
        fit: the name of the ``fit()``, or of this driver's process.
        objective: what the experiment optimises.
        options: the driver's options as plain data (:mod:`wbtune._place.driver_options`).
    """
    key = None if login.secret is None else login.secret.reveal()
    handed: dict[str, Any] = {
        "key": key,
        "settings": dict(login.settings),
        "given": login.given,
        "objective": objective,
        "options": options,
        "sweep": login.sweep,
    }
    try:
        handover.hand_over(fit, handed)
    except handover.StoreError as error:
        # Cause: Ray's head does not answer.
        # Cure: Set WANDB_API_KEY for the trials: ray.init(runtime_env={"env_vars": ...}).
        logger.warning("wbtune: the trials don't get the driver's login: %s", error)


def take_back(fit: str) -> None:
    """Remove the login of an experiment that has ended."""
    try:
        handover.take_back(fit)
    except handover.StoreError as error:
        # Cause: Ray's head does not answer.
        # Cure: Nothing to do: it is gone when the cluster ends.
        logger.warning("wbtune: a login stays in the memory of Ray's head: %s", error)


def _check(public_name: str, server: Server) -> None:
    try:
        server.check()
    except CredentialsError as error:
        raise CredentialsError(
            f"{public_name}: {error}. Another key: {credentials.CURES}."
        ) from None
    except ConnectionError as error:
        msg = (
            f"{public_name}: {error}. Check the network and WANDB_BASE_URL, or log without a "
            'server by mode="offline" and upload later by `wandb sync`.'
        )
        raise type(error)(msg) from None
