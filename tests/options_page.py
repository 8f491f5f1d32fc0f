"""The tables of options in docs/ways, written from `wbtune._data.option_table`.

`python tests/options_page.py` writes them between the markers; `test_option_table` holds the pages
against them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wbtune import WandbLoggerCallback, setup_wandb, wandb_trial, wandb_tuner
from wbtune._data.ignored_options import ACCEPTED_BY
from wbtune._data.option_table import DECIDED, INIT_OPTIONS, OPTIONS, Option

FOLDER = Path(__file__).parents[1] / "docs" / "ways"
BEGIN, END = "<!-- options -->\n", "<!-- /options -->\n"

#: The ways, in the order of the table's columns: the page of each, and its named parameters.
WAYS: dict[str, tuple[str, Any]] = {
    "wandb_tuner": ("wandb_tuner.md", wandb_tuner),
    "WandbLoggerCallback": ("logger_callback.md", WandbLoggerCallback),
    "wandb_trial": ("wandb_trial.md", wandb_trial),
    "WandbMixin": ("wandb_mixin.md", None),
    "setup_wandb": ("setup_wandb.md", setup_wandb),
}


def pages() -> dict[Path, str]:
    """What stands between the markers of each page."""
    by_way = {FOLDER / page: of_way(way) for way, (page, _) in WAYS.items()}
    return {FOLDER / "options.md": of_all(), **by_way}


def of_all() -> str:
    """Every option, and the ways that accept it."""
    decided = "".join(f"- `{name}`: {_safe(why)}.\n" for name, why in DECIDED.items())
    return (
        f"{_table_of_all(OPTIONS)}\n## Arguments of `wandb.init`\n\n{_table_of_all(INIT_OPTIONS)}\n"
        f"## Decided by wbtune itself\n\n{decided}"
    )


def of_way(way: str) -> str:
    """The options of one way, and those that it refuses."""
    return (
        f"{_table_of_way(way, OPTIONS)}\n"
        f"Arguments of `wandb.init`:\n\n{_table_of_way(way, INIT_OPTIONS)}\n{_refused(way)}"
    )


def _table_of_all(options: Mapping[str, Option]) -> str:
    rows = [["option", "what it does", "default", *(f"`{way}`" for way in WAYS)]]
    for name, option in options.items():
        at = ["yes" if way in option.ways else "" for way in WAYS]
        rows.append([f"`{name}`", option.does, _value(option.default), *at])
    return _table(rows)


def _table_of_way(way: str, options: Mapping[str, Option]) -> str:
    rows = [["option", "what it does", "default"]]
    for name, option in options.items():
        if way in option.ways:
            rows.append([f"`{name}`", option.does, _value(_default(way, name, option))])
    return _table(rows)


def _default(way: str, name: str, option: Option) -> Any:
    """The way's own default if it has one, or the table's."""
    function = WAYS[way][1]
    given = inspect.signature(function).parameters.get(name) if function else None
    return option.default if given is None or given.default is None else given.default


def _refused(way: str) -> str:
    """What can't be given to a way: why, and what to write instead."""
    refused = {
        name: option.refusal
        for name, option in {**OPTIONS, **INIT_OPTIONS}.items()
        if way not in option.ways
    }
    lines = []
    for name, why in refused.items():
        sentence = re.sub("^(?=[a-z])", "It ", why.removeprefix("has no effect here. "))
        lines.append(f"- `{name}`: {_safe(sentence)}\n")
    names = ", ".join(f"`{name}`" for name in DECIDED)
    if way in ACCEPTED_BY:
        effect = "are accepted, as Ray's own does, and one line says that they have no effect"
    else:
        effect = "are refused"
    decided = (
        f"{names} {effect}: [wbtune decides them itself](options.md#decided-by-wbtune-itself).\n"
    )
    when = "when it is called" if way == "setup_wandb" else "before any trial"
    head = f"Refused, with a `ConfigurationError` {when}:\n\n" if lines else ""
    return f"{head}{''.join(lines)}{chr(10) if lines else ''}{decided}"


def _value(default: object) -> str:
    return "" if default is None else f"`{default}`"


def _safe(text: str) -> str:
    """Show what stands in angle brackets, instead of a tag of HTML."""
    return re.sub(r"<\w+>\S*\w", lambda found: f"`{found[0]}`", text)


def _table(rows: list[list[str]]) -> str:
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in rows)


def between(text: str) -> str:
    """What stands between the markers of a page's text."""
    return text.partition(BEGIN)[2].partition(END)[0]


def main() -> None:
    """Write the pages."""
    for path, table in pages().items():
        before, marker, rest = path.read_text(encoding="utf-8").partition(BEGIN)
        assert marker, f"{path} has no {BEGIN.strip()}"
        path.write_text(f"{before}{BEGIN}{table}{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
