"""The table of the trials, as HTML; the page sorts it and hides what is not selected."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from wbtune._overview import text
from wbtune._overview.parameters import Parameter
from wbtune._overview.record import TrialRecord
from wbtune._overview.scores import Scores

#: Of a text: so much in a cell, and so much in its tooltip.
_CELL: Final = 48
_REASON: Final = 400


def html(scores: Scores, parameters: Sequence[Parameter]) -> str:
    """A row for each trial; the best one is marked."""
    metric = text.escape(scores.metric, _CELL)
    values = ("best", "last") if scores.record.mode else ("last",)
    heads = [
        *(("Trial", ""), ("Outcome", "")),
        *((f"{metric} ({value})", "n") for value in values if metric),
        *(("Iterations", "n"), ("Time", "n")),
        *(
            (text.escape(parameter.name, _CELL), "n" if parameter.is_ordered else "")
            for parameter in parameters
        ),
        ("Reason or error", ""),
    ]
    cells = "".join(
        f'<th scope="col"{_class(kind)}><button type="button">{head}</button></th>'
        for head, kind in heads
    )
    rows = "\n".join(
        _row(scores, at, trial, parameters) for at, trial in enumerate(scores.record.trials)
    )
    return f"<table>\n<thead><tr>{cells}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _row(scores: Scores, at: int, trial: TrialRecord, parameters: Iterable[Parameter]) -> str:
    is_best = at == scores.best
    return (
        f'<tr data-trial="{at}"{_class("best" if is_best else "")}>'
        f"{''.join(_cells(scores, at, trial, parameters))}</tr>"
    )


def _cells(
    scores: Scores, at: int, trial: TrialRecord, parameters: Iterable[Parameter]
) -> Iterator[str]:
    name = text.escape(trial.name, _CELL)
    url = _safe(scores.record.links.get(trial.trial_id))
    link = f'<a href="{text.escape(url)}" rel="noreferrer">{name}</a>' if url else name
    star = '<span title="the best trial">★</span> ' if at == scores.best else ""
    yield f'<th scope="row" title="{text.escape(trial.trial_id, text.LONG)}">{star}{link}</th>'
    outcome = text.escape(trial.outcome or "unknown", _CELL)
    yield f'<td><span class="outcome" data-outcome="{outcome}">{outcome}</span></td>'
    if scores.metric:
        yield _number(scores.values[at])
        if scores.record.mode:
            yield _number(trial.last)
    yield _number(trial.iterations)
    yield _number(trial.seconds, text.duration(trial.seconds))
    for parameter in parameters:
        yield _parameter(trial.params, parameter)
    reason = text.escape(trial.reason, _REASON)
    yield f'<td class="reason" title="{text.escape(trial.reason[: text.LONG])}">{reason}</td>'


def _number(value: float | None, shown: str | None = None) -> str:
    key = "" if value is None or not math.isfinite(value) else f' data-value="{float(value)!r}"'
    return f'<td class="n"{key}>{text.number(value) if shown is None else shown}</td>'


def _parameter(params: Any, parameter: Parameter) -> str:
    value = params.get(parameter.name, "")
    if parameter.is_ordered and isinstance(value, (int, float)):
        return _number(value)
    whole = text.value(value)
    shown = text.escape(whole, _CELL)
    title = f' title="{text.escape(whole[: text.LONG])}"' if len(whole) > _CELL else ""
    return f"<td{title}>{shown}</td>"


def _safe(url: Any) -> str:
    """An address of the web, or nothing."""
    try:
        return url if isinstance(url, str) and urlsplit(url).scheme in {"http", "https"} else ""
    except ValueError:
        return ""
