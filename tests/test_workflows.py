"""The workflows for the world outside call the same make targets as `.ci/run`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(
    re.findall(r"^(\w+): ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
)
SUPPORTED = ["3.11", "3.12", "3.13", "3.14"]


def commands(workflow):
    """What the jobs of a workflow run."""
    return [
        step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step
    ]


def load(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_each_command_is_a_make_target(path):
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    for command in commands(workflow):
        make, target = command.split()
        assert make == "make"
        assert target in TARGETS
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())


def test_what_ci_does_is_done_outside_as_well():
    here = set(
        re.findall(r"^make \w+$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert here
    assert here <= {*commands(load(ROOT / ".github" / "workflows" / "ci.yml"))}


def test_the_suite_runs_on_every_python_that_is_promised():
    suite = load(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["suite"]
    assert suite["strategy"]["matrix"]["python"] == SUPPORTED
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.findall(r'"Programming Language :: Python :: (3\.\d+)"', project) == SUPPORTED


def test_prereleases_are_tried_every_week():
    workflow = load(ROOT / ".github" / "workflows" / "upstream.yml")
    (schedule,) = workflow[True]["schedule"]  # YAML reads the key `on` as true
    assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", schedule["cron"])
    assert commands(workflow)[:2] == ["make newest", "make test"]
