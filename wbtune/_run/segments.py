"""A run that goes on in another segment: what its earlier segments hold is brought into that.

Whatever opens a run again (a retry, a restored experiment, a dead wandb-core, an upload
after its end) begins another log with the same run id. ``wandb sync`` sends one after the
other and merges their rows and configs; of summaries and tags the last one sent counts
[wandb 0.31]. So each segment has to say all that those before it say.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wbtune._data import timeouts
from wbtune._data.outcomes import OUTCOME_KEYS, OUTCOME_TAGS, Outcome
from wbtune._run import log_summary, run_files, run_log
from wbtune._upstream import wandb_core

if TYPE_CHECKING:
    from wandb import Run

logger = logging.getLogger("wbtune")

#: What wandb-core writes into the summary of each segment by itself.
_OF_EACH_SEGMENT: Final = frozenset({"_wandb", "_runtime"})


class Earlier(NamedTuple):
    """What is still to be said of earlier segments when a segment ends.

    Attributes:
        summary: what this segment was told of theirs.
        outcome: how the run had ended, for a segment that changes nothing in that.
        computed: what wandb-core had made of metrics that have a summary of their own.
    """

    summary: dict[str, Any]
    outcome: dict[str, Any]
    computed: dict[str, dict[str, Any]]


def earlier_segments(run: Run) -> list[Path]:
    """The logs of earlier segments of a run on this machine, the oldest first."""
    here = Path(run.dir).parent
    return [path for path in run_files.logs(here.parent.parent, run.id) if path.parent != here]


def _own(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in summary.items() if key not in _OF_EACH_SEGMENT}


def wait_for_end(run: Run) -> None:
    """Wait until what was logged to a finished run can be read: it may take a moment longer."""
    for path in Path(run.dir).parent.glob("*.wandb"):
        run_files.wait_for_end(path)


def wait_for_newest(run: Run) -> None:
    """The same for the newest of the earlier segments, if it was written to just now."""
    for newest in earlier_segments(run)[-1:]:
        with contextlib.suppress(OSError):
            if time.time() - newest.stat().st_mtime < timeouts.EXIT_RECORD_S:
                run_files.wait_for_end(newest)


def bring(run: Run) -> None:
    """Have a newly opened run say what its earlier segments say.

    The summary (but how an earlier segment ended is not how this one will), the tags, and a
    name or notes that were changed meanwhile. Rows that come later change the summary as ever.
    """
    try:
        paths = earlier_segments(run)
        if paths:
            _bring(run, paths)
    except wandb_core.core_is_gone():
        raise
    except Exception as error:  # noqa: BLE001 - the run itself is open
        logger.warning("wbtune: run %s begins without its earlier summary: %s", run.id, error)


def _bring(run: Run, paths: list[Path]) -> None:
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


def says_nothing(run: Run) -> bool:
    """Is there nothing of its user's in the run's log but what its earlier segments say?"""
    earlier = run.__dict__.get("wbtune_earlier")
    before = earlier.summary if isinstance(earlier, Earlier) else {}
    for path in Path(run.dir).parent.glob("*.wandb"):
        log = run_log.read(path)
        new = {
            key for key, value in log.summary.items() if key not in before or value != before[key]
        }
        new.update(*log.rows)
        if log.artifacts or any(not key.startswith(("_", "wbtune/")) for key in new):
            return False
    return True


def ended_well(run: Run) -> Outcome | None:
    """How the run has ended in another segment, written by another process meanwhile."""
    for path in reversed(earlier_segments(run)):
        if run_files.exit_code(path) == 0:
            summary = run_log.read(path).summary
            if OUTCOME_KEYS[0] in summary:
                return Outcome.of_summary(summary)
    return None


def bring_outcome(run: Run) -> None:
    """At the end of a segment that changes nothing: the run has ended as it had before."""
    earlier = run.__dict__.get("wbtune_earlier")
    if isinstance(earlier, Earlier) and earlier.outcome:
        run.summary.update(earlier.outcome)


def bring_computed(run: Run) -> None:
    """At the end of a segment: the least of all rows, where it has computed that of its own."""
    earlier = run.__dict__.get("wbtune_earlier")
    if not isinstance(earlier, Earlier):
        return
    for key, before in earlier.computed.items():
        now = run.summary.get(key)
        now = dict(now) if isinstance(now, Mapping) or hasattr(now, "keys") else now
        both = log_summary.merge_computed(before, now)
        if both != now:
            run.summary[key] = both
