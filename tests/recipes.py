"""The examples of the recipes that need a library run as they stand, and their runs are complete.

``make recipes`` runs this in an environment of its own, `.venv/recipes`, which has RLlib,
Lightning, transformers and torch, and neither the other tests' packages nor their `conftest`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import page_examples
import pytest
from page_examples import PAGES, blocks

from wbtune._run import run_log
from wbtune._run.run_log import RunLog

PROGRAMS = [block for page in PAGES for block in blocks(page, "recipes")]


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What became of each program, in one process and on one Ray."""
    folder = tmp_path_factory.mktemp("recipes")
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    env |= {"HOME": str(folder), "WANDB_ERROR_REPORTING": "false"}
    pages = [page for page in PAGES if blocks(page, "recipes")]
    return page_examples.run(pages, folder, env, "recipes")


@pytest.fixture
def logs(results: dict[str, dict[str, Any]]) -> Any:
    """Read the runs of an experiment of a page's home, by their name."""

    def read(page: str, experiment: str) -> list[RunLog]:
        (home,) = {one["home"] for name, one in results.items() if f"/{page}.md:" in name}
        found = run_log.read_runs(Path(home, "ray_results", experiment)).values()
        return sorted(found, key=lambda log: log.name)

    return read


@pytest.mark.parametrize("block", PROGRAMS, ids=lambda block: block.name)
def test_it_runs(block, results):
    """Each is a program of its own."""
    assert results[block.name]["error"] is None
