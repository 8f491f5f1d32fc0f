"""Turn results into rows: filtered, sanitised, and without values that can't be sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wbtune._data.options import check_travels_alone
from wbtune._data.routing import Router
from wbtune._driver.notices import Notices
from wbtune._helper.messages import Log
from wbtune._run import media
from wbtune._run.log_rows import STAMP


class Rows:
    """Turns each run's results into rows, in the thread that sends them.

    Args:
        notices: gives warnings of values that are left out.
    """

    def __init__(self, notices: Notices) -> None:
        self._notices = notices
        self._routers: dict[str, Router] = {}
        self._left_out: dict[str, set[str]] = {}
        self._last_stamp = 0.0

    def open(self, key: str, router: Router) -> None:
        """Note that a run is opened, and the router for its results."""
        self._routers[key] = router

    def is_open(self, key: str) -> bool:
        """Is the run open?"""
        return key in self._routers

    def close(self, key: str) -> None:
        """Note that a run is closed, and warn of its keys that W&B reserves for itself."""
        router = self._routers.pop(key, None)
        self._left_out.pop(key, None)
        if router is not None and router.reserved:
            # Cure: Give the metric another name.
            text = f"W&B keeps {sorted(router.reserved)} for itself: not logged"
            self._notices.warn(key, text)

    def messages(self, key: str, result: dict[str, Any], reported: float) -> Iterator[Log]:
        """The message for one result.

        Args:
            key: its run, which is open.
            result: a snapshot of the result from when it was reported.
            reported: when that was, in seconds since the epoch.
        """
        row, config = self._routers[key].route(result)
        for name in [name for name, value in row.items() if media.is_media(value)]:
            try:
                check_travels_alone(row[name])
            except BaseException as error:  # noqa: BLE001 - W&B's objects hold a user's values
                row[name] = media.described(row[name])
                if name not in self._left_out.setdefault(key, set()):
                    self._left_out[key].add(name)
                    # Cause: The image or video can't be sent to the helper process.
                    # Cure: Report an array, or log the object to a trial's own run
                    #   (@wandb_trial).
                    text = f"left out {name} ({type(error).__name__}: {error})"
                    self._notices.warn(key, text)
        # No two rows have the same stamp; a float this large resolves a quarter of a microsecond.
        self._last_stamp = max(reported, self._last_stamp + 1e-6)
        yield Log(key, {**row, STAMP: self._last_stamp}, config)
