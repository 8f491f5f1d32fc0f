"""A test's markers: what its source needs, read from the test and all that it reaches by name."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable
from pathlib import Path

#: What is found in the source of a test that needs a server, or starts a Ray or a Python of its
#: own: to import Ray and wandb alone takes that seconds.
SERVER = re.compile(r"\bWandbServer\b")
OWN_RAY = re.compile(r"\bray\.init\(|\blocal_ray\(|\b\w+_program\.py\b")
OWN_PYTHON = re.compile(r"\bfunctions\.program\(|\bwriter\.launch\(")


@functools.cache
def _definitions(path: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Each top-level name of a module: its source, and the names that this mentions."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names = [node.name]
        else:
            continue
        inner = [*ast.walk(node)]
        mentioned = {one.id for one in inner if isinstance(one, ast.Name)}
        mentioned |= {one.arg for one in inner if isinstance(one, ast.arg)}  # a test's fixtures
        source = "\n".join(lines[node.lineno - 1 : node.end_lineno])
        found |= dict.fromkeys(names, (source, frozenset(mentioned)))
    return found


def reached(path: Path, names: Iterable[str]) -> str:
    """The source of these top-level names of a module, and of those that they mention."""
    definitions, seen, left = _definitions(path), set(), [*names]
    while left:
        name = left.pop()
        if name in definitions and name not in seen:
            seen.add(name)
            left += definitions[name][1]
    return "\n".join(definitions[name][0] for name in sorted(seen))


def marks_of(source: str, fixtures: Iterable[str], given: Iterable[str] = ()) -> set[str]:
    """The markers of a test.

    Args:
        source: of all that it reaches.
        fixtures: the names of all its fixtures.
        given: the markers that it has already; ``slow`` is the only one given by hand.
    """
    marks = {"slow"} & {*given}
    if OWN_RAY.search(source):
        marks |= {"ray", "slow"}
    if OWN_PYTHON.search(source):
        marks.add("slow")
    if "ray" in fixtures:
        marks.add("ray")
    if SERVER.search(source):
        marks.add("server")
    return marks or {"unit"}
