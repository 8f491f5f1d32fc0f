"""Reopen a run that has ended, for a late checkpoint or to correct its outcome."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from wbtune._data.outcomes import FINISHED, OUTCOME_TAGS
from wbtune._driver.trial_state import TrialState
from wbtune._helper.messages import Reopen
from wbtune._run import run_log


def reopened(state: TrialState, log: run_log.RunLog | None = None) -> Reopen:
    """The message to reopen a trial's run, and to close it as it was.

    Args:
        state: the trial.
        log: the run's log, if the trial's own process opened the run.
    """
    outcome = state.outcome or FINISHED
    init = {name: value for name, value in state.spec.init.items() if name != "tags"}
    init = reopening_arguments(init, log)
    if log is not None:
        tags: Iterable[str] = log.tags
    elif state.owns_run:
        tags = ()
    else:
        tags = state.spec.init.get("tags") or ()
    tags = [*(tag for tag in tags if tag not in OUTCOME_TAGS), *outcome.tags]
    if tags:
        init["tags"] = tags
    return Reopen(state.spec._replace(init=init, config={}), outcome.exit_code)


def reopening_arguments(init: Mapping[str, Any], log: run_log.RunLog | None) -> dict[str, Any]:
    """The arguments of ``wandb.init`` for a run that a trial's own process may have opened.

    What the trial declared, according to its log, overrides what the driver would use.
    """
    opened = dict(init)
    if log is not None:
        opened |= {"project": log.project, "name": log.name, "group": log.group}
        opened |= {"entity": log.entity} if log.entity else {}
    return {name: value for name, value in opened.items() if value is not None and value != ""}
