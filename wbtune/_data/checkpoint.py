"""A model checkpoint on its way to W&B, and how the best one is chosen."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

ARTIFACT_TYPE: Final = "model"
LATEST: Final = "latest"
BEST: Final = "best"

_LONGEST: Final = 128
_FORBIDDEN: Final = re.compile(r"[^A-Za-z0-9._-]")


class SavedCheckpoint(NamedTuple):
    """A checkpoint to upload, as a copy or as a reference.

    Attributes:
        name: the artifact's name.
        source: Tune's name for the checkpoint, for messages: ``checkpoint_000003``.
        folder: where the copy is; it is deleted once it is uploaded. None for a reference.
        reference: where the checkpoint itself is, instead of a copy.
        metadata: the trial's metrics, its iteration and its id.
        aliases: the aliases of this version of the artifact.
        run_id: the id that the run should have. If that belongs to another experiment, the run
            gets another id, and the artifact another name.
    """

    name: str
    source: str
    folder: str | None = None
    reference: str | None = None
    metadata: Mapping[str, Any] = {}
    aliases: tuple[str, ...] = (LATEST,)
    run_id: str = ""

    def name_in(self, run_id: str) -> str:
        """The artifact's name in the run with this id."""
        is_another = bool(self.run_id) and run_id.startswith(f"{self.run_id}-")
        suffix = run_id.removeprefix(f"{self.run_id}-")
        return named_apart(self.name, suffix) if is_another else self.name

    @property
    def is_gone(self) -> bool:
        """Has the copy been deleted, as it is after its upload?"""
        return self.folder is not None and not Path(self.folder).exists()

    def discard(self) -> None:
        """Delete the copy."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


class Objective(NamedTuple):
    """What makes a result the best: the tuner's metric and mode.

    >>> Objective("loss", "min").improves(0.1, on=0.2)
    True
    """

    metric: str
    mode: str

    def value(self, result: Mapping[str, Any]) -> float | None:
        """The metric in a result, nested (``"val/loss"``) or not; None if it is not a number."""
        value: Any = result
        for name in [self.metric] if self.metric in result else self.metric.split("/"):
            value = value.get(name) if isinstance(value, Mapping) else None
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            return None
        return None if math.isnan(number) else number

    def improves(self, value: float | None, on: float | None) -> bool:
        """Is a value better than the best so far?"""
        if value is None or on is None:
            return value is not None
        return value < on if self.mode == "min" else value > on

    def best_of(self, values: Sequence[float | None]) -> int | None:
        """Which of some trials is the best, by the last value of each; None if none is.

        As ``ResultGrid.get_best_result`` chooses it: one without a value is never the best, except
        if it is the only one; of equal ones, it is the first
        [Ray 2.60, ``ExperimentAnalysis.get_best_trial``].

        >>> Objective("loss", "min").best_of([None, 0.3, 0.1, 0.1])
        2
        """
        if len(values) == 1:
            return 0
        best, best_value = None, None
        for at, value in enumerate(values):
            if value is not None and self.improves(value, best_value):
                best, best_value = at, value
        return best


def artifact_name(trial_name: str, trial_id: str = "", experiment: str = "") -> str:
    """``checkpoint_<trial>``, in the characters and the length that W&B allows.

    Nothing but its name distinguishes an artifact from others of the project. The names that
    Tune itself gives to trials end with the trial's id, and so are unique. A name that does not,
    or that has to be changed, gets a suffix: a hash of all the arguments.

    Args:
        trial_name: Tune's name for the trial.
        trial_id: unique within its experiment.
        experiment: distinguishes the experiment from others.

    >>> artifact_name("train_fn_2f1a0_00000", "2f1a0_00000", "6b86b2")
    'checkpoint_train_fn_2f1a0_00000'
    >>> artifact_name("lr=0.1", "2f1a0_00000", "6b86b2")
    'checkpoint_lr-0.1-3b1514f1'
    """
    name = _FORBIDDEN.sub("-", f"checkpoint_{trial_name}")
    is_its_own = name == f"checkpoint_{trial_name}" and trial_name.endswith(trial_id)
    if is_its_own and len(name) <= _LONGEST:
        return name
    text = f"{trial_name}\0{trial_id}\0{experiment}"
    return named_apart(name, sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8])


def named_apart(name: str, suffix: str) -> str:
    """An artifact's name and a suffix, in the length that W&B allows."""
    return f"{name[: _LONGEST - len(suffix) - 1]}-{suffix}"


def objective_of(metric: str | None, mode: str | None) -> Objective | None:
    """The objective, if both a metric and a mode are known."""
    return Objective(metric, mode) if metric and mode else None
