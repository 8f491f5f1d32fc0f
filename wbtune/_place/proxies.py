"""Choose a request's proxy as wandb-core does: by W&B's settings, or by the environment.

As it was measured with wandb 0.31, whose core is written in Go: a proxy of the settings is for
every server of its scheme; those of the environment leave out this machine and ``NO_PROXY``,
which may name networks.
"""

from __future__ import annotations

import contextlib
import ipaddress
import urllib.request
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from urllib.parse import SplitResult

#: The default port of each scheme that is known here.
PORTS: Final = {"http": 80, "https": 443}


def of(url: SplitResult, given: Mapping[str, str | None]) -> SplitResult | None:
    """The proxy for this URL, or None.

    Args:
        url: what is asked for.
        given: W&B's settings ``http_proxy`` and ``https_proxy``, by scheme.
    """
    proxy = given.get(url.scheme)
    if not proxy:
        environment = urllib.request.getproxies_environment()
        proxy = environment.get(url.scheme)
        if not proxy or bypasses(url, environment.get("no", "")):
            return None
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}")


def bypasses(url: SplitResult, without: str) -> bool:
    """Whether the environment says that this server is reached without a proxy.

    Args:
        url: what is asked for.
        without: the value of ``NO_PROXY``: names, which are those of all below them as well,
            addresses and networks, with or without a port; or ``*``.

    >>> bypasses(urlsplit("https://api.example.com"), "10.0.0.0/8, example.com")
    True
    """
    host, port = (url.hostname or "").rstrip("."), url.port or PORTS.get(url.scheme)
    address = None
    with contextlib.suppress(ValueError):  # a name, no number
        address = ipaddress.ip_address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    for entry in filter(None, (entry.strip().lower() for entry in without.split(","))):
        with contextlib.suppress(ValueError):
            if address is not None and address in ipaddress.ip_network(entry, strict=False):
                return True
        name, _, only = entry.partition(":")
        below = name.removeprefix("*").lstrip(".")
        if only in {"", str(port)} and (not below or f".{host}".endswith(f".{below}")):
            return True
    return False
