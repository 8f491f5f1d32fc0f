"""The designs that `wbtune._driver.writer` could have had: the same orders carried out elsewhere.

    python benchmarks/designs.py [ROUNDS]

What carries out the orders (`helper.Helper`) and the batches that it gets are the same
each time; it sits in a helper process, in a thread of the driver, or in one Ray actor of the
experiment. All with the same settings for wandb-core, side by side in one Ray, offline.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

# What the helper's core is given, for the cores of the others as well.
os.environ["GOMAXPROCS"] = "1"

import bench  # first: it sets the environment for Ray and wandb
import hooks
import processes
import ray
import sweeps
from figures import Figure, quantile
from processes import Footprint
from sweeps import NONE, OURS, Load, Sweep

from wbtune._driver import experiment
from wbtune._driver.helper_thread import HelperThread
from wbtune._driver.writer import Writer
from wbtune._helper import messages
from wbtune._helper.helper import Helper
from wbtune._run import closing, opening


def carry_out(orders: IO[bytes], hear: Callable[[dict[str, Any]], None]) -> None:
    """What the helper process does with its messages, here."""

    def say(key: str, text: str) -> None:
        hear({"key": key, "text": text})

    opening.prepare_for_many()
    Helper(say, lambda **said: hear(said)).serve(orders)
    closing.end_core()


class InThread(Writer):
    """In a thread of the driver."""

    def __init__(self) -> None:
        super().__init__(lambda _, hear: ThreadHelper(hear))


class ThreadHelper(HelperThread):
    """By wandb, as the process."""

    def _work(self) -> None:
        with self._their_end, self._their_end.makefile("rb") as stream:
            carry_out(stream, self._hear)
        self._complete = True


@ray.remote(num_cpus=0, concurrency_groups={"orders": 1, "said": 1})
class Carrier:
    """The actor: batches come as calls, and what it says is asked for."""

    def __init__(self) -> None:
        self._said: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        read, write = os.pipe()
        self._orders = os.fdopen(write, "wb")
        self._thread = threading.Thread(target=self._work, args=(os.fdopen(read, "rb"),))
        self._thread.start()

    def _work(self, orders: IO[bytes]) -> None:
        carry_out(orders, self._said.put)
        self._said.put(None)

    @ray.method(concurrency_group="orders")
    def take(self, batch: bytes) -> None:
        """One batch; an empty one is the end."""
        if batch:
            self._orders.write(batch)
            self._orders.flush()
        else:
            self._orders.close()

    @ray.method(concurrency_group="said")
    def said(self) -> dict[str, Any] | None:
        """The next thing that it says; None at the end."""
        return self._said.get()


class ActorHelper:
    """The driver's view of the actor."""

    is_ready, failure = True, ""

    def __init__(self, hear: Callable[[dict[str, Any]], None]) -> None:
        self._actor = Carrier.remote()
        self._thread = threading.Thread(target=self._listen, args=(hear,), daemon=True)
        self._thread.start()

    def _listen(self, hear: Callable[[dict[str, Any]], None]) -> None:
        while (said := ray.get(self._actor.said.remote())) is not None:
            hear(said)

    def send(self, batch: list[messages.Packed]) -> None:
        """Send a batch."""
        self._actor.take.remote(messages.framed(batch))

    def send_end(self) -> None:
        """There is no more."""
        self._actor.take.remote(b"")

    def is_alive(self) -> bool:
        """Is it still there?"""
        return self._thread.is_alive()

    def wait(self) -> bool:
        """Until all is carried out."""
        self._thread.join()
        self.kill()
        return True

    def kill(self) -> None:
        """End it at once."""
        ray.kill(self._actor)


class InActor(Writer):
    """In one actor of the experiment."""

    def __init__(self) -> None:
        super().__init__(lambda _, hear: ActorHelper(hear))


DESIGNS: dict[str, type[Writer]] = {
    "a helper process": Writer,
    "a thread": InThread,
    "an actor": InActor,
}


def main() -> None:
    """Print a line for each design."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    # Ray's own workers are not what logging costs, but this one is.
    processes.PEERS += ("ray::Carrier",)
    sweeps.start_ray(bench.FOLDER)
    try:
        print("\n".join(measure(rounds)))
    finally:
        ray.shutdown()


def measure(rounds: int) -> Iterator[str]:
    """Sweeps of each design in turn, then each without Ray's scheduling."""
    load = Load("report only", 1000)
    found: dict[str, list[Sweep]] = {NONE: [], **{design: [] for design in DESIGNS}}
    sweeps.sweep(NONE, Load("warm up", 20, trials=4), bench.FOLDER)
    for number in range(rounds):
        found[NONE].append(sweeps.sweep(NONE, load, bench.FOLDER))
        for design in list(DESIGNS)[:: -1 if number % 2 else 1]:
            with using(design):
                found[design].append(sweeps.sweep(OURS, load, bench.FOLDER))
    walls = {how: [one.wall_s for one in ones] for how, ones in found.items()}
    for design in DESIGNS:
        loop_us = [us for one in found[design] for us in one.loop_us]
        with using(design):
            held, driver_us = alone(bench.FOLDER / design.replace(" ", "-"))
        yield (
            f"{design}: wall / no logging {Figure.ratio(walls[design], walls[NONE])}; "
            f"Tune's loop {quantile(loop_us, 0.5):.1f} us, p99 {quantile(loop_us, 0.99):.0f} us; "
            f"the driver's own CPU {driver_us:.0f} us a row; {held.processes} processes with "
            f"{held.megabytes:.0f} MB, and {held.driver_mb:.0f} MB of the driver"
        )


@contextlib.contextmanager
def using(design: str) -> Iterator[None]:
    """Have the callbacks write by a design."""
    experiment.Writer = DESIGNS[design]  # type: ignore[misc]
    try:
        yield
    finally:
        experiment.Writer = Writer  # type: ignore[misc]


def alone(folder: Path) -> tuple[Footprint, float]:
    """What a design holds with 64 runs open, and microseconds of the driver's CPU for a row."""
    with hooks.ours(folder) as hooked:
        hooked.open()
        while not list(folder.glob("wandb/*run-*/*.wandb")):
            time.sleep(0.1)  # until who carries it out is there
        held = hooks.footprints(hooked, [64], 100)[64]
        driver_us = hooks.cpu_of_rows(hooked, 100)["driver"]
        hooked.end_all()
    hooks.check(hooked)
    return held, driver_us


if __name__ == "__main__":
    main()
