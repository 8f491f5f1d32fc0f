"""Make the requests about a whole experiment: change its sweep, tag its best run."""

from __future__ import annotations

from collections.abc import Callable

from wbtune._data.secret import Secret
from wbtune._helper.messages import ChangeSweep, TagRun
from wbtune._place import sweeps
from wbtune._place.server import Server


def make_request(message: ChangeSweep | TagRun, warn: Callable[[str, str], None]) -> None:
    """Make a request; if it fails, warn.

    Args:
        message: the request.
        warn: gives the user a warning: ``warn(key, text)``.
    """
    try:
        request = message.request
        server = Server(request.base_url, Secret(request.secret), 0.0, request.settings)
        match message:
            case ChangeSweep(sweep=sweep, state=state, config=config):
                sweeps.change(server, sweep, state=state, config=config)
            case TagRun(place=place, add=add, remove=remove):
                sweeps.tag(server, place, add, remove)
    except Exception as error:  # noqa: BLE001 - whatever it is, the runs themselves are safe
        warn("", f"{_what(message)}: {error}")


def _what(message: ChangeSweep | TagRun) -> str:
    """What was not done, for a warning."""
    match message:
        case TagRun(place=(_, _, run_id), add=add, remove=remove):
            changes = [*(f"+{tag}" for tag in add), *(f"-{tag}" for tag in remove)]
            return f"the tags of run {run_id} were not changed ({', '.join(changes)})"
        case ChangeSweep(sweep=sweep, state=state):
            what = f"is not {state}" if state else "has no parameters"
            return f"the sweep {sweep.id} {what} at W&B"
