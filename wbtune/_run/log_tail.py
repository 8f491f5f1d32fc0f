"""Follow what another process logs to a run: each row of its logs once, soon after it is written.

A log's records are read from where the last whole one ended, so that following a long run costs no
more than reading it once.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from wbtune._run import log_file, run_files
from wbtune._run.log_records import DAMAGE, ROW_OR_SUMMARY, ROWS
from wbtune._upstream import wandb_records

#: W&B's own spelling of numbers that JSON does not have.
_NO_JSON: Final = {name: float(name) for name in ("NaN", "Infinity", "-Infinity")}


class RowTail:
    """The rows of a run's segments that were begun after a given one.

    Args:
        directory: the folder whose ``wandb`` has the run's segments.
        run_id: the run.
    """

    def __init__(self, directory: Path, run_id: str) -> None:
        self._directory, self._run_id = directory, run_id
        self._before = set(run_files.logs(directory, run_id))
        self._read_to: dict[Path, int] = {}

    def logs(self) -> list[Path]:
        """The logs that are followed, the oldest first."""
        found = run_files.logs(self._directory, self._run_id)
        return [path for path in found if path not in self._before]

    def new_rows(self) -> Iterator[dict[str, float]]:
        """The numbers of each row that was written since the last call, in order."""
        for path in self.logs():
            with contextlib.suppress(OSError):  # it can't be read, perhaps not any more
                for payload, at in log_file.growing(path, self._read_to.get(path, 0)):
                    self._read_to[path] = at
                    if row := _numbers(payload):
                        yield row


def _numbers(payload: bytes) -> dict[str, float]:
    """The numbers of a record that is a row, by W&B's name: ``a.b`` for a nested one."""
    found = ROW_OR_SUMMARY(payload)
    if found is None or found[1] != ROWS or not wandb_records.RECORDS.is_here:
        return {}
    try:
        record = wandb_records.record_type().FromString(payload)
        items = [(item.key, item.nested_key, item.value_json) for item in record.history.item]
        values = {".".join(nested or [key]): _number(text) for key, nested, text in items}
    except (*DAMAGE, wandb_records.not_a_record()):
        return {}
    return {
        name: value
        for name, value in values.items()
        if value is not None and not name.startswith("_")
    }


def _number(text: str) -> float | None:
    value: Any = json.loads(text)
    if isinstance(value, str):
        return _NO_JSON.get(value)
    return value if isinstance(value, (int, float)) else None
