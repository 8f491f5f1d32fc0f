"""Check that a decorated function has a parameter for its run."""

from __future__ import annotations

import inspect
import re
from typing import Any

from wbtune.errors import ConfigurationError, InvalidTrainableError

#: The parameter that takes the run, unless another is named.
RUN_ARG = "run"

#: Names that people give to a parameter for the run.
_MEANS_RUN = re.compile(r"_?((wandb|wb|w_and_b)_?(run|logger)?|run)_?")


def check(public_name: str, trainable: Any, run_arg: str) -> None:
    """Check that a function which wants its run has the parameter for it.

    Args:
        public_name: what the user called, for messages.
        trainable: the function that is decorated.
        run_arg: the parameter's name.

    Raises:
        ConfigurationError: for a ``run_arg=`` that the function does not have.
        InvalidTrainableError: for a parameter that is meant for the run but has another name.
    """
    parameters = inspect.signature(trainable).parameters
    name = getattr(trainable, "__qualname__", None) or repr(trainable)
    if run_arg in parameters:
        return
    if run_arg != RUN_ARG:
        has = ", ".join(parameters) or "none"
        msg = f"{public_name}: run_arg={run_arg!r} is no parameter of {name}, which has: {has}."
        raise ConfigurationError(f"{msg} Give it that parameter, or leave run_arg= out.")
    for parameter in parameters.values():
        named = _MEANS_RUN.fullmatch(parameter.name.lower()) is not None
        typed = str(parameter.annotation).rpartition(".")[2].rstrip("'>") == "Run"
        if parameter.default is parameter.empty and (named or typed):
            msg = f"{public_name}: Tune gives {name} no {parameter.name!r}."
            cure = f"name it 'run', or write @wandb_trial(run_arg={parameter.name!r})."
            raise InvalidTrainableError(f"{msg} If it is for the run, {cure}")
