"""Choose a request's proxy as wandb-core does: by W&B's settings, or by the environment.

Measured with wandb 0.31, whose core is written in Go: a proxy of the settings is used for
every server with its scheme; those of the environment are not used for this machine and for
``NO_PROXY``, which may name networks.
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

#: The supported schemes and their default ports.
PORTS: Final = {"http": 80, "https": 443}


def of(url: SplitResult, given: Mapping[str, str | None]) -> SplitResult | None:
    """The proxy for this URL, or None.

    Args:
        url: the URL of the request.
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
    """Whether ``NO_PROXY`` says that this server is reached without a proxy.

    Args:
        url: the URL of the request.
        without: the value of ``NO_PROXY``: names, which include all subdomains,
            addresses and networks, with or without a port; or ``*``.

    >>> bypasses(urlsplit("https://api.example.com"), "10.0.0.0/8, example.com")
    True
    """
    host, port = (url.hostname or "").rstrip("."), url.port or PORTS.get(url.scheme)
    address = None
    with contextlib.suppress(ValueError):  # a name, not an address
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
