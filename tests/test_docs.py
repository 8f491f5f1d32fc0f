"""The examples in the docstrings run, and each door has one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import strategies_functions as functions

RUN = """
import doctest, importlib, json, pkgutil, wbtune

said = {}
for found in [wbtune, *pkgutil.iter_modules(wbtune.__path__, "wbtune.")]:
    module = importlib.import_module(getattr(found, "name", None) or found.__name__)
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder(exclude_empty=True).find(module):
        if test.examples:
            report = []
            failed, tried = runner.run(test, out=report.append)
            said[test.name] = {"tried": tried, "failed": failed, "report": "".join(report)}
print()
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Every example of the package, run in a process with a home of its own."""
    home: Path = tmp_path_factory.mktemp("docs")
    env = functions.clean_env(home) | {"WANDB_MODE": "offline"}
    said: dict[str, dict[str, Any]] = json.loads(
        functions.program(env, home, "-c", RUN).splitlines()[-1]
    )
    return said


def test_examples_are_true(examples: dict[str, dict[str, Any]]) -> None:
    """What a docstring shows is what happens."""
    assert [one["report"] for one in examples.values() if one["failed"]] == []
    assert all(one["tried"] for one in examples.values())


@pytest.mark.parametrize(
    "door",
    [
        "callback.WandbLoggerCallback",
        "decorator.wandb_trial",
        "mixin.WandbMixin",
        "setup.setup_wandb",
        "tuner.wandb_tuner",
    ],
)
def test_each_door_has_an_example(door: str, examples: dict[str, dict[str, Any]]) -> None:
    """Each door shows how it is used, in code that was run."""
    assert examples[f"wbtune.{door}"]["tried"]
