"""The driver's access to its runs: a `Writer` sends start, log and end messages in order.

All that Tune's loop does is put something on the `Writer`'s queue. A few times a second,
a thread takes what is there, filters and sanitises it,
and sends it to one helper process (:mod:`wbtune._helper.helper`).

It is a process, not a thread, because a process does not disturb the driver: neither `wandb.run`
and the user's own core, nor the interpreter's lock, nor signals (it has its own session, so Ctrl-C
does not reach it). When the driver dies, even by SIGKILL, the stream of messages ends, and the
helper closes every run with what it has received.

A thread and a Ray actor were measured as well (``docs/decisions.md``): a thread costs the driver
eight times the CPU for a row, and an actor is killed together with its driver.

:mod:`wbtune._driver.supervisor` handles a helper that is killed, hangs or can't be started.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wbtune._data.checkpoint import SavedCheckpoint
from wbtune._data.outcomes import Outcome
from wbtune._data.routing import Router
from wbtune._driver.helper_process import HelperHandle, HelperProcess, Listener
from wbtune._driver.message_queue import MessageQueue
from wbtune._driver.notices import Notices
from wbtune._driver.rows import Rows
from wbtune._driver.supervisor import Supervisor
from wbtune._driver.unacknowledged import Unacknowledged
from wbtune._helper.messages import (
    ChangeSweep,
    Conclude,
    Configure,
    End,
    Message,
    Reopen,
    Start,
    TagRun,
    Upload,
    UploadRest,
)
from wbtune._run import run_spec

if TYPE_CHECKING:
    from wbtune._data.secret import Secret


class Writer:
    """Accepts messages at once, and has them carried out in order.

    Runs on: driver. It is never pickled; the callback that owns it leaves it out.

    Args:
        start_helper: starts the helper that carries them out.

    Attributes:
        stops: the runs for which somebody has pressed "Stop run" at W&B.
    """

    def __init__(
        self, start_helper: Callable[[Path | None, Listener], HelperHandle] = HelperProcess
    ) -> None:
        self._notices = Notices()
        self._rows = Rows(self._notices)
        self._unacknowledged = Unacknowledged()
        self._queue = MessageQueue(self._rows, self._unacknowledged, self._notices)
        self._supervisor = Supervisor(
            self._queue, self._unacknowledged, self._notices, start_helper
        )
        self.stops = self._supervisor.stops

    def launch(self, log_file: Path | None = None) -> None:
        """Start the helper process, if it is not running; returns before it is ready."""
        self._supervisor.launch(log_file)

    def start(
        self, key: str, spec: run_spec.RunSpec, router: Router, secret: Secret | None
    ) -> None:
        """Open a run; later messages for ``key`` go into it."""

        def messages() -> Iterator[Message]:
            self._rows.open(key, router)
            yield Start(key, spec, None if secret is None else secret.reveal())

        self._queue.put(messages)

    def log(self, key: str, result: dict[str, Any]) -> None:
        """Log one result, which nobody changes any more. Tune's loop does this for each."""
        self._queue.put_row(key, result)

    def log_all(self, key: str, results: Callable[[], Iterator[Mapping[str, Any]]]) -> None:
        """Log results that the sending thread generates when it is their turn."""
        self._queue.put_rows(key, results)

    def call(self, work: Callable[[], None]) -> None:
        """Have the sending thread call something before it sends the next message."""

        def messages() -> Iterator[Message]:
            work()
            return iter(())

        self._queue.put(messages)

    def configure(self, key: str, config: Mapping[str, Any]) -> None:
        """Update a run's config."""
        message = Configure(key, dict(config))
        self._queue.put(lambda: iter((message,)))

    def upload(
        self,
        key: str,
        checkpoint: SavedCheckpoint,
        reopen: Callable[[], Reopen],
        secret: Secret | None,
    ) -> None:
        """Log a checkpoint as an artifact; ``reopen`` is called when it is its turn."""
        if self._queue.is_closed:
            checkpoint.discard()
            return

        def messages() -> Iterator[Message]:
            yield Upload(key, checkpoint, reopen(), None if secret is None else secret.reveal())

        self._queue.put(messages)

    def end(self, key: str, outcome: Outcome, notes: Mapping[str, Any] | None = None) -> None:
        """Close a run.

        Args:
            key: the run.
            outcome: how it ended.
            notes: further entries of its summary.
        """

        def messages() -> Iterator[Message]:
            self._rows.close(key)
            yield End(key, outcome, dict(notes or {}), self._queue.take_unsent(key))

        self._queue.put(messages)
        self._supervisor.wake()

    def upload_rest(self, directory: str, base_url: str, secret: Secret, seconds: float) -> None:
        """Once every run is closed, upload what an outage of the server left on disk."""
        self._queue.put(lambda: iter((UploadRest(directory, base_url, seconds, secret.reveal()),)))

    def conclude(self, key: str, columns: list[str], rows: list[list[Any]], page: str) -> None:
        """Log a whole experiment's table of trials, and its overview, to the run for the whole."""
        message = Conclude(key, columns, rows, page)
        self._queue.put(lambda: iter((message,)))

    def request(self, message: ChangeSweep | TagRun) -> None:
        """Have a request about the whole experiment made."""
        self._queue.put(lambda: iter((message,)))

    def close(self, timeout: float, is_interrupted: Callable[[], bool] = lambda: False) -> bool:
        """Have everything carried out, and end the helper.

        Args:
            timeout: seconds to wait for uploads; writing everything to disk gets a few more.
            is_interrupted: whether somebody has pressed Ctrl-C; then it does not wait for uploads.

        Returns:
            Whether everything was carried out in time, and no row was lost.

        Raises:
            KeyboardInterrupt: if it is raised meanwhile; as much as possible is on disk.
        """
        try:
            self._supervisor.close(timeout, is_interrupted)
        finally:
            complete = self._sum_up()
        return complete

    def _sum_up(self) -> bool:
        """Warn of how often each thing happened, and of how many rows were lost."""
        gave_up = self._supervisor.gave_up_waiting or self._queue.is_closed
        if not self._queue.is_empty and not gave_up:
            self._queue.drop_all("there was no helper process")
        self._notices.sum_up()
        for key, count in self._queue.lost.items():
            # Cause: A line above says what happened.
            # Cure: The results are still in Tune's result.json: wbtune import DIR.
            self._notices.warn(key, f"{count} results were not logged")
        return not (gave_up or self._queue.lost.total())
