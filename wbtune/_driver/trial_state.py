"""What the driver knows about one trial, as data."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wbtune._data.checkpoint import SavedCheckpoint
from wbtune._data.outcomes import Outcome
from wbtune._data.routing import Router
from wbtune._driver.restoring import Known
from wbtune._run import ownership, run_spec
from wbtune._upstream import ray_trials

if TYPE_CHECKING:
    from ray.tune.experiment import Trial


@dataclass(slots=True)
class TrialState:
    """One trial, as the driver sees it.

    Attributes:
        spec: its run.
        router: filters its results.
        claim: the name under which its run is claimed.
        config: its config when it was last started, filtered.
        owns_run: the trial's own process writes its run.
        failed_to_start: it failed before it had started.
        is_open: its run is open, and the driver writes it.
        fill_in_from: the trial, until the results that a crashed driver had not logged are
            filled in; None if there are none.
        delivered: the results that it has delivered to this driver until then.
        due: when the run is opened, unless the trial claims it first; by `time.monotonic`.
        attempt: 1, and one more for each time that Tune retried it.
        is_continued: it had not ended when its experiment was restored.
        perturbations: what a population-based scheduler did to it.
        outcome: how it ended, or is about to end.
        ended: whether it has ended.
        copy_last: copies its last checkpoint, if that is the one to upload.
        last_saved: the path of the newest checkpoint that was handled.
        best: the best value of its checkpoints' metric.
        experiment_key: distinguishes its experiment from others.
        artifact: the name of its checkpoints' artifact, once there is one.
        held_back: checkpoints that wait until the trial's own process, which writes the run, has
            ended.
        directory: its experiment's folder.
        key: its run's id.
    """

    spec: run_spec.RunSpec
    router: Router
    claim: str
    config: dict[str, Any]
    owns_run: bool = False
    failed_to_start: bool = False
    is_open: bool = False
    fill_in_from: Trial | None = None
    delivered: Known | None = None
    due: float = 0.0
    attempt: int = 1
    is_continued: bool = False
    perturbations: list[dict[str, Any]] = field(default_factory=list)
    outcome: Outcome | None = None
    ended: bool = False
    copy_last: Callable[[], None] | None = None
    last_saved: str = ""
    best: float | None = None
    experiment_key: str = ""
    artifact: str = ""
    held_back: list[SavedCheckpoint] = field(default_factory=list)
    directory: str | None = None
    key: str = field(init=False)

    def __post_init__(self) -> None:
        self.key = str(self.spec.init["id"])  # for each result

    @property
    def notes(self) -> dict[str, Any]:
        """The entries of the run's summary in addition to the outcome."""
        return {"wbtune/attempt": self.attempt} if self.attempt > 1 else {}

    @property
    def perturbations_in_config(self) -> dict[str, Any]:
        """The entry of the run's config for the perturbations; empty if there are none."""
        if not self.perturbations:
            return {}
        return {"wbtune/perturbations": list(self.perturbations)}

    def for_restoring(self) -> dict[str, Any]:
        """What a restored experiment needs: plain data, without secrets."""
        return {
            "attempt": self.attempt,
            "perturbations": self.perturbations,
            "own": self.owns_run,
            "id": self.key,
            "best": self.best,
            "artifact": self.artifact,
        }


def opened_id(state: TrialState, on_disk: Container[str]) -> str:
    """The id that a trial's run has, as far as it is on disk; the planned one otherwise.

    Args:
        state: the trial.
        on_disk: the ids of the runs that are on disk.
    """
    return next((run_id for run_id in state.spec.ids if run_id in on_disk), state.key)


def owns_run(trial: Trial) -> bool:
    """Does the trial's class open its run itself?"""
    trainable = ray_trials.class_of(trial)
    return trainable is not None and issubclass(trainable, ownership.OwnsRun)
