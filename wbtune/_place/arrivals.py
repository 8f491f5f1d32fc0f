"""What of a run has arrived at the server, asked as wandb-core asks before it resumes one."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from wbtune._place.server import Server

_QUERY: Final = """query RunResumeStatus($project: String, $entity: String, $name: String!) {
  model(name: $project, entityName: $entity) {
    bucket(name: $name, missingOk: true) {
      id historyLineCount eventsLineCount logLineCount historyTail
    }
  }
}"""


class Arrival(NamedTuple):
    """How much of a run the server has.

    Attributes:
        rows: how many lines its history has.
        last: the last of them.
        events: how many lines of system metrics there are.
        lines: how many lines of the console.
    """

    rows: int = 0
    last: Mapping[str, Any] = {}
    events: int = 0
    lines: int = 0

    @property
    def last_step(self) -> int:
        """The step of the last row; -1 if there is none."""
        step = self.last.get("_step")
        return step if type(step) is int else -1


def ask(server: Server, entity: str | None, project: str, run_id: str) -> Arrival | None:
    """Ask what the server has of a run; None if it has no such run.

    Raises:
        RefusedError: if the server does not tell.
        ServerUnreachableError: if it does not answer.
        CredentialsError: if it refuses the key.
    """
    answer = server.do(_QUERY, {"entity": entity, "project": project, "name": run_id})
    model = answer.get("model")
    bucket = model.get("bucket") if isinstance(model, dict) else None
    if not isinstance(bucket, dict):
        return None
    counts = (bucket.get(name) for name in ("historyLineCount", "eventsLineCount", "logLineCount"))
    rows, events, lines = (count if type(count) is int else 0 for count in counts)
    return Arrival(rows, _last(bucket.get("historyTail")), events, lines)


def _last(tail: Any) -> dict[str, Any]:
    """The last line of a history: a list of lines as JSON, of which each is JSON."""
    with contextlib.suppress(ValueError, TypeError, LookupError, RecursionError):
        row = json.loads(json.loads(tail)[-1])
        if isinstance(row, dict):
            return row
    return {}
