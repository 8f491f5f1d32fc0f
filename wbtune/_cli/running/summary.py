"""Say what an experiment has come to: how its trials ended, which was the best, where it is."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ray import tune

from wbtune._cli.output import DONE, LEFT, Output
from wbtune._data.filtering import Excludes
from wbtune._data.outcomes import EXIT_CODES, Kind
from wbtune._data.sweep_file import Metric
from wbtune._place import identity
from wbtune._place.storage import Remote
from wbtune._run import run_files
from wbtune._upstream import ray_storage

if TYPE_CHECKING:
    from ray.tune import ResultGrid
    from ray.tune.experiment import Trial


class Place(tune.Callback):
    """Notes where the trials' runs are on this machine: of a remote storage, results don't tell.

    Attributes:
        folder: contains ``wandb/``; None before any trial, or if it is not known.
    """

    def __init__(self) -> None:
        self.folder: str | None = None

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:  # noqa: ARG002 - Tune's signature
        """Note it."""
        self.folder = identity.of_trial(trial).directory


def sum_up(output: Output, results: ResultGrid, metric: Metric | None, folder: str | None) -> int:
    """Print how the trials ended, and which was the best.

    Args:
        output: prints.
        results: Tune's.
        metric: what was optimised; None for nothing.
        folder: see `Place`.

    Returns:
        The exit code.
    """
    total, failed = len(results), results.num_errors
    interrupted = _interrupted(results, folder or results.experiment_path)
    numbers = {"ended well": total - failed - interrupted, "failed": failed}
    numbers["interrupted"] = interrupted
    shown = ", ".join(f"{number} {how}" for how, number in numbers.items() if number)
    output.line(f"{total} trials: {shown}")
    best = None
    if metric is not None:
        with contextlib.suppress(RuntimeError):  # no trial has reported the metric
            found = results.get_best_result(metric.name, metric.mode)
            # Without secrets, and as JSON can hold it.
            config = Excludes().config(found.config)
            best = {"metric": (found.metrics or {})[metric.name], "config": config}
            output.line(f"best: {metric.name}={best['metric']:g} with {config}")
    output.line(f"folder: {_address(results)}")
    counts = {how.replace(" ", "_"): number for how, number in numbers.items()}
    output.end({"trials": total, **counts, "best": best, "folder": _address(results)})
    return LEFT if failed or interrupted else DONE


def _address(results: ResultGrid) -> str:
    """Where the experiment is, as other commands can be told: ``s3://bucket/tune/e``."""
    path = results.experiment_path
    is_here = ray_storage.is_local(results.filesystem)
    return path if is_here else str(Remote(results.filesystem, path))


def _interrupted(results: ResultGrid, folder: str) -> int:
    """How many trials were interrupted, or never began, by their runs: Tune does not tell."""
    codes = run_files.ends(folder)
    of_trials = [code for name, code in codes.items() if not name.startswith("sweep-")]
    never_begun: int = len(results) - results.num_errors - results.num_terminated
    return never_begun + of_trials.count(EXIT_CODES[Kind.INTERRUPTED])
