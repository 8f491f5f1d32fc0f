"""The library is built as its plan says; read from its source, module by module."""

# Over 250 lines: one rule of the house after another.

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import strategies_functions as functions

import wbtune

SOURCE = Path(wbtune.__file__).parent
MODULES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(SOURCE.glob("*.py"))}

#: The whole project, its tests and what measures it included.
FILES = sorted(
    path
    for folder in ("wbtune", "tests", "benchmarks", "examples")
    for path in (SOURCE.parent / folder).glob("*.py")
)

#: From the ground up; a module imports only what stands before it.
ORDER = (
    *(
        "errors",
        "masking",
        "outcomes",
        "fields",
        "sanitize",
        "filtering",
        "keywords",
        "unknown",
        "checks",
        "drop_in",
        "options",
        "config_keys",
    ),
    *("_compat", "surroundings", "storage", "identity"),
    *("proxies", "transport", "server", "handover"),
    *("checkpoints", "credentials", "origin", "links"),
    "environment",
    *("logfile", "runlog", "endings", "restoring", "segments"),
    *("deadline", "watchdog", "guard", "outbox"),
    *("runs", "launch", "media"),
    *("driver_options", "mirror", "trial_run", "lifecycle"),
    *("messages", "unacknowledged", "notices", "logwriter", "coreless"),
    *("launching", "helper", "helper_process", "helper_thread", "writer", "patience", "experiment"),
    "run_parameter",
    "decorated",
    *("decorator", "mixin", "callback", "setup"),
    "tuner",
    "__init__",
)
#: None of these imports another.
DOORS = {"decorator", "mixin", "callback", "setup"}


def running(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node of a module, but what only type checkers see."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield other
                yield from running(other)
            continue
        yield node
        yield from running(node)


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
    """Modules import only downwards, and no door another."""
    allowed = set(ORDER[: ORDER.index(name)]) - (DOORS if name in DOORS else set())
    for node in running(tree):
        for path in imported(node):
            root, _, rest = path.partition(".")
            if root == "wbtune":
                module = rest.partition(".")[0]
                used = module if module in MODULES else "__init__"
                if used not in allowed:
                    yield path


def imports_private_names(name: str, tree: ast.AST) -> Iterator[str]:
    """Only `_compat` takes a private name of Ray or wandb."""
    if name == "_compat":
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
    """Only `runs` calls ``wandb.init`` and ``finish``."""
    if name == "runs":
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            path = ast.unparse(node.func)
            if path in {"wandb.init", "wandb.finish"} or path.endswith(".finish"):
                yield path
        yield from (path for path in imported(node) if path in {"wandb.init", "wandb.finish"})


PROCESS_WIDE = {"os.chdir", "os.fchdir", "os.putenv", "os.unsetenv", "contextlib.chdir"}
MUTATORS = {"update", "setdefault", "pop", "popitem", "clear", "__setitem__", "__delitem__"}


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
            if path in PROCESS_WIDE or (owner in environ and method in MUTATORS):
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
@pytest.mark.parametrize("module", [name for name in MODULES if name in ORDER])
def test_every_module_keeps_the_rules(module, rule):
    """No module offends a rule of the plan."""
    assert list(rule(module, ast.parse(MODULES[module]))) == []


@pytest.mark.parametrize(
    ("rule", "module", "offence"),
    [
        (imports_upwards, "errors", "from wbtune import options"),
        (imports_upwards, "runs", "def f():\n    from wbtune.lifecycle import TrialRun"),
        (imports_upwards, "mixin", "from wbtune.decorator import WandbTrial"),
        (imports_upwards, "setup", "from wbtune import mixin"),
        (imports_upwards, "runs", "from wbtune import wandb_trial"),
        (imports_upwards, "runs", "import wbtune.writer"),
        (imports_upwards, "runs", "from . import writer"),
        (imports_upwards, "runs", "from .writer import Writer"),
        (imports_private_names, "runs", "from wandb.sdk import wandb_setup"),
        (imports_private_names, "runs", "import ray._private.worker"),
        (imports_private_names, "runs", "from ray.train._internal.session import get_session"),
        (imports_private_names, "runs", "import ray\nray._private.worker.f()"),
        (imports_private_names, "runs", "import wandb\nwandb.sdk.wandb_run"),
        (imports_private_names, "runs", "from ray import tune\ntune._x"),
        (opens_or_finishes_runs, "writer", "import wandb\nwandb.init()"),
        (opens_or_finishes_runs, "writer", "run.finish(exit_code=0)"),
        (opens_or_finishes_runs, "writer", "self.run.finish()"),
        (opens_or_finishes_runs, "writer", "from wandb import init"),
        (changes_the_process, "runs", "import os\nos.environ['A'] = 'b'"),
        (changes_the_process, "runs", "import os\ndel os.environ['A']"),
        (changes_the_process, "runs", "import os\nos.environ |= {}"),
        (changes_the_process, "runs", "import os\nos.environ.setdefault('A', 'b')"),
        (changes_the_process, "runs", "from os import environ\nenviron.update({})"),
        (changes_the_process, "runs", "import os\nos.chdir('x')"),
        (changes_the_process, "runs", "class A:\n    def __del__(self): pass"),
    ],
)
def test_the_rules_notice(rule, module, offence):
    """Each rule sees the offence that it is there for."""
    assert list(rule(module, ast.parse(offence)))


def test_type_checking_imports_do_not_count():
    """What only type checkers see makes no dependency; what stands in the ``else`` does."""
    text = "if TYPE_CHECKING:\n    from wbtune.tuner import {}\nelse:\n    from wbtune import {}"
    found = list(imports_upwards("runs", ast.parse(text.format("a", "sanitize"))))
    assert found == []
    assert list(imports_upwards("runs", ast.parse(text.format("a", "tuner")))) == ["wbtune.tuner"]


def test_every_module_has_its_place():
    """A new module is put into the order, or it is in nobody's plan."""
    assert sorted(set(MODULES) - set(ORDER)) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_size(path):
    """A module of more than 250 lines says near its top why; a function of more than 40, first."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    why = [line for line in lines[:60] if re.match(r"# .*\b250 lines\b.*\w", line)]
    assert len(lines) <= 250 or why, f"{path.name}: {len(lines)} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            documented = ast.get_docstring(node) is not None and len(node.body) > 1
            first = node.body[0].end_lineno if documented else node.lineno
            long = node.end_lineno - node.body[documented].lineno + 1 > 40
            said = any("Over 40 lines: " in line for line in lines[first : first + 3])
            assert said or not long, f"{path.name}: {node.name}"


def test_import_is_light(tmp_path):
    """`import wbtune` imports neither wandb nor wrapt, changes nothing global, starts nothing."""
    said = functions.program(functions.clean_env(tmp_path), tmp_path, "-c", IMPORT)
    assert said.split() == ["True"] * 5


IMPORT = """
import os, sys, threading
import ray.tune  # what Ray does at import is Ray's
before = dict(os.environ), os.getcwd(), threading.active_count(), os.listdir()
import wbtune
after = dict(os.environ), os.getcwd(), threading.active_count(), os.listdir()
same = (one == other for one, other in zip(before, after))
print(*same, sys.modules.keys().isdisjoint({"wandb", "wrapt"}))
"""


def test_public_names():
    """`__all__` is sorted and complete, and there is nothing public beside it but modules."""
    public = [
        name
        for name, value in vars(wbtune).items()
        if not name.startswith("_") and not is_module(value)
    ]
    assert wbtune.__all__ == sorted(public)


def is_module(value: Any) -> bool:
    return type(value) is type(ast)
