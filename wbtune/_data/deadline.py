"""Wait with a limit: several waits by one deadline, and a wait for a call that may never return.

W&B's own time limits are enforced by wandb-core alone. When that hangs, because it is stopped or
its disk is stuck, say, ``run.finish`` and ``wandb.teardown`` never return (wandb 0.31). So such
calls run in a thread, which `Waiting` waits for with a limit of its own.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Final


class Deadline:
    """A moment by which several successive waits have to be over.

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
        """The seconds that the next wait may take.

        Args:
            seconds: the most that it may take.
            keep: how much of the time left to keep for later waits.
        """
        return max(0.0, min(seconds, self.left - keep))


#: For when nobody waits for the end.
NO_DEADLINE: Final = Deadline(math.inf)


class Waiting:
    """A call that runs in a thread of its own.

    Args:
        act: what to call. It may still be running when nobody waits for it any more: its
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
        except BaseException as error:  # noqa: BLE001 - raised again by `done_within`
            self._error = error
        finally:
            self._done.set()

    def done_within(self, seconds: float) -> bool:
        """Wait for the call to return.

        Args:
            seconds: how long at most.

        Returns:
            Whether it has returned.

        Raises:
            BaseException: what the call raised.
        """
        if not self._done.wait(seconds):
            return False
        if self._error is not None:
            raise self._error
        return True
