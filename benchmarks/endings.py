"""Endings by doors: what is left of a trial in its run, however it ended.

    python benchmarks/endings.py [--write README.md]

For each door, wbtune's and Ray's own, trials are ended in several ways on real Ray with real
wandb, offline, and what they logged is read back from disk. A cell is *rows found/expected ·
exit code · seconds from the last result to the end of `fit()`*; "–" is no exit record. Ends
non-zero when a cell of wbtune's is wrong.
"""

# Over 250 lines: seven doors and seven endings are one table.

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"
os.environ["RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS"] = "0"
os.environ["TUNE_PRINT_ALL_TRIAL_ERRORS"] = "0"

import ray
from ray import tune
from ray.air.integrations import wandb as peer
from ray.tune.schedulers import FIFOScheduler

import wbtune
from wbtune import runlog

ROWS = 10
PROJECT = "endings"


def life(config: dict[str, Any], log: Callable[[dict[str, Any]], object]) -> Iterator[Any]:
    """Ten iterations from the checkpoint on, and the ending that the config asks for."""
    begin = 0
    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            begin = int(Path(folder, "i").read_text())
    for i in range(begin + 1, ROWS + 1):
        log({"loss": float(i)})
        stop = config["how"] == "stopped" and i == ROWS // 2
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "i").write_text(str(i))
            yield {"loss": float(i), "stop_me": float(stop)}, tune.Checkpoint.from_directory(folder)
        if config["how"] == "retried" and i == 7 and not begin:
            raise RuntimeError("once")
        if config["how"] == "time budget":
            time.sleep(0.5)
    if config["how"] == "raises":
        raise ValueError("the trial's own")
    if config["how"] == "killed":
        time.sleep(1.2)
        os.kill(os.getpid(), signal.SIGKILL)


def plain(config: dict[str, Any]) -> None:
    for result, checkpoint in life(config, lambda row: None):
        tune.report(result, checkpoint=checkpoint)


def with_setup(config: dict[str, Any]) -> None:
    run = wbtune.setup_wandb(config, project=PROJECT)
    for result, checkpoint in life(config, run.log):
        tune.report(result, checkpoint=checkpoint)


def with_peers_setup(config: dict[str, Any]) -> None:
    run = peer.setup_wandb(config, project=PROJECT)
    for result, checkpoint in life(config, run.log):
        tune.report(result, checkpoint=checkpoint)


@wbtune.wandb_trial(project=PROJECT)
def decorated(config: dict[str, Any], run: Any) -> None:
    for result, checkpoint in life(config, run.log):
        tune.report(result, checkpoint=checkpoint)


@wbtune.wandb_trial(project=PROJECT)
def reports(config: dict[str, Any]) -> None:
    for result, checkpoint in life(config, lambda row: None):
        tune.report(result, checkpoint=checkpoint)


class Mixed(wbtune.WandbMixin, tune.Trainable, project=PROJECT):
    """The same life, as a class."""

    def setup(self, config: dict[str, Any]) -> None:
        self.i = 0

    def step(self) -> dict[str, Any]:
        how = self.config["how"]
        fails_once = Path(self.logdir, "failed once")
        if how == "retried" and self.i == 7 and not fails_once.exists():
            fails_once.touch()
            raise RuntimeError("once")
        if self.i == ROWS:
            if how == "raises":
                raise ValueError("the trial's own")
            if how == "killed":
                time.sleep(1.2)
                os.kill(os.getpid(), signal.SIGKILL)
        self.i += 1
        if how == "time budget":
            time.sleep(0.5)
        self.run.log({"loss": float(self.i)})
        last = self.i == ROWS and how not in {"raises", "killed"}
        stop = how == "stopped" and self.i == ROWS // 2
        return {"loss": float(self.i), "stop_me": float(stop), "done": last}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {"i": self.i}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        self.i = (checkpoint or {})["i"]


@dataclass(frozen=True)
class Door:
    """One way to log a trial.

    Attributes:
        name: the column's title.
        build: makes the tuner.
        ours: wbtune's; its cells have to be right.
        watched: somebody on the driver can speak for a trial that was killed.
    """

    name: str
    build: Callable[..., Any]
    ours: bool = True
    watched: bool = False


def with_callback(trainable: Any, make: Callable[[], Any]) -> Callable[..., Any]:
    """A builder that adds a callback to the tuner's."""

    def build(run_config: Any, **options: Any) -> Any:
        run_config.callbacks = [*run_config.callbacks, make()]
        return tune.Tuner(trainable, run_config=run_config, **options)

    return build


def bare(trainable: Any) -> Callable[..., Any]:
    """A builder of a plain tuner."""
    return lambda run_config, **options: tune.Tuner(trainable, run_config=run_config, **options)


DOORS = [
    Door(
        "`WandbLoggerCallback`",
        with_callback(plain, lambda: wbtune.WandbLoggerCallback(project=PROJECT)),
        watched=True,
    ),
    Door("`setup_wandb`", bare(with_setup)),
    Door("`@wandb_trial`", bare(decorated)),
    Door("`WandbMixin`", bare(Mixed)),
    Door(
        "`wandb_tuner`, decorated",
        lambda run_config, **options: wbtune.wandb_tuner(reports, run_config=run_config, **options),
        watched=True,
    ),
    Door(
        "Ray's callback",
        with_callback(plain, lambda: peer.WandbLoggerCallback(project=PROJECT, upload_timeout=20)),
        ours=False,
    ),
    Door("Ray's `setup_wandb`", bare(with_peers_setup), ours=False),
]


class PauseOnce(FIFOScheduler):
    """Pauses each trial once, after its fourth iteration."""

    def __init__(self) -> None:
        super().__init__()
        self.paused: set[str] = set()

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if result["training_iteration"] != 4 or trial.trial_id in self.paused:
            return str(self.CONTINUE)
        self.paused.add(trial.trial_id)
        return str(self.PAUSE)


class LastResult(tune.Callback):
    """Notes when the last result of each trial came, and how many there were."""

    def __init__(self) -> None:
        self.at = time.monotonic()
        self.last: dict[str, int] = {}

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: Any, **_: Any
    ) -> None:
        self.at = time.monotonic()
        self.last[trial.trial_id] = int(result["loss"])


#: The experiments: the endings that fit into one, and what `fit` is told.
EXPERIMENTS: dict[str, tuple[list[str], dict[str, Any], dict[str, Any]]] = {
    "four at once": (
        ["returns", "raises", "stopped", "killed"],
        {"stop": {"stop_me": 1.0}},
        {},
    ),
    "retry": (["retried"], {"failure_config": tune.FailureConfig(max_failures=1)}, {}),
    "pause": (["paused"], {}, {"scheduler": PauseOnce}),
    "budget": (["time budget"], {}, {"time_budget_s": 3}),
}
NOT_ZERO = {"raises", "killed"}


@dataclass(frozen=True)
class Cell:
    """What was found of one trial.

    Attributes:
        found: the different losses that its run has.
        expected: those that it reported.
        exit_code: of its run; None without an exit record.
        seconds: from the last result to the end of `fit`.
        right: the rows are complete, and the exit code tells the truth.
    """

    found: int
    expected: int
    exit_code: int | None
    seconds: float
    right: bool

    def __str__(self) -> str:
        code = "–" if self.exit_code is None else self.exit_code
        return f"{self.found}/{self.expected} · {code} · {self.seconds:.1f} s"


def measure(door: Door, name: str, folder: Path) -> dict[str, Cell]:
    """Run one experiment through one door, and read back what is left of it."""
    hows, run, tuning = EXPERIMENTS[name]
    clock = LastResult()
    config = tune.RunConfig(
        name=f"{name.replace(' ', '-')}-{DOORS.index(door)}",
        storage_path=str(folder),
        verbose=0,
        callbacks=[clock],
        **run,
    )
    tuning = {k: v() if isinstance(v, type) else v for k, v in tuning.items()}
    door.build(
        config,
        param_space={"how": tune.grid_search(hows)},
        tune_config=tune.TuneConfig(**tuning),
    ).fit()
    seconds = time.monotonic() - clock.at
    logs = {log.config.get("how"): log for log in find(config.name, folder, door).values()}
    return {how: cell(door, how, logs.get(how), clock, seconds) for how in hows}


def find(name: str, folder: Path, door: Door) -> dict[str, runlog.RunLog]:
    """The runs of an experiment; Ray's own lie in its session folder."""
    if door.ours:
        return runlog.of_experiment(folder / name)
    session = Path(ray._private.worker.global_worker.node.get_session_dir_path())  # noqa: SLF001
    merged: dict[str, runlog.RunLog] = {}
    for path in sorted(session.glob(f"artifacts/*/{name}/**/wandb")):
        for run_id, log in runlog.of_experiment(path.parent).items():
            known = merged.setdefault(run_id, log)
            if known is not log:
                known.rows += log.rows
                known.exit_code = log.exit_code
    return merged


def cell(
    door: Door, how: str, log: runlog.RunLog | None, clock: LastResult, seconds: float
) -> Cell:
    """Judge what is left of one trial."""
    delivered = {"stopped": ROWS // 2}.get(how, ROWS)
    if how == "time budget":
        delivered = max(clock.last.values())
    if log is None:
        return Cell(0, delivered, None, seconds, right=False)
    losses = {row["loss"] for row in log.rows if "loss" in row and row["loss"] <= delivered}
    bad = log.exit_code != 0 and (log.exit_code is not None or not door.watched)
    right = len(losses) == delivered and (bad if how in NOT_ZERO else log.exit_code == 0)
    return Cell(len(losses), delivered, log.exit_code, seconds, right)


def table(cells: dict[str, list[Cell]]) -> str:
    """The table, as Markdown."""
    lines = [
        "| ending | " + " | ".join(door.name for door in DOORS) + " |",
        "|---" * (len(DOORS) + 1) + "|",
    ]
    lines += [f"| {how} | " + " | ".join(map(str, row)) + " |" for how, row in cells.items()]
    lines += [
        "",
        f"{dt.datetime.now(tz=dt.UTC):%Y-%m-%d}, Ray {version('ray')}, wandb "
        f"{version('wandb')}, Python {platform.python_version()}, {os.cpu_count()} cores.",
    ]
    return "\n".join(lines)


def write(text: str, file: Path, name: str) -> None:
    """Put the table between its markers."""
    before, _, rest = file.read_text().partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- /{name} -->")
    file.write_text(f"{before}<!-- {name} -->\n{text}\n{end}{after}")


def main() -> int:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="the file whose table is replaced")
    options = parser.parse_args()
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=50)
    cells: dict[str, list[Cell]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in EXPERIMENTS:
            for door in DOORS:
                for how, found in measure(door, name, Path(folder)).items():
                    cells.setdefault(how, []).append(found)
    ray.shutdown()
    text = table(cells)
    print(text)
    if options.write:
        write(text, options.write, "endings")
    wrong = [
        f"{how}, {door.name}: {found}"
        for how, row in cells.items()
        for door, found in zip(DOORS, row, strict=True)
        if door.ours and not found.right
    ]
    print(*[f"WRONG: {line}" for line in wrong], sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
