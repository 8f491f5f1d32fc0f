"""Find the messages of wbtune in its source: each error that it raises, each line that it prints.

A local variable, a constant and a function that returns the text are followed; if a text depends on
a condition, each of its forms is found (:mod:`message_texts`).

A message says itself what was wrong and what to do. What it leaves out is in comments directly
above the statement that the text is in::

    # Cause: The kernel has killed wandb-core, for want of memory, say.
    # Cure: Nothing to do: its rows are kept and written again.
    logger.warning("wbtune: wandb-core was gone; run %s goes on in a new one.", run.id)

`# Message: none` there is for what no user sees as it is, `# Message: a warning` for a text that
becomes one elsewhere.
"""

from __future__ import annotations

import ast
import functools
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from message_texts import Reader, Text, sums
from source_modules import PACKAGE, ROOT, Module, module

#: A warning's text is the last argument of these.
WARNINGS = re.compile(r"warn|.*\.warn|.*\._warn|notice\.warn_once|.*\._missing|.*problems\.append")
LINES = frozenset({"print_line"})
FINDINGS = frozenset({"problem", "note"})


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


def _filled(text: Text, args: list[ast.expr], reader: Reader) -> list[Text]:
    """A format of the logger with its arguments."""
    if args and isinstance(args[0], ast.Starred):
        inner = args[0].value
        args = inner.elts if isinstance(inner, ast.Tuple) else []
    pieces = re.split(r"%[-.\d]*[sdrf]", text.text)
    forms = [[Text(pieces[0], text.notes)]]
    for at, piece in enumerate(pieces[1:]):
        forms += [reader.texts(args[at]) if at < len(args) else [Text("<value>")], [Text(piece)]]
    return sums(forms)


def _of_call(node: ast.Call, reader: Reader) -> Iterator[tuple[str, Text, str]]:
    """The messages of a call: its kind, its text, and the cure that a finding has."""
    called = ast.unparse(node.func)
    name = called.rpartition(".")[2]
    if called in {"logger.warning", "logger.exception", "logger.error"} and node.args:
        for text in reader.texts(node.args[0]):
            yield from (("warning", one, "") for one in _filled(text, node.args[1:], reader))
    elif WARNINGS.fullmatch(called) and node.args:
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


def _of_node(node: ast.AST, of: Module) -> Iterator[tuple[str, Text, str]]:
    """The messages of a statement, or of a call in one."""
    reader = Reader(of, of.function(node), {})
    match node:
        case ast.Raise(exc=ast.expr() as raised):
            for one in reader.texts(raised):
                if one.error:
                    yield one.error, one, ""
        case ast.Call():
            yield from _of_call(node, reader)
    match node:
        case ast.Assign(value=value) | ast.Return(value=ast.expr() as value):
            if "Message" in of.notes(node):
                yield from (("warning", one, "") for one in reader.texts(value))


def _refusals() -> Iterator[Message]:
    """Why a way refuses an option, from the table of options."""
    of = module(f"{PACKAGE}._data.option_table")
    for table in ("OPTIONS", "INIT_OPTIONS"):
        options = of.names[table]
        assert isinstance(options, ast.Dict)
        for name, option in zip(options.keys, options.values, strict=True):
            assert isinstance(name, ast.Constant)
            assert isinstance(option, ast.Call)
            given = [one.value for one in option.keywords if one.arg == "refusal"]
            for refusal in (*option.args[4:], *given):
                for one in Reader(of, None, {}).texts(refusal):
                    text = f"<way>: {name.value}= {one.text}"
                    yield Message(
                        text, "", "ConfigurationError", {}, "_data/option_table.py", refusal.lineno
                    )


@functools.cache
def every() -> tuple[Message, ...]:
    """All messages of the package, in the order of its modules; some say nothing by themselves."""
    found = []
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        of = module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
        shown = str(path.relative_to(ROOT / PACKAGE))
        for node in sorted(
            (one for one in ast.walk(of.tree) if isinstance(one, ast.Call | ast.stmt)),
            key=lambda one: (one.lineno, one.col_offset),
        ):
            for usual, text, cure in _of_node(node, of):
                notes = {**text.notes, **of.notes(node)}
                kind = notes.get("Message", usual).removeprefix("a ").partition(" ")[0].strip(",")
                found.append(Message(_tidy(text.text), cure, kind, notes, shown, node.lineno))
    return (*found, *_refusals())


def messages() -> list[Message]:
    """All messages, without repetitions, and without what consists of placeholders alone."""
    first: dict[tuple[str, str, str], Message] = {}
    for one in every():
        says = re.sub(r"\(run <run.id>\)|<[^<>]*>|\W|wbtune", "", one.text)
        if says and one.kind != "none":
            first.setdefault((one.text, one.kind, one.module), one)
    return list(first.values())


def _tidy(text: str) -> str:
    text = text.replace("<public_name>", "<way>")
    text = re.sub(r"(<[^<>]*>)(: \1)+", r"\1", text)
    return re.sub(r"\s+", " ", text).strip()
