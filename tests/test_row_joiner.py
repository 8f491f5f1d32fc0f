"""A metric once: which rows a trial's own and its results become."""

from __future__ import annotations

import contextlib
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wbtune._data import timeouts
from wbtune._trial import row_joiner

AXIS = "training_iteration"


class Core:
    """Keeps rows as wandb-core does: parts of a row come together until it is committed."""

    def __init__(self):
        self.rows, self.part, self.results = [], None, 0
        self.run = SimpleNamespace(
            _partial_history_callback=self.send,
            summary=SimpleNamespace(_update_callback=None, _get_current_summary_callback=self.read),
        )
        self.joiner = row_joiner.RowJoiner(self.run, AXIS, lambda: self.results)

    def send(self, data, step=None, commit=None):
        self.part = {**(self.part or {}), **data}
        if commit or (commit is None and step is None):
            self.rows.append(self.part)
            self.part = None

    def read(self):
        return [*self.rows][-1]

    def log(self, data, **how):
        self.run._partial_history_callback(data, how.get("step"), how.get("commit"))

    def result(self, data):
        self.results += 1
        with self.joiner.result({**data, AXIS: self.results}) as (row, _):
            self.log(row, commit=True)

    def close(self):
        self.joiner.close()
        with contextlib.suppress(TypeError):
            self.send({}, commit=True) if self.part else None
        return self.rows


@pytest.fixture
def core():
    core = Core()
    yield core
    core.joiner.close()


def test_logged_before_it_is_reported(core):
    """The row waits for its result, which adds what is new."""
    for i in (1, 2):
        core.log({"loss": i / 2, "mine": i})
        core.result({"loss": i / 2, "theirs": i})
    assert core.close() == [{"loss": i / 2, "mine": i, "theirs": i, AXIS: i} for i in (1, 2)]


def test_logged_after_it_is_reported(core):
    """What only repeats the result is left out; what is new has the result's iteration."""
    for i in (1, 2):
        core.result({"loss": i / 2})
        core.log({"loss": i / 2, "mine": i} if i == 2 else {"loss": i / 2})
    assert core.close() == [
        {"loss": 0.5, AXIS: 1},
        {"loss": 1.0, AXIS: 2},
        {"mine": 2, AXIS: 2},
    ]


def test_another_value_is_another_row(core):
    """A mean that is reported under the key of its batches stands beside them."""
    for batch in (3.0, 1.0):
        core.log({"loss": batch, "lr": 0.1})
    core.result({"loss": 2.0, "lr": 0.1})
    assert core.close() == [
        {"loss": 3.0, "lr": 0.1, AXIS: 1},
        {"loss": 1.0, "lr": 0.1, AXIS: 1},
        {"loss": 2.0, AXIS: 1},
    ]


def test_steps_and_parts_stay_as_they_were_logged(core):
    """``step=`` and ``commit=False`` go to wandb as they are, and the result joins the last."""
    core.log({"a": {"b": 1}}, step=7)
    core.result({"a/b": 1, "c": 2})
    core.log({"x": 1}, commit=False)
    core.log({"y": 2})
    core.result({"x": 1, "y": 2})
    core.log({"z": 1}, commit=True)
    core.result({"z": 1})
    assert core.close() == [
        {"a": {"b": 1}, "c": 2, AXIS: 1},
        {"x": 1, "y": 2, AXIS: 2},
        {"z": 1, AXIS: 3},
        {AXIS: 3},
    ]


def test_what_waits_with_a_step_is_not_taken_for_its_result():
    """A row that its user left open is another one than a result that contradicts it."""
    for how in ({"step": 7}, {"commit": False}):
        core = Core()
        core.log({"loss": 3.0, "lr": 0.1}, **how)
        core.result({"loss": 2.0, "lr": 0.1})
        assert core.close() == [{"loss": 3.0, "lr": 0.1, AXIS: 1}, {"loss": 2.0, AXIS: 1}]


def test_what_is_added_to_a_result_is_of_its_iteration(core):
    """Also with a step: it does not wait for the next result, whose values are others."""
    core.result({"loss": 1.0})
    core.log({"loss": 1.0, "own": 5}, step=10)
    core.result({"loss": 2.0})
    assert core.close() == [{"loss": 1.0, AXIS: 1}, {"own": 5, AXIS: 1}, {"loss": 2.0, AXIS: 2}]


def test_a_result_is_repeated_once(core):
    """What has the same value once more is of another moment."""
    core.result({"reward": 1.0, "loss": 2.0})
    core.log({"reward": 1.0})
    core.log({"loss": 2.0})
    core.log({"reward": 1.0})
    assert core.close() == [{"reward": 1.0, "loss": 2.0, AXIS: 1}, {"reward": 1.0, AXIS: 2}]


def test_a_row_without_a_result_is_committed_in_time(core, monkeypatch):
    """It waits a moment; whoever asks for the summary meanwhile gets it at once."""
    monkeypatch.setattr(timeouts, "RESULT_JOINS_S", 0.05)
    core.log({"loss": 1})
    assert core.run.summary._get_current_summary_callback() == {"loss": 1, AXIS: 1}
    core.log({"loss": 2})
    deadline = time.monotonic() + 60
    while len(core.rows) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)


values = st.one_of(st.integers(-3, 3), st.floats(), st.text(max_size=2), st.none(), st.booleans())
rows = st.dictionaries(st.sampled_from("abc"), values, min_size=1, max_size=3)


@given(events=st.lists(st.tuples(st.booleans(), rows), max_size=12))
def test_no_value_is_lost(events):
    """Whatever is logged and reported, in whichever order: each value is in a row."""
    core = Core()
    for reported, row in events:
        core.result(row) if reported else core.log(row)
    found = core.close()
    for _, row in events:
        for key, value in row.items():
            assert any(key in r and row_joiner.same(value, r[key]) for r in found), (key, value)
    assert all(row.get(AXIS) is not None for row in found)
    assert len(found) <= len(events)


@pytest.mark.parametrize(
    ("own", "reported", "is_same"),
    [
        (1, 1.0, True),
        (float("nan"), float("nan"), True),
        (np.float64(0.5), 0.5, True),
        (np.zeros((2, 2, 3)), np.zeros((2, 2, 3)), True),
        (np.zeros((2, 2, 3)), np.ones((2, 2, 3)), False),
        (np.zeros((2, 2, 3)), 0, False),
        ("a", "b", False),
    ],
)
def test_same(own, reported, is_same):
    """Values are compared as they are logged."""
    assert row_joiner.same(own, reported) is is_same
