"""Make the requests about a whole experiment: change its sweep, tag its best run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from wbtune._data import timeouts
from wbtune._data.secret import Secret
from wbtune._helper.messages import ChangeSweep, TagRun
from wbtune._place import sweeps
from wbtune._place.server import RefusedError, Server
from wbtune.errors import ServerUnreachableError

logger = logging.getLogger("wbtune")


def make_requests(
    messages: Iterable[ChangeSweep | TagRun],
    warn: Callable[[str, str], None],
    note_progress: Callable[[], None] = lambda: None,
) -> None:
    """Make requests: a sweep's config, its state, and then tags.

    A request that fails gives a warning, except for a state that the server refuses: the sweep may
    be in it already. If the server does not answer, or time is up, the others are not made.

    Args:
        messages: the requests.
        warn: gives the user a warning: ``warn(key, text)``.
        note_progress: is called after each.
    """
    until = time.monotonic() + timeouts.REQUESTS_S
    left = sorted(messages, key=_rank)
    while left:
        message = left.pop(0)
        try:
            _make(message)
        except RefusedError as error:
            if isinstance(message, ChangeSweep) and message.state is not None:
                logger.info("wbtune: %s: %s", _what(message), error)  # it had ended before, say
            else:
                warn("", f"{_what(message)}: {error}")
        except Exception as error:  # noqa: BLE001 - whatever it is, the runs themselves are safe
            warn("", f"{_what(message)}: {error}")
            if isinstance(error, ServerUnreachableError):
                break
        note_progress()
        if time.monotonic() > until:
            break
    if left:
        # Cause: The server is slow or away.
        # Cure: Nothing to do: only tags and the sweep's state are missing. Offline runs: wbtune
        #   sync DIR.
        warn("", f"{len(left)} more requests about the experiment were not made in time")


def _make(message: ChangeSweep | TagRun) -> None:
    request = message.request
    server = Server(request.base_url, Secret(request.secret), 0.0, request.settings)
    match message:
        case ChangeSweep(sweep=sweep, state=state, config=config):
            sweeps.change(server, sweep, state=state, config=config)
        case TagRun(place=place, add=add, remove=remove):
            sweeps.tag(server, place, add, remove)


def _rank(message: ChangeSweep | TagRun) -> int:
    """Its place in the order: a sweep's config can't be changed once it has ended."""
    match message:
        case ChangeSweep(config=config) if config is not None:
            return 0
        case ChangeSweep():
            return 1
        case TagRun(add=add):
            return 2 if add else 3


def _what(message: ChangeSweep | TagRun) -> str:
    """What was not done, for a warning."""
    match message:
        case TagRun(place=(_, _, run_id), add=add, remove=remove):
            changes = [*(f"+{tag}" for tag in add), *(f"-{tag}" for tag in remove)]
            # Cure: Nothing to do, or change the tags at W&B: the rows are not affected.
            return f"the tags of run {run_id} were not changed ({', '.join(changes)})"
        case ChangeSweep(sweep=sweep, state=state):
            what = f"is not {state}" if state else "has no parameters"
            # Cure: Nothing to do: the runs and their rows are not affected.
            return f"the sweep {sweep.id} {what} at W&B"
