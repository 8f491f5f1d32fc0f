"""Whether there is a key, and the server takes it."""

from __future__ import annotations

import netrc
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from wbtune._cli.doctor.findings import Context, Finding, note, ok, problem
from wbtune._data import timeouts
from wbtune._data.masking import mask_urls
from wbtune._data.secret import Secret
from wbtune._place import credentials, proxies
from wbtune._place.server import Server
from wbtune._upstream import wandb_auth, wandb_settings
from wbtune.errors import CredentialsError, ServerUnreachableError

_KEY: Final = "WANDB_API_KEY"
_TOKEN: Final = "WANDB_IDENTITY_TOKEN_FILE"  # noqa: S105 - a variable's name
_AWAY: Final = (
    "check the network, the proxy and WANDB_BASE_URL; or log offline (WANDB_MODE=offline), and "
    "send the runs later: wbtune sync DIR"
)
_OBSTACLE: Final = (
    "check WANDB_BASE_URL, the proxy, and the certificates: SSL_CERT_FILE names those of a server "
    "of your own"
)
_PROXY_SETTINGS: Final = ("http_proxy", "https_proxy")


def login(context: Context) -> Iterator[Finding]:
    """Which key is used, where it is from, and whose it is by the server's word: asked once."""
    try:
        base_url = str(wandb_settings.wandb_setting("base_url"))
        needs_key = credentials.needs_key(None)
    except Exception as error:  # noqa: BLE001 - wandb is missing, or refuses its settings
        kind = type(error).__name__
        yield note(f"the login was not looked at: W&B's settings can't be read ({kind})")
        return
    yield from _netrc(context, base_url)
    trouble = _trouble(context)
    if trouble is not None:
        yield trouble
        return
    try:
        key = wandb_auth.found_key(base_url)
        is_logged_in = wandb_auth.logged_in(base_url)
    except Exception as error:  # noqa: BLE001 - wandb's: a malformed key or token file
        what = f"the credentials that wandb finds are unusable: {error}"
        yield problem(what, credentials.CURES)
        return
    if key is None:
        yield _without_key(context, is_logged_in=is_logged_in, needs_key=needs_key)
        return
    context.keys.add(key)
    yield ok(f"a key for {_shown(base_url)}, from {_source(context, base_url)}")
    if not needs_key:
        yield note("the server was not asked: by its settings, wandb does not send anything")
        return
    yield from _proxy(context, base_url)
    yield from _server(base_url, key)


def _trouble(context: Context) -> Finding | None:
    """What is wrong with the key of the environment, which comes before all others."""
    given = context.variables.get(_KEY, "")
    context.keys.add(given)
    if given and (wrong := wandb_auth.key_problem(given)):
        return problem(f"{_KEY} is no key: {wrong}", "copy it again from W&B's settings")
    if given and context.variables.get(_TOKEN):
        return problem(f"{_KEY} and {_TOKEN} are both set", f"unset one; {_KEY} is usual")
    return None


def _without_key(context: Context, *, is_logged_in: bool, needs_key: bool) -> Finding:
    if is_logged_in:
        return note("the login is by an identity token, which the server was not asked about")
    if hook := context.variables.get(credentials.API_KEY_HOOK):
        return note(f"the key is from {credentials.API_KEY_HOOK}={hook}, which was not called")
    return (problem if needs_key else note)(credentials.NO_KEY, credentials.CURES)


def _source(context: Context, base_url: str) -> str:
    if context.variables.get(_KEY):
        return _KEY
    path = _netrc_path(context)
    try:
        in_netrc = bool(netrc.netrc(path).authenticators(urlsplit(base_url).netloc))
    except (OSError, ValueError, netrc.NetrcParseError):
        in_netrc = False
    return str(path) if in_netrc else "W&B's settings"


def _netrc(context: Context, base_url: str) -> Iterator[Finding]:
    """The file that ``wandb login`` writes: can it be read, and by whom?"""
    path = _netrc_path(context)
    try:
        mode = path.stat().st_mode
        file = netrc.netrc(path)
    except FileNotFoundError:
        return
    except netrc.NetrcParseError as error:  # its text may have a password's part
        yield problem(f"{path}, line {error.lineno}, is malformed", "correct or remove that line")
        return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        yield problem(f"{path} can't be read ({reason})", "check its rights and its encoding")
        return
    context.keys.update(password for *_, password in file.hosts.values() if password)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield note(f"others can read {path}, which contains keys", f"chmod 600 {path}")
    host = urlsplit(base_url).netloc
    if not context.variables.get(_KEY) and file.hosts and not file.authenticators(host):
        yield note(f"{path} has no entry for {host}", f"wandb login --host {_shown(base_url)}")


def _netrc_path(context: Context) -> Path:
    given = context.variables.get("NETRC")
    return Path(os.path.expanduser(given or "~/.netrc"))  # noqa: PTH111 - without a home, it stays


def _proxy(context: Context, base_url: str) -> Iterator[Finding]:
    """Does the way to the server lead through a proxy?"""
    given: dict[str, Any] = {
        name.removesuffix("_proxy"): wandb_settings.wandb_setting(name) for name in _PROXY_SETTINGS
    }
    proxy = proxies.of(urlsplit(base_url), given)
    if proxy is not None:
        shown = mask_urls(proxy.geturl())
        yield note(f"{_shown(base_url)} is reached through the proxy {shown}")
    elif any(name.lower() in {*_PROXY_SETTINGS, "all_proxy"} for name in context.variables):
        yield note(f"{_shown(base_url)} is reached without the proxy of the environment")


def _server(base_url: str, key: str) -> Iterator[Finding]:
    server = Server(base_url, Secret(key), timeouts.DOCTOR_SERVER_S)
    try:
        entity = server.default_entity()
    except CredentialsError as error:
        yield problem(str(error), credentials.CURES)
    except ServerUnreachableError as error:
        yield problem(str(error), _AWAY)
    else:
        if server.obstacle:
            yield problem(f"{_shown(base_url)} gives no answer here: {server.obstacle}", _OBSTACLE)
        else:
            of = f"; runs are {entity}'s unless an entity is given" if entity else ""
            yield ok(f"the server accepts the key{of}")


def _shown(base_url: str) -> str:
    return mask_urls(base_url)
