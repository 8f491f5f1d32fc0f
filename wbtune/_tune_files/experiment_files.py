"""`ExperimentFiles`: an experiment's folder, and the trials that are in it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from wbtune._tune_files import folder_name, state_file
from wbtune._tune_files.folder import Entry, Folder
from wbtune._tune_files.state_file import StateOfTrial
from wbtune._tune_files.trial_files import PARAMETERS, RESULTS, TrialFiles
from wbtune.errors import ConfigurationError

#: The experiment's own folders that are no trial's.
_NO_TRIALS: Final = frozenset({"wandb", "driver_artifacts"})


@dataclass(frozen=True, slots=True)
class ExperimentFiles:
    """An experiment, as Tune left it.

    Attributes:
        folder: its folder.
        name: its name: that of its folder.
        metric: what it optimises, if Tune was told; Tune does not write down which way.
        trials: its trials, in the order in which they were created.
        problems: what could not be read, in words.
        changed: when Tune last wrote something, in seconds since the epoch; 0.0 if not known.
    """

    folder: Folder
    name: str
    metric: str | None
    trials: tuple[TrialFiles, ...]
    problems: tuple[str, ...]
    changed: float

    @property
    def has_ended(self) -> bool:
        """Have all trials ended, by Tune's own word?"""
        return bool(self.trials) and all(trial.has_ended for trial in self.trials)


def read(folder: Folder) -> ExperimentFiles:
    """Read which trials an experiment's folder has; their results are read when asked for.

    Args:
        folder: the folder, ``<storage_path>/<name>``.

    Raises:
        ConfigurationError: if no experiment of Tune is in it, or it can't be read.
    """
    try:
        entries = folder.entries()
        state = state_file.read(folder, [entry.name for entry in entries])
        trials, doubled = _apart(_trials(folder, entries, state.trials))
    except OSError as error:
        # Cure: Check your rights, and that the storage can be reached.
        raise ConfigurationError(f"{folder.shown} can't be read: {error}") from None
    if not trials and not state.file and not state.problems:
        raise ConfigurationError(_no_experiment(folder, entries))
    times = [entry.changed for entry in entries if entry.name.startswith("experiment_state-")]
    times += [trial.changed for trial in trials]
    return ExperimentFiles(
        folder,
        folder.name,
        state.metric,
        tuple(trials),
        (*state.problems, *doubled),
        max(times, default=0.0),
    )


def _apart(found: Iterable[TrialFiles]) -> tuple[list[TrialFiles], list[str]]:
    """Trials with an id each, as Tune makes them, whatever is in the files; and what was wrong."""
    trials: list[TrialFiles] = []
    problems: list[str] = []
    taken: set[str] = set()
    for trial in found:
        given = trial.trial_id or (trial.folder.name if trial.folder else "trial")
        free = next(
            name
            for name in itertools.chain([given], (f"{given}-{n}" for n in itertools.count(2)))
            if name not in taken
        )
        taken.add(free)
        if free != trial.trial_id:
            # Cause: Its params.json and its folder name no id: the folder was renamed, for
            #   example.
            # Cure: Nothing to do: it is imported under that id.
            problems.append(f"{trial.name} has no id of its own; it is called {free}")
        trials.append(replace(trial, trial_id=free))
    return trials, problems


def _trials(
    folder: Folder, entries: Iterable[Entry], states: Iterable[StateOfTrial]
) -> Iterator[TrialFiles]:
    folders = {one.name for one in entries if one.is_folder and one.name not in _NO_TRIALS}
    ordered = sorted(states, key=lambda state: state.number)  # those without one keep their order
    known = {state.folder for state in ordered if state.folder}
    for state in ordered:
        yield _of_state(folder, folders, state)
    for name in sorted(folders - known):
        found = _of_folder(folder / name)
        if found is not None:
            yield found


def _of_state(experiment: Folder, folders: set[str], state: StateOfTrial) -> TrialFiles:
    folder = experiment / state.folder if state.folder in folders else None
    inside = [] if folder is None else _entries(folder)
    return TrialFiles(
        state.trial_id,
        state.name,
        folder,
        frozenset(entry.name for entry in inside),
        state.status,
        state.sampled,
        state.stop,
        state.failures,
        *_of_results(inside),
        state.config,
        state.last_result,
    )


def _of_folder(folder: Folder) -> TrialFiles | None:
    """A trial that no state knows: Tune was killed before it wrote one, or it was lost."""
    inside = _entries(folder)
    names = frozenset(entry.name for entry in inside)
    named = folder_name.trial_of(folder.name)
    if not named.is_by_tune and not names & {RESULTS, PARAMETERS}:
        return None
    bare = TrialFiles(folder.name, folder.name, folder, names)
    trial_id = bare.first_result().get("trial_id")
    if not isinstance(trial_id, str) or not trial_id:
        trial_id = named.trial_id
    name = trial_id if "=" in folder.name and not named.is_by_tune else named.name
    changed, size = _of_results(inside)
    return TrialFiles(trial_id, name, folder, names, changed=changed, size=size)


def _entries(folder: Folder) -> list[Entry]:
    """What is in a trial's folder; its files are still tried if that can't be listed."""
    try:
        return folder.entries()
    except OSError:
        return [Entry(RESULTS, is_folder=False, size=0, changed=0.0)]


def _of_results(inside: Iterable[Entry]) -> tuple[float, int]:
    """When a trial's results were last written, and how many bytes they have."""
    return next(((one.changed, one.size) for one in inside if one.name == RESULTS), (0.0, 0))


def _no_experiment(folder: Folder, entries: Iterable[Entry]) -> str:
    """Why there is none, and which folders within are one."""
    within = [entry.name for entry in entries if entry.is_folder]
    found = [
        name
        for name in itertools.islice(within, 100)
        if any(one.name.startswith("experiment_state-") for one in (folder / name).entries())
    ]
    text = f"{folder.shown} has no experiment of Ray Tune: no experiment_state-*.json, no trial."
    if any(entry.name == RESULTS for entry in entries):
        return f"{text} It is a trial's folder; give the one above it."
    if found:
        listed = ", ".join(json.dumps(name) for name in found[:8])
        return f"{text} There is one in each of these folders of it: {listed}. Give one of them."
    return f"{text} Give <storage_path>/<name>, as RunConfig had them."
