"""Continue a run in another segment, which has to repeat some of what earlier segments contain.

Whatever reopens a run (a retry, a restored experiment, a dead wandb-core, an upload
after its end) begins another log with the same run id. ``wandb sync`` uploads one after the
other and merges their rows and configs, but only the last segment's summary and tags count
(wandb 0.31). So each segment has to repeat those of the segments before it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wbtune._data import timeouts
from wbtune._data.outcomes import OUTCOME_KEYS, OUTCOME_TAGS, Kind, Outcome
from wbtune._run import log_summary, run_files, run_log
from wbtune._upstream import wandb_core

if TYPE_CHECKING:
    from wandb import Run

logger = logging.getLogger("wbtune")

#: Keys that wandb-core itself writes into the summary of each segment.
_OF_EACH_SEGMENT: Final = frozenset({"_wandb", "_runtime"})


class Earlier(NamedTuple):
    """What has to be known about earlier segments when a segment ends.

    Attributes:
        summary: their summary, which was set in this segment when it was opened.
        outcome: how the run had ended, for a segment that does not change that.
        computed: the values that wandb-core had computed for metrics with a defined summary.
    """

    summary: dict[str, Any]
    outcome: dict[str, Any]
    computed: dict[str, dict[str, Any]]


def earlier_segments(run: Run) -> list[Path]:
    """Return the logs of a run's earlier segments on this machine, the oldest first."""
    here = Path(run.dir).parent
    return [path for path in run_files.logs(here.parent.parent, run.id) if path.parent != here]


def _own(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in summary.items() if key not in _OF_EACH_SEGMENT}


def wait_for_end(run: Run) -> None:
    """Wait until the log of a finished run is complete, a moment after ``finish`` has returned."""
    for path in Path(run.dir).parent.glob("*.wandb"):
        run_files.wait_for_end(path)


def wait_for_newest(run: Run) -> None:
    """Wait until the newest earlier segment is complete, if it was written to just now."""
    for newest in earlier_segments(run)[-1:]:
        with contextlib.suppress(OSError):
            if time.time() - newest.stat().st_mtime < timeouts.EXIT_RECORD_S:
                run_files.wait_for_end(newest)


def has_rest_on_disk(run: Run) -> bool:
    """Return whether the run has a segment that has yet to be uploaded."""
    directory = Path(run.dir).parents[2]
    marked = set(run_files.not_uploaded(directory))
    return any(path.parent in marked for path in run_files.logs(directory, run.id))


def wait_for_next_name(path: Path) -> None:
    """Wait until a new segment would not have the folder of one that was begun just now.

    A folder's name has only the second, and wandb would write into the one that is there.
    """
    while run_files.begun(path).startswith(time.strftime("%Y%m%d_%H%M%S")):
        time.sleep(0.01)


def carry_over(run: Run) -> None:
    """Set in a newly opened run what its earlier segments contain.

    That is the summary (without the outcome), the tags, and a name or notes that
    were changed after opening. Later rows change the summary as usual.
    """
    try:
        paths = earlier_segments(run)
        if paths:
            _carry_over(run, paths)
    except wandb_core.core_is_gone():
        raise
    except Exception as error:  # noqa: BLE001 - the run itself is open
        # Cause: The log of an earlier attempt can't be read.
        # Cure: Nothing to do: its rows are there, and later ones update the summary.
        logger.warning("wbtune: run %s begins without its earlier summary: %s", run.id, error)


def _carry_over(run: Run, paths: list[Path]) -> None:
    before = run_log.merged(paths)
    summary = _own(before.summary)
    outcome = {key: summary.pop(key) for key in OUTCOME_KEYS if key in summary}
    computed = log_summary.computed_in(summary, before.summarized)
    run.__dict__["wbtune_earlier"] = Earlier(summary, outcome, computed)
    if summary:
        run.summary.update(summary)
    tags = list(run.tags or ())
    more = [tag for tag in before.tags if tag not in {*tags, *OUTCOME_TAGS}]
    if more:
        run.tags = (*more, *tags)
    for name in sorted(before.changed):
        setattr(run, name, getattr(before, name))


def adds_nothing(run: Run) -> bool:
    """Return whether this segment has nothing from the user that earlier ones do not have."""
    earlier = run.__dict__.get("wbtune_earlier")
    before = earlier.summary if isinstance(earlier, Earlier) else {}
    for path in Path(run.dir).parent.glob("*.wandb"):
        try:
            log = run_log.read(path)
        except (OSError, ValueError):
            return False  # it can't be known
        new = {
            key for key, value in log.summary.items() if key not in before or value != before[key]
        }
        new.update(*log.rows)
        if log.artifacts or any(not key.startswith(("_", "wbtune/")) for key in new):
            return False
    return True


def ended_well(run: Run) -> Outcome | None:
    """Return the outcome of a segment in which the run ended well; None if there is none."""
    for path in reversed(earlier_segments(run)):
        with contextlib.suppress(OSError, ValueError):  # that segment can't be read
            if run_files.exit_code(path) == 0:
                return Outcome.of_summary(run_log.read(path).summary)
    return None


def had_finished(paths: Sequence[Path]) -> bool:
    """Return whether a trial had finished when its process last logged anything.

    A segment after that, which is empty and not closed, is of an actor that came too late: Tune
    had given the trial to another, and killed this one.

    Args:
        paths: the logs of the run's segments, the oldest first.
    """
    for path in reversed(paths):
        try:
            log, code = run_log.read(path), run_files.exit_code(path)
            if log.rows or code is not None:
                return code == 0 and Outcome.of_summary(log.summary).kind is Kind.FINISHED
        except (OSError, ValueError):
            return False  # it can't be known
    return False


def carry_over_outcome(run: Run) -> None:
    """Give the run the outcome that it had, for a segment that does not change it."""
    earlier = run.__dict__.get("wbtune_earlier")
    if isinstance(earlier, Earlier) and earlier.outcome:
        run.summary.update(earlier.outcome)


def carry_over_computed(run: Run) -> None:
    """When a segment ends, include earlier segments' rows in its minima and maxima."""
    earlier = run.__dict__.get("wbtune_earlier")
    if not isinstance(earlier, Earlier):
        return
    for key, before in earlier.computed.items():
        now = run.summary.get(key)
        now = dict(now) if isinstance(now, Mapping) or hasattr(now, "keys") else now
        both = log_summary.merge_computed(before, now)
        if both != now:
            run.summary[key] = both
