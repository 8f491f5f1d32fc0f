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


#: Options that act in the process that opens the run, which need not be the trial's.
_IN_ITS_PROCESS: Final = ("monitor_gym", "sync_tensorboard", "tensorboard")


def for_driver(public_name: str, init_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for ``wandb.init``, without those that are no use on the driver.

    With ``monitor_gym``, say, and without gymnasium, the run could not even be opened.
    """
    for name in _IN_ITS_PROCESS:
        if init_kwargs.get(name):
            notice.warn_once(
                f"{public_name}: {name}=True has no effect on runs that the driver writes: it acts "
                "in the process that opens the run. Give it to setup_wandb in the trial."
            )
    return {name: value for name, value in init_kwargs.items() if name not in _IN_ITS_PROCESS}
