"""Model checkpoints as W&B artifacts: taken aside at once, uploaded when there is time.

Tune deletes old checkpoints when it likes (``CheckpointConfig(num_to_keep=1)``), so a
checkpoint is taken aside before Tune's hook returns: by hard links, which cost next to
nothing, where the storage is a folder of this machine. From a remote storage it is copied
by a thread at the side.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wbtune import _compat
from wbtune.sanitize import plain

if TYPE_CHECKING:
    from ray.tune import Checkpoint

logger = logging.getLogger("wbtune")

ARTIFACT_TYPE: Final = "model"
_LONGEST: Final = 128
_FORBIDDEN: Final = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True, slots=True)
class SavedCheckpoint:
    """A checkpoint that was taken aside.

    Attributes:
        folder: where it is; whoever uploads it deletes it.
        name: the artifact's name.
        metadata: the trial's metrics, its iteration and its id.
    """

    folder: str
    name: str
    metadata: dict[str, Any] = field(default_factory=dict)


def artifact_name(trial_name: str) -> str:
    """``checkpoint_<trial>``, in the characters and the length that W&B allows.

    >>> artifact_name("train lr=0.1")
    'checkpoint_train-lr-0.1'
    """
    return _FORBIDDEN.sub("-", f"checkpoint_{trial_name}")[:_LONGEST]


class Shelf:
    """Takes checkpoints aside.

    Args:
        below: a folder on the same file system as the experiment's storage.
    """

    def __init__(self, below: Path) -> None:
        self._below = below
        self._threads = ThreadPoolExecutor(1, "wbtune-checkpoints")

    def take(
        self,
        checkpoint: Checkpoint,
        trial_name: str,
        result: Mapping[str, Any],
        then: Callable[[SavedCheckpoint], None],
    ) -> None:
        """Take one checkpoint aside.

        Args:
            checkpoint: as Tune has stored it.
            trial_name: names the artifact.
            result: the trial's last result, for the metadata.
            then: gets the copy; called at once, or later from a thread.
        """
        self._below.mkdir(parents=True, exist_ok=True)
        folder = tempfile.mkdtemp(prefix=".checkpoint-", dir=self._below)
        metadata = {key: value for key, value in result.items() if key != "config"}
        saved = SavedCheckpoint(folder, artifact_name(trial_name), plain(metadata))
        if _compat.is_local(checkpoint.filesystem):
            shutil.copytree(checkpoint.path, folder, copy_function=_link, dirs_exist_ok=True)
            then(saved)
        else:
            self._threads.submit(_fetch, checkpoint, saved, then)

    def close(self, *, wait: bool) -> None:
        """Take no more; ``wait`` for those that are on their way."""
        self._threads.shutdown(wait=wait, cancel_futures=not wait)


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)
    return target


def _fetch(
    checkpoint: Checkpoint, saved: SavedCheckpoint, then: Callable[[SavedCheckpoint], None]
) -> None:
    try:
        checkpoint.to_directory(saved.folder)
    except Exception as error:  # noqa: BLE001 - a remote storage raises what it likes
        shutil.rmtree(saved.folder, ignore_errors=True)
        logger.warning("wbtune: checkpoint %s was not fetched: %s", checkpoint.path, error)
    else:
        then(saved)
