"""Send the rows of many runs to wandb-core together.

wandb sends each row by itself: it wakes a thread of its own, waits for it to write twice,
and wandb-core wakes up for each write. That costs client and core more CPU than the row itself.
The helper gets its rows in batches, and sends them on in batches. Most rows have only numbers and
text; for those, wandb's own code does not even run (`wandb_simple_rows`).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from wbtune._run import guard, replay
from wbtune._upstream import wandb_core, wandb_wire
from wbtune._upstream.capabilities import MOVED
from wbtune._upstream.wandb_simple_rows import SIMPLE, SimpleRows

if TYPE_CHECKING:
    from wandb import Run

#: Bytes that are sent at once: the core begins with these while other rows are being prepared.
TOGETHER: Final = 100_000
#: Rows of one run that are sent at once. Its guard forgets rows from long before the last
#: `replay.KEEP`, which a core that died only now must have processed; but rows that are held here
#: were not sent yet.
OF_ONE_RUN: Final = replay.KEEP - 1


class Outbox:
    """Rows that one thread has logged but not yet sent; it calls `send` before it waits."""

    def __init__(self) -> None:
        self._rows: list[tuple[Run, wandb_wire.HeldRow]] = []
        self._count: Counter[int] = Counter()
        self._bytes = 0
        self._lost: Counter[int] = Counter()
        self._simple = SimpleRows()

    def log(self, run: Run, row: dict[str, Any], step: int) -> None:
        """Log a row like ``run.log(row, step=step, commit=True)``; it is sent later, in order.

        Args:
            run: an open run.
            row: a row from :mod:`wbtune._data.routing`; it must not be changed any more.
            step: its step.

        Raises:
            Exception: what ``run.log`` raises, except when the core has died: see `send`.
        """
        held = self._held(run, row, step)
        self._rows += [(run, one) for one in held]
        self._bytes += sum(one.request.ByteSize() for one in held)
        self._count[id(run)] += len(held)
        if self._count[id(run)] >= OF_ONE_RUN or self._bytes >= TOGETHER:
            self.send()

    def _held(self, run: Run, row: dict[str, Any], step: int) -> list[wandb_wire.HeldRow]:
        """Return what is to be sent for a row; what could not be held back was sent."""
        protection = guard.of(run)
        if protection is None:  # nobody remembers what would be held back
            run.log(row, step=step, commit=True)
            return []
        try:
            if wandb_wire.TOGETHER.is_here and self._simple.knows(run, row):
                return [protection.hold(row, step)]
        except MOVED as error:
            SIMPLE.fail(error)
        with wandb_wire.rows_held_back(run) as held:
            run.log(row, step=step, commit=True)
        self._simple.learn(run, row, step, held)
        return held

    def send(self) -> dict[int, int]:
        """Send all rows; runs whose core is gone continue in a new one, with the same rows.

        Returns:
            How many rows of each run were lost since the last call, by ``id(run)``.
        """
        rows, self._rows, self._bytes = self._rows, [], 0
        self._count.clear()
        # There may be several cores, if one was found dead and replaced while these were logged.
        for core in {id(held.core): held.core for _, held in rows}.values():
            of_core = [(run, held) for run, held in rows if held.core is core]
            try:
                wandb_wire.send_together([held for _, held in of_core])
            except Exception as error:  # noqa: BLE001 - whatever it was: the runs' guards have the rows
                if isinstance(error, MOVED):
                    wandb_wire.TOGETHER.fail(error)
                self._recover([run for run, _ in of_core], core)
        lost, self._lost = self._lost, Counter()
        return lost

    def _recover(self, runs: list[Run], core: object) -> None:
        for run in {id(run): run for run in runs}.values():
            protection = guard.of(run)
            # In these cases the guard has noticed before, and has sent these rows to a new core.
            if protection is None or wandb_core.core_of(run) is not core:
                continue
            if not protection.survive():
                self._lost[id(run)] += sum(one is run for one in runs)
