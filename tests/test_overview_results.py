"""`read_curve` reads the numbers of a metric, from any lines."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import examples

from wbtune._data.filtering import Excludes
from wbtune._overview.results import read_curve

NAMES = [
    "loss",
    "val",
    "val/loss",
    "training_iteration",
    "timestamp",
    "config",
    "a",
    'l"o',
    "ä",
    "",
]
METRICS = ["loss", "val/loss", "val/a/loss", "ä", 'l"o', ""]

_numbers = st.floats() | st.integers() | st.booleans() | st.just(10**400)
_texts = st.sampled_from(["loss", '"loss": 1}', "{", "}", "}{", '"', "\\", "1.5", "ä"]) | st.text()
_values = st.recursive(
    _numbers | st.none() | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner),
    max_leaves=8,
)
_results = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(NAMES, _values) | {"training_iteration": st.integers(0, 99)}
)


@st.composite
def files(draw: st.DrawFn) -> list[bytes]:
    """Lines of a file of Tune's, some of them broken off, or with the next one in the same line."""
    lines = [json.dumps(result).encode() for result in draw(st.lists(_results, max_size=4))]
    cut = draw(st.integers(0, 200))
    if lines and draw(st.booleans()):
        lines[-1] = lines[-1][:cut]
    if draw(st.booleans()):
        lines.append(lines[-1] + lines[0] if lines else b"\xff")
    return lines


def reference(lines: list[bytes], metric: str) -> list[tuple[float, float, float]]:
    """The plain way."""
    found = []
    for line in lines:
        try:
            result = json.loads(line)
        except ValueError:
            continue
        numbers = [number(result, name) for name in ("training_iteration", "timestamp", metric)]
        if numbers[-1] is not None:
            found.append(tuple(math.nan if one is None else one for one in numbers))
    return found


def number(result: Any, name: str) -> float | None:
    value = result
    for part in [name] if isinstance(result, dict) and name in result else name.split("/"):
        value = value.get(part) if isinstance(value, dict) else None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


@settings(max_examples=examples(300))
@given(files(), st.sampled_from(METRICS))
@example([b'{"config": {"loss": 1}, "training_iteration": 2, "timestamp": 3}'], "loss")
@example([b'{"config": {"val": {"loss": 1}}, "training_iteration": 2, "timestamp": 3}'], "val/loss")
@example([b'{"a": "}", "config": {"b": "}", "loss": 1}, "training_iteration": 2}'], "loss")
@example(
    [b'{"val": {"a": {"b": 1}, "loss": 0.5}, "training_iteration": 2, "timestamp": 3}'], "val/loss"
)
@example([b'{"val/loss": null, "val": {"loss": 0.5}, "training_iteration": 2}'], "val/loss")
@example([b'{"loss": 1, "training_iteration": 2, "timestamp": 3}{}'], "loss")
def test_it_reads_what_json_reads(lines: list[bytes], metric: str) -> None:
    """The same numbers from the same lines."""
    curve = read_curve(lines, metric)
    rows = [*zip(curve.iteration, curve.time, curve.value, strict=True)]
    assert repr(rows) == repr(reference(lines, metric))  # NaN is not equal to itself


def test_excluded_keys_are_not_read() -> None:
    """Neither an excluded metric, nor the axes."""
    lines = [b'{"loss": 1.5, "training_iteration": 2, "timestamp": 3}']
    assert len(read_curve(lines, "loss", Excludes(("lo*",))).value) == 0
    curve = read_curve(lines, "loss", Excludes(("timestamp", "training_iteration")))
    assert [*curve.value] == [1.5]
    assert math.isnan(curve.time[0]) and math.isnan(curve.iteration[0])
