"""One run in the helper, and the messages that wait for it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wbtune._data.checkpoint import SavedCheckpoint
from wbtune._data.secret import Secret
from wbtune._helper.messages import Message, Unread
from wbtune._run import run_spec, steps

if TYPE_CHECKING:
    from wandb import Run


@dataclass(slots=True)
class Stream:
    """One run, and what arrived for it while it was being opened or closed.

    Attributes:
        spec: what it was opened by.
        run: None when it could not be opened.
        busy: it is being opened or closed, or waits for that.
        steps: W&B's steps of its rows.
        backlog: the messages that came meanwhile.
        dropped: rows that are in no run.
        left_out: metrics that were left out, with a warning.
        uploads: checkpoints that may not have arrived, each with what knows of that.
        shared: further checkpoints that were uploaded while it was open for the first.
    """

    spec: run_spec.RunSpec
    run: Run | None = None
    busy: bool = True
    steps: steps.Steps = field(default_factory=steps.Steps)
    backlog: deque[Message | Unread] = field(default_factory=deque)
    dropped: int = 0
    left_out: set[str] = field(default_factory=set)
    uploads: list[tuple[SavedCheckpoint, Any]] = field(default_factory=list)
    shared: int = 0


def secret_of(key: str | None) -> Secret | None:
    """Return the key of a message, wrapped so that nobody prints it."""
    return None if key is None else Secret(key)
