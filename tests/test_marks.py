"""The markers, by which ``make quick`` leaves out what needs Ray, are those that a test needs."""

from __future__ import annotations

from pathlib import Path

import pytest
from marks import OWN_RAY, marks_of, reached

TESTS = Path(__file__).parent
#: With words that would mark the tests of this module replaced.
SOURCE = '''
import json

import beside
from beside import begun

KEY = "k"
PROGRAM = """
RAY.init()
"""


def start():
    run(PROGRAM)


def doctests():
    return FUNCTIONS.program("-c", "doctest")


class Odd(WANDBServer):
    pass


@pytest.fixture
def cluster():
    return fitted("some_PROGRAM.py")


@pytest.fixture
def server():
    with Odd() as server:
        yield server


def test_alone(): assert KEY
def test_starts(): start()
def test_elsewhere(): assert doctests()
def test_on_a_cluster(cluster): pass
def test_with_a_server(server): pass
def test_both(server, ray): pass
def test_by_a_module(): beside.begun()
def test_by_a_name(): begun()
def test_by_nothing(): beside.quiet(json.dumps({}))
'''
#: A module of the tests' that they import.
BESIDE = """
def quiet(text): return text
def begun(): return _begun()
def _begun(): RAY.init()
"""


@pytest.mark.parametrize(
    ("name", "fixtures", "expected"),
    [
        ("test_alone", [], {"unit"}),
        ("test_alone", ["ray"], {"ray"}),
        ("test_starts", [], {"ray", "slow"}),
        ("test_elsewhere", [], {"slow"}),
        ("test_on_a_cluster", ["cluster"], {"ray", "slow"}),
        ("test_with_a_server", ["server"], {"server"}),
        ("test_both", ["server", "ray"], {"server", "ray"}),
        ("test_by_a_module", [], {"ray", "slow"}),
        ("test_by_a_name", [], {"ray", "slow"}),
        ("test_by_nothing", [], {"unit"}),
    ],
)
def test_a_test_has_the_markers_of_what_it_reaches(name, fixtures, expected, tmp_path):
    """Over functions, constants and fixtures of its module and those beside it, however far."""
    path = tmp_path / "test_it.py"
    (tmp_path / "beside.py").write_text(BESIDE.replace("RAY", "ray"))
    source = SOURCE.replace("RAY", "ray").replace("WANDB", "Wandb")
    path.write_text(source.replace("_PROGRAM", "_program").replace("FUNCTIONS", "functions"))
    assert marks_of(reached(path, [name, *fixtures]), fixtures) == expected


def test_what_is_slow_by_hand_stays_so():
    """No other marker is taken from a test as it was."""
    assert marks_of("", [], ["slow", "parametrize", "unit"]) == {"slow"}


def test_every_test_is_marked(request):
    """As `marks_of` says: who uses the session's Ray needs Ray, and a unit nothing."""
    for item in request.session.items:
        marks = {mark.name for mark in item.iter_markers()} & {"unit", "ray", "server", "slow"}
        assert marks
        assert marks == {"unit"} or "unit" not in marks
        assert "ray" in marks or "ray" not in item.fixturenames, item.nodeid


@pytest.mark.parametrize("path", sorted(TESTS.glob("*_program.py")), ids=lambda path: path.stem)
def test_every_program_has_a_ray_of_its_own(path):
    """That is what a test is taken to start which names one."""
    text = path.read_text(encoding="utf-8")
    assert OWN_RAY.search(text)
