"""After a crash of the driver: what Tune kept on disk and W&B does not have."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

    from wbtune.runlog import RunLog

RESULTS_FILE = "result.json"


def missing(trial: Trial, log: RunLog | None) -> Iterator[dict[str, Any]]:
    """The trial's results, as Tune's own logger wrote them, that its run does not have.

    Args:
        trial: a trial of a restored experiment.
        log: its run, as far as it is on disk.

    Yields:
        Results in their order. A result is known by its iteration and the time that the
        trial had run for: a retry repeats the one, never both.
    """
    rows = [row for row in log.rows if "training_iteration" in row] if log is not None else []
    # `excludes` may have kept the time out of W&B; then the iteration has to do.
    timed = not rows or any("time_total_s" in row for row in rows)
    known = {_mark(row, timed=timed) for row in rows}
    for result in _results(trial):
        mark = _mark(result, timed=timed)
        if mark not in known:
            known.add(mark)
            yield result


def _mark(result: Mapping[str, Any], *, timed: bool) -> tuple[Any, Any]:
    return result.get("training_iteration"), result.get("time_total_s") if timed else None


def _results(trial: Trial) -> Iterator[dict[str, Any]]:
    for line in _lines(trial):
        try:
            result = json.loads(line)
        except ValueError:
            return  # cut off by the crash
        if isinstance(result, dict):
            yield result


def _lines(trial: Trial) -> list[str]:
    storage: Any = trial.storage
    if storage is None:
        return []
    try:
        with storage.storage_filesystem.open_input_file(
            Path(storage.trial_fs_path, RESULTS_FILE).as_posix()
        ) as file:
            text: str = file.read().decode("utf-8")
    except OSError:
        return []  # Tune's JSON logger was off, or nothing was copied to the storage yet
    return text.splitlines()
