"""The command line of a sweep's program is what W&B's own agent would start."""

from __future__ import annotations

import json
import os
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wandb.sdk.launch.sweeps import utils as agents
from wandb.wandb_agent import Agent

from wbtune._data import sweep_command
from wbtune._data.sweep_source import Source
from wbtune.errors import ConfigurationError

NAMES = st.text(string.ascii_letters + "_-.", min_size=1, max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner))
PARAMETERS = st.dictionaries(NAMES, VALUES, max_size=5)
MACROS = st.sampled_from([f"${{{name}}}" for name in sweep_command._MACROS])
VARIABLES = {"WBTUNE_ONE": "a b", "WBTUNE_TWO": ""}
ENVIRONMENT = st.sampled_from(["${envvar:WBTUNE_ONE}", "x-${envvar:WBTUNE_TWO}${envvar:NO_SUCH_9}"])
PLAIN = st.text(string.printable).filter(lambda text: not text.startswith("${"))
WORDS = st.lists(MACROS | ENVIRONMENT | PLAIN, min_size=1, max_size=6)


def of_agent(words: list[str], parameters: dict[str, Any], json_file: str) -> list[str]:
    """What the agent starts, by its own functions, put together as in `Agent._command_run`."""
    told = {"args": {name: {"value": value} for name, value in parameters.items()}}
    known: dict[str, Any] = agents.create_sweep_command_args(told)
    known |= {"interpreter": ["python"], "program": ["train.py"], "env": ["/usr/bin/env"]}
    known["args_json_file"] = [json_file]
    made: list[str] = []
    for item in agents.create_sweep_command([*words]):
        is_macro = item.startswith("${") and item.endswith("}")
        made += known.get(item[2:-1]) or [] if is_macro else [item]
    return made


@given(WORDS, PARAMETERS)
def test_as_the_agent(words, parameters):
    """Whatever the words and the sampled values are."""
    start = sweep_command.Start("train.py", parameters, "python", "/f/args.json")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in VARIABLES.items():
            patch.setenv(name, value)
        made = sweep_command.arguments(words, start, os.environ)
        assert made == of_agent(words, parameters, "/f/args.json")


@given(PARAMETERS)
def test_the_json_is_the_parameters(parameters):
    """In the argument as in the file."""
    start = sweep_command.Start("train.py", parameters, "python", "args.json")
    assert json.loads(sweep_command.arguments(["${args_json}"], start, {})[0]) == parameters


def test_the_default_is_the_agents():
    assert list(sweep_command.DEFAULT) == Agent.DEFAULT_SWEEP_COMMAND
    assert sweep_command.read(Source({"program": "t.py"}, "f", "s")) == sweep_command.DEFAULT


def test_numbers_are_words():
    """As YAML reads ``- 8``; the agent makes text of them, too."""
    command = ["${program}", 8, 0.5, True]
    source = Source({"program": "t.py", "command": command}, "f", "s")
    assert sweep_command.read(source) == ("${program}", "8", "0.5", "True")


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({}, "it has no program. Write program: train.py, say."),
        ({"program": ""}, "program: expected a file's name, got ''."),
        ({"program": ["t.py"]}, "program: expected a file's name, got ['t.py']."),
        ({"program": "t.py", "command": "python t.py"}, "command: expected a list of arguments"),
        ({"program": "t.py", "command": []}, "command: expected a list of arguments, got []."),
        ({"command": ["${porgram}"]}, "there is no macro ${porgram}. Did you mean ${program}?"),
        ({"command": ["${args_dict}"]}, "there is no macro ${args_dict}."),
        ({"command": ["a", ["b"]]}, "expected text, got ['b']."),
        ({"command": ["a", None]}, "expected text, got None."),
    ],
)
def test_what_is_wrong_is_said(config, problem):
    """On the driver, before any trial; the agent would start something else, or crash."""
    with pytest.raises(ConfigurationError) as raised:
        sweep_command.read(Source(config, "run", "sweep.yaml"))
    assert problem in str(raised.value)


def test_a_command_without_a_program_needs_none():
    words = ("bash", "-c", "echo ${envvar:HOME}")
    assert sweep_command.read(Source({"command": [*words]}, "f", "s")) == words
