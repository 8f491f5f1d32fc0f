"""Set aside the options that are accepted but have no effect, with a warning for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from wbtune._data import notice
from wbtune._data.option_table import DECIDED

#: These ways accept every argument of Ray's own: one without effect gives a warning, not an error.
ACCEPTED_BY: Final = frozenset({"setup_wandb", "WandbLoggerCallback"})
#: Values that ask for what wbtune does anyway, so that there is nothing to warn of.
_AS_ASKED: Final = {
    "reinit": (True, "default", "finish_previous"),
    "resume": (True, "allow", "auto"),
}


def set_aside(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Separate a caller's options from those that wbtune decides itself.

    Returns:
        ``(rest, taken)``: the options to parse, and those that are in `DECIDED`.
    """
    taken = {name: given[name] for name in given if name in DECIDED and given[name] is not None}
    rest = {name: value for name, value in given.items() if name not in DECIDED}
    if rest.get("mode") in _OLD_MODES:
        rest["mode"] = _OLD_MODES[rest["mode"]]
    return rest, taken


_OLD_MODES: Final = {"dryrun": "offline", "run": "online"}


def warn_without_effect(public_name: str, taken: Mapping[str, Any]) -> None:
    """Warn, once for each, that options which were set aside have no effect."""
    for name, value in taken.items():
        if value not in _AS_ASKED.get(name, ()):
            # Cure: Leave it out.
            notice.warn_once(f"{public_name}: {name}={value!r} has no effect: {DECIDED[name]}.")


#: Options that act in the process that opens the run, which need not be the trial's: their cures.
_IN_ITS_PROCESS: Final = {
    "monitor_gym": "Give it to setup_wandb in the trial",
    "save_code": "Call run.log_code(FOLDER) in a trial that has its own run",
    "sync_tensorboard": "Give it to setup_wandb in the trial",
    "tensorboard": "Give it to setup_wandb in the trial",
}


def for_driver(public_name: str, init_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for ``wandb.init``, without those that are no use on the driver.

    With ``monitor_gym``, say, and without gymnasium, the run could not even be opened.
    """
    for name, cure in _IN_ITS_PROCESS.items():
        if init_kwargs.get(name):
            # Cure: In a trial that has its own run, give it to setup_wandb; instead of `save_code`,
            #   call `run.log_code(FOLDER)` there.
            notice.warn_once(
                f"{public_name}: {name}=True has no effect on runs that the driver writes: it acts "
                f"in the process that opens the run. {cure}."
            )
    return {name: value for name, value in init_kwargs.items() if name not in _IN_ITS_PROCESS}


def warn_in_trial(public_name: str, init_kwargs: Mapping[str, Any]) -> None:
    """Warn of what has no effect in a trial although the trial opens its run itself."""
    if init_kwargs.get("save_code"):
        notice.warn_once(
            f"{public_name}: save_code=True has no effect in a trial: it saves the program of the "
            "process, which is Ray's. Call run.log_code(FOLDER)."
        )
