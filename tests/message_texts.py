"""Put the text of a message together from its source: what only run time knows is a placeholder."""

# Over 250 lines: one case for each kind of expression.

from __future__ import annotations

import ast
import functools
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from source_modules import ROOT, Module, module

ERRORS = frozenset(
    {
        "BusyError",
        "ConfigurationError",
        "CredentialsError",
        "InvalidTrainableError",
        "MissingLibraryError",
        "ProgramFailedError",
        "ServerUnreachableError",
        "UnknownOptionError",
    }
)
#: Methods that make an error, by what they are called as.
_METHODS = {
    "source.error": ("wbtune._data.sweep_source", "Source.error"),
    "self.error": ("wbtune._data.sweep_source", "Source.error"),
    "here.error": ("wbtune._data.sweep_source", "Source.error"),
    ").error": ("wbtune._data.sweep_source", "Source.error"),
    "source.unknown": ("wbtune._data.sweep_source", "Source.unknown"),
}
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


def readable(node: ast.expr) -> str:  # noqa: C901, PLR0911, PLR0912 - see above
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
            return (name.lower() if name.isupper() else name).strip("_")
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

    def texts(self, node: ast.expr) -> list[Text]:  # noqa: C901, PLR0911 - see above
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
                return sums([self.texts(left), self.texts(right)])
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
        found = [
            one._replace(text=one.text[part]) for one in self.texts(value) if "<" not in one.text
        ]
        return found or _unknown(node)

    def _shown(self, value: ast.expr, how: int) -> list[Text]:
        found = self.texts(value)
        if how == ord("r"):
            return [
                one if one.text.startswith("<") else one._replace(text=repr(one.text))
                for one in found
            ]
        return found

    def _joined(self, parts: list[ast.expr]) -> list[Text]:
        return sums([self.texts(part) for part in parts])

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
        added: list[list[Text]] = []
        at: ast.AST = self._module.statement(node)
        while at is not self._function and at in self._module.parents:
            above = self._module.parents[at]
            for _, block in ast.iter_fields(above):
                if not isinstance(block, list) or at not in block:
                    continue
                for before in reversed(block[: block.index(at)]):
                    match before:
                        case ast.AugAssign(target=ast.Name(id=target), value=more) if (
                            target == name
                        ):
                            added.insert(0, self.texts(more))
                    found += [one for value in _values(before, name) for one in self.texts(value)]
                    if found and isinstance(before, ast.Assign):
                        return sums([_forms(found), *added])
            at = above
        return sums([_forms(found), *added])

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

    def _called(self, node: ast.Call) -> list[Text]:  # noqa: PLR0911 - see above
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
                return [
                    one._replace(text=one.text.upper()) if "<" not in one.text else one
                    for one in self.texts(inner)
                ]
            case ast.Call(
                func=ast.Name(id="str" | "next"), args=[ast.GeneratorExp(elt=inner) | inner, *_]
            ):
                return self.texts(inner)
        target = self._target(called)
        if target is None or self._depth > _DEEPEST:
            return _unknown(node)
        of, function = target
        names = [one.arg for one in function.args.args if one.arg != "self"]
        bound = {key: self.texts(arg) for key, arg in zip(names, node.args, strict=False)}
        bound |= {one.arg: self.texts(one.value) for one in node.keywords if one.arg}
        defaults = function.args.defaults
        for key, value in zip(names[len(names) - len(defaults) :], defaults, strict=True):
            bound.setdefault(key, Reader(of, None, {}).texts(value))
        reader = Reader(of, function, bound, self._depth + 1)
        returned = [
            one.value
            for one in ast.walk(function)
            if isinstance(one, ast.Return) and one.value is not None
        ]
        found = [
            text._replace(notes={**of.notes(value), **text.notes})
            for value in returned
            for text in reader.texts(value)
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
                return (
                    self._function_of(module(f"{source}.{name}"), tail) if path.is_file() else None
                )
            return self._function_of(module(source), name)
        return self._function_of(self._module, tail or head)

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
        if f"{one.text}s" not in texts
        and _PLURALS.get(one.text.strip()) not in {t.strip() for t in texts}
    ]
    plain = [
        one
        for one in found
        if not re.fullmatch("<[^<>]*>", one.text) and one.text not in {"", "None"}
    ]
    if plain:
        return list({one.text: one for one in plain}.values())
    named = [one for one in found if one.text not in {"", "None", "<value>"}]
    return named[:1] or found[:1]


def sums(parts: list[list[Text]]) -> list[Text]:
    """The forms of texts that stand one after the other."""
    return [functools.reduce(Text.__add__, one, Text("")) for one in itertools.product(*parts)]
