"""Endings by doors: what is left of a trial in its run, however it ended.

    python benchmarks/endings.py [--write README.md]

For each door, wbtune's and Ray's own, trials are ended in several ways on real Ray with real
wandb, offline, and what they logged is read back from disk. A cell is *rows found/expected ·
exit code · seconds from the last result (without one: the start) to the end of `fit()`*; expected
is what was delivered to Tune, "–" is no exit record. Ends non-zero when a cell of wbtune's is
wrong.
"""

# Over 250 lines: the endings, how each is brought about and what is right for it are one table.

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"
os.environ["RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS"] = "0"
os.environ["TUNE_PRINT_ALL_TRIAL_ERRORS"] = "0"
os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "0.5"  # for those that are restored

import ray
from lives import BETTER, DOORS, WORSE, Clock, Door
from ray import tune
from ray.tune.schedulers import FIFOScheduler, PopulationBasedTraining

from wbtune._run import run_log


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


def population() -> PopulationBasedTraining:
    return PopulationBasedTraining(
        "training_iteration",
        metric="score",
        mode="max",
        perturbation_interval=4,
        quantile_fraction=0.5,
        hyperparam_mutations={"lr": tune.uniform(1.5, 3.0)},
    )


@dataclass(frozen=True)
class Experiment:
    """The endings that fit into one experiment.

    Attributes:
        hows: their names; one trial for each.
        run: for its `RunConfig`.
        tuning: for its `TuneConfig`; what is a function makes the value.
        space: for its `param_space`.
        trainable: which of a door's trainables it takes.
        ending: how its driver is ended.
    """

    hows: tuple[str, ...]
    run: dict[str, Any] = field(default_factory=dict)
    tuning: dict[str, Any] = field(default_factory=dict)
    space: dict[str, Any] = field(default_factory=dict)
    trainable: str = "trainable"
    ending: signal.Signals | None = None


EXPERIMENTS = [
    Experiment(("returns", "raises", "stopped", "killed"), {"stop": {"stop_me": 1.0}}),
    Experiment(("setup raises",), trainable="not_built"),
    Experiment(("import fails",), trainable="not_imported"),
    Experiment(("retried",), {"failure_config": tune.FailureConfig(max_failures=1)}),
    Experiment(("paused",), tuning={"scheduler": PauseOnce}),
    Experiment(
        ("population",),
        tuning={"scheduler": population},
        space={"lr": tune.grid_search([WORSE, BETTER])},
    ),
    Experiment(("time budget",), tuning={"time_budget_s": 3}),
    Experiment(("Ctrl-C",), ending=signal.SIGINT),
    Experiment(("driver killed, restored",), ending=signal.SIGKILL),
    Experiment(("wandb-core killed",)),
    Experiment(("disk full",)),
]
#: The exit codes that tell the truth; 0 for the others.
CODES = {"raises": 1, "killed": 254, "setup raises": 1, "import fails": 254, "Ctrl-C": 130}
#: And where nobody is left who could say so (README, "Limits").
UNWATCHED: dict[str, int | None] = {"killed": None, "Ctrl-C": 0}


@dataclass(frozen=True)
class Cell:
    """What was found of one ending.

    Attributes:
        found: the different rows that its run has.
        expected: those that were delivered to Tune.
        dropped: those that the run says it had to drop.
        exit_code: of its run; None without an exit record.
        seconds: from the last result to the end of `fit`.
        right: the rows are complete or counted, and the exit code tells the truth.
        said: what else is to be said of it.
    """

    found: int
    expected: int
    dropped: int
    exit_code: int | None
    seconds: float
    right: bool
    said: str = ""

    def __str__(self) -> str:
        code = "–" if self.exit_code is None else self.exit_code
        counted = f" (+{self.dropped} counted)" if self.dropped else ""
        text = f"{self.found}/{self.expected}{counted} · {code} · {self.seconds:.1f} s"
        return f"{text} · {self.said}" if self.said else text


def build(door: Door, experiment: Experiment, folder: Path, disk: str) -> tuple[Any, Clock]:
    """The tuner of one experiment through one door, and what notes its results."""
    name = name_of(door, experiment)
    (folder / name).mkdir(exist_ok=True)
    clock = Clock(folder / f"{name}.marks", experiment.ending)
    clock.file.touch()
    callbacks: list[tune.Callback] = [clock]
    if door.callback:
        where = {"dir": disk} if disk and not door.ours else {}
        callbacks.append(door.callback(**where))
    trainable = getattr(door, experiment.trainable)
    tuner = door.tuner(
        trainable,
        param_space={
            "how": tune.grid_search(list(experiment.hows)),
            "owner": os.getpid() if door.callback else 0,
            "folder": str(folder / name),
            "disk": disk,
            "since": time.time(),
            **experiment.space,
        },
        tune_config=tune.TuneConfig(
            **{
                key: value() if callable(value) else value
                for key, value in experiment.tuning.items()
            }
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(folder),
            verbose=0,
            callbacks=callbacks,
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_frequency=isinstance(trainable, type)
            ),
            **experiment.run,
        ),
    )
    return tuner, clock


def name_of(door: Door, experiment: Experiment) -> str:
    return f"{EXPERIMENTS.index(experiment)}-{DOORS.index(door)}"


def measure(door: Door, experiment: Experiment, folder: Path) -> dict[str, Cell | None]:
    """Run one experiment through one door, and read back what is left of it."""
    if getattr(door, experiment.trainable) is None:
        return dict.fromkeys(experiment.hows)
    name = name_of(door, experiment)
    with contextlib.ExitStack() as stack:
        disk = ""
        if experiment.hows == ("disk full",):
            disk = stack.enter_context(small_disk(folder / f"{name}.disk"))
            (folder / name).mkdir()
            (folder / name / "wandb").symlink_to(disk + "/wandb", target_is_directory=True)
        if experiment.ending == signal.SIGKILL:
            clock = die(door, experiment, folder)
            tuner = door.restore(str(folder / name), door.trainable)
        else:
            tuner, clock = build(door, experiment, folder, disk)
        begun = time.time()
        said = ""
        try:
            tuner.fit()
        except Exception as error:  # a finding
            if door.ours:
                raise
            said = f"`fit` raises `{type(error).__name__}`"
        ended = time.time()
        marks, last = clock.read()
        logs = list(find(name, folder, door, disk).values())
    return {
        how: judge(
            door,
            how,
            [log for log in logs if log.config.get("how", how) == how],
            marks.get(how, set()),
            ended - max(begun, last),
            said,
        )
        for how in experiment.hows
    }


class NoDiskError(Exception):
    """Mounting a file system needs to be root."""


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[str]:
    """A file system of its own, with a ballast that leaves little room."""
    folder.mkdir()
    mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        raise NoDiskError
    try:
        (folder / "wandb").mkdir()
        (folder / "ballast").write_bytes(b"x" * 500_000)
        yield str(folder)
    finally:
        subprocess.run(["/bin/umount", "--lazy", str(folder)], check=True)


def die(door: Door, experiment: Experiment, folder: Path) -> Clock:
    """Run an experiment in a driver of its own, on the same Ray, that is killed in the middle."""
    address = ray.get_runtime_context().gcs_address
    places = map(str, (DOORS.index(door), EXPERIMENTS.index(experiment)))
    done = subprocess.run(
        [sys.executable, __file__, "--die", address, str(folder), *places],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode != -signal.SIGKILL:
        raise RuntimeError(f"The driver was not killed: {done.stdout}{done.stderr}")
    return Clock(folder / f"{name_of(door, experiment)}.marks")


def find(name: str, folder: Path, door: Door, disk: str) -> dict[str, run_log.RunLog]:
    """The runs of an experiment; Ray's own lie in its session folder."""
    if door.ours or disk:
        return run_log.read_runs(disk or folder / name)
    session = Path(ray._private.worker.global_worker.node.get_session_dir_path())  # noqa: SLF001
    merged: dict[str, run_log.RunLog] = {}
    for path in sorted(session.glob(f"artifacts/*/{name}/**/wandb")):
        for run_id, log in run_log.read_runs(path.parent).items():
            known = merged.setdefault(run_id, log)
            if known is not log:
                known.rows += log.rows
                known.exit_code = log.exit_code
    return merged


def judge(
    door: Door,
    how: str,
    logs: list[run_log.RunLog],
    expected: set[float],
    seconds: float,
    said: str,
) -> Cell:
    """Compare what is left of an ending with what should be."""
    rows = [row["mark"] for log in logs for row in log.rows if row.get("mark") in expected]
    found = len(set(rows))
    dropped = sum(log.summary.get("wbtune/dropped", 0) for log in logs)
    codes = {log.exit_code for log in logs} or {None}
    code = next(iter(codes - {0}), 0)
    truth: int | None = CODES.get(how, 0)
    if not door.watched:
        truth = UNWATCHED.get(how, truth)
    if (how, door.name) == ("setup raises", "`setup_wandb`"):
        truth = None
    right = len(rows) == found and found + dropped == len(expected) and codes == {truth}
    if how == "population" and door.watched:
        right = right and any("wbtune/perturbations" in log.config for log in logs)
    return Cell(found, len(expected), dropped, code, seconds, right, said)


def table(cells: dict[str, list[Cell | None]]) -> str:
    """The table, as Markdown."""
    lines = [
        "| ending | " + " | ".join(door.name for door in DOORS) + " |",
        "|---" * (len(DOORS) + 1) + "|",
    ]
    lines += [
        f"| {how} | " + " | ".join(str(cell or "") for cell in row) + " |"
        for how, row in cells.items()
    ]
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
    parser.add_argument("--only", nargs="*", help="these endings alone")
    parser.add_argument("--die", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.die:
        address, folder, door, experiment = options.die
        ray.init(address, log_to_driver=False, logging_level=50)
        build(DOORS[int(door)], EXPERIMENTS[int(experiment)], Path(folder), "")[0].fit()
        return 1
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=50)
    cells: dict[str, list[Cell | None]] = {}
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for experiment in EXPERIMENTS:
            if options.only and not set(options.only) & set(experiment.hows):
                continue
            try:
                for door in DOORS:
                    for how, found in measure(door, experiment, Path(folder)).items():
                        cells.setdefault(how, []).append(found)
                        print(f"{how}, {door.name}: {found or 'has no such ending'}", flush=True)
            except NoDiskError as error:
                print(f"{experiment.hows[0]} is left out: {error.__doc__}")
    ray.shutdown()
    text = table(cells)
    print(f"{text}\n{time.monotonic() - begun:.0f} s in all")
    if options.write:
        write(text, options.write, "endings")
    wrong = [
        f"{how}, {door.name}: {found}"
        for how, row in cells.items()
        for door, found in zip(DOORS, row, strict=True)
        if found and door.ours and not found.right
    ]
    print(*[f"WRONG: {line}" for line in wrong], sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
