"""Log rows to open runs, and update their configs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from wbtune._helper.backend import Backend
from wbtune._helper.messages import Conclude, Configure, Log
from wbtune._helper.stream import Stream
from wbtune._run import media, opening, run_spec


class RowLogger:
    """Logs rows, counts lost ones, and updates configs.

    Args:
        backend: the functions that log them.
        warn: gives the user a warning: ``warn(key, text)``.
        report: called with ``lost=``, how many rows were lost.
        streams: the runs.
    """

    def __init__(
        self,
        backend: Backend,
        warn: Callable[[str, str], None],
        report: Callable[..., None],
        streams: Mapping[str, Stream],
    ) -> None:
        self._backend = backend
        self._warn = warn
        self._report = report
        self._streams = streams
        self._rows = backend.rows()

    def log(self, stream: Stream, message: Log) -> None:
        """Log a row; it is sent with the next `send`, if not before."""
        if stream.run is None:
            stream.dropped += 1
            return
        try:
            row = message.row
            step = stream.steps.next(row.get(run_spec.X_AXIS))
            if media.has_media(row):
                self.send()  # a video takes seconds, and the other rows should not wait
                row, left_out = self._backend.log_media(stream.run, row, stream.spec, step)
                for key in left_out.keys() - stream.left_out:
                    # Cause: wandb can't encode the image or video.
                    # Cure: Correct what the error names; the row has its other metrics.
                    self._warn(message.key, f"left out {key} ({left_out[key]})")
                stream.left_out |= left_out.keys()
            if message.config:
                opening.update_config(stream.run, message.config)
            self._rows.log(stream.run, row, step)
        except Exception as error:  # noqa: BLE001 - whatever W&B raises; count and continue
            # Message: a warning by itself.
            self.lose(message.key, stream, f"a row was lost: {type(error).__name__}: {error}")

    def change(self, stream: Stream, message: Configure | Conclude) -> None:
        """Change the config of a run, or log what is known of a whole experiment."""
        if stream.run is None:
            return
        what = "config"
        try:
            if isinstance(message, Configure):
                opening.update_config(stream.run, message.config)
            else:
                what = "table of trials"
                table = (message.columns, message.rows)
                self._backend.log_experiment(stream.run, *table, message.page)
        except Exception as error:  # noqa: BLE001 - whatever W&B raises; warn and continue
            # Cause: W&B refuses a value.
            # Cure: Correct what the error names; the rows are not affected.
            text = f"the {what} was not updated: {type(error).__name__}: {error}"
            self._warn(message.key, text)

    def send(self) -> None:
        """Send all rows."""
        lost = self._rows.send()
        if lost:
            for stream in self._streams.values():
                stream.dropped += lost.get(id(stream.run), 0)

    def lose(self, key: str, stream: Stream | None, text: str) -> None:
        """Warn of a lost row, and count it."""
        self._warn(key, text)
        if stream is None:
            self._report(lost=1, key=key)
        else:
            stream.dropped += 1
