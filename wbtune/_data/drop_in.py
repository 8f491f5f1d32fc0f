"""What Ray's pieces of the same names take, and wbtune decides itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from wbtune._data import notice
from wbtune._data.option_table import DECIDED

#: These take every argument of Ray's own: one without an effect is a warning, no error.
DROP_INS: Final = frozenset({"setup_wandb", "WandbLoggerCallback"})
#: What wbtune does anyway.
_AS_ASKED: Final = {
    "reinit": (True, "default", "finish_previous"),
    "resume": (True, "allow", "auto"),
}


def set_aside(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What Ray's pieces were given, apart from what wbtune itself decides.

    Returns:
        ``(rest, taken)``: options to be parsed, and those of `DECIDED`.
    """
    taken = {name: given[name] for name in given if name in DECIDED and given[name] is not None}
    rest = {name: value for name, value in given.items() if name not in DECIDED}
    if rest.get("mode") in _OLD_MODES:
        rest["mode"] = _OLD_MODES[rest["mode"]]
    return rest, taken


_OLD_MODES: Final = {"dryrun": "offline", "run": "online"}


def warn_without_effect(public_name: str, taken: Mapping[str, Any]) -> None:
    """Say of options that were set aside, once each, that they do nothing."""
    for name, value in taken.items():
        if value not in _AS_ASKED.get(name, ()):
            notice.warn_once(f"{public_name}: {name}={value!r} has no effect: {DECIDED[name]}.")


#: What W&B does in the process that opens the run, which is no trial's where the driver does.
_IN_ITS_PROCESS: Final = ("monitor_gym", "sync_tensorboard", "tensorboard")


def of_the_driver(public_name: str, init_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for ``wandb.init`` of a run that the driver writes, less what can't act there.

    Without gymnasium, say, the run could not even be opened.
    """
    for name in _IN_ITS_PROCESS:
        if init_kwargs.get(name):
            notice.warn_once(
                f"{public_name}: {name}=True has no effect on runs that the driver writes: it acts "
                "in the process that opens the run. Give it to setup_wandb in the trial."
            )
    return {name: value for name, value in init_kwargs.items() if name not in _IN_ITS_PROCESS}
