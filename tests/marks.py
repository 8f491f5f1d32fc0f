"""A test's markers: what its source needs, read from the test and all that it reaches by name."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

#: What is found in the source of a test that needs a server, or starts a Ray or a Python of its
#: own: to import Ray and wandb alone takes that seconds.
SERVER = re.compile(r"\bWandbServer\b")
OWN_RAY = re.compile(r"\bray\.init\(|\blocal_ray\(|\b\w+_program\.py\b")
OWN_PYTHON = re.compile(r"\bfunctions\.program\(|\bwriter\.launch\(")


class Definition(NamedTuple):
    """A top-level name of a module: its source, and what this mentions, as ``name`` or ``a.b``."""

    source: str
    mentioned: frozenset[str]


@functools.cache
def _module(path: Path) -> tuple[dict[str, Definition], dict[str, tuple[Path, str]]]:
    """What a module defines, and from which of the tests' modules it has its other names."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    defined: dict[str, Definition] = {}
    imported: dict[str, tuple[Path, str]] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names = [node.name]
        else:
            imported |= _imported(node, path)
            continue
        inner = [*ast.walk(node)]
        mentioned = {one.id for one in inner if isinstance(one, ast.Name)}
        mentioned |= {one.arg for one in inner if isinstance(one, ast.arg)}  # a test's fixtures
        mentioned |= {ast.unparse(one) for one in inner if isinstance(one, ast.Attribute)}
        source = "\n".join(lines[node.lineno - 1 : node.end_lineno])
        defined |= dict.fromkeys(names, Definition(source, frozenset(mentioned)))
    return defined, imported


def _imported(node: ast.stmt, path: Path) -> dict[str, tuple[Path, str]]:
    """The names of an import from modules beside this one: the module, and the name there."""
    if isinstance(node, ast.Import):
        beside = [(one.asname or one.name, one.name, "") for one in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module:
        beside = [(one.asname or one.name, node.module, one.name) for one in node.names]
    else:
        beside = []
    files = {name: (path.with_name(f"{module}.py"), there) for name, module, there in beside}
    return {name: found for name, found in files.items() if found[0].exists()}


def reached(path: Path, names: Iterable[str]) -> str:
    """The source of these top-level names of a module, and of those that they mention.

    Those of the modules beside it are followed, too.
    """
    found: dict[tuple[Path, str], str] = {}
    left = [(path, name) for name in names]
    while left:
        place = left.pop()
        module, name = place
        defined, imported = _module(module)
        first, _, rest = name.partition(".")
        if place not in found and name in defined:
            found[place] = defined[name].source
            left += [(module, one) for one in defined[name].mentioned]
        elif first in imported:
            there, original = imported[first]
            left.append((there, original or rest))
    return "\n".join(found[place] for place in sorted(found))


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
