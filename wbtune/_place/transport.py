"""Make one HTTP request as wandb-core would make it, with a limit of time and size.

``wandb.Api`` uses a wandb-core, which it starts, whose address it exports to every process
that is started later, and which does not limit an answer. Requests from here follow
W&B's settings and the environment (measured with wandb 0.31): proxies of the settings
come first and have no exceptions, those of the environment are not used for ``NO_PROXY`` and this
machine; extra headers override all but the authorization; certificates are the system's, or
those of ``SSL_CERT_FILE``; redirections are followed, without the key if to another server.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import queue
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from wbtune._place import proxies
from wbtune._upstream import wandb_settings

#: The most bytes that an answer may have; a run's config, its largest part, has less.
LARGEST: Final = 16 * 2**20
_CHUNK: Final = 2**16
_REDIRECTIONS: Final = 10

#: W&B's settings about how its server is reached.
SETTINGS: Final = ("http_proxy", "https_proxy", "x_extra_http_headers", "insecure_disable_ssl")


class CannotAskError(Exception):
    """Only wandb itself can reach this server: its kind of proxy is not supported here."""


class UnreadableError(ValueError):
    """The answer is too long, or is not JSON."""


class Answer(NamedTuple):
    """What a server answered.

    Attributes:
        status: the HTTP status.
        content: the body, parsed as JSON; None if it can't be, unless the status is 200.
        redirected: it came from another address, which may not have got the key.
    """

    status: int
    content: Any
    redirected: bool


class Transport:
    """Sends requests to a W&B server.

    Args:
        base_url: its address.
        given: W&B settings that were given for a run; the others are this process's own.
    """

    def __init__(self, base_url: str, given: Mapping[str, Any] | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        given = given or {}
        settings = {
            name: given.get(name) or wandb_settings.wandb_setting(name) for name in SETTINGS
        }
        self._proxies = {scheme: settings[f"{scheme}_proxy"] for scheme in ("http", "https")}
        headers = settings["x_extra_http_headers"] or {}
        self._headers = dict(json.loads(headers) if isinstance(headers, str) else headers)
        self._verifies = not settings["insecure_disable_ssl"]

    @property
    def shown(self) -> str:
        """The address, without user and password."""
        parts = urllib.parse.urlsplit(self.base_url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    def post(self, path: str, key: str, content: Any, seconds: float) -> Answer:
        """Make a request, and return the answer within this many seconds.

        Args:
            path: the path below the base URL.
            key: the API key.
            content: the body, which is sent as JSON.
            seconds: the limit for everything: name look-up, request and answer.

        Raises:
            OSError: if the server can't be reached, or not in time.
            http.client.HTTPException: if it does not speak HTTP.
            ssl.SSLError: if its certificate can't be verified.
            UnreadableError: if its answer is too long or not JSON.
            CannotAskError: if only wandb can reach it.
        """
        credentials = base64.b64encode(f"api:{key}".encode()).decode()
        headers = {
            "User-Agent": "wandb-core",  # the requests after this are its own; firewalls know it
            "Content-Type": "application/json",
            **self._headers,
            "Accept-Encoding": "identity",
            "Authorization": f"Basic {credentials}",
        }
        request = _Request("POST", self.base_url + path, json.dumps(content).encode(), headers)
        exchange = _Exchange(self, request, time.monotonic() + seconds)
        return exchange.within(seconds)

    def connection(self, url: urllib.parse.SplitResult, seconds: float) -> _Connection:
        """A connection for this URL, not yet established, and the target of the request."""
        proxy = proxies.of(url, self._proxies)
        target, more = urllib.parse.urlunsplit(("", "", url.path, url.query, "")) or "/", {}
        to = proxy or url
        if proxy is not None and proxy.username:
            login = urllib.parse.unquote(f"{proxy.username}:{proxy.password or ''}")
            more["Proxy-Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
        tunnels = proxy is not None and url.scheme == "https"
        if to.scheme not in proxies.PORTS or (tunnels and to.scheme == "https"):
            raise CannotAskError(f"a proxy of the kind {to.scheme}:")
        host = to.hostname or ""
        port = to.port or proxies.PORTS[to.scheme]
        made: http.client.HTTPConnection
        if url.scheme == "https" or to.scheme == "https":
            context = self._context()
            made = http.client.HTTPSConnection(host, port, timeout=seconds, context=context)
        else:
            made = http.client.HTTPConnection(host, port, timeout=seconds)
        if tunnels:
            made.set_tunnel(url.hostname or "", url.port or 443, more)
            more = {}
        elif proxy is not None:
            target = url._replace(netloc=url.netloc.rpartition("@")[2], fragment="").geturl()
        return _Connection(made, target, more)

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if not self._verifies:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context


class _Request(NamedTuple):
    method: str
    url: str
    body: bytes | None
    headers: Mapping[str, str]

    def redirected(self, status: int, location: str) -> _Request:
        """The request to follow a redirection with, its method and body changed as is usual."""
        url = urllib.parse.urljoin(self.url, location)
        method, body, headers = self.method, self.body, dict(self.headers)
        if status in {301, 302, 303}:
            method, body = "GET", None
            headers.pop("Content-Type", None)
        if _origin(url) != _origin(self.url):
            headers.pop("Authorization", None)
        return _Request(method, url, body, headers)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


class _Connection(NamedTuple):
    made: http.client.HTTPConnection
    target: str
    headers: Mapping[str, str]


class _Exchange:
    """One request and its answer, in a thread, so that slow look-ups and answers are limited."""

    def __init__(self, transport: Transport, request: _Request, deadline: float) -> None:
        self._transport, self._request, self._deadline = transport, request, deadline
        self._made: http.client.HTTPConnection | None = None
        self._done: queue.SimpleQueue[Callable[[], Answer]] = queue.SimpleQueue()

    def within(self, seconds: float) -> Answer:
        threading.Thread(target=self._run, name="wbtune-ask", daemon=True).start()
        try:
            return self._done.get(timeout=seconds)()
        except queue.Empty:
            self._let_go()
            raise TimeoutError(f"no whole answer in {seconds:.0f} s") from None

    def _let_go(self) -> None:
        sock = None if self._made is None else self._made.sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # the thread, which reads from it, ends

    def _run(self) -> None:
        try:
            answer = self._ask()
        except Exception as error:  # noqa: BLE001 - raised again by `within`
            self._done.put(_raiser(error))
        else:
            self._done.put(lambda: answer)

    def _ask(self) -> Answer:
        request, redirected = self._request, False
        for _ in range(_REDIRECTIONS):
            status, location, content = self._once(request)
            if location is None:
                return Answer(status, content, redirected)
            request, redirected = request.redirected(status, location), True
        return Answer(310, None, redirected)

    def _once(self, request: _Request) -> tuple[int, str | None, Any]:
        url = urllib.parse.urlsplit(request.url)
        left = max(0.1, self._deadline - time.monotonic())
        made, target, more = self._transport.connection(url, left)
        self._made = made
        with contextlib.closing(made):
            made.request(request.method, target, request.body, {**request.headers, **more})
            with made.getresponse() as response:
                location = response.headers.get("Location")
                if response.status in {301, 302, 303, 307, 308} and location:
                    return response.status, location, None
                try:
                    return response.status, None, self._read(response)
                except UnreadableError:
                    if response.status == http.HTTPStatus.OK:
                        raise
                    return response.status, None, None  # a proxy's page, say

    def _read(self, response: http.client.HTTPResponse) -> Any:
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise UnreadableError("an encoding that was not asked for")
        body = bytearray()
        while chunk := response.read1(_CHUNK):
            body += chunk
            if len(body) > LARGEST:
                raise UnreadableError(f"more than {LARGEST >> 20} MB")
            if time.monotonic() > self._deadline:
                raise TimeoutError("no whole answer in time")
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise UnreadableError(f"no JSON: {error}") from None


def _raiser(error: Exception) -> Callable[[], Answer]:
    def fail() -> Answer:
        raise error

    return fail
