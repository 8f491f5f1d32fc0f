"""The public errors: their tree, and that they survive the way back from a worker."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest

import wbtune
from wbtune import errors
from wbtune.errors import WbtuneError


def family(kind: type[WbtuneError]) -> Iterator[type[WbtuneError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from family(child)


ALL = [kind for kind in family(WbtuneError) if kind.__module__.startswith("wbtune")]


@pytest.mark.parametrize("kind", ALL)
def test_an_error_survives_pickling(kind: type[WbtuneError]) -> None:
    """With its arguments, its message and its notes; Ray pickles what a worker raises."""
    error = kind("way: what was wrong", 7)
    error.add_note("a note")
    for back in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(back) is kind
        assert back.args == error.args
        assert str(back) == str(error)
        assert back.__notes__ == ["a note"]


@pytest.mark.parametrize("kind", ALL)
def test_an_error_is_public_and_in_the_tree(kind: type[WbtuneError]) -> None:
    """Each can be imported from ``wbtune``, and the module's docstring shows it."""
    assert getattr(wbtune, kind.__name__) is kind
    assert kind.__name__ in wbtune.__all__
    assert kind.__name__ in (errors.__doc__ or "")


def test_each_error_is_also_the_builtin_that_python_would_raise() -> None:
    """A bad value is a ValueError, a bad name or object a TypeError; nothing is both."""
    values = {kind.__name__ for kind in ALL if issubclass(kind, ValueError)}
    types = {kind.__name__ for kind in ALL if issubclass(kind, TypeError)}
    assert values == {"ConfigurationError", "CredentialsError"}
    others = {kind.__name__ for kind in ALL if issubclass(kind, ConnectionError)}
    assert others == {"ServerUnreachableError"}
    assert types == {"UnknownOptionError", "InvalidTrainableError"}
    assert {kind.__name__ for kind in ALL} == values | types | others | {"WbtuneError"}
