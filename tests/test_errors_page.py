"""The page about errors has every message of the code, each with what to do."""

from __future__ import annotations

import ast
import re

import errors_page
import pytest
from errors_page import LINES, PAGE, SUBJECTS, Row, rows, split, without_cure, written
from message_texts import ERRORS
from messages import every
from source_modules import PACKAGE, ROOT

from wbtune._data import options, sweep_file
from wbtune.errors import WbtuneError


@pytest.fixture(scope="module")
def found() -> list[Row]:
    """The rows of the page."""
    return rows()


def test_the_page_is_that_of_the_code():
    """`python tests/errors_page.py` changes nothing."""
    page = PAGE.read_text(encoding="utf-8")
    assert written(page) == page


def test_each_message_says_what_to_do(found):
    """By itself, or by the comment above it; only the lines that report no trouble need not."""
    assert list(without_cure()) == []
    assert any(row.subject == LINES for row in found)


def test_each_subject_has_messages(found):
    """And each message has a subject."""
    assert {row.subject for row in found} == set(SUBJECTS)


def _raised() -> list[tuple[str, int]]:
    """Where the source raises an error of wbtune's."""
    makers = {*ERRORS, "_refused", "error", "unknown", "_not_here", "_not_written"}
    places = []
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                called = ast.unparse(node.exc.func).rpartition(".")[2]
                if called in makers:
                    places.append((str(path.relative_to(ROOT / PACKAGE)), node.lineno))
    return places


def test_no_error_is_missing():
    """The text of each `raise` is found."""
    there = {(one.module, one.line) for one in every()}
    assert [place for place in _raised() if place not in there] == []
    assert len(_raised()) > 100


def _pattern(said: str) -> re.Pattern[str]:
    """What a message with its placeholders matches."""
    parts = re.split(r"<[^<>]*>", said.removeprefix("… "))
    return re.compile(".*".join(map(re.escape, parts)))


@pytest.mark.parametrize(
    "given",
    [
        {"projct": "p"},
        {"project": 5},
        {"project": "team/p"},
        {"tags": "one"},
        {"mode": "of"},
        {"notes": 5},
        {"upload_checkpoints": "bset"},
        {"settings": {"slient": True}},
        {"fork_from": "x"},
    ],
    ids=str,
)
def test_an_error_is_found_by_its_text(given, found):
    """What is raised is what the page shows, with values for its placeholders."""
    names = frozenset({"tags", "mode", "notes", "settings", "fork_from"})
    with pytest.raises(WbtuneError) as raised:
        options.parse("wandb_tuner", given, names)
    shown = [
        row for row in found if any(_pattern(one).match(str(raised.value)) for one in row.said)
    ]
    assert shown
    assert any(type(raised.value).__name__ in where for row in shown for where in row.where)


def test_an_error_of_a_sweeps_config_is_found_by_its_text(found):
    """Without what all of them begin with."""
    with pytest.raises(WbtuneError) as raised:
        sweep_file.read("wandb_tuner", {"method": "gird", "parameters": {"lr": {"value": 1}}})
    shown = [row for row in found if row.subject == errors_page.SWEEP]
    assert any(_pattern(one).search(str(raised.value)) for row in shown for one in row.said)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("w: no project. Give project=.", ("w: no project.", "Give project=.")),
        ("w: run <id> is lost", ("w: run <id> is lost", "")),
        ("a; run this again", ("a;", "run this again")),
        ("w: <why>. Another key: run x.", ("w: <why>.", "Another key: run x.")),
    ],
)
def test_a_message_is_split_where_the_cure_begins(text, parts):
    """At the first sentence that begins with what to do."""
    assert split(text) == parts
