"""The W&B stand-in of the tests, as a process of its own: its work is not the driver's.

    python benchmarks/stand_in.py

Prints its address, and for each line that it reads how many rows each run has, as JSON.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import processes

TESTS = Path(__file__).parent.parent / "tests"
KEY = "0123456789abcdef0123456789abcdef01234567"  # opens nothing anywhere


class StandIn:
    """The driver's end of it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.url = self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        return self._process.stdout.readline().strip()

    def rows(self, run_ids: list[str], expected: int, timeout: float = 30.0) -> dict[str, int]:
        """How many rows these runs have; waits a little for the rest of them."""
        deadline = time.monotonic() + timeout
        while True:
            assert self._process.stdin is not None  # noqa: S101 - it is a pipe
            self._process.stdin.write("\n")
            self._process.stdin.flush()
            said = json.loads(self._answer())
            found = {key: said.get(key, 0) for key in run_ids}
            if all(rows >= expected for rows in found.values()) or time.monotonic() > deadline:
                return found
            time.sleep(0.2)


@contextlib.contextmanager
def listening() -> Iterator[StandIn]:
    """Have it there for the length of a block."""
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        processes.NOT_LOGGING.add(process.pid)
        yield StandIn(process)


def serve() -> None:
    """Be the server, until stdin ends."""
    sys.path.insert(0, str(TESTS))
    from wandb_server import WandbServer  # noqa: PLC0415 - from the tests

    with WandbServer(keys={KEY}) as server:
        print(server.url, flush=True)
        for _ in sys.stdin:
            rows = {run_id: len(run.rows) for (_, _, run_id), run in list(server.runs.items())}
            print(json.dumps(rows), flush=True)
            server.requests.clear()  # they are for tests, and would grow


if __name__ == "__main__":
    serve()
