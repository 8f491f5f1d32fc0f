"""Put the panels together into one page that needs no network, and write it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Final

import numpy as np

from wbtune._overview import (
    best_so_far,
    curves,
    head,
    importance,
    importance_panel,
    lineage,
    panel,
    parallel,
    slices,
    table,
    text,
)
from wbtune._overview.panel import Panel
from wbtune._overview.parameters import Parameter, parameters_of, varying
from wbtune._overview.record import ExperimentRecord
from wbtune._overview.scores import Scores

#: The page's file, unless another is given.
FILE: Final = "overview.html"
#: Says in each page who wrote it; in its first lines, so that a look at these suffices.
GENERATOR: Final = '<meta name="generator" content="wbtune">'
_FIRST_BYTES: Final = 4096

#: The browser itself refuses all that is not in the file. Plotly compiles its shaders.
_POLICY: Final = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline' 'unsafe-eval'; base-uri 'none'; form-action 'none'"
)


class MissingLibraryError(ImportError):
    """Plotly, which draws the page, is not installed."""


def write(record: ExperimentRecord, path: Path) -> None:
    """Write the page; whoever has an older one open keeps that.

    Args:
        record: the experiment; all text in it is already filtered and masked.
        path: the file to write or to replace.

    Raises:
        MissingLibraryError: if Plotly is not installed; its text says what to do.
        OSError: if the file can't be written.
    """
    page = html(record, plotly())
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise


def plotly() -> str:
    """The source of plotly.js.

    Raises:
        MissingLibraryError: if Plotly is not installed; its text says what to do.
    """
    try:
        from plotly.offline import get_plotlyjs  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingLibraryError(
            "No overview.html: Plotly is not installed. "
            "Run: pip install plotly optuna (the extra wbtune[overview])"
        ) from error
    return str(get_plotlyjs())


def is_page(path: Path) -> bool:
    """Is this file a page of wbtune's?

    Raises:
        OSError: if it can't be read.
    """
    with path.open("rb") as file:
        return GENERATOR.encode() in file.read(_FIRST_BYTES)


def html(record: ExperimentRecord, script: str) -> str:
    """The page.

    Args:
        record: the experiment.
        script: the source of plotly.js.
    """
    scores, parameters = Scores.of(record), parameters_of(record)
    with np.errstate(all="ignore"):  # of values near the greatest floats
        panels = panels_of(scores, varying(parameters))
    drawn = [one for one in panels if one.layout is not None]
    tooltips = [panel.tooltip(trial) for trial in record.trials]
    figures = {one.key: {"data": one.data, "layout": one.layout} for one in drawn}
    data = text.in_script({"tooltips": tooltips, "figures": figures})
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        GENERATOR,
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{text.escape(record.name, 100)}</title>",
        f"<style>\n{_source('page.css')}</style>\n</head>\n<body>",
        f"<header>\n{head.html(scores)}\n</header>\n<main>",
        "<noscript><p>The charts need JavaScript.</p></noscript>",
        *(_section(one) for one in panels),
        _trials(scores, parameters),
        "</main>",
        f'<script type="application/json" id="data">{data}</script>',
        f"<script>{script}</script>",
        f"<script>\n{_source('page.js')}</script>\n</body>\n</html>\n",
    ]
    return "\n".join(parts)


def panels_of(scores: Scores, parameters: Sequence[Parameter]) -> list[Panel]:
    """All panels but the table; that of the lineage only if there is one."""
    ranking = importance.rank(scores, parameters)
    found = [
        best_so_far.draw(scores),
        parallel.draw(scores, parameters, ranking),
        curves.draw(scores),
        importance_panel.draw(ranking),
        slices.draw(scores, parameters, ranking),
        lineage.draw(scores),
    ]
    return [one for one in found if one is not None]


def _section(one: Panel) -> str:
    button = (
        f'<button type="button" class="log" data-log="{one.key}" aria-pressed="false" hidden>'
        "log scale</button>"
    )
    lines = [f"<section>\n<h2>{one.title}{button if one.log and one.layout else ''}</h2>"]
    if one.note:
        lines.append(f'<p class="note">{text.escape(one.note)}</p>')
    height = f' style="height: {one.layout["height"]}px"' if one.layout else ' class="empty"'
    lines.append(f'<div id="{one.key}"{height}></div>\n</section>')
    return "\n".join(lines)


def _trials(scores: Scores, parameters: Sequence[Parameter]) -> str:
    return (
        '<section>\n<h2>Trials</h2>\n<p class="note" id="selected" aria-live="polite"></p>\n'
        f'<div id="trials">\n{table.html(scores, parameters)}\n</div>\n</section>'
    )


def _source(name: str) -> str:
    return files("wbtune._overview").joinpath(name).read_text(encoding="utf-8")
