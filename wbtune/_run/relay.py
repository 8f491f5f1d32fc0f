"""`Relay`: a log for ``wandb sync`` with the part of a run's log that the server does not have.

``wandb sync`` begins a log at its first record, also where an interrupted one has sent most of
it; releases before 0.30 then append all rows again. It gives the rows of a second segment steps
that are free only since 0.31, it does not know of a sweep that was made after the run, and in live
mode it waits for ever for a log whose writer was killed. So it is given another log: one that has
only what is left, with the steps that the merged run has (:mod:`wbtune._run.log_rows`), the sweep,
and an end.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from wbtune._run import log_file, log_rows
from wbtune._run.log_records import DAMAGE, ROW_OR_SUMMARY, ROWS
from wbtune._run.log_writer import LogWriter
from wbtune._upstream import wandb_records

#: The exit code of a log without an exit record, as ``wandb sync`` has it: "failed".
NO_EXIT: Final = 1


@dataclass
class Left:
    """How much of a run has yet to be skipped, because the server has it, and its next free step.

    It is passed on from one segment of the run to the next.

    Attributes:
        rows: rows.
        events: records of system metrics, each a line at the server.
        lines: lines of the console.
        free: the step that the next row has at least.
        after: the last step at the server, which shows no row of a lower one; -1 without.
        copied: how many rows were not skipped.
        last: when the last of them was logged; None if there is none.
    """

    rows: int = 0
    events: int = 0
    lines: int = 0
    free: int = 0
    after: int = -1
    copied: int = 0
    last: int | float | None = None


class Relay:
    """Copies the records of one segment's log, which may grow meanwhile.

    Args:
        log: the segment's log.
        folder: an empty one for the other log, which has the same name.
        left: what is left out.
        change_run: changes the record that opens the run.

    Attributes:
        path: the other log.
        has_ended: whether the exit record was copied, or `end` was called.
    """

    def __init__(
        self, log: Path, folder: Path, left: Left, change_run: Callable[[Any], None]
    ) -> None:
        # Records name the run's files by their paths in it.
        (folder / "files").symlink_to(log.parent.absolute() / "files")
        self.path = folder / log.name
        self.has_ended = False
        self._log = log
        self._left = left
        self._change_run = change_run
        self._at = 0
        self._writer = LogWriter(self.path)
        self._parse = wandb_records.record_type().FromString

    def pump(self, most: int = 20_000) -> bool:
        """Copy what the log has in addition to what was copied before.

        Args:
            most: copy no more records than this.

        Returns:
            Whether there may be more at once.
        """
        count = 0
        with contextlib.suppress(OSError):  # it is not there yet
            for payload, at in itertools.islice(log_file.growing(self._log, self._at), most):
                self._copy(payload)
                self._at = at
                count += 1
        self._writer.flush()
        return count == most

    def end(self) -> None:
        """End the other log, if it has no end."""
        if not self.has_ended:
            self.has_ended = True
            self._writer.append(exit=self._exit())
        self._writer.close()

    def _exit(self) -> Any:
        record = wandb_records.record_type()()
        record.exit.exit_code = NO_EXIT
        return record.exit

    def _copy(self, payload: bytes) -> None:
        found = ROW_OR_SUMMARY(payload)
        if found is not None and found[1] != ROWS:
            self._writer.append_bytes(payload)
            return
        try:
            record = self._parse(payload)
            kept = self._kept(record)
        except (*DAMAGE, wandb_records.not_a_record()):
            return
        if kept:
            self._writer.append_bytes(record.SerializeToString())

    def _kept(self, record: Any) -> bool:
        """Change a record as it is to be sent; return whether it is."""
        left = self._left
        match record.WhichOneof("record_type"):
            case "history":
                return self._is_row_kept(record.history)
            case "run":
                self._change_run(record.run)
            case "exit":
                self.has_ended = True
            case "stats" if left.events > 0:
                left.events -= 1
                return False
            case "output_raw" if left.lines > 0:
                left.lines -= record.output_raw.line.count("\n")
                return False
            case _:
                pass
        return True

    def _is_row_kept(self, history: Any) -> bool:
        left = self._left
        step = max(log_rows.step_of(history, left.free), left.free)
        left.free = step + 1
        if left.rows > 0:
            left.rows -= 1
            return False
        step = max(step, left.after + 1)
        left.free = step + 1
        left.copied += 1
        history.step.num = step
        for item in history.item:
            name = item.key or "/".join(item.nested_key)
            if name == "_step":
                item.value_json = str(step)
            elif name == log_rows.STAMP:
                left.last = json.loads(item.value_json)
        return True
