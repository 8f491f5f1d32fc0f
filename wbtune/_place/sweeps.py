"""A W&B sweep of Tune's own runs: make it, change it, end it, and tag its best run.

``wandb.sweep`` prints, leaves ``WANDB_ENTITY`` and ``WANDB_PROJECT`` in the environment, and
starts a wandb-core in the process that calls it. So these are W&B's own requests, made directly
[wandb 0.31, ``apis/public/sweeps.py``, ``_upsert_sweep``, ``_set_sweep_state``;
``apis/public/runs.py``, ``Run.update``].
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import Any, Final

from wbtune._data.sweep import Sweep
from wbtune._place.server import RefusedError, Server

_UPSERT: Final = """mutation UpsertSweep($id: ID, $config: String, $entityName: String,
  $projectName: String, $displayName: String, $state: String) {
  upsertSweep(input: {id: $id, config: $config, entityName: $entityName,
    projectName: $projectName, displayName: $displayName, state: $state}) {
    sweep { id name project { name entity { name } } }
    configValidationWarnings
  }
}"""
# The query of wandb-core before it resumes a run, reduced to the tags.
_TAGS: Final = """query RunResumeStatus($project: String, $entity: String, $name: String!) {
  model(name: $project, entityName: $entity) {
    bucket(name: $name, missingOk: true) { id tags }
  }
}"""
_STATE: Final = """query GetSweepState($entity: String, $project: String, $sweep: String!) {
  project(name: $project, entityName: $entity) { sweep(sweepName: $sweep) { state } }
}"""
_SET_TAGS: Final = """mutation UpsertBucket($id: String!, $tags: [String!]) {
  upsertBucket(input: {id: $id, tags: $tags}) { bucket { id } }
}"""

#: The states of a sweep that wbtune asks for.
RUNNING: Final = "RUNNING"
FINISHED: Final = "FINISHED"


def create(
    server: Server, entity: str | None, project: str, name: str, config: Mapping[str, Any]
) -> tuple[Sweep, list[str]]:
    """Make a sweep.

    Args:
        server: where to.
        entity: the user or team; None for the one that the key belongs to.
        project: its project.
        name: the name that people see.
        config: plain data in the form of W&B's schema.

    Returns:
        ``(sweep, warnings)``: the sweep, and what W&B finds wrong with its config.

    Raises:
        RefusedError: if the server refuses it.
        ServerUnreachableError: if it does not answer.
        CredentialsError: if it refuses the key.
    """
    answer = server.do(
        _UPSERT,
        {
            "config": as_yaml(config),
            "entityName": entity,
            "projectName": project,
            "displayName": name,
        },
    )
    made = answer.get("upsertSweep")
    found = made.get("sweep") if isinstance(made, dict) else None
    if not isinstance(made, dict) or not isinstance(found, dict) or not found.get("name"):
        raise RefusedError("the server made none")
    theirs = _part(found, "project")
    owner = _part(theirs, "entity").get("name") or entity or ""
    names = (found["name"], found.get("id") or "", owner, theirs.get("name") or project)
    sweep = Sweep(*map(str, names))
    return sweep, [str(one) for one in made.get("configValidationWarnings") or ()]


def exists(server: Server, sweep: Sweep) -> bool:
    """Does the server have a sweep?

    Raises:
        RefusedError: if the server does not tell.
        ServerUnreachableError: if it does not answer.
        CredentialsError: if it refuses the key.
    """
    names = {"entity": sweep.entity, "project": sweep.project, "sweep": sweep.id}
    project = server.do(_STATE, names).get("project")
    return isinstance(project, dict) and isinstance(project.get("sweep"), dict)


def change(
    server: Server,
    sweep: Sweep,
    *,
    state: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Change a sweep's state, or its config.

    Raises:
        RefusedError: if the server refuses it.
        ServerUnreachableError: if it does not answer.
        CredentialsError: if it refuses the key.
    """
    variables = {"id": sweep.node, "entityName": sweep.entity, "projectName": sweep.project}
    if state is not None:
        variables["state"] = state
    if config is not None:
        variables["config"] = as_yaml(config)
    server.do(_UPSERT, variables)


def tag(
    server: Server, place: tuple[str, str, str], add: Collection[str], remove: Collection[str] = ()
) -> None:
    """Change the tags of a run that has ended; those that others gave it stay.

    Args:
        server: where it is.
        place: its entity, project and id.
        add: the tags to add.
        remove: the tags to remove.

    Raises:
        RefusedError: if there is no such run, or the server refuses it.
        ServerUnreachableError: if it does not answer.
        CredentialsError: if it refuses the key.
    """
    entity, project, run_id = place
    answer = server.do(_TAGS, {"entity": entity, "project": project, "name": run_id})
    run = _part(_part(answer, "model"), "bucket")
    if not run.get("id"):
        msg = f"the server has no run {run_id} in {entity}/{project}"
        raise RefusedError(msg)
    before = [str(one) for one in run.get("tags") or ()]
    after = [one for one in before if one not in remove]
    after += [one for one in add if one not in after]
    if after != before:
        server.do(_SET_TAGS, {"id": run["id"], "tags": after})


def _part(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = content.get(name)
    return part if isinstance(part, dict) else {}


def as_yaml(config: Mapping[str, Any]) -> str:
    """Return a config as W&B reads it: as YAML, with all text in quotes.

    YAML has several versions, which disagree on what unquoted text is (``1e-05``, ``008``, ``no``).

    >>> print(as_yaml({"method": "random", "parameters": {"lr": {"min": 1e-05}}}), end="")
    "method": "random"
    "parameters":
      "lr":
        "min": 1.0e-05
    """
    import yaml  # noqa: PLC0415 - it comes with Ray and wandb, and is needed once

    class Quoted(yaml.SafeDumper):
        """Quotes all text."""

        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - yaml's signature
            return True

    def represent(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')

    Quoted.add_representer(str, represent)
    plain = json.loads(json.dumps(config))
    return str(yaml.dump(plain, Dumper=Quoted, sort_keys=False, allow_unicode=True, width=math.inf))
