"""The head of the page: which experiment, how its trials ended, and the best one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from wbtune._data.outcomes import Kind
from wbtune._overview import text
from wbtune._overview.scores import Scores

_PARAMETERS_SHOWN: Final = 24
_LONGEST: Final = 60


def html(scores: Scores) -> str:
    """The head, as HTML."""
    record = scores.record
    goal = {"min": "minimized", "max": "maximized"}.get(record.mode or "", "")
    lines = [f"<h1>{text.escape(record.name, 200)}</h1>"]
    if record.metric:
        metric = f"<code>{text.escape(record.metric, 100)}</code>"
        lines.append(f'<p class="goal">{metric}{f", {goal}" if goal else ""}</p>')
    lines += ['<ul class="outcomes">', *_outcomes(scores), "</ul>", *_best(scores)]
    if record.note:
        lines.append(f'<p class="note">{text.escape(record.note, text.LONG)}</p>')
    return "\n".join(lines)


def _outcomes(scores: Scores) -> Iterator[str]:
    trials = scores.record.trials
    counts = Counter(trial.outcome or "unknown" for trial in trials)
    yield f"<li><b>{len(trials):,}</b> {'trial' if len(trials) == 1 else 'trials'}</li>"
    order = {kind.value: at for at, kind in enumerate(Kind)}
    for outcome in sorted(counts, key=lambda one: (order.get(one, len(order)), one)):
        name = text.escape(outcome, _LONGEST)
        yield f'<li class="outcome" data-outcome="{name}"><b>{counts[outcome]:,}</b> {name}</li>'


def _best(scores: Scores) -> Iterator[str]:
    if scores.best is None:
        return
    trial = scores.record.trials[scores.best]
    value = text.number(float(scores.values[scores.best]))
    yield '<div class="card">'
    yield f"<h2>Best trial: {text.escape(trial.name, 100)}</h2>"
    yield f"<p>{text.escape(scores.metric, _LONGEST)} = <b>{value}</b></p>"
    yield "<dl>"
    params = [*trial.params.items()]
    for name, parameter in params[:_PARAMETERS_SHOWN]:
        shown = text.escape(text.value(parameter), _LONGEST)
        yield f"<div><dt>{text.escape(name, _LONGEST)}</dt><dd>{shown}</dd></div>"
    yield "</dl>"
    if len(params) > _PARAMETERS_SHOWN:
        yield f"<p>and {len(params) - _PARAMETERS_SHOWN} more parameters, in the table</p>"
    yield "</div>"
