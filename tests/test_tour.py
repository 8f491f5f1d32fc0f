"""The notebook runs from the top without an account, and leaves what its text says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import strategies_functions as functions

from wbtune._run import run_log

ROOT = Path(__file__).parents[1]
TOUR = ROOT / "examples" / "tour.ipynb"


def cells(notebook: Path) -> list[dict[str, Any]]:
    """The cells, in order."""
    found: list[dict[str, Any]] = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return found


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The notebook with its outputs, in the folder where it was run."""
    folder: Path = tmp_path_factory.mktemp("tour").resolve()
    env = functions.clean_env(folder) | {"COVERAGE_PROCESS_CONFIG": "", "NETRC": str(folder / "no")}
    program = str(ROOT / "tests" / "tour_program.py")
    functions.program(env, folder, program, str(TOUR), str(folder / "done.ipynb"))
    return folder / "done.ipynb"


def runs(done: Path, name: str) -> list[Any]:
    """The runs of one of its experiments, read from disk."""
    return [*run_log.read_runs(done.parent / "tour-results" / name).values()]


def text(done: Path, cell: str) -> str:
    """What a cell has printed or shown."""
    (outputs,) = (one["outputs"] for one in cells(done) if one["id"] == cell)
    parts = [
        output.get("text") or output.get("data", {}).get("text/html", "") for output in outputs
    ]
    return "".join("".join(part) for part in parts)


def test_it_is_committed_without_outputs() -> None:
    """They would differ each time; what they look like is in docs/pictures/tour.png."""
    code = [cell for cell in cells(TOUR) if cell["cell_type"] == "code"]
    assert code
    for cell in code:
        assert (cell["outputs"], cell["execution_count"], cell["metadata"]) == ([], None, {})
    metadata = json.loads(TOUR.read_text(encoding="utf-8"))["metadata"]
    assert metadata.keys() == {"kernelspec", "language_info"}
    assert metadata["language_info"] == {"name": "python"}  # without somebody's own version


def test_a_plain_trainable(done: Path) -> None:
    """Two finished runs of ten rows, as the next cell reads them."""
    found = runs(done, "plain")
    assert [(len(run.rows), run.summary["wbtune/outcome"]) for run in found] == [
        (10, "finished")
    ] * 2
    assert text(done, "read-run").count("finished\n") == 2
    assert "wbtune sync tour-results/plain" in text(done, "plain-fit")


def test_images_and_a_trial_that_fails(done: Path) -> None:
    """Each row has its image; the failed trial's run has what came before, and the error."""
    fits, fails = sorted(runs(done, "circles"), key=lambda run: run.name)
    assert [row["training_iteration"] for row in fits.rows] == [1, 2, 3, 4, 5]
    assert [row["training_iteration"] for row in fails.rows if "circle" in row] == [1, 2, 3]
    assert fits.summary["wbtune/outcome"] == "finished"
    assert fails.summary["wbtune/outcome"] == "failed"
    assert fails.summary["wbtune/error"] == "ValueError"
    assert text(done, "trial-images").startswith("8 images\n")
    failed = text(done, "trial-failed")
    assert "wbtune/error_message: a circle of radius 1.2 does not fit\n" in failed
    assert failed.count("has exit code 0\n") == failed.count("has exit code 1\n") == 1


def test_a_sweep_that_asha_cuts(done: Path) -> None:
    """Some trials are stopped, with the reason; the best one is tagged, and the page is shown."""
    found = [run for run in runs(done, "search") if run.name.startswith("search_")]
    assert len(found) == 6
    for run in found:
        stopped = len(run.rows) < 16
        assert run.summary["wbtune/outcome"] == ("stopped" if stopped else "finished")
        assert (run.summary.get("wbtune/reason") == "AsyncHyperBandScheduler") == stopped
    assert 1 <= sum(len(run.rows) < 16 for run in found) <= 5
    assert sum("best" in (run.tags or ()) for run in found) == 1
    assert "<iframe srcdoc=" in text(done, "sweep-show")
    assert "parallel-coordinates" in text(done, "sweep-show")
    assert "Would send 7 runs" in text(done, "sync-dry")
