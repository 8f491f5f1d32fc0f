"""Find an API key, and never let it be pickled, printed or written.

The order is that of https://docs.ray.io/en/latest/tune/examples/tune-wandb.html: the argument
``api_key`` or ``api_key_file``; the environment variable ``WANDB_API_KEY``; what ``wandb login``
left behind; ``WANDB_SETUP_API_KEY_HOOK``.

Logging in on the driver is enough. :mod:`wbtune._place.driver_login` finds the key, checks
that the server accepts it, and hands it over to the trials; :mod:`wbtune._place.trial_login`
uses it there. A driver needs a key. A trial that has started continues without one, and its run
is kept on disk.
"""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from wbtune._data.checkpoint import Objective
from wbtune._data.secret import Secret
from wbtune._data.sweep import Sweep
from wbtune._upstream import wandb_auth, wandb_settings
from wbtune.errors import CredentialsError

API_KEY_HOOK: Final = "WANDB_SETUP_API_KEY_HOOK"


CURES: Final = (
    "run `wandb login`, set the environment variable WANDB_API_KEY, give api_key_file=, "
    'or log without a server by mode="offline" (environment: WANDB_MODE=offline)'
)


NO_KEY: Final = "no W&B API key found"


class Login(NamedTuple):
    """What a process needs to talk to the server.

    Attributes:
        secret: the key; None if none is needed, or an identity token is used instead.
        settings: W&B settings that belong to it and are not secret: ``base_url``,
            ``entity``, ``identity_token_file``, ``mode``.
        given: which of ``key``, ``mode`` and ``base_url`` were arguments on the driver;
            these override the environment of a trial.
        objective: the metric that the driver's tuner optimises, and how.
        sweep: the sweep that the runs of the experiment belong to, if there is one.
    """

    secret: Secret | None = None
    settings: Mapping[str, str] = {}
    given: tuple[str, ...] = ()
    objective: Objective | None = None
    sweep: Sweep | None = None


def needs_key(mode: str | None) -> bool:
    """Does a run in this mode need a server? ``mode=None`` means the mode of W&B's settings."""
    chosen = mode or os.environ.get("WANDB_MODE") or wandb_settings.wandb_setting("mode")
    return chosen not in {"offline", "disabled", "dryrun"}


def refuse_two(public_name: str, api_key: str | None, api_key_file: str | None) -> None:
    """Refuse an ``api_key`` together with an ``api_key_file``.

    Raises:
        CredentialsError: for both arguments.
    """
    if api_key and api_key_file:
        msg = f"{public_name}: got both api_key= and api_key_file=. Leave one out."
        raise CredentialsError(msg)


def explicit_key(public_name: str, api_key: str | None, api_key_file: str | None) -> Secret | None:
    """The key that the arguments give.

    Raises:
        CredentialsError: for both arguments, or a file that can't be read or is empty.
    """
    refuse_two(public_name, api_key, api_key_file)
    if api_key_file:
        return Secret(_read(public_name, api_key_file))
    return Secret(api_key) if api_key else None


def find(
    public_name: str,
    api_key: str | None,
    api_key_file: str | None,
    mode: str | None,
    base_url: str | None = None,
) -> Secret | None:
    """The key for runs in ``mode``, or None if wandb finds it by itself or needs none.

    Args:
        public_name: what the user called, for messages.
        api_key: the argument of that name, if it was given.
        api_key_file: the argument of that name, if it was given.
        mode: W&B's ``mode``, if it was given.
        base_url: the server, if it is not the one of W&B's own settings.

    Raises:
        CredentialsError: if the mode needs a server and there is no key, or if the given key is
            unusable.
    """
    explicit = explicit_key(public_name, api_key, api_key_file)
    if not needs_key(mode):
        return None
    if explicit is not None:
        return _usable(public_name, explicit)
    try:
        if wandb_auth.logged_in(base_url or wandb_settings.wandb_setting("base_url")):
            return None
    except Exception as error:  # from wandb: a malformed key or token file
        msg = (
            f"{public_name}: the credentials that wandb found are unusable: {error}. "
            f"Instead: {CURES}."
        )
        raise CredentialsError(msg) from error
    hook = os.environ.get(API_KEY_HOOK)
    if hook:
        return _usable(public_name, Secret(key_from_hook(public_name, hook)))
    msg = f"{public_name}: {NO_KEY}. {CURES[0].upper()}{CURES[1:]}."
    raise CredentialsError(msg)


def found_by_wandb(base_url: str) -> Secret | None:
    """The key that wandb itself would use for this server, if it has one."""
    key = wandb_auth.found_key(base_url)
    return None if key is None else Secret(key)


def _usable(public_name: str, secret: Secret) -> Secret:
    problem = wandb_auth.key_problem(secret.reveal())
    if problem:
        msg = f"{public_name}: the API key given is unusable: {problem} Copy it again from W&B."
        raise CredentialsError(msg)
    return secret


def _read(public_name: str, api_key_file: str) -> str:
    try:
        lines = Path(api_key_file).expanduser().read_text(encoding="utf-8").split()
    except (OSError, ValueError, RuntimeError) as error:  # not UTF-8, a NUL; no such ~user
        msg = (
            f"{public_name}: can't read api_key_file={api_key_file!r}: {error}. "
            "Check path and rights."
        )
        raise CredentialsError(msg) from error
    if not lines:
        msg = (
            f"{public_name}: api_key_file={api_key_file!r} is empty. "
            "Write the key into its first line."
        )
        raise CredentialsError(msg)
    return lines[0]


def key_from_hook(public_name: str, hook: str) -> str:
    """The key that a user's hook returns.

    Raises:
        CredentialsError: if it raises, or returns no key.
    """
    try:
        key = pkgutil.resolve_name(hook)()
    except Exception as error:  # noqa: BLE001 - a user's hook may raise anything
        kind = type(error).__name__
        msg = f"{public_name}: the hook {API_KEY_HOOK}={hook} raised {kind}. Fix it, or unset it."
        # Not chained: the hook's own error may contain the key.
        raise CredentialsError(msg) from None
    if not isinstance(key, str) or not key:
        msg = f"{public_name}: the hook {API_KEY_HOOK}={hook} returned no key. Fix it, or unset it."
        raise CredentialsError(msg)
    return key
