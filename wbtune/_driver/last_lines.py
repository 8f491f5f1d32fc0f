"""Print an experiment's last lines: where its runs are, what is left to upload, the best trial."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wbtune._data.trial_parameters import listed
from wbtune._driver.best import best_of, last_value
from wbtune._driver.trial_state import opened_id
from wbtune._driver.trials import Trials
from wbtune._place import storage
from wbtune._run import links, run_files
from wbtune._upstream import wandb_settings

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

    from wbtune._driver.sweep_end import Conclusion

#: How many runs' folders one line names; if there are more, it names the folder that has them all.
SHOWN: Final = 8
#: Storages that `wbtune sync` reaches by the address that Tune's file system shows.
_BY_ADDRESS: Final = ("s3://", "gcs://")


def print_folders(trials: Trials, delivered: Iterable[str]) -> None:
    """Name the folder of each experiment, and how many runs are in it.

    Args:
        trials: the experiment's.
        delivered: the folders that were copied to their remote storage.
    """
    mode = trials.options.mode or trials.login.settings.get("mode")
    for directory in trials.folders:
        folder, remote = Path(directory, "wandb"), trials.folders.remote(directory)
        ids = run_files.run_ids(directory)
        if remote is not None:
            ids |= remote.run_ids()
        of_folder = [state for state in trials if state.directory == directory]
        runs = sum(not ids.isdisjoint(state.spec.ids) for state in of_folder)
        if not runs:
            continue  # mode="disabled", or a warning has said why they could not be opened
        number = _count(runs, "run")
        if runs != len(of_folder):
            number += f" of {_count(len(of_folder), 'trial')}"
        where, more = str(folder), ""
        offline = any(folder.glob(f"{storage.OFFLINE}*"))
        if directory in delivered and offline:
            where = str(remote)
            more = "; copy that folder here and send them by: wbtune sync wandb"
            if where.startswith(_BY_ADDRESS):
                more = f"; upload them by: wbtune sync {shlex.quote(where.removesuffix('/wandb'))}"
        links.print_line(f"wbtune: {number} in {where}{more}")
        if offline and not more and mode not in {None, "online", "shared"}:
            command = links.command("sync", folder.parent)
            # Message: none by itself.
            links.print_line(f"wbtune: upload them by: {command}")


def _count(number: int, noun: str) -> str:
    """A number with its noun.

    >>> _count(1, "run"), _count(2, "run")
    ('1 run', '2 runs')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def print_sync_command(trials: Trials, *, complete: bool) -> None:
    """Print the command that uploads what was not uploaded in time, if there is anything.

    Args:
        trials: the experiment's.
        complete: whether the helper has carried out everything.
    """
    left = trials.folders.not_uploaded()
    if not left and (complete or trials.login.secret is None):
        return  # runs that are only kept on disk are never late
    all_folders = [Path(directory, "wandb") for directory in trials.folders]
    named = all_folders if len(left) > SHOWN or not left else left
    what = " ".join(shlex.quote(str(path)) for path in named)
    # Message: a warning by itself.
    # Cause: The experiment's end waits for uploads only for `upload_timeout` seconds.
    links.print_line(
        "wbtune: not all was uploaded in time; send it by: "
        f"{_server(trials)}wandb sync --include-online {what}"
    )


def _server(trials: Trials) -> str:
    """The environment variable that the command needs if wandb's settings name another server."""
    base_url = trials.login.settings.get("base_url")
    if base_url is None or base_url == wandb_settings.wandb_setting("base_url"):
        return ""
    return f"WANDB_BASE_URL={shlex.quote(base_url)} "


def print_best(
    trials: Trials,
    tune_trials: Sequence[Trial],
    place: links.Place | None,
    conclusion: Conclusion | None,
) -> None:
    """Name the best trial, with the page of its run, and the overview of the experiment.

    Args:
        trials: the experiment's.
        tune_trials: the same, as Tune has them.
        place: where the runs are at W&B, if that is known.
        conclusion: what the experiment as a whole has come to; None without ``sweep=True``.
    """
    objective = trials.objective
    best = None
    if objective is not None and (place is not None or conclusion is not None):
        best = best_of(tune_trials, objective)
    state = None if best is None else trials.get(best)
    if objective is not None and best is not None and state is not None:
        value = last_value(best, objective)
        hidden = state.router.excludes.drops(objective.metric)
        facts = [] if value is None or hidden else [f"{objective.metric}={value:.6g}"]
        if conclusion is not None and conclusion.parameters:
            facts.append(listed(conclusion.parameters))
        line = f"wbtune: best trial {best}"
        line += f" ({'; '.join(facts)})" if facts else ""
        if place is not None:
            run_id = opened_id(state, trials.folders.run_ids())
            line += f": {links.place_of(place, state.spec.init).run_url(run_id)}"
        links.print_line(line)
    if conclusion is not None and conclusion.overview:
        links.print_line(f"wbtune: overview: {conclusion.overview}")
