"""The functions with which a `Helper` carries out messages: wandb's, unless others are given."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Protocol

from wbtune._helper.outbox import Outbox
from wbtune._run import closing, experiment_media, media, opening

#: How many runs are opened or closed at the same time; more would overload the server.
AT_ONCE: Final = 8


class RowSink(Protocol):
    """Where rows go: `Outbox`, or a replacement with its methods."""

    def log(self, run: Any, row: dict[str, Any], step: int) -> None:
        """Log a row, now or when `send` is called."""

    def send(self) -> dict[int, int]:
        """Send them all, and return how many rows were lost, by ``id(run)``."""


def _workers(name: str) -> Executor:
    return ThreadPoolExecutor(AT_ONCE, name)


@dataclass(frozen=True, slots=True)
class Backend:
    """The functions that carry out messages.

    Attributes:
        open_run: like `opening.open_run`.
        close_run: like `closing.close_run`.
        no_uploads: why nothing can be uploaded; empty if uploads are possible.
        log_media: like `media.log_media`.
        log_experiment: like `experiment_media.log`.
        rows: makes the `RowSink`.
        workers: makes the threads that open, or close, runs.
        most_open: how many runs can be open at the same time; each has files open.
    """

    open_run: Callable[..., Any] = opening.open_run
    close_run: Callable[..., None] = closing.close_run
    no_uploads: str = ""
    log_media: Callable[..., tuple[dict[str, Any], dict[str, str]]] = media.log_media
    log_experiment: Callable[..., None] = experiment_media.log
    rows: Callable[[], RowSink] = Outbox
    workers: Callable[[str], Executor] = _workers
    most_open: float = math.inf
