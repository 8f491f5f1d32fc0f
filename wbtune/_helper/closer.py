"""Close runs and upload checkpoints in side threads, because both wait for a server."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from wbtune._helper.backend import Backend
from wbtune._helper.messages import End, Upload
from wbtune._helper.opener import Owner, RunOpener
from wbtune._helper.stream import Stream
from wbtune._helper.uploads import Uploads


class RunCloser:
    """Closes runs, and uploads checkpoints, in threads of its own.

    Args:
        backend: the functions that close them.
        warn: gives the user a warning: ``warn(key, text)``.
        opener: gives way to runs that are being closed.
        owner: is called with the results.
    """

    def __init__(
        self,
        backend: Backend,
        warn: Callable[[str, str], None],
        opener: RunOpener,
        owner: Owner,
    ) -> None:
        self._backend = backend
        self._warn = warn
        self._opener = opener
        self._owner = owner
        self._uploads = Uploads(backend, warn)
        self._workers = backend.workers("wbtune-close")

    def close(self, stream: Stream, message: End) -> None:
        """Close a run."""
        stream.busy = True
        self._opener.begin_closing()
        self._workers.submit(self._close, stream, message)

    def upload(self, stream: Stream, message: Upload) -> None:
        """Upload a checkpoint of an open run: its rows wait meanwhile, the other runs do not."""
        stream.busy = True
        self._workers.submit(self._upload, stream, message)

    def upload_reopened(self, stream: Stream, message: Upload) -> None:
        """Upload a checkpoint of a run that has ended."""
        self._workers.submit(self._upload_reopened, stream, message)

    def give_up(self, message: Upload, reason: str) -> None:
        """Warn that a checkpoint is not uploaded, and delete its copy."""
        self._uploads.give_up(message.key, message.checkpoint, RuntimeError(reason))

    def shutdown(self) -> None:
        """Wait for the threads; there is nothing more to close."""
        self._workers.shutdown()

    def _close(self, stream: Stream, message: End) -> None:
        dropped = stream.dropped + message.dropped
        try:
            if stream.run is not None:
                notes = {**message.notes, "wbtune/dropped": dropped}
                self._backend.close_run(stream.run, message.outcome, notes)
        except BaseException as error:  # noqa: BLE001 - a hook may even exit; warn and continue
            # Cause: W&B raised an error at the run's end.
            # Cure: What was logged is on disk: `wandb sync`.
            self._warn(message.key, f"could not be closed: {type(error).__name__}: {error}")
        self._uploads.settle(message.key, stream, closed=True)
        self._opener.end_closing()
        self._put_closed(message.key, lost=dropped, was_open=True)

    def _upload(self, stream: Stream, message: Upload) -> None:
        self._uploads.upload(stream, message)
        self._owner.put(partial(self._owner.is_ready, message.key))

    def _upload_reopened(self, stream: Stream, message: Upload) -> None:
        self._uploads.upload_reopened(stream, message)
        self._owner.put(partial(self._uploaded_reopened, stream, message))

    def _uploaded_reopened(self, stream: Stream, message: Upload) -> None:
        following = stream.backlog[0] if stream.backlog else None
        if isinstance(following, Upload):  # the run stays open for all of them
            stream.backlog.popleft()
            stream.shared += 1
            self.upload_reopened(stream, following)
        else:
            self._workers.submit(self._close_reopened, stream, message)

    def _close_reopened(self, stream: Stream, message: Upload) -> None:
        self._uploads.close_reopened(stream, message)
        self._put_closed(message.key, lost=0, was_open=False)

    def _put_closed(self, key: str, *, lost: int, was_open: bool) -> None:
        self._owner.put(partial(self._owner.is_closed, key, lost=lost, was_open=was_open))
