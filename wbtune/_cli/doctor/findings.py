"""What a check gets, and what it yields."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple


class Level(Enum):
    """How bad a finding is."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


class Finding(NamedTuple):
    """One thing that was found.

    Attributes:
        level: how bad it is.
        what: what was found, in one line.
        cure: what to do about it, in one line; empty if there is nothing to do.
    """

    level: Level
    what: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """What the checks look at.

    Attributes:
        variables: the environment variables.
        directory: the folder of experiments that was named, if one was.
        keys: API keys that a check has come across; no part of them is shown.
    """

    variables: Mapping[str, str]
    directory: str | None = None
    keys: set[str] = field(default_factory=set)


Check = Callable[[Context], Iterator[Finding]]


def ok(what: str) -> Finding:
    """All is well."""
    return Finding(Level.OK, what)


def note(what: str, cure: str = "") -> Finding:
    """It may be intended."""
    return Finding(Level.NOTE, what, cure)


def problem(what: str, cure: str) -> Finding:
    """It keeps something from arriving, and nobody can want it."""
    return Finding(Level.PROBLEM, what, cure)
