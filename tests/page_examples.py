"""The fenced blocks of the documentation's pages, and the running of the Python ones.

The pages are README.md and all Markdown files under docs/. How a block is used depends on its
language, its title and the comment on the line before its fence:

- Python is a program of its own. `pages_program.py` runs it, in the folder of its page.
- `<!-- online -->` before Python: the same, with the stand-in for W&B's server in the environment.
- `<!-- recipes -->` before Python: run elsewhere, with the libraries of the recipes.
- `title="sweep.yaml"`, of any language: written to that file before the page's programs run, and
  not run itself.
- `<!-- output -->` before text: lines that the program before it prints, in this order, perhaps
  among others. Numbers and ids may differ.
- `<!-- not run: why -->` before anything: only shown.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
PYTHON = ("python", "py", "python3")
#: For all programs of one process: several pages, on a slow machine.
TIMEOUT = 1800

_FENCE = re.compile(r"^(?P<indent>[ \t>]*)(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>[^`]*)$")
_COMMENT = re.compile(r"^[ \t>]*<!--\s*(.*?)\s*-->\s*$")
_SNIPPET = re.compile(r'^--8<--\s+"([^":]+)"$')


class Block(NamedTuple):
    """One fenced block.

    Attributes:
        page: its file.
        line: the number of the first line inside the fence.
        language: the first word after the fence, in lower case.
        title: the name of a file, or nothing.
        marker: what the comment before the fence says, or nothing.
        text: what is in the fence, without its indentation; included files are read.
        output: the text of the output that the page shows for it, or None.
    """

    page: Path
    line: int
    language: str
    title: str
    marker: str
    text: str
    output: str | None = None

    @property
    def name(self) -> str:
        """The page, from the repository's root, and the line."""
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"

    @property
    def is_program(self) -> bool:
        """Say whether it is Python to run, here or elsewhere."""
        shown = self.title or self.marker.startswith("not run")
        return self.language in PYTHON and not shown


def fenced(page: Path) -> list[Block]:
    """Return all fenced blocks of a page, in its order."""
    return [*_with_outputs(_fenced(page))]


def blocks(page: Path, marker: str = "") -> list[Block]:
    """Return the programs of a page that have this marker."""
    return [one for one in fenced(page) if one.is_program and one.marker == marker]


def _fenced(page: Path) -> Iterator[Block]:
    lines = page.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        opening = _FENCE.match(lines[number])
        number += 1
        if not opening:
            continue
        first, indent, fence = number, len(opening["indent"]), opening["fence"]
        while number < len(lines) and not _closes(lines[number], fence):
            number += 1
        inner = [line[min(indent, len(line)) :] for line in lines[first:number]]
        number += 1
        language, _, rest = opening["info"].strip().partition(" ")
        title = re.search(r'title="([^"]*)"', rest)
        comment = _COMMENT.match(lines[first - 2]) if first > 1 else None
        yield Block(
            page,
            first + 1,
            language.lower(),
            title[1] if title else "",
            comment[1] if comment else "",
            "".join(f"{_included(line)}\n" for line in inner),
        )


def _closes(line: str, fence: str) -> bool:
    """Say whether a line ends a block: at least as many of the same characters, and no more."""
    bare = line.strip(" \t>")
    return bare.startswith(fence) and not bare.strip(fence[0])


def _included(line: str) -> str:
    found = _SNIPPET.match(line)
    return (ROOT / found[1]).read_text(encoding="utf-8").rstrip() if found else line


def _with_outputs(found: Iterable[Block]) -> Iterator[Block]:
    """Give each output to the program before it."""
    last: Block | None = None
    for block in found:
        if block.marker == "output":
            if last is None or last.output is not None:
                raise ValueError(f"{block.name}: an output, and no program directly before it")
            last = last._replace(output=block.text)
            continue
        if last:
            yield last
        last = block if block.is_program else None
        if last is None:
            yield block
    if last:
        yield last


def run(
    pages: Iterable[Path],
    folder: Path,
    env: Mapping[str, str],
    marker: str = "",
    python: str = sys.executable,
) -> dict[str, dict[str, Any]]:
    """Run the programs of these pages that have a marker, in one process and on one Ray.

    Args:
        pages: their files.
        folder: in which each page gets a folder of its own, for what it leaves.
        env: the environment of the process. Its home is an empty folder.
        marker: which programs.
        python: the interpreter.

    Returns:
        By the name of the block: `error` (a traceback, or None), `printed`, `seconds`, and `home`,
        the folder that what was in its home is in now.
    """
    results = folder / "results.jsonl"
    more = {
        "PYTHONPATH": os.pathsep.join((str(Path(__file__).parent), env.get("PYTHONPATH", ""))),
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    }
    names = [str(page) for page in pages]
    program = str(Path(__file__).with_name("pages_program.py"))
    done = subprocess.run(
        [python, program, str(results), marker, *names],
        env={**env, **more},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    lines = results.read_text(encoding="utf-8").splitlines() if results.exists() else []
    found = {one.pop("name"): one for one in map(json.loads, lines)}
    if done.returncode or "all pages" not in done.stdout:
        last = f"after {next(reversed(found), 'nothing')}"
        raise AssertionError(f"the process ended early, {last}:\n{done.stdout[-5000:]}")
    return found
