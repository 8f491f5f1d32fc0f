# Over 250 lines: the same file shows both what the server does and what the client was seen to do.
"""The stand-in server keeps, refuses and breaks what it says, with the real wandb client."""

from __future__ import annotations

import base64
import http.client
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from wandb_server import TEST_KEY, Fault, WandbServer, client_env, nobody_listens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Client = Callable[[str, dict[str, str]], subprocess.Popen[str]]

RUN = ("entity", "project", "run1")
STREAM = "/files/entity/project/run1/file_stream"
OTHER_KEY = "f" * 40

# Short intervals, since the client's own are made for the internet (15 s between two sendings).
# wandb-core cuts them to whole seconds, and takes 0 for its default.
PRELUDE = """
import sys, threading, wandb
QUICK = dict.fromkeys(["x_file_stream_transmit_interval"] + [
    f"x_{kind}_retry_wait_{end}_seconds"
    for kind in ("file_stream", "file_transfer", "graphql") for end in ("min", "max")], 1)
def start(id="run1", init_timeout=30, stop_fn=None, **kwargs):
    return wandb.init(id=id, entity="entity", project="project", settings=wandb.Settings(
        silent=True, console="off", x_disable_stats=True, stop_fn=stop_fn,
        init_timeout=init_timeout, **QUICK), **kwargs)
"""


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with WandbServer(keys={TEST_KEY}) as server:
        yield server


@pytest.fixture
def client() -> Iterator[Client]:
    """Start programs that use wandb; none outlives the test, and its core ends with it."""
    started: list[subprocess.Popen[str]] = []

    def start(program: str, env: dict[str, str]) -> subprocess.Popen[str]:
        inherited = {name: text for name, text in os.environ.items() if name[:5] != "WANDB"}
        process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + program],
            env=inherited | env,
            cwd=env["WANDB_DIR"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def output(process: subprocess.Popen[str]) -> str:
    """Wait for the program to end well; return what it wrote."""
    text, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return text


def send(
    server: WandbServer, path: str, body: Any, key: str = TEST_KEY, method: str = "POST"
) -> tuple[int, Any]:
    """Send a request without a client, for what the real client would not send."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)
    credentials = base64.b64encode(f"api:{key}".encode()).decode()
    text = body if isinstance(body, str) else json.dumps(body)
    try:
        connection.request(method, path, text, {"Authorization": f"Basic {credentials}"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def upsert(**variables: Any) -> dict[str, Any]:
    names = {"entity": "entity", "project": "project", "name": "run1"}
    return {"query": "mutation UpsertBucket {}", "variables": names | variables}


def history(offset: int, *steps: int) -> dict[str, Any]:
    lines = [json.dumps({"_step": step, "loss": 1}) for step in steps]
    return {"files": {"wandb-history.jsonl": {"offset": offset, "content": lines}}}


@pytest.mark.parametrize("feature", [None, "FILESTREAM_GZIP"])
def test_run_arrives_complete(
    server: WandbServer, client: Client, tmp_path: Path, feature: str | None
) -> None:
    """A run's rows, summary, config, names and end are kept, packed or not."""
    server.features = frozenset({feature} if feature else ())
    output(
        client(
            """
QUICK["x_file_stream_no_gzip"] = False
with start(name="trial", group="sweep", tags=["a", "b"], config={"lr": 0.1}) as run:
    run.log({"loss": 2.0, "odd": float("nan")})
    run.log({"loss": 1.0})
    run.config.update({"late": True})
    run.summary["best"] = 1.0
for name, exit_code in {"failed": 1, "crashed": 254}.items():
    start(name).finish(exit_code=exit_code)
""",
            server.env(tmp_path),
        )
    )
    encodings = {it.headers.get("content-encoding") for it in server.received("file_stream")}
    assert encodings == {"gzip" if feature else None}
    run = server.runs[RUN]
    assert [(row["_step"], row["loss"]) for row in run.rows] == [(0, 2), (1, 1)]
    assert run.rows[0]["odd"] != run.rows[0]["odd"]  # NaN
    assert (run.name, run.group, run.tags) == ("trial", "sweep", ["a", "b"])
    assert run.config == {"lr": 0.1, "late": True}
    assert (run.summary["best"], run.summary["loss"]) == (1, 1)
    assert (run.complete, run.exit_code, run.state) == (True, 0, "finished")
    assert {"wandb-metadata.json", "wandb-summary.json"} <= run.files.keys()
    assert {run_id: run.state for (_, _, run_id), run in server.runs.items()} == {
        "run1": "finished",
        "failed": "failed",
        "crashed": "crashed",
    }
    assert server.refusals == []


def test_resumed_run_continues(server: WandbServer, client: Client, tmp_path: Path) -> None:
    """A run resumed by another process starts after the last row, and knows its config."""
    program = """
with start(resume="allow", config={"a": 1}) as run:
    print(run.starting_step, run.resumed, flush=True)
    run.log({"loss": 1})
    run.log({"loss": 2})
"""
    outputs = [output(client(program, server.env(tmp_path / name))) for name in ("one", "two")]
    assert [text.split() for text in outputs] == [["0", "False"], ["2", "True"]]
    assert [row["_step"] for row in server.runs[RUN].rows] == [0, 1, 2, 3]
    assert server.refusals == []


@pytest.mark.slow
def test_stop_reaches_the_client(server: WandbServer, client: Client, tmp_path: Path) -> None:
    """A run that is ordered to stop has its `stop_fn` called (the client asks every 15 s)."""
    process = client(
        """
stopped = threading.Event()
with start(stop_fn=stopped.set) as run:
    run.log({"loss": 1})
    run.log({"loss": 2})
    print(stopped.wait(45))
""",
        server.env(tmp_path),
    )
    server.wait_for(lambda: RUN in server.runs)
    server.stop_run(RUN)
    assert output(process).split() == ["True"]


def test_artifact_goes_up_and_down(server: WandbServer, client: Client, tmp_path: Path) -> None:
    """An artifact is kept with its files and names, versions count, and it can be used again."""
    program = """
with start() as run:
    for text in ("one", "two", "two"):
        artifact = wandb.Artifact("model", "checkpoint", metadata={"text": text})
        with artifact.new_file("sub/weights.txt") as file:
            file.write(text)
        run.log_artifact(artifact, aliases=["latest", text]).wait()
    used = run.use_artifact("model:one", type="checkpoint")
    with open(used.download() + "/sub/weights.txt") as file:
        print(file.read(), used.metadata["text"])
print(wandb.Api().artifact(f"{used.project}/model:two").metadata["text"])
"""
    assert output(client(program, server.env(tmp_path))).split() == ["one", "one", "two"]
    first, second = server.artifact("model", "v0"), server.artifact("model")
    assert (first.type, first.aliases, first.metadata) == ("checkpoint", ["one"], {"text": "one"})
    assert (second.version, second.files) == (1, {"sub/weights.txt": b"two"})
    assert set(second.aliases) == {"latest", "two"}
    assert first.committed
    assert second.committed
    assert server.runs[RUN].used_artifacts == [first.id]
    assert server.refusals == []


def test_faults_lose_nothing(server: WandbServer, client: Client, tmp_path: Path) -> None:
    """The client repeats what an error or a cut connection ate, and no row is kept twice."""
    faults = [
        server.order(Fault(status=500, match="UpsertBucket", times=1)),
        server.order(Fault(status=429, match="file_stream", times=1)),
        server.order(Fault(cut="before", match="file_stream", times=1)),
        server.order(Fault(cut="after", match="file_stream", times=1)),
        server.order(Fault(status=500, match="PUT", times=1)),
    ]
    program = "with start() as run:\n    for i in range(5): run.log({'i': i})"
    output(client(program, server.env(tmp_path)))
    assert [fault.hits for fault in faults] == [fault.times for fault in faults]
    assert [row["i"] for row in server.runs[RUN].rows] == [0, 1, 2, 3, 4]
    assert server.runs[RUN].state == "finished"
    assert server.refusals == []


def test_server_comes_back(server: WandbServer, client: Client, tmp_path: Path) -> None:
    """What is logged while the server is away arrives when it listens again."""
    process = client(
        """
with start() as run:
    run.log({"i": 0})
    run.log({"i": 1})
    sys.stdin.readline()
    run.log({"i": 2})
    print("logged", flush=True)
""",
        server.env(tmp_path),
    )
    assert process.stdin
    assert process.stdout
    server.wait_for(lambda: RUN in server.runs and server.runs[RUN].rows)
    with server.away():
        with pytest.raises(ConnectionRefusedError):
            send(server, "/graphql", {})
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "logged\n"
    output(process)
    assert [row["i"] for row in server.runs[RUN].rows] == [0, 1, 2]
    assert server.refusals == []


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("wrong key", "credentials: missing or unknown key"),
        ("ordered 403", "ordered: 403"),
        ("nobody there", "connection refused"),
    ],
)
def test_client_is_turned_away(
    server: WandbServer, client: Client, tmp_path: Path, place: str, message: str
) -> None:
    """`init` raises when the key is unknown, access is denied, or nobody ever listens."""
    program = "try: start(init_timeout=2)\nexcept wandb.errors.CommError as error: print(error)"
    env = server.env(tmp_path, OTHER_KEY if place == "wrong key" else TEST_KEY)
    with nobody_listens() as nowhere:
        if place == "nobody there":
            env = client_env(nowhere, tmp_path)
        elif place == "ordered 403":
            server.order(Fault(status=403))
        assert message in output(client(program, env))
    assert server.runs == {}
    assert {request.key for request in server.requests} == (
        set() if place == "nobody there" else {env["WANDB_API_KEY"]}
    )
    assert [refusal.reason for refusal in server.refusals] == (
        [message] if place == "wrong key" else []
    )


def test_infinite_config_is_refused(server: WandbServer, client: Client, tmp_path: Path) -> None:
    """wandb-core sends an infinite config value as a bare word, which is not JSON."""
    program = (
        "try: start(config={'x': float('inf')})\nexcept wandb.errors.CommError: print('refused')"
    )
    assert output(client(program, server.env(tmp_path))).split() == ["refused"]
    assert [refusal.operation for refusal in server.refusals] == ["UpsertBucket"]


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("/graphql", '{"query":', "JSON"),
        ("/graphql", '{"query": "query Viewer {}", "variables": NaN}', "bare word NaN"),
        ("/graphql", upsert(config='{"a": {"value": -Infinity}}'), "bare word -Infinity"),
        *(("/graphql", upsert(name=f"a{sign}b"), "run id") for sign in ":;,#?/'"),
        ("/graphql", upsert(project="p" * 129), "project"),
        ("/graphql", upsert(tags=["good", ""]), "tag"),
        ("/graphql", upsert(tags=["t" * 65]), "tag"),
        ("/graphql", {"query": "query Unheard {}"}, "unknown operation Unheard"),
        ("/graphql", {"query": "query ArtifactByID {}"}, "not of the known form"),
        ("/elsewhere", {}, "unknown path"),
        (STREAM.replace("run1", "run2"), history(0, 0), "does not exist"),
    ],
)
def test_bad_request_is_refused(server: WandbServer, path: str, body: object, reason: str) -> None:
    """What the service refuses is answered with an error, recorded, and changes nothing."""
    status, answer = send(server, path, body)
    assert status in {400, 404}
    assert [refusal.reason for refusal in server.refusals] == [answer["errors"][0]["message"]]
    assert reason in server.refusals[0].reason
    assert server.runs == {}


@pytest.mark.parametrize(
    ("offset", "steps", "reason", "kept"),
    [
        (2, (2, 3), None, [0, 1, 2, 3]),
        (1, (1, 2), None, [0, 1, 2]),  # a repeated line, then a new one
        (2, (1, 2), "_step 1 after 1", [0, 1, 2]),
        (0, (5,), "line 0 overwritten", [0, 1]),
        (3, (5,), "starts at line 3", [0, 1, 5]),
    ],
)
def test_history_only_grows(
    server: WandbServer, offset: int, steps: tuple[int, ...], reason: str | None, kept: list[int]
) -> None:
    """Rows out of order are refused without an error, as the service loses them in silence."""
    send(server, "/graphql", upsert())
    send(server, STREAM, history(0, 0, 1))
    assert send(server, STREAM, history(offset, *steps)) == (200, {"stopped": False})
    assert [row["_step"] for row in server.runs[RUN].rows] == kept
    assert [reason in refusal.reason for refusal in server.refusals if reason] == [True] * bool(
        reason
    )
    assert len(server.refusals) == bool(reason)


def test_leaving_cuts_idle_connections(server: WandbServer) -> None:
    """A connection that a client keeps open does not survive that the server was away."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)
    connection.request("GET", "/graphql")
    connection.getresponse().read()
    with server.away():
        pass
    with pytest.raises(ConnectionError):  # noqa: PT012 - which of the two fails is up to the kernel
        connection.request("GET", "/graphql")
        connection.getresponse()
    connection.close()


def test_run_that_begins_again_is_running(server: WandbServer) -> None:
    """The end that a run shows is that of its last session, whatever an earlier one said."""
    send(server, "/graphql", upsert())
    send(server, STREAM, {"complete": True, "exitcode": 1})
    assert server.runs[RUN].state == "failed"
    send(server, "/graphql", upsert())
    assert (server.runs[RUN].state, server.runs[RUN].complete) == ("running", False)


def test_artifact_without_its_files_is_refused(server: WandbServer) -> None:
    """An artifact is not committed while a file of its manifest is missing."""

    def call(operation: str, **variables: Any) -> tuple[int, Any]:
        query = {"query": f"mutation {operation} {{}}", "variables": variables}
        return send(server, "/graphql", query)

    names = {"entityName": "entity", "projectName": "project", "artifactCollectionName": "model"}
    call("CreateArtifact", input={**names, "artifactTypeName": "checkpoint", "digest": "d"})
    answer = call("CreateArtifactManifest", artifactID="artifact-0", name="m.json")[1]["data"]
    url = answer["createArtifactManifest"]["artifactManifest"]["file"]["uploadUrl"]
    manifest = {"contents": {"here": {"ref": "file:///x"}, "missing": {}}}
    send(server, url.removeprefix(server.url), manifest, method="PUT")
    assert call("CommitArtifact", artifactID="artifact-0")[0] == 400
    assert [refusal.reason for refusal in server.refusals] == [
        "artifact model: committed without {'missing'}"
    ]


def test_faults_are_counted_and_healed(server: WandbServer) -> None:
    """A fault hits what it matches, as often as it says, until it is healed."""
    viewer = {"query": "query Viewer {}"}
    slow = server.order(Fault(status=503, delay=0.05, match="Viewer"))
    before = time.monotonic()
    assert [send(server, "/graphql", viewer)[0] for _ in range(2)] == [503, 503]
    assert time.monotonic() - before >= 2 * slow.delay
    assert send(server, "/graphql", upsert())[0] == 200
    server.heal(slow)
    assert send(server, "/graphql", viewer)[0] == 200
    cut = server.order(Fault(cut="after", match="POST", times=1))
    with pytest.raises(http.client.RemoteDisconnected):
        send(server, "/graphql", upsert(displayName="renamed"))
    assert (server.runs[RUN].name, slow.hits, cut.hits) == ("renamed", 2, 1)


def test_sentinel_is_found_where_it_does_not_belong(server: WandbServer) -> None:
    """A request contains a text of its path or body, but not the key in its authorization."""
    send(server, "/graphql", upsert())
    send(server, "/graphql", upsert(notes=f"key={TEST_KEY}"))
    assert [request.contains(TEST_KEY) for request in server.received("UpsertBucket")] == [
        False,
        True,
    ]
    assert {request.key for request in server.requests} == {TEST_KEY}


def test_waiting_in_vain_tells_what_came(server: WandbServer) -> None:
    """`wait_for` gives up with the requests so far, so that a failing test explains itself."""
    send(server, "/graphql", upsert())
    with pytest.raises(TimeoutError, match="UpsertBucket"):
        server.wait_for(lambda: False, timeout=0.01)
