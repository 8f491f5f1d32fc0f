"""`plain` takes any value to what W&B accepts: total, idempotent, deterministic."""

# Over 250 lines: every kind of value.

from __future__ import annotations

import dataclasses
import doctest
import json
import os
import subprocess
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import strategies
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import Colour, Homeless, Level, Pair, Point, Rude, Shout, Silent, Tensor, examples
from wandb.util import json_dumps_safer, json_dumps_safer_history

from wbtune._data import arrays, sanitize
from wbtune._data.sanitize import key_text, plain, plain_metric

PLAIN = (dict, list, str, int, float, bool, type(None))
HISTOGRAM = {"_type", "values", "bins"}

either = pytest.mark.parametrize("clean", [plain, plain_metric])


@pytest.fixture(autouse=True)
def warnings_as_in_a_trial() -> Iterator[None]:
    """A trial prints NumPy's warnings and goes on; as errors, they would hide the value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def as_text(value: Any) -> str:
    """The value as strict JSON; arrays that stay arrays are themselves."""
    return json.dumps(value, allow_nan=False, default=lambda media: f"media {id(media)}")


def not_plain(value: Any) -> list[Any]:
    """What in this value is not one of JSON's own types, exactly."""
    if type(value) is dict:
        keys = [key for key in value if type(key) is not str]
        return keys + [odd for inner in value.values() for odd in not_plain(inner)]
    if type(value) is list:
        return [odd for inner in value for odd in not_plain(inner)]
    return [] if type(value) in PLAIN else [value]


def pictures_aside(value: Any) -> Any:
    """A metric without the arrays that become pictures: a row's own, not those in lists."""
    if type(value) is dict:
        return {key: pictures_aside(inner) for key, inner in value.items()}
    return None if arrays.is_media_array(value) else value


def anatomy(value: Any, inside: frozenset[int] = frozenset()) -> Any:  # noqa: PLR0911 - a table
    """Which objects a value is made of, and in which order; asks nothing of strangers."""
    if id(value) in inside:
        return "cycle"
    inside |= {id(value)}
    if type(value) in (dict, OrderedDict):
        return id(value), [(id(key), anatomy(inner, inside)) for key, inner in value.items()]
    if type(value) in (list, tuple, Pair):
        return id(value), [anatomy(inner, inside) for inner in value]
    if type(value) is Point:
        return id(value), anatomy(vars(value), inside)
    if type(value) is np.ndarray and value.dtype != object:
        return id(value), value.dtype, value.shape, value.tobytes()
    if type(value) is np.ndarray:
        return id(value), [anatomy(inner, inside) for inner in value]
    return id(value), bytes(value) if type(value) is bytearray else None


@settings(max_examples=examples(400))
@given(strategies.nasty)
@example(10**5000)  # Python does not print integers of more than 4300 digits
@example({10**5000: "a key", "b": 2})
@example(Homeless())  # its class has no module
@example(np.broadcast(np.zeros((2, 2, 2)), 1))  # of NumPy, three-dimensional, not an array
@example(np.array([-1.7e308] * 20 + [1.7e308] * 20))  # a histogram wider than a float
@example([{"in a list": np.full((4, 4, 3), np.inf)}])  # no picture there: W&B's encoder raises
@example(np.full(50, 1e300))  # a histogram narrower than one
def test_any_value_becomes_what_wandb_encodes(value: Any) -> None:
    """Never raises; gives JSON's own types, strict JSON, UTF-8, for W&B's encoders too."""
    config = plain(value)
    assert not_plain(config) == []
    json.dumps(config, allow_nan=False, ensure_ascii=False).encode()
    json_dumps_safer(config)

    metric = pictures_aside(plain_metric(value))
    assert not_plain(metric) == []
    json.dumps(metric, allow_nan=False, ensure_ascii=False).encode()
    json_dumps_safer_history(metric)


@either
@given(strategies.nasty)
@example(strategies.nested("list", 33, b"bytes"))
@example({"a": np.arange(40.0), "b": np.zeros((2, 2, 3))})
def test_twice_is_once(clean: Callable[[Any], Any], value: Any) -> None:
    """What was sanitised stays as it is."""
    once = clean(value)
    assert as_text(clean(once)) == as_text(once)


@either
@given(strategies.nasty)
def test_the_argument_is_left_alone(clean: Callable[[Any], Any], value: Any) -> None:
    """The user's config is the same objects, in the same order, afterwards."""
    before = anatomy(value)
    clean(value)
    assert anatomy(value) == before


@either
@given(strategies.text)
@example("1")
@example("NaN")
@example("0x10")
def test_text_stays_text(clean: Callable[[Any], Any], text: str) -> None:
    """Text, also as a key, in a subclass or as bytes, is never read as a number."""
    told = text.encode("utf-8", "backslashreplace").decode()
    assert clean(text) == told
    assert clean({text: [text]}) == {told: [told]}
    assert clean(Shout(text)) == told
    assert clean({Shout(text): Shout(text)}) == {told: told}
    assert clean(told.encode()) == told
    assert key_text(text) == told


@given(st.dictionaries(st.text(max_size=3) | st.integers() | st.none() | st.booleans(), st.text()))
@example({1: "a", "1": "b", "1 (int)": "c"})
@example({"\ud800": "a", "\\ud800": "b"})  # the same text, once it is clean
def test_no_entry_is_lost(mapping: dict[Any, str]) -> None:
    """Keys that become the same text keep their values, side by side."""
    assert sorted(plain(mapping).values()) == sorted(map(plain, mapping.values()))


PROGRAM = """
import json, strategies
from wbtune._data.sanitize import plain, plain_metric
print(json.dumps([[plain(value), plain_metric(value)] for value in strategies.corpus()]))
"""


@pytest.mark.slow
def test_every_process_gives_the_same() -> None:
    """Neither the hash seed nor an address shows, so that a run's config compares equal."""
    here = Path(__file__).parent
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=here,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(here.parent)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    one, two = (program.communicate()[0] for program in programs)
    assert [program.returncode for program in programs] == [0, 0]
    assert json.loads(one) == json.loads(two)


class Keyed:
    """What can be used like a mapping, and is none."""

    def keys(self) -> list[str]:
        return ["a"]

    def __getitem__(self, key: str) -> int:
        return 1


class Model:
    """Has a ``dtype``, as the models of transformers have, and is no array."""

    dtype = "float16"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (np.float32("-inf"), "-Infinity"),
        (complex(1, float("inf")), {"real": 1.0, "imag": "Infinity"}),
        (np.complex64(1), {"real": 1.0, "imag": 0.0}),
        ({3, 1, 2.5}, [1, 2.5, 3]),
        (frozenset({"b", "a"}), ["a", "b"]),
        ({10, 9, "a"}, [9, 10, "a"]),
        (b"caf\xc3\xa9", "café"),
        (bytearray(b"\xff1"), "\\xff1"),
        (Colour.RED, "RED"),
        (Level.HIGH, "HIGH"),
        (Path("a/b"), "a/b"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (date(2024, 1, 2), "2024-01-02"),
        (time(1, 2, 3), "01:02:03"),
        (datetime(2024, 1, 2, tzinfo=UTC), "2024-01-02T00:00:00+00:00"),
        (timedelta(minutes=1), 60.0),
        (Decimal("0.5"), 0.5),
        (Decimal("-Infinity"), "-Infinity"),
        (Fraction(1, 4), 0.25),
        (Point(1, {2}), {"x": 1, "y": [2]}),
        (Pair(1, b"2"), {"left": 1, "right": "2"}),
        (int(sys.float_info.max), int(sys.float_info.max)),
        (2**1024 - 1, "Infinity"),  # of as many bits as the largest float
        (-(2**1024), "-Infinity"),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.longdouble("0.5"), 0.5),
        (np.array([1.0, np.nan]), [1.0, "NaN"]),
        (np.arange(32), list(range(32))),
        (np.array([[1, 2], [3, 4]], dtype="i2"), [[1, 2], [3, 4]]),
        (np.array([0.5, np.inf], dtype=np.longdouble), [0.5, "Infinity"]),
        (np.clongdouble(1), {"real": 1.0, "imag": 0.0}),
        (np.array(["text"], dtype=object), "text"),
        (Tensor(3), 3),
        (Tensor([1, 2]), [1, 2]),
        (Tensor([0.5, np.nan], bfloat16=True), [0.5, "NaN"]),
        ({1: "a", None: "b", (1, 2): "c"}, {"1": "a", "None": "b", "[1, 2]": "c"}),
        ({1: "a", "1": "b"}, {"1": "b", "1 (int)": "a"}),
        (strategies.cycle("list", 1), [1, "..."]),
        (strategies.cycle("dict", 1), {"beside": 1, "self": ["..."]}),
        (strategies.nested("list", 33, 1), strategies.nested("list", 33, 1)),
        (strategies.nested("list", 34, 1), strategies.nested("list", 33, "...")),
        (Keyed(), {"a": 1}),
        (Model(), "<test_sanitize.Model>"),
        (len, "builtins.len"),
        (Point, "strategies.Point"),
        (ValueError("why"), "why"),
        (Silent(), "<strategies.Silent>"),
        (Rude(), "<strategies.Rude>"),
        ((i for i in ()), "<generator object <genexpr>>"),
    ],
    ids=lambda value: type(value).__name__,
)
@either
def test_the_table(clean: Callable[[Any], Any], value: Any, expected: Any) -> None:
    """Each row of the module's table, for a config and for a metric."""
    got = clean(value)
    assert got == expected
    assert type(got) is type(expected)


@either
@pytest.mark.parametrize("beside", [[], [0]])
def test_arrays_in_arrays_are_cut(clean: Callable[[Any], Any], beside: list[Any]) -> None:
    """Nesting has an end, whatever it is made of."""
    value: Any = 1
    for _ in range(40):
        value = strategies.objects([value, *beside])
    assert "..." in json.dumps(clean(value))


@dataclasses.dataclass
class Shared:
    left: Any
    right: Any


def test_an_object_that_stands_twice_is_no_cycle() -> None:
    """Only a container inside of itself is cut."""
    shared = [1]
    assert plain(Shared(shared, {"again": shared})) == {"left": [1], "right": {"again": [1]}}


@given(st.lists(st.floats(-1e6, 1e6) | st.sampled_from([np.nan, np.inf]), min_size=33, max_size=99))
@example([np.nan] * 33)
def test_a_large_array_is_a_histogram_of_its_finite_values(values: list[float]) -> None:
    """W&B's own JSON form, counting each finite value once; a config has a description."""
    assert plain(np.array(values)) == f"array of float64 ({len(values)},)"
    finite = [value for value in values if np.isfinite(value)]
    told = plain_metric(np.array(values))
    if not finite:
        assert told == f"array of float64 ({len(values)},), no finite value"
        return
    assert set(told) == HISTOGRAM
    assert told["_type"] == "histogram"
    assert sum(told["values"]) == len(finite)
    assert len(told["bins"]) == len(told["values"]) + 1
    assert told["bins"][0] <= min(finite)
    assert told["bins"][-1] >= max(finite)


@given(strategies.media_arrays)
@settings(max_examples=examples(20))
def test_images_and_videos_stay_arrays_in_metrics_only(array: Any) -> None:
    """A metric's picture is turned into one where the run is; a config has no pictures."""
    assert plain_metric({"a": {"b": array}})["a"]["b"] is array
    assert not_plain(plain(array)) == []


def test_wandbs_own_objects_stay_in_metrics() -> None:
    """A Table that the user made is logged as that table."""
    import wandb

    table = wandb.Table(columns=["a"], data=[[1]])
    assert plain_metric({"t": table})["t"] is table
    assert not_plain(plain({"t": table})) == []
    other = {"of wandb": wandb.AlertLevel.INFO, "of that name": type("WBValue", (), {})()}
    assert not_plain(plain_metric(other)) == []


def test_the_docstrings_examples_are_true() -> None:
    """Doctest."""
    failed, attempted = doctest.testmod(sanitize)
    assert (failed, attempted > 0) == (0, True)
