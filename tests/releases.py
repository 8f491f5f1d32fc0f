"""What arrives by each way with some Ray and some wandb: `releases_program`, run and looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from wandb_server import TEST_KEY, WandbServer

from wbtune._run import run_files, run_log

PROGRAM: Final = Path(__file__).with_name("releases_program.py")
WAYS: Final = (
    "WandbLoggerCallback",
    "setup_wandb",
    "setup_wandb, class",
    "@wandb_trial",
    "WandbMixin",
    "wandb_tuner",
)


class Arrived(NamedTuple):
    """What is there of one trial: its rows, each counted once, and its exit code."""

    rows: int
    exit_code: int | None


#: By what the trial does.
EXPECTED: Final = {"returns": Arrived(10, 0), "is stopped": Arrived(3, 0), "raises": Arrived(5, 1)}


#: Each way has one trial, of one of the kinds: a third of the time.
EACH_ITS_OWN: Final = {
    "WandbLoggerCallback": ("raises",),
    "@wandb_trial": ("is stopped",),
    "WandbMixin": ("returns",),
}


class Outcome(NamedTuple):
    """How `releases_program` went.

    Attributes:
        how: what the trials of each way were to do.
        arrived: by way, and by what the trial did; a way is missing where `fit` did not return.
        output: what the program printed, all processes together.
    """

    how: Mapping[str, Sequence[str]]
    arrived: Mapping[str, Mapping[str, Arrived]]
    output: str

    def lost(self, ways: Sequence[str]) -> list[str]:
        """What is not as expected, as text."""
        found = []
        for way in ways:
            if way not in self.arrived:
                found.append(f"{way}: fit() raised")
                continue
            for how in self.how[way]:
                expected = EXPECTED[how]
                one = self.arrived[way].get(how, Arrived(0, None))
                if one != expected:
                    found.append(
                        f"{way}: a trial that {how} has {one.rows} of {expected.rows} rows, "
                        f"exit code {one.exit_code}, not {expected.exit_code}"
                    )
        return found

    def cell(self, *ways: str) -> str:
        """Ways' cell in a table: the rows that were kept of those expected, and exit codes."""
        if not self.arrived.keys() >= {*ways}:
            return "**fit() raised**"
        trials = [(way, how) for way in ways for how in self.how[way]]
        got = [self.arrived[way].get(how, Arrived(0, None)) for way, how in trials]
        expected = [EXPECTED[how] for _, how in trials]
        rows = sum(min(one.rows, want.rows) for one, want in zip(got, expected, strict=True))
        total = sum(want.rows for want in expected)
        codes = " ".join("-" if one.exit_code is None else str(one.exit_code) for one in got)
        return f"{rows}/{total} · {codes}"


def run_program(
    python: str = sys.executable,
    ways: Sequence[str] = WAYS,
    path: Sequence[str] = (),
    how: Mapping[str, Sequence[str]] | None = None,
    server: WandbServer | None = None,
    ray_address: str = "",
    limit_s: float = 600.0,
) -> Outcome:
    """Run `releases_program`, and read what it left on disk, or on the server.

    Args:
        python: the interpreter that has the Ray and the wandb.
        ways: which are tried.
        path: folders in front of what that interpreter has installed.
        how: what the trials of each way do; without it, each way has a trial of each kind.
        server: where it logs to; without one, it is offline.
        ray_address: of a Ray that is running; without one, the program starts its own.
        limit_s: seconds until the program is taken to hang.
    """
    hows = {way: list((how or {}).get(way, EXPECTED)) for way in ways}
    with tempfile.TemporaryDirectory(prefix="wbtune-releases-") as storage:
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("WANDB_", "COVERAGE_"))
        }
        environment |= {
            "PYTHONPATH": os.pathsep.join([*path, str(PROGRAM.parent)]),
            # A Ray that is shared has its token in the home of the one who started it.
            **({} if ray_address else {"HOME": storage}),
            "WANDB_MODE": "offline",
            "WANDB_ERROR_REPORTING": "false",
            **({"RELEASES_RAY": ray_address} if ray_address else {}),
            **(server.env(Path(storage, "client"), TEST_KEY) if server else {}),
        }
        try:
            done = subprocess.run(
                [python, str(PROGRAM), storage, json.dumps(hows)],
                env=environment,
                cwd=storage,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=limit_s,
                check=False,
            )
            output = done.stdout
        except subprocess.TimeoutExpired as error:
            output = f"{(error.stdout or b'').decode()}\nhangs for {limit_s:.0f} s"
        arrived = _on_server(server) if server else _on_disk(Path(storage))
        fitted = [way for way in ways if Path(storage, f"fitted {way}").exists()]
        return Outcome(hows, {way: arrived.get(way, {}) for way in fitted}, output)


def _on_server(server: WandbServer) -> dict[str, dict[str, Arrived]]:
    found: dict[str, dict[str, Arrived]] = {}
    for run in server.runs.values():
        rows = {row["i"] for row in run.rows if "i" in row}
        arrived = Arrived(len(rows), run.exit_code)
        found.setdefault(run.config["way"], {})[run.config["how"]] = arrived
    return found


def _on_disk(storage: Path) -> dict[str, dict[str, Arrived]]:
    """Wherever it is: in the experiment's folder, or in one of its node, which a user is told.

    Tune may have copied that one to the storage while it was being written.
    """
    found: dict[str, dict[str, Arrived]] = {}
    for experiment in {path.parents[1] for path in storage.rglob("offline-run-*")}:
        for run_id in run_files.run_ids(experiment):
            paths = run_files.logs(experiment, run_id)
            config = run_log.merged(paths).config
            rows = {row["i"] for path in paths for row in run_log.read(path).rows if "i" in row}
            arrived = Arrived(len(rows), run_files.exit_code(paths[-1]))
            of_way, how = found.setdefault(config["way"], {}), config["how"]
            of_way[how] = max(of_way.get(how, arrived), arrived, key=_is_whole)
    return found


def _is_whole(arrived: Arrived) -> tuple[int, bool]:
    return arrived.rows, arrived.exit_code is not None
