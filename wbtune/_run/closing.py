"""Close a run with its outcome: the only caller of ``run.finish``."""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wbtune._data import timeouts
from wbtune._data.checkpoint import ARTIFACT_TYPE, SavedCheckpoint
from wbtune._data.deadline import NO_DEADLINE, Deadline, Waiting
from wbtune._data.outcomes import OUTCOME_KEYS, OUTCOME_TAGS
from wbtune._run import forks, guard, run_files, segments
from wbtune._upstream import wandb_auth, wandb_core, wandb_finish, wandb_media, wandb_settings

if TYPE_CHECKING:
    from wandb import Run

    from wbtune._data.outcomes import Outcome
    from wbtune._data.secret import Secret

logger = logging.getLogger("wbtune")


def end_core(end_by: Deadline = NO_DEADLINE) -> None:
    """End wandb-core, in a trial's process that has no more runs.

    Otherwise wandb's own exit hook would find it killed by Ray, and print a traceback for
    every trial (wandb 0.31). Never on a driver, where this would end the user's own runs.
    """

    def end() -> None:
        with contextlib.suppress(*wandb_core.core_is_gone()):
            wandb_core.forget_core()

    if not forks.in_child():  # in a forked child, it is the parent's
        kill, ending = wandb_core.core_killer(), Waiting(end)
        keep = timeouts.CORE_KILLED_S
        if not ending.done_within(end_by.within(timeouts.CORE_TEARDOWN_S, keep=keep)):
            kill()
            ending.done_within(end_by.within(timeouts.CORE_KILLED_S))


def log_checkpoint(run: Run, checkpoint: SavedCheckpoint) -> Any:
    """Log a checkpoint as an artifact of the run, of type ``model``.

    Returns:
        The artifact, for `wait_for_upload`.
    """
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    name = checkpoint.name_in(run.id)
    artifact = wandb.Artifact(name, ARTIFACT_TYPE, metadata=dict(checkpoint.metadata))
    if checkpoint.reference is not None:
        # No checksums: wandb would have to access the storage for them.
        artifact.add_reference(checkpoint.reference, name=checkpoint.source, checksum=False)
    elif checkpoint.folder is not None:
        artifact.add_dir(checkpoint.folder)  # copies the files
    return run.log_artifact(artifact, aliases=list(checkpoint.aliases))


def upload_has_ended(artifact: Any) -> bool:
    """Return whether an artifact's upload has ended; waiting for it would cancel the upload."""
    return wandb_media.is_answered(artifact)


def wait_for_upload(run: Run, artifact: Any, timeout: float) -> None:
    """Raise why an artifact was not uploaded, after its run is closed; do nothing offline.

    wandb reports a failed upload only to code that waits for it (wandb 0.31). Closing the
    run has already waited for uploads, within its limits.

    Raises:
        Exception: W&B's error, or that it took too long.
    """
    if not run.offline:
        artifact.wait(timeout=timeout)


def close_reopened(run: Run, exit_code: int) -> None:
    """Close a run that had ended and was reopened, and keep its outcome."""
    segments.carry_over_outcome(run)
    run.finish(exit_code=exit_code)
    _note_timeout(run)


def reopen_if_finished(run: Run) -> Run:
    """Return the run, or another segment of it if the user has finished it too early.

    ``wandb.init(reinit=True)`` finishes it too. The other segment does not become `wandb.run`,
    which is left to the user from then on.
    """
    protection = guard.of(run) if wandb_finish.is_finished(run) else None
    if protection is None:
        return run
    segments.wait_for_end(run)
    other = protection.reopen()
    protection.extend_to(other)
    return other


def is_ours(run: Run) -> bool:
    """Return whether this process has to close the run, and not its parent."""
    protection = guard.of(run)
    return protection is None or protection.is_ours


def next_step(run: Run) -> int:
    """Return the step of the run's next row, including the rows that the user has logged."""
    protection = guard.of(run)
    return run.step if protection is None else protection.step


def close_run(
    run: Run,
    outcome: Outcome,
    notes: Mapping[str, Any] | None = None,
    end_by: Deadline = NO_DEADLINE,
) -> None:
    """Close a run with its outcome, and wait until what was logged is safe.

    If wandb-core does not answer, it is killed, and the run is closed in a new one, with
    the rows that are not on disk. If that hangs too (because the disk does, say), the run is left
    as it is on disk. In a forked child nothing is closed: the run is its parent's.

    Args:
        run: an open run.
        outcome: decides the exit code, the tag and the outcome in the summary.
        notes: further entries of the summary.
        end_by: when the trial's process may be killed.
    """
    wandb_settings.follow_mode(None)
    protection = guard.of(run)
    if protection is None:
        _close_here(run, outcome, notes or {})
        return
    if not protection.is_ours:
        return
    is_left, is_finished = threading.Event(), wandb_finish.is_finished(run)
    closing = Waiting(partial(_close_here, run, outcome, notes or {}, is_left))
    # If time is short, keep a third of it for closing the run in a new core.
    keep = min(timeouts.CLOSES_AGAIN_S, end_by.left / 3)
    least = min(timeouts.CLOSING_KEEPS_S, end_by.left)
    patience = max(least, end_by.within(protection.patience, keep=keep))
    if closing.done_within(patience):
        return
    is_short = patience < protection.patience or not wandb_settings.FINISH.is_here
    if is_short and not is_finished and protection.has_ended():
        # It is complete on disk; only the uploads have not ended.
        seconds = end_by.within(protection.patience - patience, keep=timeouts.CORE_KILLED_S)
        if not closing.done_within(seconds):
            is_left.set()
            if not run.offline:
                run_files.note_not_uploaded(Path(run.dir).parent)
        return
    # Cause: wandb-core hangs.
    # Cure: Nothing to do: its rows are kept and written again.
    logger.warning("wbtune: wandb-core does not answer; run %s is closed in a new one.", run.id)
    protection.give_up_core()
    if not closing.done_within(end_by.within(timeouts.CLOSES_AGAIN_S)):
        is_left.set()
        # Cause: The machine or its disk is very slow.
        # Cure: Send what is there: wbtune sync DIR.
        logger.warning(
            "wbtune: run %s could not be closed in time; its last rows, %d at most, may be lost.",
            *(run.id, protection.at_risk),
        )


def _close_here(
    run: Run,
    outcome: Outcome,
    notes: Mapping[str, Any],
    is_left: threading.Event | None = None,
) -> None:
    protection = guard.of(run)
    if protection is not None and wandb_finish.is_finished(run):
        # The user called `finish` (or `wandb.finish`), before it was known how the trial ends.
        _note_timeout(run)
        segments.wait_for_end(run)
        segment = protection.reopen(on_disk=segments.has_rest_on_disk(run))
        _close(segment, outcome, notes)
        _note_timeout(segment)
        return
    try:
        _close(run, outcome, notes)
    except wandb_core.core_is_gone():
        if protection is None or (is_left is not None and is_left.is_set()):
            raise  # without a guard, or when nobody waits any more and the core was ended
        protection.recover()
        _close(run, outcome, notes)
    _note_timeout(run)
    _complete(run, outcome, dict(notes))


def leave_to_another(run: Run) -> None:
    """Close a run's segment because another process is about to continue the run.

    `close_run` opens the next segment after that process's, with the outcome.
    """
    wandb_finish.let_finish(run)
    run.finish()
    _note_timeout(run)
    segments.wait_for_end(run)
    for path in Path(run.dir).parent.glob("*.wandb"):
        segments.wait_for_next_name(path)


def discard_unused(run: Run) -> bool:
    """Delete the folder of an offline run that has ended, if nothing was ever logged to it."""
    folder = Path(run.dir).parent
    if not folder.name.startswith("offline-run-"):
        return False
    unused = segments.adds_nothing(run)
    if unused:
        shutil.rmtree(folder, ignore_errors=True)
    return unused


def upload_cut_off(folder: Path, base_url: str, seconds: float) -> None:
    """Upload a segment whose process was killed: its wandb-core has not sent the last rows.

    If that can't be done in time, it is left to the experiment's end, and the run's next segment
    is kept on disk, too: W&B drops rows whose step goes back.

    Args:
        folder: the segment's.
        base_url: the server.
        seconds: how long to wait.
    """
    run_files.note_not_uploaded(folder)
    key = wandb_auth.found_key(base_url)
    if key is not None:
        try:
            Waiting(partial(wandb_auth.sync, [folder], base_url, key)).done_within(seconds)
        except BaseException as error:  # noqa: BLE001 - W&B's command may even exit
            logger.info("wbtune: %s is not uploaded: %s", folder, error)


def _note_timeout(run: Run) -> None:
    if wandb_finish.finish_timed_out(run):
        run_files.note_not_uploaded(Path(run.dir).parent)


def upload_rest(directory: str, base_url: str, secret: Secret) -> None:
    """Upload what an experiment's runs have left on disk while the server was away.

    Args:
        directory: the experiment's folder.
        base_url: the server.
        secret: the key for it.
    """
    folders = run_files.not_uploaded(directory)
    if folders:
        wandb_auth.sync(folders, base_url, secret.reveal())


def _complete(run: Run, outcome: Outcome, notes: dict[str, Any]) -> None:
    """Close a run again in another segment if its log is incomplete, because the disk was full.

    If the disk still is full, count the rows that are missing.
    """
    protection = guard.of(run)
    if protection is None or protection.is_whole():
        return
    lost, dropped, why = protection.lost(), notes.get("wbtune/dropped", 0), ""
    try:
        protection.open_next_segment()
        _close(run, outcome, {**notes, "wbtune/dropped": dropped + lost})
        if not protection.is_whole():
            why = "is the disk full?"
    except Exception as error:  # noqa: BLE001 - W&B's trouble is not the trial's
        why = f"{type(error).__name__}: {error}"
    if why:
        lost += protection.at_risk
    if lost or why:
        why = why or "the disk was full for too long"
        # Cause: The disk was full, or became full again.
        # Cure: Free the disk. The results are in Tune's result.json: wbtune import DIR.
        logger.warning("wbtune: %d rows of run %s are not on disk; %s", lost, run.id, why)


def _close(run: Run, outcome: Outcome, notes: Mapping[str, Any]) -> None:
    said = outcome.summary()
    run.summary.update({**said, **notes})
    # An earlier attempt may have left its own outcome at the server: an error, say, and a tag.
    for key in () if run.disabled else OUTCOME_KEYS:
        if key not in said:
            del run.summary[key]
    segments.carry_over_computed(run)
    tags = (*(tag for tag in run.tags or () if tag not in OUTCOME_TAGS), *outcome.tags)
    if tags != tuple(run.tags or ()):
        run.tags = tags
    wandb_finish.let_finish(run)
    run.finish(exit_code=outcome.exit_code)
