"""The command line by which a W&B agent starts a sweep's program: macros become arguments.

As in wandb's own agent [wandb 0.31, ``wandb_agent.py``, ``sdk/launch/sweeps/utils.py``]: an item
of ``command`` that is a macro becomes any number of arguments, and ``${envvar:NAME}`` may be
anywhere in an item. An unknown macro, which the agent leaves out without a word, is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wbtune._data.unknown import near

if TYPE_CHECKING:
    from wbtune._data.sweep_source import Source

#: What the agent starts if a sweep has no ``command``.
DEFAULT: Final = ("${env}", "${interpreter}", "${program}", "${args}")

_ENVIRONMENT: Final = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")
_PROGRAM: Final = "${program}"


class Start(NamedTuple):
    """What the macros of one trial stand for.

    Attributes:
        program: the sweep's ``program``; empty if its command does not need it.
        parameters: the sampled values, by name; a nested one is a dict.
        interpreter: the Python.
        json_file: the path of a file that holds `as_json`.
    """

    program: str
    parameters: Mapping[str, Any]
    interpreter: str
    json_file: str

    @property
    def as_json(self) -> str:
        """The parameters as ``${args_json}``."""
        return json.dumps(dict(self.parameters))


def _flags(start: Start, before: str) -> list[str]:
    return [f"{before}{name}={value}" for name, value in start.parameters.items()]


def _without_equals(start: Start) -> list[str]:
    pairs = [(f"--{name}", str(value)) for name, value in start.parameters.items()]
    return [argument for pair in pairs for argument in pair]


def _boolean_flags(start: Start) -> list[str]:
    """A parameter that is true is a flag without a value, one that is false is none."""
    return [
        f"--{name}" if value is True else f"--{name}={value}"
        for name, value in start.parameters.items()
        if value is not False
    ]


_MACROS: Final[Mapping[str, Callable[[Start], list[str]]]] = {
    "env": lambda start: ["/usr/bin/env"],  # noqa: ARG005 - as the others
    "interpreter": lambda start: [start.interpreter],
    "program": lambda start: [start.program],
    "args": lambda start: _flags(start, "--"),
    "args_no_hyphens": lambda start: _flags(start, ""),
    "args_append_hydra": lambda start: _flags(start, "+"),
    "args_override_hydra": lambda start: _flags(start, "++"),
    "args_no_equals": _without_equals,
    "args_no_boolean_flags": _boolean_flags,
    "args_json": lambda start: [start.as_json],
    "args_json_file": lambda start: [start.json_file],
}


def read(source: Source) -> tuple[str, ...]:
    """The items of a sweep's ``command``, checked; the agent's own if there is none.

    Raises:
        ConfigurationError: for an unknown macro, for anything that is no list of text and
            numbers, and if there is no program to start.
    """
    given = source.config.get("command")
    if given is not None and (not isinstance(given, list) or not given):
        raise source.error(("command",), f"expected a list of arguments, got {given!r}.")
    for at, item in enumerate(given or ()):
        if isinstance(item, (list, dict)) or item is None:
            raise source.error(("command", at), f"expected text, got {item!r}.")
        _check_macro(source, at, str(item))
    words = DEFAULT if given is None else tuple(map(str, given))
    program = source.config.get("program")
    if program is not None and (not isinstance(program, str) or not program):
        raise source.error(("program",), f"expected a file's name, got {program!r}.")
    if program is None and _PROGRAM in words:
        raise source.error((), "it has no program. Write program: train.py, say.")
    return words


def _check_macro(source: Source, at: int, item: str) -> None:
    is_macro = item.startswith("${") and item.endswith("}")
    if not is_macro or item[2:-1] in _MACROS or _ENVIRONMENT.search(item):
        return
    meant = near(item[2:-1], _MACROS)
    cure = f" Did you mean ${{{meant}}}?" if meant else ""
    raise source.error(("command", at), f"there is no macro {item}.{cure}")


def arguments(words: Sequence[str], start: Start, environment: Mapping[str, str]) -> list[str]:
    """The command line of one trial.

    Args:
        words: what `read` has returned.
        start: what the macros stand for.
        environment: where ``${envvar:NAME}`` is looked up; a variable that is not set is its name.

    >>> start = Start("train.py", {"lr": 0.1, "fast": True}, "python", "args.json")
    >>> arguments(DEFAULT, start, {})
    ['/usr/bin/env', 'python', 'train.py', '--lr=0.1', '--fast=True']
    >>> arguments(["echo", "${envvar:HOME}/x", "${args_no_boolean_flags}"], start, {"HOME": "/h"})
    ['echo', '/h/x', '--lr=0.1', '--fast']
    """
    made: list[str] = []
    for word in words:
        item = _ENVIRONMENT.sub(lambda found: environment.get(found[1], found[1]), word)
        is_macro = item.startswith("${") and item.endswith("}")
        made += _MACROS.get(item[2:-1], _nothing)(start) if is_macro else [item]
    return made


def _nothing(start: Start) -> list[str]:  # noqa: ARG001 - as the macros
    return []  # what a variable of the environment holds is not known before
