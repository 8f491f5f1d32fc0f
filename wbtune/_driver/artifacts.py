"""Decide which checkpoints are uploaded, as which artifact, and to which run.

They are copied at once (:mod:`wbtune._driver.checkpoint_copies`) and uploaded by the helper. Those
of a run that its trial's own process writes are held back until that process has ended.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from wbtune._data.checkpoint import BEST, LATEST, SavedCheckpoint, artifact_name
from wbtune._data.sanitize import plain
from wbtune._driver.checkpoint_copies import CheckpointCopier
from wbtune._driver.patience import Patience
from wbtune._driver.reopening import reopened
from wbtune._driver.trial_runs import TrialRuns
from wbtune._driver.trial_state import TrialState
from wbtune._driver.trials import Trials
from wbtune._driver.writer import Writer
from wbtune._upstream import ray_loop

if TYPE_CHECKING:
    from ray.tune import Checkpoint
    from ray.tune.experiment import Trial

logger = logging.getLogger("wbtune")


class Artifacts:
    """Has the trials' checkpoints uploaded, according to ``upload_checkpoints=``.

    Args:
        trials: the experiment's trials.
        runs: their runs.
        writer: logs the artifacts.
    """

    def __init__(self, trials: Trials, runs: TrialRuns, writer: Writer) -> None:
        self._trials = trials
        self._runs = runs
        self._writer = writer
        self._policy = trials.options.checkpoints
        self._copier: CheckpointCopier | None = None
        self._copies: list[SavedCheckpoint] = []

    def save(self, trial: Trial) -> None:
        """Upload the checkpoint that a trial has just saved, if the policy wants it."""
        state, checkpoint = self._trials.get(trial), trial.checkpoint
        if state is None or checkpoint is None or state.directory is None:
            return
        if state.last_saved == checkpoint.path:
            return  # a paused trial "saves" the checkpoint that it reported
        state.last_saved = checkpoint.path
        if not state.ended:
            self._runs.open(state)
        objective = self._trials.objective
        value = None if objective is None else objective.value(trial.last_result)
        if self._policy == "best" and not self._is_best(state, value):
            return
        copy = partial(self._copy, trial, state, checkpoint, self._described(trial, state), value)
        if self._policy != "last" or state.ended:
            copy()
            return
        state.copy_last = copy  # only when the trial ends: Tune never deletes its last checkpoint
        if self._is_best(state, value):
            state.best = value

    def _described(self, trial: Trial, state: TrialState) -> SavedCheckpoint:
        """A trial's newest checkpoint, with the metrics that it was saved with."""
        assert trial.checkpoint is not None  # noqa: S101 - see `save`
        metadata = state.router.excludes.metrics(trial.last_result)
        return SavedCheckpoint(
            self._artifact_of(trial, state),
            Path(trial.checkpoint.path).name,
            metadata=plain({k: v for k, v in metadata.items() if k != "config"}),
            run_id=state.key,
        )

    def _copy(
        self,
        trial: Trial,
        state: TrialState,
        checkpoint: Checkpoint,
        saved: SavedCheckpoint,
        value: float | None,
    ) -> None:
        if self._copier is None:
            self._copier = CheckpointCopier(
                Path(state.directory or "", "wandb"),
                references=bool(self._trials.options.checkpoint_references),
            )
        then = partial(self._upload, state, value)
        is_kept = partial(ray_loop.keeps, trial, checkpoint)
        self._copier.copy(checkpoint, str(trial), saved, then, is_kept)

    def _artifact_of(self, trial: Trial, state: TrialState) -> str:
        """The name of the trial's artifact: always the same, and different from other trials'."""
        if not state.artifact:
            restored = self._trials.restored
            name = artifact_name(str(trial), trial.trial_id, state.experiment_key)
            taken = {other.artifact.lower() for other in self._trials}
            taken |= {other.get("artifact", "").lower() for other in restored.values()}
            if name.lower() in taken:
                name = artifact_name(f"{trial} ", trial.trial_id, state.experiment_key)
            state.artifact = restored.get(trial.trial_id, {}).get("artifact") or name
        return state.artifact

    def _is_best(self, state: TrialState, value: float | None) -> bool:
        objective = self._trials.objective
        return objective is not None and objective.improves(value, state.best)

    def _upload(self, state: TrialState, value: float | None, saved: SavedCheckpoint) -> None:
        """Upload a complete copy; a thread may call this while the trial continues."""
        if self._is_best(state, value):
            state.best = value
        if value is not None and value == state.best:
            saved = saved._replace(aliases=(LATEST, BEST))
        elif self._policy == "best":
            # When it was saved, a better one was still being copied.
            self._discard(state, saved)
            return
        if saved.folder is not None:
            self._copies.append(saved._replace(metadata={}))
        if not state.owns_run:
            self._writer.upload(
                state.key, saved, partial(reopened, state), self._trials.secret_for(state)
            )
            return
        if self._policy != "all":
            for superseded in state.held_back:
                self._discard(state, superseded)
            state.held_back.clear()
        state.held_back.append(saved)

    def _discard(self, state: TrialState, saved: SavedCheckpoint) -> None:
        assert self._copier is not None  # noqa: S101 - it has copied this one
        self._copier.discard(state.key, saved)

    # --- when the experiment ends ---

    def finish_copying(self, patience: Patience) -> None:
        """Wait for the copies that are being made."""
        if self._copier is not None:
            self._copier.close(patience.left, patience.is_over)

    def upload_held_back(self, state: TrialState) -> None:
        """Upload the checkpoints of a run that the trial's own process has written."""
        if state.held_back:
            log = self._trials.folders.log_of(state.key)
            for saved in state.held_back:
                reopen = partial(reopened, state, log)
                self._writer.upload(state.key, saved, reopen, self._trials.secret_for(state))
            state.held_back.clear()

    def discard_not_uploaded(self) -> None:
        """Name the checkpoints that were not uploaded in time, and delete their copies."""
        left = [saved for saved in self._copies if not saved.is_gone]
        for saved in left:
            saved.discard()
        if left:
            names = ", ".join(f"{saved.source} ({saved.name})" for saved in left)
            # Cause: The experiment's end waits for uploads only for `upload_timeout` seconds.
            # Cure: Give a greater upload_timeout=. The checkpoints are still in Tune's storage.
            logger.warning("%s: not uploaded in time: %s", self._trials.public_name, names)
