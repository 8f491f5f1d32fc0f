"""This process's one wandb-core: replaced when it is found dead, killed when it hangs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from wbtune._data import timeouts
from wbtune._upstream import wandb_core

if TYPE_CHECKING:
    from wandb import Run

#: How many cores are tried before a run or a row is given up.
TRIES: Final = 5


class Core:
    """The wandb-core of this process; when it dies, several runs notice, one after the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._generation = 0

    @property
    def generation(self) -> int:
        """A number that grows with each new core."""
        return self._generation

    def replace(self, generation: int) -> None:
        """Forget a dead core; the next ``wandb.init`` starts another.

        Args:
            generation: the core that was found dead; nothing happens if it was already replaced.
        """
        with self._lock:
            if generation == self._generation:
                self._generation += 1
                with contextlib.suppress(*wandb_core.core_is_gone()):
                    wandb_core.forget_core()


CORE: Final = Core()


def kill() -> None:
    """Kill the core, which does not answer: threads that wait for it then find it dead."""
    wandb_core.core_killer()()


def with_living_core(open_run: Callable[[], Run]) -> Run:
    """Open a run, with another core if the existing one has died or hangs.

    Raises:
        Exception: what `open_run` raises; if several cores have died, what the last one raises.
    """
    for _ in range(TRIES - 1):
        generation = CORE.generation
        try:
            return _in_time(open_run)
        except wandb_core.core_is_gone():
            CORE.replace(generation)
    return _in_time(open_run)


def _in_time(open_run: Callable[[], Run]) -> Run:
    timer = threading.Timer(timeouts.RUN_OPENS_S, kill)
    timer.daemon = True
    timer.start()
    try:
        return open_run()
    finally:
        timer.cancel()
