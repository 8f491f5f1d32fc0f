"""How a trial ended, as data: what W&B is told follows from it, for every kind."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wbtune._data import outcomes
from wbtune._data.outcomes import FINISHED, Kind, Outcome

some = st.builds(Outcome, st.sampled_from(Kind), *[st.text(max_size=9)] * 4)


class Unspeakable(Exception):  # noqa: N818 - not ours
    """An error that can't say what it is."""

    def __str__(self) -> Any:
        raise KeyError("no words")


class Silent(Exception):  # noqa: N818 - not ours
    """An error that says what is not text."""

    def __str__(self) -> Any:
        return None  # noqa: PLE0307 - that is its trouble


@pytest.mark.parametrize(
    ("kind", "exit_code", "tags"),
    [
        (Kind.FINISHED, 0, ()),
        (Kind.STOPPED, 0, ("stopped",)),
        (Kind.FAILED, 1, ("failed",)),
        (Kind.INTERRUPTED, 130, ("interrupted",)),
        (Kind.LOST, 254, ("lost",)),
    ],
)
def test_wandb_is_told_how_it_ended(kind: Kind, exit_code: int, tags: tuple[str, ...]) -> None:
    """By the exit code that W&B shows a state for, the tag, the summary and the docstring."""
    outcome = Outcome(kind)
    assert outcome.exit_code == exit_code
    assert outcome.tags == tags
    assert outcome.summary() == {"wbtune/outcome": kind.value}
    row = next(line for line in str(outcomes.__doc__).splitlines() if line.startswith(kind.value))
    assert row.split()[1] == str(exit_code)


def test_every_kind_has_a_row() -> None:
    """A kind that is added needs an exit code; the table above is complete."""
    assert list(outcomes.EXIT_CODES) == list(Kind)
    assert len(Kind) == 5
    assert Outcome(Kind.FINISHED) == FINISHED


@given(some)
def test_a_summary_has_text_only_and_none_that_is_empty(outcome: Outcome) -> None:
    """Every field that says something is there, and nothing else."""
    summary = outcome.summary()
    assert all(isinstance(text, str) and text for text in summary.values())
    said = [outcome.kind.value, outcome.reason, outcome.error_type]
    said += [outcome.error_message, outcome.error_traceback]
    assert sorted(summary.values()) == sorted(filter(None, map(outcomes.plain, said)))
    assert all(key.startswith("wbtune/") for key in summary)


def test_what_the_summary_calls_it() -> None:
    """Users filter W&B's table of runs by these names."""
    outcome = Outcome(Kind.FAILED, "a reason", "ValueError", "a message", "a traceback")
    assert outcome.summary() == {
        "wbtune/outcome": "failed",
        "wbtune/reason": "a reason",
        "wbtune/error": "ValueError",
        "wbtune/error_message": "a message",
        "wbtune/traceback": "a traceback",
    }
    assert Outcome.of_summary({**outcome.summary(), "loss": 1}) == outcome
    assert Outcome.of_summary({"wbtune/outcome": "stopped"}) == Outcome(Kind.STOPPED)
    assert outcomes.STOPPED_AT_WANDB.summary() == {
        "wbtune/outcome": "stopped",
        "wbtune/reason": '"Stop run" was pressed at W&B',
    }


@given(some)
def test_an_outcome_travels(outcome: Outcome) -> None:
    """From the trial to whoever closes its run."""
    assert pickle.loads(pickle.dumps(outcome)) == outcome


def caught(error: BaseException, depth: int = 0) -> BaseException:
    """The error with a traceback of its own; deeper for a longer one."""

    def fall(levels: int) -> None:
        if levels % 2:
            fall(levels - 1)  # two lines of source, so that Python folds nothing
        elif levels:
            fall(levels - 1)
        else:
            raise error

    try:
        fall(depth)
    except BaseException as raised:  # noqa: BLE001 - SystemExit is one of them
        return raised
    raise AssertionError


@pytest.mark.parametrize(
    "error", [ValueError("why"), SystemExit(3), ExceptionGroup("g", [OSError()])]
)
def test_a_failure_says_what_was_raised_and_where(error: BaseException) -> None:
    """Type, text, and the end of its traceback, which is where the cause stands."""
    outcome = Outcome.failed(caught(error))
    assert outcome.kind is Kind.FAILED
    assert outcome.error_type == type(error).__name__
    assert outcome.error_message == str(error)
    assert type(error).__name__ in outcome.error_traceback
    if not isinstance(error, ExceptionGroup):
        assert "raise error" in outcome.error_traceback


@given(st.integers(0, 60))
def test_the_traceback_is_its_last_twenty_lines(lines: int) -> None:
    """Of the text that came from another process."""
    text = "".join(f"  line {number}\n" for number in range(lines)) + "\n \n"
    kept = Outcome.failed(ValueError(), text).error_traceback.splitlines()
    assert kept == [f"  line {number}" for number in range(lines)][-20:]


def test_a_deep_traceback_is_cut_at_its_beginning() -> None:
    """The last line, the error itself, is always there."""
    kept = Outcome.failed(caught(ValueError("why"), depth=50)).error_traceback.splitlines()
    assert len(kept) == 20
    assert kept[-1] == "ValueError: why"


@pytest.mark.parametrize(
    ("error", "reason"), [(Unspeakable(), "KeyError"), (Silent(), "TypeError")]
)
def test_an_error_that_cannot_speak_is_still_an_outcome(error: Exception, reason: str) -> None:
    """Its ``__str__`` raises, or returns what is not text; the run is closed all the same."""
    outcome = Outcome.failed(caught(error))
    assert outcome.error_message == f"<no message: its __str__ raised {reason}>"
    assert outcome.error_type in outcome.error_traceback


def test_an_outcome_needs_nothing_of_ray_or_wandb() -> None:
    """The pure rooms import neither wandb nor Ray by themselves."""
    program = """
import sys
import wbtune._data.outcomes, wbtune._data.options
import wbtune._data.routing, wbtune._data.sanitize
print(sorted({"ray", "wandb", "numpy"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
