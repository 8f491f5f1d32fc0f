"""The library is built as its plan says; read from its source, module by module."""

# Over 250 lines: one rule of the house after another.

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import strategies_functions as functions

import wbtune

SOURCE = Path(wbtune.__file__).parent
#: The modules by their names below ``wbtune``.
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts): path.read_text(encoding="utf-8")
    for path in sorted(SOURCE.rglob("*.py"))
}
TREES = {name: ast.parse(text) for name, text in MODULES.items()}

#: The whole project, its tests and what measures it included.
FILES = sorted(
    path
    for folder in ("wbtune", "tests", "benchmarks", "examples")
    for path in (SOURCE.parent / folder).rglob("*.py")
)

#: From the ground up; a module imports from its own layer and from those before it.
LAYERS = (
    "errors",
    "_data",
    "_upstream",
    "_overview",
    "_tune_files",
    "_place",
    "_run",
    "_helper",
    "_trial",
    "_driver",
    "ways",
    "_cli",
)
#: Neither knows the other: they are two processes.
STRANGERS = {"_driver": {"_trial"}}
#: None of these imports another.
WAYS = {"decorator", "mixin", "callback", "setup"}


def layer_of(module: str) -> str:
    """The layer that a module is in; a way's is none."""
    layer = {"__main__": "_cli"}.get(module) or module.partition(".")[0]
    return layer if layer in LAYERS else "ways"


def modules_imported(tree: ast.AST) -> Iterator[str]:
    """Which of wbtune's modules a source imports, what only type checkers see included."""
    for node in ast.walk(tree):
        for path in imported(node):
            root, _, rest = path.partition(".")
            if root == "wbtune":
                outer = rest.rpartition(".")[0]
                yield next((name for name in (rest, outer) if name in MODULES), "__init__")


def imported(node: ast.AST) -> Iterator[str]:
    """The dotted names that a statement imports: ``a.b.c`` for ``from a.b import c``."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        prefix = "wbtune" if node.level else ""
        module = ".".join(part for part in (prefix, node.module) if part)
        yield from (f"{module}.{alias.name}" for alias in node.names)


def dotted(node: ast.AST) -> str:
    """``os.environ`` for the expression of that form, or nothing."""
    text = ast.unparse(node) if isinstance(node, (ast.Attribute, ast.Name)) else ""
    return text if re.fullmatch(r"[\w.]+", text) else ""


# --- The rules: each yields what offends it ---------------------------------------------


def imports_upwards(name: str, tree: ast.AST) -> Iterator[str]:
    """Modules import from their own layer and those below, and no way another."""
    layer = layer_of(name)
    below = set(LAYERS[: LAYERS.index(layer) + 1]) - STRANGERS.get(layer, set())
    for module in modules_imported(tree):
        a_way = name in WAYS and module in WAYS
        if layer_of(module) not in below or a_way or (module == "__init__" and name != module):
            yield module


def imports_private_names(name: str, tree: ast.AST) -> Iterator[str]:
    """Only `_upstream` takes a private name of Ray or wandb."""
    if layer_of(name) == "_upstream":
        return
    foreign = {"ray", "wandb"}  # and what is imported from them
    for node in ast.walk(tree):
        for path in imported(node):
            if path.partition(".")[0] in {"ray", "wandb"}:
                if is_private(path):
                    yield path
                if isinstance(node, ast.ImportFrom):
                    foreign |= {alias.asname or alias.name for alias in node.names}
    for node in ast.walk(tree):
        path = dotted(node)
        of_theirs = isinstance(node, ast.Attribute) and path.partition(".")[0] in foreign
        if of_theirs and is_private(path):
            yield path


def is_private(path: str) -> bool:
    """A leading underscore in it, or wandb's inside."""
    parts = path.split(".")
    return any(part.startswith("_") for part in parts) or parts[:2] == ["wandb", "sdk"]


def opens_or_finishes_runs(name: str, tree: ast.AST) -> Iterator[str]:
    """Only `opening` and `closing` call ``wandb.init`` and ``finish``."""
    if name in {"_run.opening", "_run.closing"}:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            path = ast.unparse(node.func)
            if path in {"wandb.init", "wandb.finish"} or path.endswith(".finish"):
                yield path
        yield from (path for path in imported(node) if path in {"wandb.init", "wandb.finish"})


PROCESS_WIDE = {"os.chdir", "os.fchdir", "os.putenv", "os.unsetenv", "contextlib.chdir"}
MUTATORS = {"update", "setdefault", "pop", "popitem", "clear", "__setitem__", "__delitem__"}


#: wandb writes this one itself, in each process; we take it out where nothing else keeps a trial
#: from another's wandb-core (`wandb_core.OWN_CORE`).
EXCEPTED = {("_upstream.wandb_core", "os.environ.pop")}


def changes_the_process(name: str, tree: ast.AST) -> Iterator[str]:
    """Nothing global: no write to ``os.environ``, no ``chdir``, no ``__del__``."""
    for node in ast.walk(tree):
        environ = {"os.environ", "environ"}
        if isinstance(node, (ast.Subscript, ast.Name, ast.Attribute)):
            written = not isinstance(node.ctx, ast.Load)
            place = node.value if isinstance(node, ast.Subscript) else node
            if written and dotted(place) in environ:
                yield ast.unparse(node)
        elif isinstance(node, ast.Call):
            path = dotted(node.func)
            owner, _, method = path.rpartition(".")
            changes = path in PROCESS_WIDE or (owner in environ and method in MUTATORS)
            if changes and (name, path) not in EXCEPTED:
                yield path
        elif isinstance(node, ast.FunctionDef) and node.name == "__del__":
            yield node.name
        yield from (path for path in imported(node) if path in PROCESS_WIDE)


RULES: tuple[Callable[[str, ast.AST], Iterator[str]], ...] = (
    imports_upwards,
    imports_private_names,
    opens_or_finishes_runs,
    changes_the_process,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("module", [*MODULES])
def test_every_module_keeps_the_rules(module, rule):
    """No module offends a rule of the plan."""
    assert list(rule(module, TREES[module])) == []


@pytest.mark.parametrize(
    ("rule", "module", "offence"),
    [
        (imports_upwards, "errors", "from wbtune._data import options"),
        (
            imports_upwards,
            "_run.guard",
            "def f():\n    from wbtune._trial.trial_run import TrialRun",
        ),
        (imports_upwards, "_driver.writer", "from wbtune._trial import trial_run"),
        (imports_upwards, "_trial.trial_run", "from wbtune._driver.experiment import Experiment"),
        (imports_upwards, "mixin", "from wbtune.decorator import wandb_trial"),
        (imports_upwards, "setup", "from wbtune import mixin"),
        (imports_upwards, "_run.guard", "from wbtune import wandb_trial"),
        (imports_upwards, "_run.guard", "import wbtune._driver.writer"),
        (imports_upwards, "_data.options", "if TYPE_CHECKING:\n    from wbtune._run import guard"),
        (imports_private_names, "_run.guard", "from wandb.sdk import wandb_setup"),
        (imports_private_names, "_run.guard", "import ray._private.worker"),
        (
            imports_private_names,
            "_run.guard",
            "from ray.train._internal.session import get_session",
        ),
        (imports_private_names, "_run.guard", "import ray\nray._private.worker.f()"),
        (imports_private_names, "_run.guard", "import wandb\nwandb.sdk.wandb_run"),
        (imports_private_names, "_run.guard", "from ray import tune\ntune._x"),
        (opens_or_finishes_runs, "_driver.writer", "import wandb\nwandb.init()"),
        (opens_or_finishes_runs, "_driver.writer", "run.finish(exit_code=0)"),
        (opens_or_finishes_runs, "_driver.writer", "self.run.finish()"),
        (opens_or_finishes_runs, "_driver.writer", "from wandb import init"),
        (changes_the_process, "_run.guard", "import os\nos.environ['A'] = 'b'"),
        (changes_the_process, "_run.guard", "import os\ndel os.environ['A']"),
        (changes_the_process, "_run.guard", "import os\nos.environ |= {}"),
        (changes_the_process, "_run.guard", "import os\nos.environ.setdefault('A', 'b')"),
        (changes_the_process, "_run.guard", "from os import environ\nenviron.update({})"),
        (changes_the_process, "_run.guard", "import os\nos.chdir('x')"),
        (changes_the_process, "_run.guard", "class A:\n    def __del__(self): pass"),
    ],
)
def test_the_rules_notice(rule, module, offence):
    """Each rule sees the offence that it is there for."""
    assert list(rule(module, ast.parse(offence)))


def test_no_module_imports_itself_over_others():
    """Within a layer, too, imports go one way."""
    imports = {name: {*modules_imported(tree)} - {name} for name, tree in TREES.items()}
    assert [*graphlib.TopologicalSorter(imports).static_order()]


@pytest.mark.parametrize("layer", [layer for layer in LAYERS if layer.startswith("_")])
def test_a_layer_says_where_it_runs(layer):
    """The first thing that a stranger asks: in which process does this run?"""
    assert "\n\nRuns in: " in ast.get_docstring(TREES[f"{layer}.__init__"])


@pytest.mark.parametrize("module", [*MODULES])
def test_size(module):
    """No module is over 300 lines, no class over 250; what needs more is two things."""
    assert len(MODULES[module].splitlines()) <= 300
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.ClassDef):
            assert node.end_lineno - node.lineno < 250, node.name


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_long_functions_say_why(path):
    """A function of more than 40 lines says why first."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            documented = ast.get_docstring(node) is not None and len(node.body) > 1
            first = node.body[0].end_lineno if documented else node.lineno
            long = node.end_lineno - node.body[documented].lineno + 1 > 40
            has_reason = any("Over 40 lines: " in line for line in lines[first : first + 3])
            assert has_reason or not long, f"{path.name}: {node.name}"


def test_import_is_light(tmp_path):
    """`import wbtune` imports neither Ray nor wandb, changes nothing global, starts nothing."""
    output = functions.program(functions.clean_env(tmp_path), tmp_path, "-c", IMPORT)
    assert output.split() == ["True"] * 5


IMPORT = """
import os, sys, threading
before = dict(os.environ), os.getcwd(), threading.active_count(), os.listdir()
import wbtune
after = dict(os.environ), os.getcwd(), threading.active_count(), os.listdir()
same = (one == other for one, other in zip(before, after))
print(*same, sys.modules.keys().isdisjoint({"ray", "wandb", "wrapt"}))
"""


def test_public_names():
    """`__all__` is sorted, each name is there, and `dir` shows no others."""
    assert wbtune.__all__ == sorted(wbtune.__all__)
    assert all(getattr(wbtune, name).__module__.startswith("wbtune.") for name in wbtune.__all__)
    public = [name for name in dir(wbtune) if not name.startswith("_")]
    assert public == wbtune.__all__
    with pytest.raises(AttributeError, match="module 'wbtune' has no attribute 'wandb_tunr'"):
        wbtune.wandb_tunr  # noqa: B018 - asked for is enough
