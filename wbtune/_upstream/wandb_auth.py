"""W&B's API keys: found, checked, logged in with; and ``wandb sync``."""

from __future__ import annotations

import contextlib
import inspect
import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from wbtune._upstream import wandb_settings
from wbtune._upstream.capabilities import Capability, uses

#: W&B's own way to find and keep credentials.
CREDENTIALS: Final = Capability(
    "W&B's own credentials",
    without="of a login, only WANDB_API_KEY and the netrc file are found, and wandb says on the "
    "terminal of each trial that it was given a key",
    since="wandb 0.24",
    needs=(
        "wandb.sdk.lib.wbauth:authenticate_session",
        "wandb.sdk.lib.wbauth:session_credentials",
        "wandb.sdk.lib.wbauth:AuthApiKey",
        "wandb.sdk.lib.wbauth.authenticate:_session_auth_lock",
        "wandb.sdk.lib.wbauth.authenticate:_locked_set_session_auth",
    ),
)

KEY_CHECK: Final = Capability(
    "a check of the key's form",
    without="a key of the wrong form is refused by the server, not before",
    since="wandb 0.24",
    needs=("wandb.sdk.lib.wbauth.validation:check_api_key",),
)

SYNC: Final = Capability(
    "uploads of what is left",
    without="runs that were kept on disk while the server was away are uploaded by `wandb sync` "
    "alone",
    since="wandb 0.22",
    needs=("wandb.cli.beta_sync:sync",),
)


def logged_in(base_url: str) -> bool:
    """Return whether wandb finds credentials for a server: a netrc entry, a key, a token file.

    ``wandb.login(prompt=False)`` is public but prints, writes settings files and says
    False when offline [wandb 0.31, ``wandb.sdk.lib.wbauth``].
    """
    return _credentials(base_url) is not None


def found_key(base_url: str) -> str | None:
    """Return the key that wandb finds for a server by itself; None for none, or another kind."""
    return getattr(_credentials(base_url), "api_key", None)


class _Key:
    """A key that was found without wandb's help."""

    def __init__(self, api_key: str) -> None:
        self.api_key = api_key


def _key_of_environment(base_url: str) -> _Key | None:
    key = os.environ.get("WANDB_API_KEY")
    if key and base_url == wandb_settings.wandb_setting("base_url"):  # it is no other server's
        return _Key(key)
    with contextlib.suppress(OSError, ValueError, netrc.NetrcParseError):
        file = netrc.netrc(os.environ.get("NETRC"))
        found = file.authenticators(urlsplit(base_url).hostname or "")
        return _Key(found[2]) if found and found[2] else None
    return None


@uses(CREDENTIALS, otherwise=_key_of_environment)
def _credentials(base_url: str) -> Any:
    from wandb.sdk.lib import wbauth  # noqa: PLC0415 - wandb is imported when first needed

    found = wbauth.authenticate_session(
        host=base_url, source="wbtune", prompt=False, update_session=False
    )
    # For want of others, wandb gives the credentials of this process, whatever their server.
    return found if found is not None and found.host.is_same_url(base_url) else None


def _key_as_setting(base_url: str, key: str) -> Mapping[str, Any]:  # noqa: ARG001 - as `log_in`
    wandb_settings.of_process().api_key = key  # where wandb 0.22 looks
    return {"api_key": key}


@uses(CREDENTIALS, otherwise=_key_as_setting)
def log_in(base_url: str, key: str) -> Mapping[str, Any]:
    """Let the runs of this process use a key.

    ``Settings(api_key=...)`` is public, but says so on the terminal for every trial, and
    ``wandb.login`` writes a netrc file
    [wandb 0.31, ``wandb.sdk.lib.wbauth.authenticate``].

    Returns:
        The settings that each of these runs has to be opened with: none, or the key.
    """
    from wandb.sdk.lib import wbauth  # noqa: PLC0415 - wandb is imported when first needed
    from wandb.sdk.lib.wbauth import authenticate  # noqa: PLC0415 - as above

    known = wbauth.session_credentials(host=base_url)
    if isinstance(known, wbauth.AuthApiKey) and known.api_key == key:
        return {}
    with authenticate._session_auth_lock:  # noqa: SLF001 - nothing public is silent
        authenticate._locked_set_session_auth(wbauth.AuthApiKey(host=base_url, api_key=key))  # noqa: SLF001
    return {}


@uses(SYNC, otherwise=lambda *_: None)
def sync(folders: list[Path], base_url: str, key: str) -> None:
    """Do what ``wandb sync`` does, in this process: its environment would have to hold the key.

    [wandb 0.31, ``wandb.cli.beta_sync``; what was synced gets a ``.synced`` marker.]
    """
    from wandb.cli import beta_sync  # noqa: PLC0415 - wandb is imported when first needed

    log_in(base_url, key)
    as_it_is: dict[str, Any] = dict.fromkeys(
        ("entity", "project", "run_id", "job_type", "replace_tags"), ""
    ) | dict.fromkeys(("live", "dry_run", "skip_online", "verbose"), False)
    wanted = {**as_it_is, "skip_confirmation": True, "skip_synced": True, "parallelism": 5}
    known = inspect.signature(beta_sync.sync).parameters
    beta_sync.sync(folders, **{name: value for name, value in wanted.items() if name in known})


@uses(KEY_CHECK, otherwise=lambda _: None)
def key_problem(key: str) -> str | None:
    """Return why wandb would refuse a key for its form; None for a good one.

    Otherwise each trial would find out for itself
    [wandb 0.31, ``wandb.sdk.lib.wbauth.validation``].
    """
    from wandb.sdk.lib.wbauth import validation  # noqa: PLC0415 - wandb is imported when needed

    return validation.check_api_key(key)
