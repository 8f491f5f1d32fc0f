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
    """One run, and the messages that arrived while it was being opened or closed.

    Attributes:
        spec: the spec that it was opened with.
        run: None if it is not open yet, or could not be opened.
        busy: it is being opened or closed, or is about to be.
        steps: W&B's steps of its rows.
        backlog: the messages that arrived meanwhile.
        dropped: how many of its rows were lost.
        left_out: metrics that were left out, with a warning.
        uploads: checkpoints that may not have arrived, each with its artifact.
        shared: how many further checkpoints were uploaded while it was open for the first.
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
    """Return a message's API key, wrapped so that it can't be printed."""
    return None if key is None else Secret(key)
