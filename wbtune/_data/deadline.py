"""Waits that end: several by one deadline, and one for what may never return.

What may never return is a wandb-core that is stopped or on a stuck disk, say. W&B's own time
limits are kept by wandb-core alone: when that hangs, ``run.finish`` and ``wandb.teardown`` never
return (wandb 0.31). So they are waited for here, from outside.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Final


class Deadline:
    """A moment by which several waits, one after the other, have to be over.

    >>> Deadline(5.0).within(60.0) <= 5.0
    True

    Args:
        seconds: from now.
    """

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """The seconds that are left."""
        return max(0.0, self._until - time.monotonic())

    def within(self, seconds: float, *, keep: float = 0.0) -> float:
        """How long to wait for one of several things.

        Args:
            seconds: as long as it may take.
            keep: for what comes after it, out of what is left.
        """
        return max(0.0, min(seconds, self.left - keep))


#: Where nobody waits for the end.
NO_DEADLINE: Final = Deadline(math.inf)


class Waiting:
    """Something that is being done by a thread of its own.

    Args:
        act: what to do. It may still be going on when nobody waits for it any more: its
            thread doesn't keep the process alive.
    """

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act
        self._error: BaseException | None = None
        self._done = threading.Event()
        threading.Thread(target=self._run, name="wbtune-waiting", daemon=True).start()

    def _run(self) -> None:
        try:
            self._act()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._error = error
        finally:
            self._done.set()

    def done_within(self, seconds: float) -> bool:
        """Wait.

        Args:
            seconds: how long at most.

        Returns:
            Whether it is done.

        Raises:
            BaseException: what it raised.
        """
        if not self._done.wait(seconds):
            return False
        if self._error is not None:
            raise self._error
        return True
