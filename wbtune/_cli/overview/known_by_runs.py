"""What wbtune's runs beside an experiment say of it, which Tune's files do not."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from wbtune._data import sweep_config
from wbtune._data.checkpoint import Objective, objective_of
from wbtune._data.outcomes import Outcome
from wbtune._place import storage
from wbtune._run import links, run_log
from wbtune._run.run_log import RunLog
from wbtune._tune_files.folder import Folder
from wbtune._upstream import wandb_settings

_FOLDER: Final = "wandb"


@dataclass(frozen=True, slots=True)
class KnownByRuns:
    """What an experiment's runs say.

    Attributes:
        objective: what the experiment optimises, and which way; None if no run says it.
        space: W&B's description of each parameter, without constants, by its flat name.
        outcomes: how each trial ended, by its id; of trials whose run was closed.
        perturbations: what a population-based scheduler did to each trial, by its id.
        links: the page of each trial's run, by the trial's id, as far as these are known.
    """

    objective: Objective | None = None
    space: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    perturbations: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)


def read(experiment: Folder) -> KnownByRuns:
    """Read the runs in ``<experiment>/wandb``; nothing is known if there are none.

    Those in a remote storage are fetched first, for a limited time.
    """
    if experiment.is_local:
        return _known(run_log.read_runs(experiment.local).values())
    remote = storage.Remote(experiment.filesystem, (experiment / _FOLDER).path)
    with tempfile.TemporaryDirectory(prefix="wbtune-") as folder:
        remote.fetch(folder)
        return _known(run_log.read_runs(folder).values())


def _known(runs: Iterable[RunLog]) -> KnownByRuns:
    objective, space = None, {}
    outcomes, perturbations, pages = {}, {}, {}
    for run in runs:
        if run_log.is_whole(run):
            config = run.config
            objective = objective_of(config.get("metric"), config.get("mode")) or objective
            space = sweep_config.varying(config["space"])
            continue
        trial_id = str(run.config.get("trial_id") or run.id)
        if (outcome := _outcome(run)) is not None:
            outcomes[trial_id] = outcome
        steps = run.config.get("wbtune/perturbations")
        if isinstance(steps, list):
            perturbations[trial_id] = [one for one in steps if isinstance(one, dict)]
        if url := _page(run):
            pages[trial_id] = url
    return KnownByRuns(objective, space, outcomes, perturbations, pages)


def _outcome(run: RunLog) -> Outcome | None:
    """How its trial ended; None if it was not closed, as that may be of an earlier attempt."""
    if run.exit_code is None:
        return None
    try:
        return Outcome.of_summary(run.summary)
    except ValueError:
        return None


def _page(run: RunLog) -> str:
    """The page of a run that is at W&B; empty if that is not known."""
    is_offline = any(path.parent.name.startswith(storage.OFFLINE) for path in run.paths)
    if is_offline or not (run.entity and run.project):
        return ""
    app_url = wandb_settings.app_url(wandb_settings.wandb_setting("base_url"))
    return links.Place(app_url, run.entity, run.project, run.group).run_url(run.id)
