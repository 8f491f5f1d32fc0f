"""Upload checkpoints, and at the experiment's end what is left on disk.

Everything here waits for a server, so it runs in the helper's side threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from wbtune._data import timeouts
from wbtune._data.checkpoint import SavedCheckpoint
from wbtune._data.secret import Secret
from wbtune._helper.backend import Backend
from wbtune._helper.messages import Upload, UploadRest
from wbtune._helper.stream import Stream, secret_of
from wbtune._run import closing
from wbtune._upstream import wandb_media


class Uploads:
    """Logs checkpoints as artifacts, and deletes their copies once they have arrived.

    Args:
        backend: the functions that open runs.
        warn: gives the user a warning: ``warn(key, text)``.
    """

    def __init__(self, backend: Backend, warn: Callable[[str, str], None]) -> None:
        self._backend = backend
        self._warn = warn

    def upload(self, stream: Stream, message: Upload) -> None:
        """Log a checkpoint to a run that is open."""
        checkpoint = message.checkpoint
        self.settle(message.key, stream, closed=False)
        try:
            if stream.run is None:
                raise RuntimeError("its run could not be opened")  # noqa: TRY301 - reported below
            artifact = closing.log_checkpoint(stream.run, checkpoint)
            stream.uploads.append((checkpoint, artifact))
        except BaseException as error:  # noqa: BLE001 - a hook may even exit; warn and continue
            self.give_up(message.key, checkpoint, error)

    def upload_reopened(self, stream: Stream, message: Upload) -> None:
        """Log a checkpoint to a run that has ended, which is reopened for that."""
        try:
            if stream.run is None:
                stream.run = self._backend.open_run(
                    message.reopen.spec, secret_of(message.secret), for_trial_elsewhere=True
                )
        except BaseException as error:  # noqa: BLE001 - a hook may even exit; warn and continue
            # Cause: The run, which had ended, could not be reopened for its checkpoints.
            # Cure: Correct what the error names.
            self._warn(message.key, f"could not be opened: {type(error).__name__}: {error}")
        self.upload(stream, message)

    def close_reopened(self, stream: Stream, message: Upload) -> None:
        """Close a run that was reopened, with the outcome that it had."""
        try:
            if stream.run is not None:
                closing.close_reopened(stream.run, message.reopen.exit_code)
        except BaseException as error:  # noqa: BLE001 - a hook may even exit; warn and continue
            # Cause: W&B raised an error at the run's end.
            # Cure: What was logged is on disk: `wandb sync`.
            self._warn(message.key, f"could not be closed: {type(error).__name__}: {error}")
        self.settle(message.key, stream, closed=True)

    def settle(self, key: str, stream: Stream, *, closed: bool) -> None:
        """Delete the copies of checkpoints that have arrived, and warn of failed uploads.

        If this process is killed, a copy that is left shows the driver that it has not arrived.

        Args:
            key: the run.
            stream: the run's stream.
            closed: the run is closed; that has waited for the uploads, so their results are known.
        """
        deadline = time.monotonic() + timeouts.UPLOAD_RESULT_S
        waiting = []
        for checkpoint, artifact in stream.uploads:
            try:
                assert stream.run is not None  # noqa: S101 - it has uploads
                if not (closed or closing.upload_has_ended(artifact)):
                    waiting.append((checkpoint, artifact))
                    continue
                left = max(0.0, deadline - time.monotonic())
                closing.wait_for_upload(stream.run, artifact, left)
                checkpoint.discard()
            except BaseException as error:  # noqa: BLE001 - whatever W&B raises; warn and continue
                self.give_up(key, checkpoint, error)
        stream.uploads = waiting

    def give_up(self, key: str, checkpoint: SavedCheckpoint, error: BaseException) -> None:
        """Warn that a checkpoint was not uploaded, and delete its copy."""
        # Cause: W&B refused the artifact, or the upload was cut off.
        # Cure: The checkpoint is still in Tune's storage: wbtune import DIR --upload-checkpoints
        #   last.
        what = f"{checkpoint.source} ({checkpoint.name}) was not uploaded"
        self._warn(key, f"{what}: {type(error).__name__}: {error}")
        checkpoint.discard()


def upload_rest(
    message: UploadRest,
    until: float,
    warn: Callable[[str, str], None],
    note_progress: Callable[[], None] = lambda: None,
) -> None:
    """Upload what the experiment's runs have left on disk, as far as time allows.

    Args:
        message: says what to upload.
        until: when to stop waiting, by `time.monotonic`.
        warn: as in `Uploads`.
        note_progress: is called again and again: a long upload is not stuck.
    """

    def upload() -> None:
        try:
            closing.upload_rest(message.directory, message.base_url, Secret(message.secret))
        except wandb_media.gave_up_waiting():
            pass  # its time was up; the driver prints what is left
        except BaseException as error:  # noqa: BLE001 - W&B's command may even exit; warn
            # Cause: W&B's own command for the rest failed.
            # Cure: Use the command in the next line.
            warn("", f"not all was uploaded: {type(error).__name__}: {error}")

    # The command has no time limit of its own; runs that it does not finish stay marked on disk.
    thread = threading.Thread(target=upload, daemon=True)
    thread.start()
    while thread.is_alive() and (left := until - time.monotonic()) > 0:
        note_progress()
        thread.join(min(left, timeouts.HELPER_STUCK_S / 2))
