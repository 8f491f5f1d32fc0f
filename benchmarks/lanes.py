"""Run sweeps side by side, one at a time, in turns of a second.

So the machine's other load affects them alike (docs/decisions.md, "Sweeps in lanes"). A
lane is a driver with a Ray of its own. While another lane runs, all of its processes are stopped,
and so is its clock (:mod:`stopwatch`).
"""

from __future__ import annotations

import contextlib
import io
import json
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import Self

import psutil
import stopwatch
import sweeps
from sweeps import Load, Sweep, WrongRowsError

#: How long one lane runs at a time, in seconds.
SLICE_S = 1.0


class Lane:
    """A context manager: a process that starts Ray, and then does the sweeps that it is sent."""

    def __init__(self, folder: Path) -> None:
        home = Path(tempfile.mkdtemp(prefix="", dir=folder))
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C reaches only the benchmark, which ends this process
        )
        self._tree = [psutil.Process(self._process.pid)]
        self._stopped_s = stopwatch.stopped_s(home / "stopped")
        self._since = time.perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Stopped first, so that it can't start processes that are not killed.
        self.stop()
        self._signal(signal.SIGKILL)
        self._process.communicate()

    def start(self, how: str, load: Load) -> None:
        """Send it a sweep, which it does when it runs."""
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        self._process.stdin.write(json.dumps([how, asdict(load)]) + "\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        """The next line of the process.

        Raises:
            WrongRowsError: if it has ended instead.
        """
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        if line := self._process.stdout.readline():
            return line
        raise WrongRowsError(f"a lane ended early, with {self._process.wait()}: see above")

    def move(self, seconds: float | None) -> Sweep | None:
        """Let it run for some time, or until its sweep is done; the sweep's figures, if it is."""
        self._stopped_s[0] += time.perf_counter() - self._since
        self._signal(signal.SIGCONT)
        is_done = select.select([self._process.stdout], [], [], seconds)[0]
        found = Sweep(**json.loads(self.answer())) if is_done else None
        self.stop()
        return found

    def stop(self) -> None:
        """Stop it and all that it has started; the driver first, because its clock is used."""
        driver = self._tree[0]
        with contextlib.suppress(psutil.NoSuchProcess):
            self._tree = [driver, *driver.children(recursive=True)]
        self._since = time.perf_counter()
        self._signal(signal.SIGSTOP)

    def _signal(self, number: signal.Signals) -> None:
        for process in self._tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)


class Lanes:
    """Two lanes, which are opened for the first sweeps, until they are closed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lanes: list[Lane] = []
        self._ends = contextlib.ExitStack()

    def side_by_side(self, ways: tuple[str, str], load: Load) -> dict[str, Sweep]:
        """Run one sweep for each way of logging, offline; the first of them begins.

        Args:
            ways: the ways of logging.
            load: what each sweep has to do.

        Raises:
            WrongRowsError: if a sweep failed, or rows of wbtune's are missing.
        """
        if not self._lanes:
            self._open()
        found: dict[str, Sweep] = {}
        moving = deque(zip(ways, self._lanes, strict=True))
        for how, lane in moving:
            lane.start(how, load)
        while moving:
            how, lane = moving.popleft()
            done = lane.move(SLICE_S if moving else None)
            if done is None:
                moving.append((how, lane))
            else:
                found[how] = done
        return found

    def close(self) -> None:
        self._lanes = []
        self._ends.close()

    def _open(self) -> None:
        self._lanes = [self._ends.enter_context(Lane(self._folder)) for _ in range(2)]
        for lane in self._lanes:
            lane.answer()
        for lane in self._lanes:
            lane.stop()


def main() -> None:
    """Run one lane: start Ray, then for each line do a sweep and print its figures."""
    folder = Path(sys.argv[1])
    stopwatch.follow(folder / "stopped")
    out = sys.stdout
    with contextlib.redirect_stdout(io.StringIO()):  # Tune's tables
        sweeps.start_ray(folder)
        print("ready", file=out, flush=True)
        for line in sys.stdin:
            how, load = json.loads(line)
            found = sweeps.sweep(how, Load(**load), folder)
            print(json.dumps(asdict(found)), file=out, flush=True)


if __name__ == "__main__":
    main()
