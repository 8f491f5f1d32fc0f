"""Find an API key, and never let it be pickled, printed or written.

The order is the guide's: the argument ``api_key`` or ``api_key_file``; the environment
variable ``WANDB_API_KEY``; what ``wandb login`` left behind; ``WANDB_SETUP_API_KEY_HOOK``.
A key that wandb finds by itself (the second and the third) is not touched here at all.
"""

from __future__ import annotations

import os
import pkgutil
from pathlib import Path
from typing import Final, NoReturn

from wbtune import _compat
from wbtune.errors import CredentialsError

API_KEY_HOOK: Final = "WANDB_SETUP_API_KEY_HOOK"

CURES: Final = (
    "run `wandb login`, set the environment variable WANDB_API_KEY, give api_key_file=, "
    'or log without a server by mode="offline" (environment: WANDB_MODE=offline)'
)


class Secret:
    """An API key that can be handed on but neither printed nor pickled.

    >>> Secret("s3cr3t")
    Secret(****)
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The key itself, for the one call that logs in."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(****)"

    def __reduce__(self) -> NoReturn:
        msg = "an API key is never pickled"
        raise TypeError(msg)


def needs_key(mode: str | None) -> bool:
    """Does a run in this mode talk to a server? ``mode=None`` asks W&B's own settings."""
    chosen = mode or os.environ.get("WANDB_MODE") or _compat.wandb_setting("mode")
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
    who: str, api_key: str | None, api_key_file: str | None, mode: str | None
) -> Secret | None:
    """The key for runs in ``mode``, or None where wandb finds it by itself or needs none.

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
        if _compat.logged_in(_compat.wandb_setting("base_url")):
            return None
    except Exception as error:  # wandb's: a malformed key or token file
        msg = f"{who}: the credentials that wandb found are unusable: {error}. Instead: {CURES}."
        raise CredentialsError(msg) from error
    hook = os.environ.get(API_KEY_HOOK)
    if hook:
        return _usable(who, Secret(_from_hook(who, hook)))
    msg = f"{who}: no W&B API key found. {CURES[0].upper()}{CURES[1:]}."
    raise CredentialsError(msg)


def _usable(who: str, secret: Secret) -> Secret:
    problem = _compat.key_problem(secret.reveal())
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
        msg = f"{who}: the hook {API_KEY_HOOK}={hook} raised {kind}. Mend or unset it."
        # Not chained: the hook's own error may carry the key.
        raise CredentialsError(msg) from None
    if not isinstance(key, str) or not key:
        msg = f"{who}: the hook {API_KEY_HOOK}={hook} returned no key. Mend or unset it."
        raise CredentialsError(msg)
    return key
