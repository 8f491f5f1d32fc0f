"""What MkDocs does not do by itself: a hook for links, and an extension for names in docstrings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import griffe

import wbtune
from wbtune._data import timeouts

ROOT = Path(__file__).parents[2]

#: Where each public name is documented.
TARGETS = {name: f"wbtune.{name}" for name in wbtune.__all__}


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Include CONTRIBUTING.md: in the repository's root, its links into docs/ are longer."""
    if page.file.src_uri == "contributing.md":
        text = ROOT.joinpath("CONTRIBUTING.md").read_text(encoding="utf-8")
        return markdown + re.sub(r"\]\(docs/", "](", text)
    return markdown


class Names(griffe.Extension):
    """A public name between single backticks is a link to its entry."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of one object."""
        if obj.docstring is None:
            return
        obj.docstring.value = re.sub(
            r"(?<![`\w])`@?(\w+)`(?!`)",
            lambda found: _link(found[0], found[1], obj.name),
            obj.docstring.value,
        )

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Show the value of a default that is a name of `timeouts`."""
        for parameter in func.parameters:
            found = re.fullmatch(r"timeouts\.(\w+)", str(parameter.default))
            if found:
                parameter.default = f"{getattr(timeouts, found[1]):g}"


def _link(text: str, name: str, inside: str) -> str:
    return f"[{text}][{TARGETS[name]}]" if name in TARGETS and name != inside else text
