"""The modules of wbtune as source: what their names mean, and what comments say of a message."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "wbtune"
_COMMENT = re.compile(r"\s*# (Cause|Cure|Message): (.*)")
_MORE = re.compile(r"\s*#  ? ?(.*)")


class Module:
    """A module's tree, its lines and what its names mean."""

    def __init__(self, name: str) -> None:
        self.name = name
        path = ROOT.joinpath(*name.split("."))
        self.path = (
            path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
        )
        source = self.path.read_text(encoding="utf-8")
        self.lines = source.splitlines()
        self.tree = ast.parse(source)
        self.parents = {
            child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)
        }
        self.imports: dict[str, tuple[str, str]] = {}
        self.names: dict[str, ast.AST] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
                for one in node.names:
                    self.imports[one.asname or one.name] = (str(node.module), one.name)
        self._define(self.tree.body, "")

    def _define(self, body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            match node:
                case ast.FunctionDef() | ast.ClassDef():
                    self.names[prefix + node.name] = node
                    if isinstance(node, ast.ClassDef):
                        self._define(node.body, f"{node.name}.")
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self.names[prefix + name] = value
                case ast.AnnAssign(target=ast.Name(id=name), value=value) if value:
                    self.names[prefix + name] = value

    def statement(self, node: ast.AST) -> ast.stmt:
        """The statement that a node is in."""
        while not isinstance(node, ast.stmt):
            node = self.parents[node]
        return node

    def function(self, node: ast.AST) -> ast.FunctionDef | None:
        """The function that a node is in."""
        while node in self.parents:
            node = self.parents[node]
            if isinstance(node, ast.FunctionDef):
                return node
        return None

    def notes(self, node: ast.AST) -> dict[str, str]:
        """What the comments above a node's statement say."""
        found: dict[str, str] = {}
        end = self.statement(node).lineno - 1
        start = end
        while start and self.lines[start - 1].lstrip().startswith("#"):
            start -= 1
        key = ""
        for line in self.lines[start:end]:
            if begin := _COMMENT.fullmatch(line):
                key = begin[1]
                found[key] = begin[2]
            elif key and (more := _MORE.fullmatch(line)):
                found[key] += f" {more[1]}"
        return found


@functools.cache
def module(name: str) -> Module:
    """A module of the package."""
    return Module(name)
