"""The examples in the docstrings run, and each way has one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import strategies_functions as functions

RUN = """
import doctest, importlib, json, pkgutil, wbtune

results = {}
names = [found.name for found in pkgutil.walk_packages(wbtune.__path__, "wbtune.")]
for name in ["wbtune", *names]:
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder(exclude_empty=True).find(module):
        if test.examples:
            report = []
            failed, tried = runner.run(test, out=report.append)
            results[test.name] = {"tried": tried, "failed": failed, "report": "".join(report)}
print()
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Every example of the package, run in a process with a home of its own."""
    home: Path = tmp_path_factory.mktemp("docs")
    env = functions.clean_env(home) | {"WANDB_MODE": "offline"}
    results: dict[str, dict[str, Any]] = json.loads(
        functions.program(env, home, "-c", RUN).splitlines()[-1]
    )
    return results


def test_examples_are_true(examples: dict[str, dict[str, Any]]) -> None:
    """What a docstring shows is what happens."""
    assert [one["report"] for one in examples.values() if one["failed"]] == []
    assert all(one["tried"] for one in examples.values())


@pytest.mark.parametrize(
    "way",
    [
        "callback.WandbLoggerCallback",
        "decorator.wandb_trial",
        "mixin.WandbMixin",
        "setup.setup_wandb",
        "tuner.wandb_tuner",
    ],
)
def test_each_way_has_an_example(way: str, examples: dict[str, dict[str, Any]]) -> None:
    """Each way shows how it is used, in code that was run."""
    assert examples[f"wbtune.{way}"]["tried"]
