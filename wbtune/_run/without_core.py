"""Write segments of runs without wandb-core: records in a log, which `wandb sync` reads.

There are two uses. If the helper process can't be started, or hangs, a thread of the driver does
its work, which must not disturb the driver: it uses no core, no login and no run of wandb's. And
`wbtune import` writes runs that are long over: wandb-core would give each row the time at which it
is imported. What only wandb-core can do, media and uploads, is left out with a warning.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wbtune._data.outcomes import OUTCOME_KEYS, OUTCOME_TAGS, Outcome
from wbtune._place import storage
from wbtune._run import log_rows, media, run_files, run_log, run_spec
from wbtune._run.log_rows import STAMP
from wbtune._run.log_writer import LogWriter
from wbtune._upstream import wandb_settings

if TYPE_CHECKING:
    from wbtune._data.secret import Secret

#: Why something was left out.
NO_HELPER: Final = "there was no helper process"


class _Changes(dict[str, Any]):
    """A run's config or summary; ``then`` is called with each change."""

    then: Callable[[Mapping[str, Any]], None] | None = None

    def update(self, changes: Mapping[str, Any], **_: Any) -> None:  # type: ignore[override]
        """Like wandb's, which also accepts ``allow_val_change``."""
        super().update(changes)
        if self.then is not None:
            self.then(changes)


class Segment:
    """A segment of a run, with as much of `wandb.Run` as a helper needs.

    Args:
        spec: the run.
        started: when the run began, in seconds since the epoch, if it is long over: then it lasts
            until its last row. None for now.
    """

    def __init__(self, spec: run_spec.RunSpec, started: float | None = None) -> None:
        self.id = str(spec.init["id"])
        self.offline = True
        self.starting_step = self.step = 0
        self.tags = tuple(spec.init.get("tags") or ())
        self._spec = spec
        self._objective = spec.objective
        self._started = time.time() if started is None else started
        self._ended = started
        directory = spec.init.get("dir") or "."
        before = run_log.read_runs(directory, self.id).get(self.id)
        self.folder = _new_folder(Path(directory, "wandb"), self.id)
        self.dir = str(self.folder / "files")
        self._log = LogWriter(self.folder / f"run-{self.id}.wandb")
        # Only the summary of the last segment counts, so it has to be complete.
        self.summary = _Changes()
        for row in log_rows.rows(before.paths) if before else ():
            self._sum_up(row)
        self.summary.update(before.summary if before else {})
        for key in OUTCOME_KEYS:  # this segment gets its own
            self.summary.pop(key, None)
        experiment = {run_spec.EXPERIMENT_KEY: spec.experiment} if spec.experiment else {}
        self.config = _Changes({**spec.config, **experiment})
        self._describe()
        self.config.then = self._configure
        self.flush()

    def _describe(self) -> None:
        given = self._spec.init
        names = {
            "entity": given.get("entity") or self._spec.settings.get("entity"),
            "project": given.get("project") or "uncategorized",
            "run_group": given.get("group"),
            "job_type": given.get("job_type"),
            "display_name": given.get("name"),
            "notes": given.get("notes"),
            "sweep_id": self._spec.settings.get("sweep_id"),
        }
        began = {"seconds": int(self._started), "nanos": int(self._started % 1 * 1e9)}
        self._log.append(
            run={
                **{name: str(value) for name, value in names.items() if value},
                "run_id": self.id,
                "tags": [str(tag) for tag in self.tags],
                "config": {"update": _items(self.config)},
                "start_time": began,
                "resume": True,
            }
        )

    def _configure(self, changes: Mapping[str, Any]) -> None:
        self._log.append(config={"update": _items(changes)})

    def define_metric(
        self, name: str, step_metric: str | None = None, *, hidden: bool = False, summary: str = ""
    ) -> None:
        """Like wandb's, as far as `opening.define_metrics` needs it."""
        of_all = {"glob_name": name} if "*" in name else {"name": name}
        options = {"hidden": hidden, "step_sync": bool(step_metric), "defined": True}
        more = {"step_metric": step_metric} if step_metric else {}
        wanted = {"summary": {summary: True}} if summary else {}
        self._log.append(metric={**of_all, **more, **wanted, "options": options})

    def log(self, row: dict[str, Any], step: int) -> None:
        """Log one row."""
        now = row.get(STAMP) or time.time()
        lasted = max(0.0, now - self._started)
        row = {STAMP: now, **row, "_runtime": lasted, "_step": step}
        self._log.append(history={"item": _items_of_row(row), "step": {"num": step}})
        if self._ended is not None:
            self._ended = max(now, self._ended)
        self._sum_up(row)

    def _sum_up(self, row: Mapping[str, Any]) -> None:
        best = None
        if self._objective is not None and self._objective.metric in row:
            metric, mode = self._objective.metric, self._objective.mode
            value, so_far = row[metric], self.summary.get(metric)
            so_far = so_far.get(mode) if isinstance(so_far, Mapping) else None
            if not self._objective.improves(self._objective.value(row), so_far):
                value = so_far
            best = {metric: {mode: value}}
        self.summary.update({**row, **(best or {})})

    def flush(self) -> None:
        """Write everything out, so that it is kept if this process is killed."""
        self._log.flush()

    def end(self, exit_code: int) -> None:
        """Close it."""
        self._describe()  # again, because its tags now include the outcome
        ended = time.time() if self._ended is None else self._ended
        lasted = int(ended - self._started)
        self.summary["_wandb"] = {"runtime": lasted}  # as wandb-core writes it at the end
        # What an earlier segment says of how the run ended would stay beside this one's.
        gone = [{"key": key} for key in OUTCOME_KEYS if key not in self.summary]
        self._log.append(summary={"update": _items(self.summary), "remove": gone})
        self._log.append(exit={"exit_code": exit_code, "runtime": lasted})
        self._log.close()


def _new_folder(below: Path, run_id: str) -> Path:
    name = time.strftime(f"{storage.OFFLINE}%Y%m%d_%H%M%S-{run_id.replace('%', '%%')}")
    for more in ("", *(f"-{number}" for number in range(1, 100))):
        try:
            folder = below / f"{name}{more}"
            folder.mkdir(parents=True)  # one that was fetched has no files
        except FileExistsError:
            continue
        (folder / "files").mkdir()
        return folder
    msg = f"there are a hundred folders {below / name}"
    raise FileExistsError(msg)


def _items(values: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"key": key, "value_json": _json(value)} for key, value in values.items()]


def _items_of_row(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The items of a row as wandb-core writes them, so that they are found without parsing."""
    return [{"nested_key": [key], "value_json": _json(value)} for key, value in row.items()]


def _json(value: Any) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError):  # one of W&B's objects, which only wandb-core can handle
        return json.dumps(f"{type(value).__name__} (not logged: {NO_HELPER})")


# --- the functions of a helper's `Backend`, for segments -------------------------------------


def open_run(
    spec: run_spec.RunSpec, secret: Secret | None = None, **_: Any
) -> Segment | DisabledRun:
    """Open a run as a segment on disk, marked as not uploaded if it should be online."""
    mode = (
        spec.init.get("mode") or spec.settings.get("mode") or wandb_settings.wandb_setting("mode")
    )
    if mode == "disabled":
        return DisabledRun()
    segment = Segment(spec)
    if secret is not None:
        run_files.note_not_uploaded(segment.folder)
    return segment


class DisabledRun:
    """A run with ``mode="disabled"``, which accepts everything and keeps nothing."""

    offline, starting_step, step, tags = True, 0, 0, ()

    def __init__(self) -> None:
        self.config, self.summary = _Changes(), _Changes()

    def define_metric(self, *_: Any, **__: Any) -> None:
        """Do nothing."""

    log = flush = end = define_metric


def log_experiment(*_: Any) -> None:
    """Log no table and no overview: wandb-core would have to make their files.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError(NO_HELPER)


def close_run(run: Any, outcome: Outcome, notes: Mapping[str, Any]) -> None:
    """Close a run, like `closing.close_run`."""
    run.summary.update({**outcome.summary(), **notes})
    run.tags = (*(tag for tag in run.tags if tag not in OUTCOME_TAGS), *outcome.tags)
    run.end(outcome.exit_code)


def log_media(
    _: Any, row: dict[str, Any], __: run_spec.RunSpec, ___: int
) -> tuple[dict[str, Any], dict[str, str]]:
    """Replace each media object of a row by a description, instead of `media.log_media`."""
    left_out = {key: NO_HELPER for key, value in row.items() if media.is_media(value)}
    return {**row, **{key: media.described(row[key]) for key in left_out}}, left_out


class SegmentRows:
    """Writes rows into their segments; see `RowSink` of the helper."""

    def __init__(self) -> None:
        self._written: dict[int, Any] = {}

    def log(self, run: Any, row: dict[str, Any], step: int) -> None:
        """Log a row; it is on disk with the next `send`."""
        run.log(row, step)
        self._written[id(run)] = run

    def send(self) -> dict[int, int]:
        """Write all rows to disk."""
        written, self._written = self._written, {}
        for run in written.values():
            run.flush()
        return {}


class InlineExecutor(Executor):
    """Runs what is submitted at once: Python would wait for a thread of a pool at exit."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **more: Any) -> Future[Any]:
        """Call it, and return its result."""
        done: Future[Any] = Future()
        done.set_result(work(*args, **more))
        return done
