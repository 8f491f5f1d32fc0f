"""Find an API key, and never let it be pickled, printed or written.

The order is the guide's: the argument ``api_key`` or ``api_key_file``; the environment
variable ``WANDB_API_KEY``; what ``wandb login`` left behind; ``WANDB_SETUP_API_KEY_HOOK``.

Logging in on the driver is enough: `of_driver` finds the key, asks the server whether it
takes it, and `hand_over` hands it over to the trials (:mod:`wbtune._place.handover`); `of_trial`
takes it from there. A driver needs a key; a trial that has begun goes on without one, and
its run is kept on disk.
"""

# Over 250 lines: one home for everything that knows a key.

from __future__ import annotations

import contextlib
import functools
import logging
import os
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wbtune._data.checkpoint import Objective
from wbtune._data.masking import without_login, without_userinfo
from wbtune._data.secret import Secret
from wbtune._place import handover, identity
from wbtune._place.server import Server
from wbtune._upstream import ray_launch, wandb_auth, wandb_settings
from wbtune.errors import CredentialsError

if TYPE_CHECKING:
    from wbtune._data.options import RunOptions
    from wbtune._place.identity import Identity

logger = logging.getLogger("wbtune")

API_KEY_HOOK: Final = "WANDB_SETUP_API_KEY_HOOK"

CURES: Final = (
    "run `wandb login`, set the environment variable WANDB_API_KEY, give api_key_file=, "
    'or log without a server by mode="offline" (environment: WANDB_MODE=offline)'
)


#: What else there is to do where a trial has none: its driver may well have one.
TRIAL_CURES: Final = (
    "wandb_tuner, WandbLoggerCallback, @wandb_trial and WandbMixin hand over the driver's key and "
    "WANDB_MODE; for setup_wandb alone, set WANDB_API_KEY (or WANDB_MODE=offline) before ray.init, "
    'or by ray.init(runtime_env={"env_vars": {...}}), or give mode="offline"'
)


_NO_KEY: Final = "no W&B API key found"


class Login(NamedTuple):
    """What a process needs to talk to the server.

    Attributes:
        secret: the key; None where none is needed, or an identity token is used instead.
        settings: W&B settings that belong to it and are no secret: ``base_url``,
            ``entity``, ``identity_token_file``, ``mode``.
        given: which of ``key``, ``mode`` and ``base_url`` an argument on the driver said; they
            come before the environment of a trial.
        objective: what is best, as the driver's tuner has it.
    """

    secret: Secret | None = None
    settings: Mapping[str, str] = {}
    given: tuple[str, ...] = ()
    objective: Objective | None = None


def needs_key(mode: str | None) -> bool:
    """Does a run in this mode talk to a server? ``mode=None`` asks W&B's own settings."""
    chosen = mode or os.environ.get("WANDB_MODE") or wandb_settings.wandb_setting("mode")
    return chosen not in {"offline", "disabled", "dryrun"}


def refuse_two(who: str, api_key: str | None, api_key_file: str | None) -> None:
    """Two keys are one too many.

    Raises:
        CredentialsError: for both arguments.
    """
    if api_key and api_key_file:
        msg = f"{who}: got both api_key= and api_key_file=. Leave one out."
        raise CredentialsError(msg)


def explicit_key(who: str, api_key: str | None, api_key_file: str | None) -> Secret | None:
    """The key of the arguments.

    Raises:
        CredentialsError: for both arguments, or a file that can't be read or is empty.
    """
    refuse_two(who, api_key, api_key_file)
    if api_key_file:
        return Secret(_read(who, api_key_file))
    return Secret(api_key) if api_key else None


def find(
    who: str,
    api_key: str | None,
    api_key_file: str | None,
    mode: str | None,
    base_url: str | None = None,
) -> Secret | None:
    """The key for runs in ``mode``, or None where wandb finds it by itself or needs none.

    Args:
        who: what was called, for the messages.
        api_key: an argument.
        api_key_file: an argument.
        mode: W&B's ``mode``, where it was given.
        base_url: the server, if it is not the one of W&B's own settings.

    Raises:
        CredentialsError: when a server has to be talked to and there is no key, or when
            the key given is unusable.
    """
    explicit = explicit_key(who, api_key, api_key_file)
    if not needs_key(mode):
        return None
    if explicit is not None:
        return _usable(who, explicit)
    try:
        if wandb_auth.logged_in(base_url or wandb_settings.wandb_setting("base_url")):
            return None
    except Exception as error:  # wandb's: a malformed key or token file
        msg = f"{who}: the credentials that wandb found are unusable: {error}. Instead: {CURES}."
        raise CredentialsError(msg) from error
    hook = os.environ.get(API_KEY_HOOK)
    if hook:
        return _usable(who, Secret(_from_hook(who, hook)))
    msg = f"{who}: {_NO_KEY}. {CURES[0].upper()}{CURES[1:]}."
    raise CredentialsError(msg)


def _usable(who: str, secret: Secret) -> Secret:
    problem = wandb_auth.key_problem(secret.reveal())
    if problem:
        msg = f"{who}: the API key given is unusable: {problem} Copy it again from W&B."
        raise CredentialsError(msg)
    return secret


def _read(who: str, api_key_file: str) -> str:
    try:
        lines = Path(api_key_file).expanduser().read_text(encoding="utf-8").split()
    except (OSError, ValueError, RuntimeError) as error:  # not UTF-8, a NUL; no such ~user
        msg = f"{who}: can't read api_key_file={api_key_file!r}: {error}. Check path and rights."
        raise CredentialsError(msg) from error
    if not lines:
        msg = f"{who}: api_key_file={api_key_file!r} is empty. Its first line has to be the key."
        raise CredentialsError(msg)
    return lines[0]


def _from_hook(who: str, hook: str) -> str:
    try:
        key = pkgutil.resolve_name(hook)()
    except Exception as error:  # noqa: BLE001 - a user's hook raises what it likes
        kind = type(error).__name__
        msg = f"{who}: the hook {API_KEY_HOOK}={hook} raised {kind}. Fix it, or unset it."
        # Not chained: the hook's own error may carry the key.
        raise CredentialsError(msg) from None
    if not isinstance(key, str) or not key:
        msg = f"{who}: the hook {API_KEY_HOOK}={hook} returned no key. Fix it, or unset it."
        raise CredentialsError(msg)
    return key


# --- from the driver to the trials --------------------------------------------------------

#: Seconds for which a driver waits for a server that is away, if wandb's own
#: ``init_timeout`` is not less.
PATIENCE_S: Final = 20.0

_HANDED: Final = ("base_url", "entity", "identity_token_file")

#: wandb's own, where nobody has said anything.
_DEFAULT_MODE: Final = "online"
_DEFAULT_URL: Final = "https://api.wandb.ai"


def of_driver(who: str, options: RunOptions, api_key: str | None = None) -> Login:
    """Log in on the driver: find the key, and check it with the server.

    A driver that is itself a trial logs in as that trial does, and needs no key.

    Args:
        who: what was called, for the messages.
        options: located and checked.
        api_key: an argument.

    Raises:
        CredentialsError: without a usable key, or when the server refuses it.
        ServerUnreachableError: when there is no answer within wandb's ``init_timeout``, and
            20 s at most.
    """
    here = identity.of_here()
    if here is not None:
        refuse_two(who, api_key, options.api_key_file)
        login, trouble = of_trial_or_offline(who, options, here, api_key, declared=False)
        if trouble:
            logger.warning("%s: %s", who, trouble)
        return login
    given = options.init_kwargs.get("settings") or {}
    secret = find(who, api_key, options.api_key_file, options.mode, given.get("base_url"))
    arguments = {
        "key": api_key or options.api_key_file,
        "mode": options.mode,
        "base_url": given.get("base_url"),
    }
    named = tuple(name for name, value in arguments.items() if value)
    settings = _settings(options.mode)
    if not needs_key(options.mode):
        return Login(settings=settings, given=named)
    settings |= {name: str(given[name]) for name in _HANDED if given.get(name)}
    if options.init_kwargs.get("entity"):
        settings["entity"] = str(options.init_kwargs["entity"])
    if secret is None:
        secret = _found_by_wandb(settings["base_url"])
    if secret is not None:
        settings.pop("identity_token_file", None)
        patience = given.get("init_timeout") or wandb_settings.wandb_setting("init_timeout")
        patience = min(float(patience), PATIENCE_S)
        _check(who, Server(settings["base_url"], secret, patience, given))
    return Login(secret, settings, named)


def of_process() -> Login:
    """What the environment of this driver says now; nothing is checked, a key may be missing."""
    settings = _settings(None)
    if not needs_key(None):
        return Login(settings=settings)
    secret, hook = None, os.environ.get(API_KEY_HOOK)
    with contextlib.suppress(Exception):  # a malformed key: each trial says that
        secret = _found_by_wandb(settings["base_url"])
        if secret is None and hook and not wandb_auth.logged_in(settings["base_url"]):
            secret = _once_from_hook(hook)
    return Login(secret, settings)


@functools.cache
def _once_from_hook(hook: str) -> Secret:
    return Secret(_from_hook("wbtune", hook))


def _settings(mode: str | None) -> dict[str, str]:
    """What the trials have to know besides the key, as far as this process's environment says.

    wandb reads the environment when it is first asked; a notebook changes it after that.
    """
    said = mode or os.environ.get("WANDB_MODE") or str(wandb_settings.wandb_setting("mode"))
    settings = {} if said == _DEFAULT_MODE and "WANDB_MODE" not in os.environ else {"mode": said}
    if mode:
        settings["mode"] = mode
    if not needs_key(mode):
        return settings
    for name in _HANDED:
        value = os.environ.get(f"WANDB_{name.upper()}") or wandb_settings.wandb_setting(name)
        if value:
            settings[name] = str(value)
    return without_login(settings)


def of_trial(
    who: str,
    handed: Login,
    api_key: str | None,
    api_key_file: str | None,
    mode: str | None,
    *,
    declared: bool,
    base_url: str | None = None,
) -> Login:
    """Log in where a trial runs, with what the driver has handed over.

    Args:
        who: what was called, for the messages.
        handed: that, see `handed_over`.
        api_key: an argument of the user's code in the trial.
        api_key_file: the same, or part of a declaration.
        mode: W&B's ``mode``, where it was given.
        declared: the arguments come from a declaration, which the driver has read, too; a
            path in it need not exist on this node.
        base_url: the server that was given.

    What is not given comes from an argument on the driver; else from an environment that was
    given to this trial on purpose (by a ``runtime_env``, or by code in it); else from the
    driver's environment; else from the node's.

    Raises:
        CredentialsError: without a usable key.
    """
    own = ray_launch.own_environment()
    mode = mode or _first(handed, "mode", own.get("WANDB_MODE"))
    if not needs_key(mode):
        return Login(settings={} if mode is None else {"mode": mode})
    drivers_url = handed.settings.get("base_url")
    own_url = base_url
    if own_url is None and "base_url" not in handed.given:
        # A node's own server comes before one that nobody has chosen.
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
    secret = find(who, api_key, api_key_file, mode, base_url)
    server = settings.get("base_url") or wandb_settings.wandb_setting("base_url")
    return Login(secret or _found_by_wandb(server), settings)


def _first(handed: Login, name: str, own: str | None) -> str | None:
    """An argument on the driver, else this process's own environment, else the driver's."""
    drivers = handed.settings.get(name)
    return drivers if name in handed.given or own is None else own


def of_trial_or_offline(
    who: str,
    options: RunOptions,
    trial: Identity,
    api_key: str | None = None,
    *,
    declared: bool,
) -> tuple[Login, str]:
    """Log in where a trial runs; without a key, and while Ray's store is away, stay offline.

    Args:
        who: what was called, for the messages.
        options: located and checked.
        trial: asks.
        api_key: as in `of_trial`.
        declared: the same.

    Returns:
        ``(login, trouble)``: and why the runs are kept on disk, where nobody asked for that.

    Raises:
        CredentialsError: without a usable key, outside of trials.
    """
    trouble, handed = "", Login()
    try:
        handed = handed_over(trial)
    except handover.StoreError as error:
        trouble = f"{error}, which has the driver's login"
    given = options.init_kwargs.get("settings") or {}
    arguments = (api_key, options.api_key_file, options.mode)
    try:
        login = of_trial(
            *(who, handed, *arguments), declared=declared, base_url=given.get("base_url")
        )
    except CredentialsError as error:
        if trial.trial_id is None and trial.directory is None:
            raise
        if _NO_KEY in str(error):
            why = f"no W&B API key has reached this trial: {TRIAL_CURES}."
        else:
            why = str(error).removeprefix(f"{who}: ")
        return OFFLINE, trouble or why
    if trouble and needs_key(options.mode or login.settings.get("mode")):
        return OFFLINE, trouble
    return login._replace(objective=handed.objective), ""


#: Of runs that are kept on disk.
OFFLINE: Final = Login(settings={"mode": "offline"})


def hand_over(
    login: Login,
    fit: str,
    objective: Objective | None = None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """On the driver: let the trials of this ``fit()`` have its login, and know what is best.

    And its options, as plain data (:mod:`wbtune._place.driver_options`).

    Says so when Ray's store does not answer: the trials go on without.
    """
    key = None if login.secret is None else login.secret.reveal()
    told: dict[str, Any] = {
        "key": key,
        "settings": dict(login.settings),
        "given": login.given,
        "objective": objective,
        "options": options,
    }
    try:
        handover.hand_over(fit, told)
    except handover.StoreError as error:
        logger.warning("wbtune: the trials don't get the driver's login: %s", error)


def handed_over(trial: Identity) -> Login:
    """In a trial: what its driver has handed over.

    Raises:
        StoreError: when Ray's store does not answer.
    """
    told = handover.handed_over(trial.fit, trial.origin)
    if told is None:
        return Login()
    key, objective = told["key"], told["objective"]
    return Login(
        None if key is None else Secret(key),
        told["settings"],
        tuple(told["given"]),
        None if objective is None else Objective(*objective),
    )


def take_back(fit: str) -> None:
    """On the driver, when an experiment has ended: nobody needs its login any more."""
    try:
        handover.take_back(fit)
    except handover.StoreError as error:
        logger.warning("wbtune: a login stays in the memory of Ray's head: %s", error)


def _check(who: str, server: Server) -> None:
    try:
        server.check()
    except CredentialsError as error:
        raise CredentialsError(f"{who}: {error}. Another key: {CURES}.") from None
    except ConnectionError as error:
        msg = (
            f"{who}: {error}. Check the network and WANDB_BASE_URL, or log without a "
            'server by mode="offline" and upload later by `wandb sync`.'
        )
        raise type(error)(msg) from None


def _found_by_wandb(base_url: str) -> Secret | None:
    key = wandb_auth.found_key(base_url)
    return None if key is None else Secret(key)
