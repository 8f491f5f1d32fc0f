# Over 250 lines because it is one peer: HTTP, GraphQL, file stream and artifact storage share one
# state, and whoever wonders what "the server" did with a request should find it in one file.
# ruff: noqa: N802 - as in http.server, methods are named after what they answer
"""A small W&B server on loopback, for tests with the real wandb client.

It stands in for the hosted service: wandb-core 0.31 talks to it over HTTP as it would to the real
one. It keeps what arrived (runs, artifacts, every raw request), refuses what the service refuses,
and misbehaves on request. It knows what the client was seen to need; anything else is refused by
name, and so shows in `WandbServer.refusals`.

    with WandbServer(keys={key}) as server:
        subprocess.run([sys.executable, "-c", program], env=os.environ | server.env(tmp_path, key))
        run = server.runs["entity", "project", "run_id"]
        assert [row["loss"] for row in run.rows] == [2, 1]
        assert server.refusals == []
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import gzip
import json
import re
import socket
import socketserver
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, Self, TypeAlias
from urllib.parse import quote, unquote

import jsonschema
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from types import TracebackType

# A key of the length that the client insists on; it opens nothing anywhere.
TEST_KEY: Final = "0123456789abcdef0123456789abcdef01234567"

#: W&B's published schema of a sweep's config (see `test_sweep_config`).
SWEEP_SCHEMA: Final = Path(__file__).with_name("wandb_sweep_schema.json")

FORBIDDEN_IN_RUN_ID: Final = frozenset(":;,#?/'")
MAX_PROJECT, MAX_TAG = 128, 64

#: From which states a sweep may go to which ones (wandb 0.31, `wandb sweep --stop` and others).
SWEEP_STATES: Final = {
    "RUNNING": {"PENDING", "RUNNING", "PAUSED", "FINISHED", "CANCELED"},
    "PAUSED": {"RUNNING", "PAUSED"},
    "FINISHED": {"PENDING", "RUNNING", "PAUSED"},
    "CANCELED": {"PENDING", "RUNNING", "PAUSED"},
}

HISTORY, EVENTS, OUTPUT = "wandb-history.jsonl", "wandb-events.jsonl", "output.log"

RunKey: TypeAlias = tuple[str, str, str]  # entity, project, run id
JsonDict: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it arrived; header names are in lower case, a gzipped body is unpacked."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    operation: str | None = None

    @property
    def key(self) -> str | None:
        """The API key that came with it, so that a test can tell whose request it was."""
        scheme, _, credentials = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return None

    def matches(self, text: str) -> bool:
        """Say whether `text` is part of the method, path or operation: what a fault is aimed by."""
        return text in f"{self.method} {self.path} {self.operation or ''}"

    def contains(self, text: str) -> bool:
        """Say whether a sentinel came anywhere but in `authorization`, where a key belongs."""
        places = [self.path, self.body.decode(errors="replace")]
        places += [value for name, value in self.headers.items() if name != "authorization"]
        return any(text in place for place in places)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that the real service would not have taken, and where it came from."""

    reason: str
    path: str
    operation: str | None = None


class RefusedError(Exception):
    """Raised while a request is handled, to answer it with `status` and record a `Refusal`."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason, status)
        self.reason = reason
        self.status = status


@dataclass(eq=False, slots=True)
class Fault:
    """A misbehaviour, from `WandbServer.order` until it has hit `times` requests or is healed.

    Args:
        status: answer with this HTTP status and do nothing else.
        cut: close the connection without an answer, before or after the request is handled;
            "after" makes a client repeat what has already arrived.
        delay: seconds to wait before anything else, at most until it is healed.
        match: part of the method, path or GraphQL operation; empty matches every request.
        times: how many requests it hits; None is all of them.
        hits: how many it has hit so far.
    """

    status: int | None = None
    cut: Literal["before", "after"] | None = None
    delay: float = 0.0
    match: str = ""
    times: int | None = None
    hits: int = 0


@dataclass(eq=False, slots=True)
class ServerRun:
    """A run as the service keeps it; `lines` are the raw lines of each streamed file.

    `complete` and `exit_code` speak of the last session: a resumed run is running again.
    """

    key: RunKey
    internal_id: str
    name: str | None = None
    group: str | None = None
    job_type: str | None = None
    notes: str | None = None
    tags: list[str] = field(default_factory=list)
    raw_config: JsonDict = field(default_factory=dict)
    lines: dict[str, list[str]] = field(default_factory=dict)
    rows: list[JsonDict] = field(default_factory=list)
    summary: JsonDict = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    used_artifacts: list[str] = field(default_factory=list)
    complete: bool = False
    exit_code: int | None = None
    stop_ordered: bool = False
    sweep: str | None = None

    @property
    def config(self) -> JsonDict:
        """The config as the user gave it, without wandb's own part."""
        return {key: entry["value"] for key, entry in self.raw_config.items() if key != "_wandb"}

    @property
    def state(self) -> str:
        """The state that the web page shows; there, a dead client's run is `crashed` in the end."""
        if self.exit_code is None:
            return "running"
        return {0: "finished", 254: "crashed"}.get(self.exit_code, "failed")


@dataclass(eq=False, slots=True)
class ServerSweep:
    """A sweep; `configs` are its configs, the newest last, and `states` its states."""

    id: str
    node: str
    entity: str
    project: str
    name: str | None
    configs: list[JsonDict]
    states: list[str] = field(default_factory=lambda: ["PENDING"])

    @property
    def config(self) -> JsonDict:
        return self.configs[-1]

    @property
    def state(self) -> str:
        return self.states[-1]


@dataclass(eq=False, slots=True)
class ServerArtifact:
    """A version of an artifact; `files` maps paths inside it to their contents."""

    id: str
    entity: str
    project: str
    type: str
    name: str
    version: int
    digest: str
    metadata: JsonDict
    description: str | None = None
    run_id: str | None = None
    aliases: list[str] = field(default_factory=list)
    committed: bool = False
    manifest: bytes = b""
    files: dict[str, bytes] = field(default_factory=dict)


class WandbServer:
    """The server; use it as a context manager. Its public attributes may be read while it runs.

    Args:
        keys: the API keys that it accepts; None accepts every key, but not a missing one.
        entity: the entity of a client that names none.
        features: names of wandb's `ServerFeature` that it claims, such as `FILESTREAM_GZIP`.
    """

    def __init__(
        self,
        *,
        keys: Collection[str] | None = None,
        entity: str = "entity",
        features: Collection[str] = (),
    ) -> None:
        self.keys = None if keys is None else frozenset(keys)
        self.entity = entity
        self.features = frozenset(features)
        self.runs: dict[RunKey, ServerRun] = {}
        self.artifacts: list[ServerArtifact] = []
        self.sweeps: list[ServerSweep] = []
        self.requests: list[Request] = []
        self.refusals: list[Refusal] = []
        self._faults: list[Fault] = []
        self._changed = threading.Condition(threading.RLock())
        self._gone = False
        self._listening = contextlib.ExitStack()
        # Bound for good but never listening: while the server is away, connections are refused
        # and nobody else is given the port.
        self._port_holder = _hold_port()
        self.url = _url(self._port_holder)

    # The life of the server.

    def __enter__(self) -> Self:
        self.come_back()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()
        self._port_holder.close()

    def come_back(self) -> None:
        """Listen on the server's port, with the state kept."""
        self._gone = False
        http = _HttpServer(self._port_holder.getsockname(), self.handle)
        thread = threading.Thread(target=http.serve_forever, args=(0.02,), name="wandb-server")
        thread.start()
        # On leaving, from the last to the first: no new connections, cut the open ones, join.
        self._listening.callback(http.server_close)
        self._listening.callback(http.cut_connections)
        self._listening.callback(thread.join)
        self._listening.callback(http.shutdown)

    def leave(self) -> None:
        """Close the port and every open connection, as a machine that goes down does."""
        with self._changed:
            self._gone = True
            self._changed.notify_all()
        self._listening.close()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Be away for the length of a `with` block."""
        self.leave()
        try:
            yield
        finally:
            self.come_back()

    def env(self, directory: Path, key: str = TEST_KEY) -> dict[str, str]:
        """Return what a client needs in its environment; wandb's files go under `directory`."""
        return client_env(self.url, directory, key)

    # What a test orders, waits for and looks at.

    def order(self, fault: Fault) -> Fault:
        """Misbehave from now on; the first ordered fault that matches and is not used up counts."""
        with self._changed:
            self._faults.append(fault)
        return fault

    def heal(self, *faults: Fault) -> None:
        """Lift these faults, or all of them."""
        with self._changed:
            self._faults = [fault for fault in self._faults if faults and fault not in faults]
            self._changed.notify_all()

    def stop_run(self, key: RunKey) -> None:
        """Press "Stop run": the client hears of it in the next answer to the run's file stream."""
        with self._changed:
            self.runs[key].stop_ordered = True

    def wait_for(self, predicate: Callable[[], object], timeout: float = 30.0) -> None:
        """Wait until `predicate` holds; it is asked after each request, with the state locked.

        Raises:
            TimeoutError: after `timeout` seconds; it tells what arrived until then.
        """
        with self._changed:
            if not self._changed.wait_for(predicate, timeout):
                last = [f"{it.method} {it.operation or it.path}" for it in self.requests[-20:]]
                raise TimeoutError(f"not in {timeout} s; last: {last}; {self.refusals}")

    def received(self, match: str = "") -> list[Request]:
        """Return the requests whose method, path or operation contains `match`, as they came."""
        with self._changed:
            return [request for request in self.requests if request.matches(match)]

    def artifact(self, name: str, alias: str = "latest") -> ServerArtifact:
        """Return the version of an artifact that has the alias, or that `v0`, `v1`, ... names."""
        with self._changed:
            for artifact in self.artifacts:
                if artifact.name == name and alias in (*artifact.aliases, f"v{artifact.version}"):
                    return artifact
        raise KeyError(f"{name}:{alias}")

    # One request, on the thread of its connection.

    def handle(self, request: Request) -> tuple[int, bytes] | None:
        """Answer a request with a status and a body, or with None, which cuts the connection."""
        with self._changed:
            self.requests.append(request)
            due = (it for it in self._faults if request.matches(it.match) and it.hits != it.times)
            fault = next(due, Fault())
            fault.hits += 1
            self._changed.notify_all()
            if fault.delay:
                self._changed.wait_for(lambda: self._gone or fault not in self._faults, fault.delay)
        if fault.cut == "before" or self._gone:
            return None
        if fault.status is not None:
            return fault.status, _errors(f"ordered: {fault.status}")
        with self._changed:
            answer = self._answer_or_refuse(request)
            self._changed.notify_all()
        return None if fault.cut == "after" else answer

    def _answer_or_refuse(self, request: Request) -> tuple[int, bytes]:
        try:
            return 200, self._answer(request)
        except RefusedError as error:
            refused = error
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            refused = RefusedError(f"not of the known form: {error!r}")
        self._refuse(refused.reason, request)
        return refused.status, _errors(refused.reason)

    def _refuse(self, reason: str, request: Request) -> None:
        self.refusals.append(Refusal(reason, request.path, request.operation))

    def _answer(self, request: Request) -> bytes:
        match [unquote(part) for part in request.path.partition("?")[0].split("/")[1:]]:
            case ["storage", kind, owner, name]:  # signed URLs in the service, so no credentials
                return self._store(request, kind, owner, name)
            case _ if request.key is None or request.key not in (self.keys or [request.key]):
                raise RefusedError("credentials: missing or unknown key", 401)
            case ["graphql"]:
                body = strict_json(request.body)
                answer = getattr(self, f"_on_{request.operation}", None)
                if answer is None:
                    raise RefusedError(f"unknown operation {request.operation}")
                return json.dumps({"data": answer(body.get("variables") or {})}).encode()
            case ["files", entity, project, run_id, "file_stream"]:
                return self._file_stream(request, self._run((entity, project, run_id)))
            case _:
                raise RefusedError(f"unknown path {request.path}", 404)

    def _run(self, key: RunKey) -> ServerRun:
        if key not in self.runs:
            raise RefusedError(f"run {key} does not exist", 404)
        return self.runs[key]

    def _artifact(self, artifact_id: str) -> ServerArtifact:
        for artifact in self.artifacts:
            if artifact.id == artifact_id:
                return artifact
        raise RefusedError(f"artifact {artifact_id} does not exist", 404)

    # Storage: files of runs, manifests and files of artifacts.

    def _url(self, kind: str, owner: str, name: str) -> str:
        return f"{self.url}/storage/{kind}/{quote(owner)}/{quote(name, safe='')}"

    def _store(self, request: Request, kind: str, owner: str, name: str) -> bytes:
        if kind == "manifest":
            artifact = self._artifact(owner)
            if request.method == "PUT":
                strict_json(request.body)
                artifact.manifest = request.body
            return artifact.manifest
        if kind == "run":
            entity, project, run_id = owner.split(",")
            files = self._run((entity, project, run_id)).files
        else:
            files = self._artifact(owner).files
        if request.method == "PUT":
            files[name] = request.body
        return files[name]

    # The file stream: history, summary, system metrics, console, end of a run.

    def _file_stream(self, request: Request, run: ServerRun) -> bytes:
        body = strict_json(request.body)
        for name, chunk in body.get("files", {}).items():
            first, content = chunk["offset"], chunk["content"]
            if name == "wandb-summary.json":
                run.summary = json.loads(content[-1])
                continue
            lines = run.lines.setdefault(name, [])
            if name == HISTORY:
                self._add_history(request, run, first, content)
            lines.extend([""] * (first - len(lines)))
            lines[first : first + len(content)] = content
        if body.get("complete"):
            run.complete, run.exit_code = True, body["exitcode"]
        return json.dumps({"stopped": run.stop_ordered}).encode()

    def _add_history(
        self, request: Request, run: ServerRun, first: int, content: list[str]
    ) -> None:
        """Keep the rows that the service would show; like it, say nothing of the others.

        Rows are read with NaN and Infinity as bare words: that is how wandb-core writes them here
        (and in the summary, but not in a request's envelope).
        """
        known = run.lines[HISTORY]
        if first > len(known):
            self._refuse(f"history: starts at line {first}, {len(known)} are known", request)
        for number, line in enumerate(content, first):
            if number < len(known):
                # A repeated request brings the same line; any other comes from a second writer.
                if known[number] != line:
                    self._refuse(f"history: line {number} overwritten", request)
                continue
            row = json.loads(line)
            last = run.rows[-1]["_step"] if run.rows else -1
            if row["_step"] <= last:
                self._refuse(f"history: _step {row['_step']} after {last}", request)
                continue
            run.rows.append(row)

    # GraphQL: each method is named after the operation whose variables it answers.

    def _on_Viewer(self, _: JsonDict) -> JsonDict:
        teams = {"edges": [{"node": {"name": self.entity}}]}
        user = {"id": "viewer", "entity": self.entity, "username": self.entity, "teams": teams}
        return {"viewer": {**user, "email": "", "flags": "{}"}}

    def _on_GetDefaultEntity(self, _: JsonDict) -> JsonDict:  # of `wandb.Api`
        return {"viewer": {"id": "viewer", "entity": self.entity}}

    def _on_ServerFeaturesQuery(self, _: JsonDict) -> JsonDict:
        return {
            "serverInfo": {"features": [{"name": it, "isEnabled": True} for it in self.features]}
        }

    def _on_OrganizationCoreWeaveOrganizationID(self, _: JsonDict) -> JsonDict:
        return {"entity": {"organization": None}}

    def _on_RunResumeStatus(self, variables: JsonDict) -> JsonDict:
        entity, project = variables.get("entity") or self.entity, variables["project"]
        run = self.runs.get((entity, project, variables["name"]))
        return {"model": {**_project(entity, project), "bucket": run and _bucket(run)}}

    def _on_UpsertSweep(self, variables: JsonDict) -> JsonDict:
        """Make a sweep, or change the one that `id` names."""
        entity = variables.get("entityName") or self.entity
        project = variables.get("projectName") or "uncategorized"
        config, state = variables.get("config"), variables.get("state")
        if variables.get("id"):
            found = [one for one in self.sweeps if one.node == variables["id"]]
            if not found or (found[0].entity, found[0].project) != (entity, project):
                raise RefusedError(f"sweep {variables['id']} does not exist")
            sweep = found[0]
        else:
            number = len(self.sweeps)
            sweep = ServerSweep(f"swp{number:05}", f"node-{number}", entity, project, None, [])
            if not config:
                raise RefusedError("a sweep needs a config")
        warnings: list[str] = []
        if config:
            sweep.configs.append(read_sweep_config(config))
        if state and sweep.state not in SWEEP_STATES.get(state, ()):
            raise RefusedError(f"sweep {sweep.id}: {sweep.state} can't become {state}")
        if state:
            sweep.states.append(state)
        sweep.name = variables.get("displayName") or sweep.name or sweep.config.get("name")
        if sweep not in self.sweeps:
            self.sweeps.append(sweep)
        found_project = {"id": "p", "name": project, "entity": {"id": "e", "name": entity}}
        answer = {"id": sweep.node, "name": sweep.id, "project": found_project}
        return {"upsertSweep": {"sweep": answer, "configValidationWarnings": warnings}}

    def _on_GetSweepState(self, variables: JsonDict) -> JsonDict:
        place = (variables["entity"], variables["project"], variables["sweep"])
        found = [one for one in self.sweeps if (one.entity, one.project, one.id) == place]
        return {"project": {"sweep": {"state": found[0].state} if found else None}}

    def _change_bucket(self, variables: JsonDict) -> JsonDict:
        """Change a run by its internal id, as `wandb.Api` does."""
        (run,) = (run for run in self.runs.values() if run.internal_id == variables["id"])
        check_names(run.key[1], run.key[2], variables.get("tags") or [])
        run.tags = variables.get("tags", run.tags)
        return {"upsertBucket": {"bucket": _bucket(run), "inserted": False}}

    def _on_UpsertBucket(self, variables: JsonDict) -> JsonDict:
        if "id" in variables and "name" not in variables:
            return self._change_bucket(variables)
        entity = variables.get("entity") or self.entity
        project = variables.get("project") or "uncategorized"
        run_id, tags = variables["name"], variables.get("tags")
        check_names(project, run_id, tags or [])
        config = strict_json(variables.get("config") or "{}")
        key = (entity, project, run_id)
        inserted = key not in self.runs
        run = self.runs.setdefault(key, ServerRun(key, f"run-{len(self.runs)}", name=run_id))
        sweep = variables.get("sweep")
        if sweep and not any((*key[:2], sweep) == (s.entity, s.project, s.id) for s in self.sweeps):
            raise RefusedError(f"sweep {sweep} does not exist in {entity}/{project}")
        run.sweep = sweep or run.sweep
        run.complete, run.exit_code = False, None
        run.name = variables.get("displayName") or run.name
        run.group = variables.get("groupName") or run.group
        run.job_type = variables.get("jobType") or run.job_type
        run.notes = variables.get("notes") or run.notes
        run.tags = run.tags if tags is None else tags
        run.raw_config = config or run.raw_config
        run.summary = json.loads(variables.get("summaryMetrics") or "null") or run.summary
        return {"upsertBucket": {"bucket": _bucket(run), "inserted": inserted}}

    def _on_CreateRunFiles(self, variables: JsonDict) -> JsonDict:
        key = (variables["entity"], variables["project"], variables["run"])
        run, names = self._run(key), variables["files"]
        files = [{"name": it, "uploadUrl": self._url("run", ",".join(key), it)} for it in names]
        return {"createRunFiles": {"runID": run.internal_id, "uploadHeaders": [], "files": files}}

    def _on_CreateArtifact(self, variables: JsonDict) -> JsonDict:
        it = variables["input"]
        place = (it["entityName"], it["projectName"], it["artifactCollectionName"])
        versions = [a for a in self.artifacts if (a.entity, a.project, a.name) == place]
        # The same contents do not make a second version.
        artifact = next((a for a in versions if a.digest == it["digest"]), None)
        if artifact is None:
            artifact = ServerArtifact(
                id=f"artifact-{len(self.artifacts)}",
                entity=place[0],
                project=place[1],
                name=place[2],
                type=it["artifactTypeName"],
                version=len(versions),
                digest=it["digest"],
                metadata=strict_json(it.get("metadata") or "{}"),
                description=it.get("description"),
                run_id=it.get("runName"),
            )
            self.artifacts.append(artifact)
        aliases = [alias["alias"] for alias in it.get("aliases") or []]
        for version in versions:
            version.aliases = [alias for alias in version.aliases if alias not in aliases]
        artifact.aliases += aliases
        return {"createArtifact": {"artifact": _artifact_fields(artifact)}}

    def _on_CreateArtifactManifest(self, variables: JsonDict) -> JsonDict:
        owner = self._artifact(variables["artifactID"]).id
        url = self._url("manifest", owner, variables["name"])
        file = {"id": owner, "uploadUrl": url, "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": owner, "file": file}}}

    def _on_CreateArtifactFiles(self, variables: JsonDict) -> JsonDict:
        edges = []
        for spec in variables["input"]["artifactFiles"]:
            owner, name = spec["artifactID"], spec["name"]
            node = {"name": name, "storagePath": f"{owner}/{name}", "artifact": {"id": owner}}
            node |= {"uploadUrl": self._url("artifact", owner, name), "uploadHeaders": []}
            edges.append({"node": node})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _on_CommitArtifact(self, variables: JsonDict) -> JsonDict:
        artifact = self._artifact(variables["artifactID"])
        contents = strict_json(artifact.manifest)["contents"]
        missing = {name for name, entry in contents.items() if "ref" not in entry}
        if missing := missing - artifact.files.keys():
            raise RefusedError(f"artifact {artifact.name}: committed without {missing}")
        artifact.committed = True
        return {"commitArtifact": {"artifact": _artifact_fields(artifact)}}

    def _on_ArtifactByID(self, variables: JsonDict) -> JsonDict:
        return {"artifact": _artifact_fields(self._artifact(variables["id"]))}

    def _on_ArtifactType(self, variables: JsonDict) -> JsonDict:
        artifact = self._find_artifact(variables["name"])
        return {"project": {"artifact": artifact and _artifact_fields(artifact)}}

    def _on_ArtifactMembershipByName(self, variables: JsonDict) -> JsonDict:
        artifact = self._find_artifact(variables["name"])
        if artifact is None:
            return {"project": {"artifactCollectionMembership": None}}
        fields = _artifact_fields(artifact)
        member = {**fields, "__typename": "ArtifactCollectionMembership", "artifact": fields}
        member["artifactCollection"] = fields["artifactSequence"]
        return {"project": {"artifactCollectionMembership": member}}

    def _find_artifact(self, path: str) -> ServerArtifact | None:
        name, _, alias = path.partition(":")
        try:
            return self.artifact(name, alias or "latest")
        except KeyError:
            return None

    def _on_GetArtifactMembershipFileUrls(self, variables: JsonDict) -> JsonDict:
        artifact = self.artifact(variables["collection"], variables["alias"])
        urls = {name: self._url("artifact", artifact.id, name) for name in artifact.files}
        edges = [{"node": {"name": name, "directUrl": url}} for name, url in urls.items()]
        files = {"pageInfo": {"hasNextPage": False, "endCursor": None}, "edges": edges}
        collection = {"__typename": "ArtifactSequence", "artifactMembership": {"files": files}}
        return {"project": {"artifactCollection": collection}}

    def _on_FetchArtifactManifest(self, variables: JsonDict) -> JsonDict:
        url = self._url("manifest", self._artifact(variables["id"]).id, "wandb_manifest.json")
        return {"artifact": {"currentManifest": {"file": {"directUrl": url}}}}

    def _on_UseArtifact(self, variables: JsonDict) -> JsonDict:
        it = variables.get("input") or variables
        run = self._run((it["entityName"], it["projectName"], it["runName"]))
        artifact = self._artifact(it["artifactID"])
        run.used_artifacts.append(artifact.id)
        return {"useArtifact": {"artifact": _artifact_fields(artifact)}}


def strict_json(text: str | bytes) -> Any:
    """Parse JSON as the service does, which takes no NaN and Infinity; Python's parser would."""

    def refuse(word: str) -> NoReturn:
        raise ValueError(f"the bare word {word}")

    try:
        return json.loads(text, parse_constant=refuse)
    except ValueError as error:
        raise RefusedError(f"JSON: {error} in {text[:200]!r}") from error


def read_sweep_config(text: str) -> JsonDict:
    """Read a sweep's config as the service does, and refuse what is none."""
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RefusedError(f"sweep: no YAML: {error}") from error
    schema = json.loads(SWEEP_SCHEMA.read_text(encoding="utf-8"))
    errors = [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(config)]
    if errors:
        raise RefusedError(f"sweep: {errors[:3]}")
    return dict(config)


def check_names(project: str, run_id: str, tags: list[str]) -> None:
    """Refuse the names that the service documents as invalid."""
    if not run_id or FORBIDDEN_IN_RUN_ID & set(run_id):
        raise RefusedError(f"run id: expected none of :;,#?/' in it, got {run_id!r}")
    if len(project) > MAX_PROJECT:
        raise RefusedError(f"project: expected up to {MAX_PROJECT} characters, got {len(project)}")
    for tag in tags:
        if not 1 <= len(tag) <= MAX_TAG:
            raise RefusedError(f"tag: expected 1 to {MAX_TAG} characters, got {len(tag)}")


def client_env(url: str, directory: Path, key: str = TEST_KEY) -> dict[str, str]:
    """Return the environment of a client of the server at `url`, its files under `directory`."""
    folders = ("HOME", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_DIR")
    places = {name: directory / name.lower() for name in folders}
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    return {name: str(place) for name, place in places.items()} | {
        "NETRC": str(directory / "netrc"),
        "WANDB_API_KEY": key,
        "WANDB_BASE_URL": url,
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_MODE": "online",
        "WANDB_SERVICE": "",  # else a child would use the core of the process that starts it
    }


@contextlib.contextmanager
def nobody_listens() -> Iterator[str]:
    """Give the URL of a port on which nobody listens, and which nobody else takes meanwhile."""
    with _hold_port() as holder:
        yield _url(holder)


def _hold_port() -> socket.socket:
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder


def _url(holder: socket.socket) -> str:
    return f"http://127.0.0.1:{holder.getsockname()[1]}"


def _errors(message: str) -> bytes:
    return json.dumps({"errors": [{"message": message}]}).encode()


def _project(entity: str, project: str) -> JsonDict:
    owner = {"id": entity, "name": entity}
    return {"id": project, "internalId": project, "name": project, "entity": owner}


def _bucket(run: ServerRun) -> JsonDict:
    history, events = run.lines.get(HISTORY, []), run.lines.get(EVENTS, [])
    own = run.raw_config.get("_wandb", {}).get("value", {})
    return {
        "id": run.internal_id,
        "name": run.key[2],
        "displayName": run.name,
        "project": _project(*run.key[:2]),
        "group": run.group,
        "config": json.dumps(run.raw_config),
        "summaryMetrics": json.dumps(run.summary),
        "tags": run.tags,
        "notes": run.notes,
        "historyLineCount": len(history),
        "eventsLineCount": len(events),
        "logLineCount": len(run.lines.get(OUTPUT, [])),
        "historyTail": json.dumps(history[-1:]),
        "eventsTail": json.dumps(events[-1:]),
        # A run whose config has no "t" counts as never begun, and is not resumed.
        "wandbConfig": json.dumps({"t": own["t"]} if "t" in own else {}),
    }


def _artifact_fields(artifact: ServerArtifact) -> JsonDict:
    project = _project(artifact.entity, artifact.project)
    sequence = {"__typename": "ArtifactSequence", "name": artifact.name, "project": project}
    alias = {"__typename": "ArtifactAlias", "artifactCollection": sequence}
    empty = dict.fromkeys(("historyStep", "commitHash", "updatedAt", "digestAlgorithm"))
    return empty | {
        "__typename": "Artifact",
        "id": artifact.id,
        "artifactSequence": sequence,
        "artifactType": {"name": artifact.type},
        "versionIndex": artifact.version,
        "description": artifact.description,
        "metadata": json.dumps(artifact.metadata),
        "aliases": [{**alias, "id": name, "alias": name} for name in artifact.aliases],
        "tags": [],
        "state": "COMMITTED" if artifact.committed else "PENDING",
        "digest": artifact.digest,
        "size": sum(map(len, artifact.files.values())),
        "fileCount": len(artifact.files),
        "ttlDurationSeconds": -1,
        "ttlIsInherited": True,
        "createdAt": "2026-01-01T00:00:00Z",
    }


class _HttpServer(ThreadingHTTPServer):
    """Knows its connections, to cut them, and joins their threads when it is closed."""

    daemon_threads = False

    def __init__(self, address: Any, handle: Callable[[Request], tuple[int, bytes] | None]) -> None:
        self.handle = handle
        self._open: set[socket.socket] = set()
        super().__init__(address, _Connection)

    def server_bind(self) -> None:
        """Skip the parent's look-up of a host name: nothing needs it, and it may be slow."""
        socketserver.TCPServer.server_bind(self)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def close_request(self, request: Any) -> None:
        self._open.discard(request)
        super().close_request(request)

    def cut_connections(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):  # the client was quicker
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about a broken connection: clients die, and tests cut."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Connection(BaseHTTPRequestHandler):
    """Reads the requests of one connection and writes the answers."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _HttpServer

    def _exchange(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:
            return  # the client died in the middle of it, which is no request
        headers = {name.lower(): value for name, value in self.headers.items()}
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        found = re.search(rb"(?:query|mutation)\s+(\w+)", body) if self.path == "/graphql" else None
        operation = found[1].decode() if found else None
        answer = self.server.handle(Request(self.command, self.path, headers, body, operation))
        if answer is None:
            self.close_connection = True
            return
        status, content = answer
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = _exchange  # noqa: N815 - http.server looks for these names

    def log_message(self, *_: object) -> None:
        """Print nothing: the requests are recorded."""
