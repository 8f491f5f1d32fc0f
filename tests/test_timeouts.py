"""Every time limit stands in one file, says who waits for whom, and is used."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import wbtune
from wbtune._data import timeouts

SOURCE = Path(wbtune.__file__).parent
FILE = Path(timeouts.__file__)
MODULES = {
    str(path.relative_to(SOURCE)): path.read_text(encoding="utf-8")
    for path in SOURCE.rglob("*.py")
    if path != FILE
}
LIMITS = {name: value for name, value in vars(timeouts).items() if name.endswith("_S")}

#: Seconds that nobody waits for: a bound of an option, a rate, how finely rows are remembered.
NO_LIMITS = {"_LONGEST_S", "_FRAMES_PER_S", "TOGETHER_S"}

#: What waits, by the name of the call, and where it is told how long.
WAITS = {
    "acquire",
    "done_within",
    "get",
    "join",
    "settimeout",
    "sleep",
    "Timer",
    "wait",
    "wait_for",
}
#: Between two looks at what is a moment away.
A_MOMENT_S = 0.1


def literals(tree: ast.AST) -> list[str]:
    """The calls that wait for a time that is written where they stand."""
    return [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] in WAITS
        and any(
            isinstance(given, ast.Constant)
            and type(given.value) in {int, float}
            and given.value > A_MOMENT_S
            for given in (*node.args, *(k.value for k in node.keywords if k.arg == "timeout"))
        )
    ]


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_module_has_a_limit_of_its_own(module):
    """A limit is neither a constant nor a number elsewhere."""
    text = MODULES[module]
    assert set(re.findall(r"^ *(\w+_S)(?:: .+)? = ", text, re.MULTILINE)) <= NO_LIMITS
    assert literals(ast.parse(text)) == []


@pytest.mark.parametrize(
    "text", ["thread.join(5)", "done.wait(timeout=5.0)", "time.sleep(2)", "x.done_within(1.0)"]
)
def test_a_number_is_noticed(text):
    """The rule sees what it is there for."""
    assert literals(ast.parse(text)) == [text]


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_is_used_and_explained(name):
    """By a line above it, or above the others of its group."""
    assert any(f"timeouts.{name}" in text for text in MODULES.values())
    before = FILE.read_text(encoding="utf-8").partition(f"\n{name}: Final = ")[0]
    assert re.search(r"\n#: .+(\n\w+: Final = .+)*$", before)
