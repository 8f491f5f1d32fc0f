"""Find the messages of wbtune in its source: each error that it raises, each line that it prints.

The text is put together without running anything: what is only known then is a placeholder,
`<run.id>`. A local variable, a constant and a function that returns the text are followed; if a
text depends on a condition, each of its forms is found.

A message says itself what was wrong and what to do. What it leaves out is in comments above the
statement that the text is in::

    # Cause: the kernel has killed wandb-core, for want of memory, say.
    # Cure: none is needed: its rows are kept and written again.
    logger.warning("wbtune: wandb-core was gone; run %s goes on in a new one.", run.id)

`# Message: none` there is for what no user sees by itself.
"""

from __future__ import annotations

import ast
import functools
import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGE = "wbtune"
#: A warning's text is the last argument of these.
WARNINGS = frozenset({"warn", "_warn", "warn_once"})
LINES = frozenset({"print_line"})
FINDINGS = frozenset({"problem", "note"})
ERRORS = frozenset(
    "BusyError ConfigurationError CredentialsError InvalidTrainableError MissingLibraryError "
    "ProgramFailedError ServerUnreachableError UnknownOptionError".split()
)
#: Methods that make an error, by the name under which they are called.
_METHODS = {
    "source.error": ("wbtune._data.sweep_source", "Source.error"),
    "self.error": ("wbtune._data.sweep_source", "Source.error"),
    "here.error": ("wbtune._data.sweep_source", "Source.error"),
    "source.unknown": ("wbtune._data.sweep_source", "Source.unknown"),
}
_COMMENT = re.compile(r"\s*# (Cause|Cure|Message): (.*)")
_MORE = re.compile(r"\s*#  ? ?(.*)")
#: What says nothing to a reader at the end of a name.
_EMPTY_ENDS = frozenset({"shown", "__name__", "value"})
_DEEPEST = 6


class Text(NamedTuple):
    """A message's text, or a part of it.

    Attributes:
        text: with placeholders.
        notes: `Cause`, `Cure` or `Message`, from comments.
        error: the class of the error that has it.
    """

    text: str
    notes: Mapping[str, str] = {}
    error: str = ""

    def __add__(self, other: Text) -> Text:  # type: ignore[override]
        """Both, one after the other."""
        joined = {**self.notes, **other.notes}
        return Text(self.text + other.text, joined, self.error or other.error)


class Message(NamedTuple):
    """A message, and where it is in the code.

    Attributes:
        text: what is printed, or the error's text.
        cure: what a finding of `wbtune doctor` has as its own argument.
        kind: the error's class, `warning`, `line` or `finding`.
        notes: from comments.
        module: of the package, as a path: `_run/guard.py`.
        line: of the statement.
    """

    text: str
    cure: str
    kind: str
    notes: Mapping[str, str]
    module: str
    line: int


class Module:
    """A module's tree, its lines and what its names mean."""

    def __init__(self, name: str) -> None:
        self.name = name
        path = ROOT.joinpath(*name.split("."))
        self.path = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
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


def readable(node: ast.expr) -> str:
    """What an expression stands for: `<run.id>` for `self._run.id`."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Constant()), args=[one]):  # ", ".join(names)
            return readable(one)
        case ast.Call(func=ast.Name(id="type"), args=[one]):
            return readable(one)
        case ast.Call(func=ast.Name(id="len")):
            return "number"
        case ast.Call(args=[one, *_]):
            return readable(one.value if isinstance(one, ast.Starred) else one)
        case ast.Call(func=ast.Attribute(value=value)):
            return readable(value)
        case ast.Call(func=func):
            return readable(func)
        case ast.Attribute(value=value, attr=attr) if attr in _EMPTY_ENDS:
            return readable(value)
        case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=attr):
            return attr.strip("_")
        case ast.Attribute(value=value, attr="id" | "name" as attr):
            return f"{readable(value)}.{attr}"
        case ast.Attribute(attr=attr):
            return attr.strip("_")
        case ast.Name(id=name):
            return name.strip("_")
        case ast.Subscript(value=value, slice=ast.Constant(value=str() as key)):
            return key
        case ast.Subscript(value=value):
            return readable(value)
        case ast.BoolOp(values=[first, *_]) | ast.BinOp(left=first):
            return readable(first)
        case ast.GeneratorExp(elt=one) | ast.ListComp(elt=one) | ast.IfExp(body=one):
            return readable(one)
        case ast.FormattedValue(value=one) | ast.JoinedStr(values=[one, *_]):
            return readable(one)
    return "value"


class Reader:
    """Puts texts together, in one function of one module."""

    def __init__(
        self,
        of: Module,
        function: ast.FunctionDef | None,
        bound: Mapping[str, list[Text]],
        depth: int = 0,
    ) -> None:
        self._module, self._function = of, function
        self._bound, self._depth = bound, depth

    def texts(self, node: ast.expr) -> list[Text]:
        """The forms of an expression's text."""
        match node:
            case ast.Constant(value=str() as text):
                return [Text(text, self._module.notes(node))]
            case ast.Constant(value=value):
                return [Text(str(value))]
            case ast.JoinedStr(values=parts):
                return self._joined(parts)
            case ast.FormattedValue(value=value, conversion=how):
                return self._shown(value, how)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return _sums([self.texts(left), self.texts(right)])
            case ast.IfExp(body=body, orelse=other):
                return _forms([*self.texts(body), *self.texts(other)])
            case ast.BoolOp(values=values):
                return _forms([one for value in values for one in self.texts(value)])
            case ast.Name(id=name):
                return self._named(node, name)
            case ast.Call():
                return self._called(node)
            case ast.Subscript(value=value, slice=ast.Constant(value=int() as at)):
                return self._cut(node, value, slice(at, at + 1))
            case ast.Subscript(value=value, slice=ast.Slice(lower=ast.Constant(value=at))):
                return self._cut(node, value, slice(at, None))
            case ast.Attribute(value=ast.Name(id=name), attr=attr) if name in self._module.imports:
                return self._imported(*self._module.imports[name], attr) or _unknown(node)
        return _unknown(node)

    def _cut(self, node: ast.expr, value: ast.expr, part: slice) -> list[Text]:
        found = [one._replace(text=one.text[part]) for one in self.texts(value) if "<" not in one.text]
        return found or _unknown(node)

    def _shown(self, value: ast.expr, how: int) -> list[Text]:
        found = self.texts(value)
        if how == ord("r"):
            return [one if one.text.startswith("<") else one._replace(text=repr(one.text)) for one in found]
        return found

    def _joined(self, parts: list[ast.expr]) -> list[Text]:
        return _sums([self.texts(part) for part in parts])

    def _named(self, node: ast.Name, name: str) -> list[Text]:
        if name in self._bound:
            return self._bound[name]
        if self._function is not None and (found := self._assigned(node, name)):
            return _known(found, node)
        if name in self._module.imports:
            return self._imported(*self._module.imports[name]) or _unknown(node)
        value = self._module.names.get(name)
        if isinstance(value, ast.expr):
            return _known(Reader(self._module, None, {}, self._depth + 1).texts(value), node)
        return _unknown(node)

    def _assigned(self, node: ast.expr, name: str) -> list[Text]:
        """The forms of what a local name has there: the last assignments before it."""
        found: list[Text] = []
        at: ast.AST = self._module.statement(node)
        while at is not self._function and at in self._module.parents:
            above = self._module.parents[at]
            for _, block in ast.iter_fields(above):
                if not isinstance(block, list) or at not in block:
                    continue
                for before in reversed(block[: block.index(at)]):
                    found += [one for value in _values(before, name) for one in self.texts(value)]
                    if found and isinstance(before, ast.Assign):
                        return _forms(found)
            at = above
        return _forms(found)

    def _imported(self, source: str, name: str, attr: str = "") -> list[Text]:
        """The forms of a constant of another module."""
        if not attr and not (ROOT / f"{source.replace('.', '/')}/{name}.py").is_file():
            of, wanted = module(source), name
        elif attr and (ROOT / f"{source.replace('.', '/')}/{name}.py").is_file():
            of, wanted = module(f"{source}.{name}"), attr
        else:
            return []
        value = of.names.get(wanted)
        if isinstance(value, ast.expr):
            return Reader(of, None, {}, self._depth + 1).texts(value)
        return []

    def _called(self, node: ast.Call) -> list[Text]:
        """The forms of what a call returns: an error, or a text of a function of the package."""
        called = ast.unparse(node.func)
        name = called.rpartition(".")[2]
        if name in ERRORS and node.args:
            return [one._replace(error=one.error or name) for one in self.texts(node.args[0])]
        if called.startswith("type(") and node.args:
            return self.texts(node.args[0])
        match node:
            case ast.Call(func=ast.Attribute(value=inner, attr="strip" | "rstrip")):
                return _known(self.texts(inner), node)
            case ast.Call(func=ast.Attribute(value=inner, attr="upper")):
                return [one._replace(text=one.text.upper()) if "<" not in one.text else one for one in self.texts(inner)]
            case ast.Call(func=ast.Name(id="str" | "next"), args=[ast.GeneratorExp(elt=inner) | inner, *_]):
                return self.texts(inner)
        target = self._target(called)
        if target is None or self._depth > _DEEPEST:
            return _unknown(node)
        of, function = target
        names = [one.arg for one in function.args.args if one.arg != "self"]
        bound = {key: self.texts(arg) for key, arg in zip(names, node.args, strict=False)}
        bound |= {one.arg: self.texts(one.value) for one in node.keywords if one.arg}
        defaults = function.args.defaults
        for key, value in zip(names[len(names) - len(defaults):], defaults, strict=True):
            bound.setdefault(key, Reader(of, None, {}).texts(value))
        reader = Reader(of, function, bound, self._depth + 1)
        returned = [
            one.value for one in ast.walk(function)
            if isinstance(one, ast.Return) and one.value is not None
        ]
        found = [
            text._replace(notes={**of.notes(value), **text.notes})
            for value in returned for text in reader.texts(value)
        ]
        return _known(_forms(found), node)

    def _target(self, called: str) -> tuple[Module, ast.FunctionDef] | None:
        """The function that is called."""
        for end, (source, name) in _METHODS.items():
            if called.endswith(end) or (called == "error" and end == "source.error"):
                return self._function_of(module(source), name)
        head, _, tail = called.partition(".")
        if head in self._module.imports:
            source, name = self._module.imports[head]
            if tail:
                path = ROOT / f"{source.replace('.', '/')}/{name}.py"
                return self._function_of(module(f"{source}.{name}"), tail) if path.is_file() else None
            return self._function_of(module(source), name)
        return self._function_of(self._module, head if not tail else tail)

    @staticmethod
    def _function_of(of: Module, name: str) -> tuple[Module, ast.FunctionDef] | None:
        found = of.names.get(name)
        return (of, found) if isinstance(found, ast.FunctionDef) else None


def _unknown(node: ast.expr) -> list[Text]:
    return [Text(f"<{readable(node)}>")]


def _known(found: list[Text], node: ast.expr) -> list[Text]:
    """The forms, if they are more than placeholders."""
    return found if any(re.sub(r"<[^<>]*>|\W", "", one.text) for one in found) else _unknown(node)


def _values(statement: ast.stmt, name: str) -> Iterator[ast.expr]:
    """What a statement, or one in it, assigns to a name; not what only changes it."""
    for one in ast.walk(statement):
        match one:
            case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
                pairs = list(zip(names, values, strict=True))
            case ast.Assign(targets=[target], value=value):
                pairs = [(target, value)]
            case _:
                continue
        for target, value in pairs:
            names = {inner.id for inner in ast.walk(value) if isinstance(inner, ast.Name)}
            if isinstance(target, ast.Name) and target.id == name and name not in names:
                yield value


_PLURALS = {"is": "are", "was": "were", "needs": "need", "it is": "they are"}


def _forms(found: list[Text]) -> list[Text]:
    """The forms that differ: without the empty one, the singular, and more than one placeholder."""
    texts = {one.text for one in found}
    found = [
        one
        for one in found
        if f"{one.text}s" not in texts and _PLURALS.get(one.text.strip()) not in {t.strip() for t in texts}
    ]
    plain = [one for one in found if not re.fullmatch("<[^<>]*>", one.text) and one.text not in {"", "None"}]
    if plain:
        return list({one.text: one for one in plain}.values())
    named = [one for one in found if one.text not in {"", "None", "<value>"}]
    return named[:1] or found[:1]


def _sums(parts: list[list[Text]]) -> list[Text]:
    return [functools.reduce(Text.__add__, one, Text("")) for one in itertools.product(*parts)]


def _filled(text: Text, args: list[ast.expr], reader: Reader) -> list[Text]:
    """A format of the logger with its arguments."""
    if args and isinstance(args[0], ast.Starred):
        inner = args[0].value
        args = inner.elts if isinstance(inner, ast.Tuple) else []
    pieces = re.split(r"%[-.\d]*[sdrf]", text.text)
    forms = [[Text(pieces[0], text.notes)]]
    for at, piece in enumerate(pieces[1:]):
        forms += [reader.texts(args[at]) if at < len(args) else [Text("<value>")], [Text(piece)]]
    return _sums(forms)


def _of_call(node: ast.Call, reader: Reader) -> Iterator[tuple[str, Text, str]]:
    """The messages of a call: its kind, its text, and the cure that a finding has."""
    called = ast.unparse(node.func)
    name = called.rpartition(".")[2]
    if called in {"logger.warning", "logger.exception", "logger.error"} and node.args:
        for text in reader.texts(node.args[0]):
            yield from (("warning", one, "") for one in _filled(text, node.args[1:], reader))
    elif name in WARNINGS and node.args:
        at = 0 if called == "warnings.warn" else min(len(node.args), 2) - 1
        begin = Text(_beginning(called, node.args[0], at))
        yield from (("warning", begin + one, "") for one in reader.texts(node.args[at]))
    elif (name in LINES or called == "click.echo") and node.args:
        yield from (("line", one, "") for one in reader.texts(node.args[0]))
    elif called in FINDINGS and len(node.args) > 1:  # without a cure, it is a mere fact
        cures = reader.texts(node.args[1])
        for one, cure in itertools.product(reader.texts(node.args[0]), cures):
            yield "finding", one._replace(notes={**cure.notes, **one.notes}), cure.text


def _beginning(called: str, first: ast.expr, at: int) -> str:
    """What stands before a warning's text: :mod:`wbtune._driver.notices` names the run."""
    match first:
        case ast.Constant(value="") if at:
            return "wbtune: "
        case _ if at:
            return "wbtune (run <run.id>): "
    return "wbtune: " if called.endswith("output.warn") or called == "out.warn" else ""


def messages() -> list[Message]:
    """All messages of the package, in the order of its modules."""
    found = []
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        of = module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
        for node in ast.walk(of.tree):
            reader = Reader(of, of.function(node), {})
            if isinstance(node, ast.Raise) and node.exc is not None:
                what = [(one.error, one, "") for one in reader.texts(node.exc) if one.error]
            elif isinstance(node, ast.Call):
                what = list(_of_call(node, reader))
            else:
                continue
            shown = str(path.relative_to(ROOT / PACKAGE))
            for kind, text, cure in what:
                notes = {**text.notes, **of.notes(node)}
                found.append(Message(_tidy(text.text), cure, kind, notes, shown, node.lineno))
    return _once(found)


def _once(found: list[Message]) -> list[Message]:
    """Without repetitions, and without what consists of placeholders alone."""
    first: dict[tuple[str, str, str], Message] = {}
    for one in found:
        if re.sub(r"<[^<>]*>|\W|wbtune", "", one.text) and "none" not in one.notes.get("Message", ""):
            first.setdefault((one.text, one.kind, one.module), one)
    return list(first.values())


def _tidy(text: str) -> str:
    text = text.replace("<public_name>", "<way>")
    text = re.sub(r"(<[^<>]*>)(: \1)+", r"\1", text)
    return re.sub(r"\s+", " ", text).strip()


if __name__ == "__main__":
    for one in messages():
        print(f"{one.module}:{one.line} [{one.kind}] {one.text} || {one.cure} {dict(one.notes) or ''}")
