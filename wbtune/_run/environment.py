"""Describe the program in runs that the driver writes, as a trial's own run does by itself.

That is the command line, git's commit, the installed packages, the machine, and how much of it the
trial's process uses. ``system_metrics=True`` turns it on.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from wbtune._data.masking import MASK, looks_secret, mask_text
from wbtune._upstream import wandb_wire

if TYPE_CHECKING:
    from wbtune._run.run_spec import RunSpec

logger = logging.getLogger("wbtune")

#: Settings that `opening` turns off otherwise, because the writing process is not the trial's.
_SHOWN: Final = {
    "x_disable_stats": False,
    "x_disable_meta": False,
    "x_disable_machine_info": False,
    "disable_git": False,
}


def command_line() -> tuple[str, ...]:
    """Return the driver's program and arguments, without secrets; in a notebook, no arguments."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    program = str(main or sys.argv[0] or "<python with no main file>")
    in_notebook = "kernel_launcher" in program or "kernel_launcher" in sys.argv[0]
    return (program, *(() if in_notebook else masked(sys.argv[1:])))


def masked(arguments: list[str]) -> list[str]:
    """Return a command line's arguments with secrets masked.

    >>> masked(["--api_key=abc", "--token", "abc", "--lr", "0.1", "db.password=abc"])
    ['--api_key=****', '--token', '****', '--lr', '0.1', 'db.password=****']
    """
    shown: list[str] = []
    follows = False
    for argument in arguments:
        name, given, _ = argument.partition("=")
        is_option = argument.startswith("-")
        if follows and not is_option:
            shown.append(MASK)
        elif given and looks_secret(name.lstrip("-+")):
            shown.append(f"{name}={MASK}")
        else:
            shown.append(mask_text(argument))
        follows = is_option and not given and looks_secret(name.lstrip("-"))
    return shown


def described(spec: RunSpec, command: tuple[str, ...]) -> RunSpec:
    """Return the spec of a run that shows its program."""
    settings = {**_SHOWN, "program": command[0], **spec.settings}
    return spec._replace(settings=settings, command=command)


def of_process(spec: RunSpec, result: Mapping[str, Any], here: str) -> RunSpec:
    """Return the spec of a run that records the metrics of its trial's process.

    Args:
        spec: the spec that `described` returned.
        result: a result of the trial; it contains the process id and the node's address.
        here: this node's address. Another node's metrics can't be read from here.
    """
    own = {"x_stats_pid": result.get("pid")} if result.get("node_ip") == here else None
    return spec._replace(settings={**spec.settings, **(own or {"x_disable_stats": True})})


def set_command(command: tuple[str, ...]) -> None:
    """In the helper, make the driver's command line this process's own, which wandb reads."""
    if command:
        sys.argv[:] = command


def log_packages(run: Any, command: tuple[str, ...]) -> None:
    """Log which packages are installed."""
    if not command or run.disabled:
        return
    try:
        wandb_wire.send_packages(run)
    except Exception as error:  # noqa: BLE001 - trouble with W&B must not cost a run
        # Cure: Nothing to do: only the list of packages is missing.
        logger.warning("wbtune: run %s has no list of packages: %s", run.id, error)
