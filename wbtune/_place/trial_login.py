"""Log in in a trial's process, with the login that its driver has handed over."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from wbtune._data.checkpoint import Objective
from wbtune._data.masking import without_userinfo
from wbtune._data.secret import Secret
from wbtune._data.sweep import Sweep
from wbtune._place import credentials, handover
from wbtune._place.credentials import Login
from wbtune._upstream import ray_launch, wandb_settings
from wbtune.errors import CredentialsError

if TYPE_CHECKING:
    from wbtune._data.options import RunOptions
    from wbtune._place.identity import Identity

#: The cures for a trial without a key; its driver may well have one.
TRIAL_CURES: Final = (
    "wandb_tuner, WandbLoggerCallback, @wandb_trial and WandbMixin hand over the driver's key and "
    "WANDB_MODE; for setup_wandb alone, set WANDB_API_KEY (or WANDB_MODE=offline) before ray.init, "
    'or by ray.init(runtime_env={"env_vars": {...}}), or give mode="offline"'
)


#: The login of a run that is kept on disk.
OFFLINE: Final = Login(settings={"mode": "offline"})


#: wandb's server unless another is named.
_DEFAULT_URL: Final = "https://api.wandb.ai"


def log_in(
    public_name: str,
    handed: Login,
    api_key: str | None,
    api_key_file: str | None,
    mode: str | None,
    *,
    declared: bool,
    base_url: str | None = None,
) -> Login:
    """Log in in a trial's process, with the login that the driver has handed over.

    Args:
        public_name: what the user called, for messages.
        handed: the driver's login (`handed_over`).
        api_key: the argument of that name, given by the user's code in the trial.
        api_key_file: the same, or part of a declaration.
        mode: W&B's ``mode``, if it was given.
        declared: the arguments come from a declaration, which the driver has read too; a
            path in it need not exist on this node.
        base_url: the server that was given.

    What is not given as an argument comes from, in this order: an argument on the driver; an
    environment that was given to this trial on purpose (by a ``runtime_env``, or by code in it);
    the driver's environment; the node's environment.

    Raises:
        CredentialsError: if there is no usable key.
    """
    own = ray_launch.own_environment()
    mode = mode or _first(handed, "mode", own.get("WANDB_MODE"))
    if not credentials.needs_key(mode):
        return Login(settings={} if mode is None else {"mode": mode})
    drivers_url = handed.settings.get("base_url")
    own_url = base_url
    if own_url is None and "base_url" not in handed.given:
        # A server of the node's environment overrides the default one, which nobody chose.
        chosen = own if drivers_url not in (None, _DEFAULT_URL) else os.environ
        own_url = chosen.get("WANDB_BASE_URL")
    own_url = without_userinfo(own_url or "")
    if own_url and own_url.rstrip("/") != (drivers_url or own_url).rstrip("/"):
        handed = Login()  # the driver's key is not for this server
    settings = {**handed.settings, **({"mode": mode} if mode else {})}
    if base_url:
        settings["base_url"] = base_url
    has_own = api_key is not None or (api_key_file is not None and not declared)
    has_own = has_own or ("WANDB_API_KEY" in own and "key" not in handed.given)
    if not has_own and (handed.secret is not None or "identity_token_file" in settings):
        return Login(handed.secret, settings)
    secret = credentials.find(public_name, api_key, api_key_file, mode, base_url)
    server = settings.get("base_url") or wandb_settings.wandb_setting("base_url")
    return Login(secret or credentials.found_by_wandb(server), settings)


def _first(handed: Login, name: str, own: str | None) -> str | None:
    """A setting: from the driver's arguments, this process's own environment, or the driver's."""
    drivers = handed.settings.get(name)
    return drivers if name in handed.given or own is None else own


def log_in_or_offline(
    public_name: str,
    options: RunOptions,
    trial: Identity,
    api_key: str | None = None,
    *,
    declared: bool,
) -> tuple[Login, str]:
    """Log in in a trial's process; offline if there is no key or Ray's store does not answer.

    Args:
        public_name: what the user called, for messages.
        options: located and checked.
        trial: the trial.
        api_key: as in `log_in`.
        declared: as in `log_in`.

    Returns:
        ``(login, trouble)``: ``trouble`` says why the run is kept on disk although it should be
            online; empty otherwise.

    Raises:
        CredentialsError: if there is no usable key, outside trials.
    """
    trouble, handed = "", Login()
    try:
        handed = handed_over(trial)
    except handover.StoreError as error:
        trouble = f"{error}, which has the driver's login"
    given = options.init_kwargs.get("settings") or {}
    arguments = (api_key, options.api_key_file, options.mode)
    try:
        login = log_in(
            *(public_name, handed, *arguments), declared=declared, base_url=given.get("base_url")
        )
    except CredentialsError as error:
        if trial.trial_id is None and trial.directory is None:
            raise
        if credentials.NO_KEY in str(error):
            # Message: a warning by itself.
            why = f"no W&B API key has reached this trial: {TRIAL_CURES}."
        else:
            why = str(error).removeprefix(f"{public_name}: ")
        return OFFLINE._replace(sweep=handed.sweep), trouble or why
    if trouble and credentials.needs_key(options.mode or login.settings.get("mode")):
        return OFFLINE, trouble
    sweep = handed.sweep if _reaches(login, handed, options) else None
    return login._replace(objective=handed.objective, sweep=sweep), ""


def _reaches(login: Login, handed: Login, options: RunOptions) -> bool:
    """May a run with this login belong to the sweep of the driver's login?

    Without a server, it is sent later, by whoever sends the others. With a key of its own it is
    somebody else's run, unless it says whose.
    """
    url = login.settings.get("base_url")
    if url is None:
        return True
    keys = [one and one.reveal() for one in (login.secret, handed.secret)]
    same_key = keys[0] == keys[1] or bool(options.init_kwargs.get("entity"))
    return same_key and url == handed.settings.get("base_url")


def handed_over(trial: Identity) -> Login:
    """The login that a trial's driver has handed over; empty if there is none.

    Raises:
        StoreError: if Ray's store does not answer.
    """
    handed = handover.handed_over(trial.fit, trial.sender)
    if handed is None:
        return Login()
    key, objective, sweep = handed["key"], handed["objective"], handed["sweep"]
    return Login(
        None if key is None else Secret(key),
        handed["settings"],
        tuple(handed["given"]),
        None if objective is None else Objective(*objective),
        None if sweep is None else Sweep(*sweep),
    )
