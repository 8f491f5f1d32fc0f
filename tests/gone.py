"""A Ray or a wandb in which some private names are spelled otherwise, as the next release may do.

It is a copy of the installed package, by hard links. Names of modules and classes are replaced in
all of its files, locals in their function; a setting is taken from `wandb.Settings`, which refuses
it from then on. Whoever has the folder first on its path gets that package.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

#: What is appended to a name.
GONE: Final = "_elsewhere"

#: Names that are words of other things, too: renamed where they are defined, and behind this.
_BEHIND: Final = {
    "publish": r"_client\.",
    "starting_step": r"self\.",
    "register": r"trigger\.",
    "run": r"asyncer\.",
    "sync": r"beta_sync\.",
}

_REFUSES: Final = """

def _refuse(names=frozenset({names!r})):
    accept = Settings.__init__

    def __init__(self, **data):
        if names & data.keys():
            raise ValueError(f"Extra inputs are not permitted: {{names & data.keys()}}")
        accept(self, **data)

    Settings.__init__ = __init__
    for name in names:
        Settings.model_fields.pop(name)


_refuse()
"""


def private_names() -> dict[str, list[str]]:
    """All names that the capabilities need, by their package."""
    from wbtune import capabilities

    needs = [
        name
        for one in capabilities()
        for alternatives in one.needs
        for name in alternatives.split(" | ")
    ]
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(needs):
        found.setdefault(name.partition(".")[0].partition(":")[0], []).append(name)
    return found


def without(names: Iterable[str], folder: Path) -> Path:
    """Copy the package of these names into a folder, without them.

    Returns:
        The folder to put on a path.
    """
    names = list(names)
    (package,) = {re.split("[.:]", name)[0] for name in names}
    source = Path(importlib.util.find_spec(package).origin).parent
    copy = folder / package
    # With what is compiled: Python compiles again what is changed, and replaces that file.
    shutil.copytree(source, copy, copy_function=_link)
    settings = [name for name in names if _is_setting(name)]
    _take_settings(copy, [name.rpartition(".")[2] for name in settings])
    anywhere = []
    for name in [name for name in names if name not in settings]:
        path, _, parts = name.partition(":")
        if _is_local(source.parent, path, parts):
            _rename_local(_file(folder, path), *parts.rsplit(".", 1))
        else:
            anywhere.append(name)
    _rename_anywhere(folder, package, anywhere)
    return folder


def _is_setting(name: str) -> bool:
    import wandb

    owner, _, last = name.rpartition(".")
    return owner == "wandb:Settings" and last in wandb.Settings.model_fields


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def _write(path: Path, text: str) -> None:
    path.unlink()  # it is a link
    path.write_text(text, encoding="utf-8")


def _file(root: Path, module: str) -> Path:
    path = root.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _take_settings(copy: Path, names: list[str]) -> None:
    if names:
        path = copy / "sdk" / "wandb_settings.py"
        _write(path, path.read_text(encoding="utf-8") + _REFUSES.format(names=set(names)))


def _is_local(root: Path, module: str, parts: str) -> bool:
    """Whether the last part is a local of a function."""
    *outer, _ = parts.split(".")
    if not outer:
        return False
    body = ast.parse(_file(root, module).read_text(encoding="utf-8")).body
    for name in outer:
        named = [
            node
            for node in body
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            and node.name == name
        ]
        if not named:
            return False
        if not isinstance(named[-1], ast.ClassDef):
            return True
        body = named[-1].body
    return False


class _Renamed(ast.NodeTransformer):
    def __init__(self, function: str, local: str) -> None:
        self._function, self._local = function.rpartition(".")[2], local
        self._inside = 0

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self._inside += node.name == self._function
        self.generic_visit(node)
        self._inside -= node.name == self._function
        if self._inside and node.name == self._local:
            node.name += GONE
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if self._inside and node.id == self._local:
            node.id += GONE
        return node

    def visit_Nonlocal(self, node: ast.Nonlocal) -> ast.AST:
        node.names = [one + GONE if one == self._local else one for one in node.names]
        return node


def _rename_local(path: Path, function: str, local: str) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    _Renamed(function, local).visit(tree)
    text = ast.unparse(tree)
    # A parameter keeps its name for those who call it, and gets another for the function itself.
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == function.rpartition(".")[2]:
            taken = [one.arg for one in (*node.args.args, *node.args.kwonlyargs)]
            if local in taken:
                first = node.body[1] if ast.get_docstring(node) else node.body[0]
                moved = ast.parse(f"{local}{GONE} = {local}; del {local}").body
                node.body[node.body.index(first) : node.body.index(first)] = moved
                text = ast.unparse(ast.fix_missing_locations(tree))
    _write(path, text)


def _rename_anywhere(root: Path, package: str, names: list[str]) -> None:
    """Rename names of modules and classes in all files of a package; others use the same words."""
    words = {name.rpartition(".")[2].rpartition(":")[2] for name in names}
    plain = sorted(words - _BEHIND.keys())
    kinds = [rf"(?<!\w)(?:{'|'.join(map(re.escape, plain))})(?!\w)"] if plain else []
    kinds += [rf"(?<={_BEHIND[word]}){word}(?!\w)" for word in words & _BEHIND.keys()]
    if not kinds:
        return
    pattern, as_bytes = re.compile("|".join(kinds)), [word.encode() for word in words]
    for path in (root / package).rglob("*.py"):
        raw = path.read_bytes()
        if not {"vendor", "proto"} & {*path.parts} and any(word in raw for word in as_bytes):
            _write(path, pattern.sub(lambda found: found[0] + GONE, raw.decode("utf-8")))
    for name in names:
        word = name.rpartition(".")[2].rpartition(":")[2]
        path = _file(root, name.partition(":")[0])
        if ".proto." in name:  # made when it is imported
            text = path.read_text(encoding="utf-8")
            _write(path, f"{text}\n{word}{GONE} = {word}\ndel {word}\n")
        elif word in _BEHIND:
            text = path.read_text(encoding="utf-8")
            _write(path, re.sub(rf"(?<=def ){word}(?=\()", word + GONE, text))
    for path in [*(root / package).rglob("*")]:  # a name may be that of a module as well
        if path.name.removesuffix(".py") in plain and (path.is_dir() or path.suffix == ".py"):
            path.rename(path.with_name(path.name.replace(path.stem, path.stem + GONE)))
