# Over 250 lines: what a server may answer, and the ways to it.
"""wbtune asks the server by the way that wandb-core takes, within a time and a size."""

from __future__ import annotations

import doctest
import http.server
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wandb_server import TEST_KEY

from wbtune._data.secret import Secret
from wbtune._place import proxies, transport
from wbtune._place.server import Server
from wbtune._place.transport import LARGEST
from wbtune._run.run_spec import EXPERIMENT_KEY
from wbtune.errors import CredentialsError, ServerUnreachableError, WbtuneError

VIEWER = b'{"data": {"viewer": {"id": "u", "entity": "e"}}}'
EXTRA = {"X-Gate": "open", "User-Agent": "mine", "Authorization": "Bearer of somebody"}
OUT_OF_TIME_S = 30


class Gate(http.server.BaseHTTPRequestHandler):
    """A server or a proxy: says what the test wants, and remembers what it was asked."""

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, self.path, dict(self.headers)))
        self.server.answer(self)

    do_GET = do_POST  # noqa: N815 - its name is the base class's

    def log_message(self, *_):
        """Print nothing."""


def says(status, body=VIEWER, **headers):
    def answer(to):
        to.send_response(status)
        for name, text in {"Content-Length": len(body), **headers}.items():
            to.send_header(name.replace("_", "-"), str(text))
        to.end_headers()
        to.wfile.write(body)

    return answer


@contextmanager
def gate(answer=None, context=None):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gate) as server:
        server.asked, server.answer = [], answer or says(200)
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        server.daemon_threads = True
        server.url = f"http{'s' if context else ''}://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


def check(url, patience=20, **settings):
    Server(url, Secret(TEST_KEY), patience, settings).check()


def whose(url, patience=20):
    return Server(url, Secret(TEST_KEY), patience).run_config("e", "p", "run")


def test_the_way_of_the_settings():
    """A base URL with a path and a login, extra headers, and a proxy that has a login of its own.

    The key is what authorizes, whatever else says so; nothing of it goes to the server itself.
    """
    with gate() as server, gate() as proxy:
        address = server.url.replace("//", "//user:word@") + "/at/wandb/"
        check(address, x_extra_http_headers=EXTRA)
        check(address, x_extra_http_headers=json.dumps(EXTRA))
        assert len(server.asked) == 2
        for method, path, headers in server.asked:
            assert (method, path) == ("POST", "/at/wandb/graphql")
            assert (headers["X-Gate"], headers["User-Agent"]) == ("open", "mine")
            assert headers["Authorization"].startswith("Basic ")
        check("http://wandb.invalid", http_proxy=proxy.url.replace("//", "//me:p%40ss@"))
        ((_, path, headers),) = proxy.asked
        assert path == "http://wandb.invalid/graphql"
        assert headers["Proxy-Authorization"] == "Basic bWU6cEBzcw=="  # me:p@ss


def test_the_proxies_of_the_environment(monkeypatch):
    """They are taken, too, but not for this machine, nor against ``NO_PROXY``."""
    with gate() as server, gate() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("no_proxy", "example.com, 10.0.0.0/8")
        check("http://wandb.invalid")
        check(server.url)
        assert (len(proxy.asked), len(server.asked)) == (1, 1)
        for address in ("http://wandb.example.com.invalid", "http://11.0.0.1"):
            assert not proxies.bypasses(urlsplit(address), os.environ["no_proxy"])
        for address in ("http://wandb.example.com", "http://10.1.2.3", "http://localhost:1"):
            assert proxies.bypasses(urlsplit(address), os.environ["no_proxy"])


@given(st.from_regex(r"[a-z]{1,5}(\.[a-z]{1,5}){0,3}", fullmatch=True), st.text(max_size=20))
def test_any_no_proxy_is_understood_or_left_out(host, text):
    """It never raises; a host that is listed, or what it is below, is found among whatever else."""
    proxies.bypasses(urlsplit(f"http://{host}"), text)
    assert proxies.bypasses(urlsplit(f"http://sub.{host}:8080"), f"{text},{host}:8080")
    assert proxies.bypasses(urlsplit(f"http://{host}"), f"{text},*")


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    """A certificate that no authority knows, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key"), "-out", str(folder / "cert")]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *names, *files],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert", folder / "key")
    return folder / "cert", context


def test_certificates(certified, monkeypatch):
    """Those of ``SSL_CERT_FILE`` count; so does that nobody wants to see one.

    Of what can't be verified here, wandb itself is the judge, so that nothing is refused.
    """
    certificate, context = certified
    with gate(says(401), context) as server:
        check(server.url)
        with pytest.raises(CredentialsError):
            check(server.url, insecure_disable_ssl=True)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with pytest.raises(CredentialsError):
            check(server.url)
        assert len(server.asked) == 2


@pytest.mark.parametrize(
    "settings",
    [{"http_proxy": "socks5://127.0.0.1:9"}, {"https_proxy": "https://127.0.0.1:9"}],
    ids=["SOCKS", "TLS in TLS"],
)
def test_what_only_wandb_can_is_left_to_it(settings):
    """A kind of proxy that is not known here refuses nothing."""
    check(f"{next(iter(settings)).partition('_')[0]}://wandb.invalid", **settings)


@pytest.mark.parametrize(("status", "method"), [(302, "GET"), (307, "POST"), (308, "POST")])
def test_a_redirection_is_followed(status, method):
    """The key stays with its server; that another one refuses says nothing of the key."""
    with gate(says(401)) as other, gate(says(status, Location=f"{other.url}/b")) as first:
        check(first.url)
        ((asked, path, headers),) = other.asked
        assert (asked, path) == (method, "/b")
        assert "Authorization" not in headers
    with gate() as server:
        server.answer = lambda to: says(*(200,) if to.path == "/b" else (status,), Location="/b")(
            to
        )
        check(server.url)
        assert "Authorization" in server.asked[-1][2]


def test_the_keys_answer():
    """A key that is refused, or that belongs to nobody, is; an error of GraphQL's says nothing."""
    for answer in (says(401), says(403), says(200, b'{"data": {"viewer": null}}')):
        with gate(answer) as server, pytest.raises(CredentialsError):
            check(server.url)
    for answer in (says(404), says(200, b'{"errors": [{"message": "no such field"}]}')):
        with gate(answer) as server:
            check(server.url)


def drips(to):
    to.send_response(200)
    to.end_headers()
    while True:
        to.wfile.write(b" ")
        time.sleep(0.05)


def drips_its_head(to):
    to.wfile.write(b"HTTP/1.0 200 OK\r\nX-Long: ")
    drips_on(to)


def drips_on(to):
    while True:
        to.wfile.write(b"x")
        time.sleep(0.05)


def never_ends(to):
    to.send_response(200)
    to.end_headers()
    while True:
        to.wfile.write(b'"' * 2**16)


DEEP = b"[" * 100_000
BAD_ANSWERS = {
    "dripped": drips,
    "a head that is dripped": drips_its_head,
    "endless": never_ends,
    "silence": lambda _: time.sleep(5),
    "no HTTP": lambda to: to.wfile.write(b"SSH-2.0\r\n\r\n"),
    "packed": says(200, VIEWER, Content_Encoding="gzip"),
    "thousands of levels": says(200, DEEP),
    "a page": says(200, b"<html>Please log in</html>"),
    "a list": says(200, b"[]"),
    "a number": says(200, b"1"),
    "text for data": says(200, b'{"data": "x"}'),
    "a list for what is asked": says(200, b'{"data": {"viewer": [1], "model": [1]}}'),
    "cut off": says(200, VIEWER[:9], Content_Length=10**6),
    "busy": says(429),
    "broken": says(503),
}


@pytest.mark.parametrize("bad", BAD_ANSWERS)
def test_a_bad_answer_is_no_answer(bad):
    """Not within the time, too long, or nothing that W&B says: the server counts as away."""
    with gate(BAD_ANSWERS[bad]) as server:
        begun = time.monotonic()
        for ask in (check, whose):
            with pytest.raises(ServerUnreachableError):
                ask(server.url, patience=0.5)
        assert time.monotonic() - begun < OUT_OF_TIME_S


def test_nothing_waits_for_a_name(monkeypatch):
    """The look-up of a name has no limit by itself."""
    begun, found = time.monotonic(), threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found.wait(OUT_OF_TIME_S) or [])
    with pytest.raises(ServerUnreachableError, match="no whole answer"):
        check("http://wandb.invalid", patience=0.5)
    found.set()
    assert time.monotonic() - begun < OUT_OF_TIME_S / 2


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            json.dumps({EXPERIMENT_KEY: {"value": "ours"}, "lr": {"value": 1}}),
            {EXPERIMENT_KEY: "ours", "lr": 1},
        ),
        ("null", {}),
        ("[1]", {}),
        ("?", {}),
        (DEEP.decode(), {}),
        (7, {}),
        (json.dumps({"lr": 3}), {}),
    ],
)
def test_the_config_of_a_run(config, expected):
    """A config that is not one of wandb's is that of a run that is not ours."""
    body = json.dumps({"data": {"model": {"bucket": {"id": "1", "config": config}}}}).encode()
    with gate(says(200, body)) as server:
        assert whose(server.url) == expected


def test_a_great_config_is_read():
    """As great as W&B takes one."""
    text = json.dumps({"text": {"value": "x" * (LARGEST // 2)}})
    body = json.dumps({"data": {"model": {"bucket": {"config": text}}}}).encode()
    with gate(says(200, body)) as server:
        assert set(whose(server.url)) == {"text"}


def test_a_password_in_the_address_is_not_said():
    """Neither where the server is away nor where it refuses."""
    for answer in (says(500), says(401), drips_on):
        with gate(answer) as server, pytest.raises(WbtuneError) as raised:
            check(server.url.replace("//", "//user:pa55word@"), patience=0.5)
        assert "pa55word" not in str(raised.value)


def test_the_docstrings_examples_are_true():
    """Doctest."""
    failed, attempted = doctest.testmod(proxies)
    assert (failed, attempted > 0, doctest.testmod(transport).failed) == (0, True, 0)
