"""The table of endings: what is left of a trial in its run, however it ended.

    python tests/endings_program.py [--only ENDING ...] [--write docs/endings.md]

The trials of `lives` end in several ways on real Ray with real wandb, offline, by each of
wbtune's ways and by Ray's own, and what they logged is read back from disk. A cell is *rows
found/expected · exit code · seconds from the last result (without one: the start) to the end of
`fit()`*; expected is what was delivered to Tune, a dash means that there is no exit record. Ends
non-zero when a cell of wbtune's is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"
os.environ["RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS"] = "0"
os.environ["TUNE_PRINT_ALL_TRIAL_ERRORS"] = "0"
os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "0.5"  # for those that are restored

import ray
import tables
from drivers import local_ray
from lives import (
    BETTER,
    PROJECT,
    WAYS,
    WORSE,
    NoDiskError,
    PauseOnce,
    PlainClass,
    Way,
    not_imported,
    plain,
    report,
    small_disk,
)
from programs import run_config
from ray import tune
from ray.air.integrations import wandb as peer
from ray.tune.schedulers import PopulationBasedTraining

from wbtune._run import run_log


def with_peers_setup(config):
    where = {"dir": config["disk"]} if config["disk"] else {}
    report(config, peer.setup_wandb(config, project=PROJECT, **where).log)


class WithPeersSetup(PlainClass):
    def setup(self, config):
        self.run = peer.setup_wandb(config, project=PROJECT)
        super().setup(config)


COLUMNS = [
    *WAYS.values(),
    Way(
        "Ray's callback",
        plain,
        PlainClass,
        not_imported,
        callback=lambda **where: peer.WandbLoggerCallback(PROJECT, upload_timeout=20, **where),
        ours=False,
    ),
    Way("Ray's `setup_wandb`", with_peers_setup, WithPeersSetup, ours=False),
]


def population():
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
        tuning: makes its `TuneConfig`.
        space: for its `param_space`.
        trainable: which of a way's trainables it takes.
        ending: how its driver is ended.
    """

    hows: tuple[str, ...]
    run: dict = field(default_factory=dict)
    tuning: object = tune.TuneConfig
    space: dict = field(default_factory=dict)
    trainable: str = "trainable"
    ending: signal.Signals | None = None


EXPERIMENTS = [
    Experiment(("returns", "raises", "stopped", "killed"), {"stop": {"stop_me": 1.0}}),
    Experiment(("setup raises",), trainable="as_class"),
    Experiment(("import fails",), trainable="not_imported"),
    Experiment(("retried",), {"failure_config": tune.FailureConfig(max_failures=1)}),
    Experiment(("paused",), tuning=lambda: tune.TuneConfig(scheduler=PauseOnce())),
    Experiment(
        ("population",),
        tuning=lambda: tune.TuneConfig(scheduler=population()),
        space={"lr": tune.grid_search([WORSE, BETTER])},
    ),
    Experiment(
        ("time budget",), tuning=lambda: tune.TuneConfig(time_budget_s=10), space={"rows": 100}
    ),
    Experiment(("Ctrl-C",), ending=signal.SIGINT),
    Experiment(("driver killed, restored",), ending=signal.SIGKILL),
    Experiment(("wandb-core killed",)),
    Experiment(("disk full",), space={"rows": 300}),
]
#: The exit codes that tell the truth; 0 for the others.
CODES = {"raises": 1, "killed": 254, "setup raises": 1, "import fails": 254, "Ctrl-C": 130}
#: The same where nobody on the driver watches (docs/limits.md).
UNWATCHED = {"killed": None, "Ctrl-C": 0}


class Clock(tune.Callback):
    """Writes down when which result came, and ends its driver before the fifth, if asked to."""

    def __init__(self, file, ending=None):
        self.file, self.ending = file, ending
        self.driver = os.getpid()  # a restored one goes on
        self.count = 0

    def on_trial_result(self, iteration, trials, trial, result, **info):
        self.count += 1
        if self.ending and self.count == 5 and self.driver == os.getpid():
            os.kill(self.driver, self.ending)
        if "mark" in result:
            line = [trial.config["how"], result["mark"], time.time()]
            with self.file.open("a") as file:
                file.write(json.dumps(line) + "\n")

    def read(self):
        """The marks that were delivered, by ending, and when the last one was."""
        marks, last = {}, 0.0
        for line in self.file.read_text().splitlines():
            how, mark, last = json.loads(line)
            marks.setdefault(how, set()).add(mark)
        return marks, last


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
        raised: the error of `fit`.
    """

    found: int
    expected: int
    dropped: int
    exit_code: int | None
    seconds: float
    right: bool
    raised: str

    def __str__(self):
        code = "–" if self.exit_code is None else self.exit_code  # noqa: RUF001
        counted = f" (+{self.dropped} counted)" if self.dropped else ""
        text = f"{self.found}/{self.expected}{counted} · {code} · {self.seconds:.1f} s"
        return f"{text} · `fit` raises `{self.raised}`" if self.raised else text


def build(way, experiment, folder, disk):
    """The tuner of one experiment through one way, and what notes its results."""
    name = name_of(way, experiment)
    (folder / name).mkdir(exist_ok=True)
    clock = Clock(folder / f"{name}.marks", experiment.ending)
    clock.file.touch()
    trainable = trainable_of(way, experiment)
    checkpoints = tune.CheckpointConfig(checkpoint_frequency=isinstance(trainable, type))
    tuner = way.build(
        run_config(
            folder, name, callbacks=[clock], checkpoint_config=checkpoints, **experiment.run
        ),
        trainable,
        {"dir": disk} if disk and not way.ours else None,
        param_space={
            "how": tune.grid_search(list(experiment.hows)),
            "owner": os.getpid() if way.callback else 0,
            "folder": str(folder / name),
            "disk": disk,
            "since": time.time(),
            **experiment.space,
        },
        tune_config=experiment.tuning(),
    )
    return tuner, clock


def name_of(way, experiment):
    return f"{EXPERIMENTS.index(experiment)}-{COLUMNS.index(way)}"


def trainable_of(way, experiment):
    """What is run; None if the way has no such ending."""
    found = getattr(way, experiment.trainable)
    return found() if found and experiment.trainable == "not_imported" else found


def measure(way, experiment, folder):
    """Run one experiment through one way, and read back what is left of it."""
    if trainable_of(way, experiment) is None:
        return dict.fromkeys(experiment.hows)
    name = name_of(way, experiment)
    with contextlib.ExitStack() as stack:
        disk = ""
        if experiment.hows == ("disk full",):
            disk = str(stack.enter_context(small_disk(folder / f"{name}.disk", 2600, ballast=2500)))
            Path(disk, "wandb").mkdir()
            (folder / name).mkdir()
            (folder / name / "wandb").symlink_to(disk + "/wandb", target_is_directory=True)
        if experiment.ending == signal.SIGKILL:
            clock = die(way, experiment, folder)
            tuner = way.restore(str(folder / name), way.trainable)
        else:
            tuner, clock = build(way, experiment, folder, disk)
        begun, raised = time.time(), ""
        try:
            tuner.fit()
        except Exception as error:
            if way.ours:
                raise
            raised = type(error).__name__  # a finding
        ended = time.time()
        marks, last = clock.read()
        seconds = ended - max(begun, last)
        logs = find(name, folder, way, disk).values()  # they are read while there is the disk
        return {
            how: judge(
                *(way, how, [log for log in logs if log.config.get("how", how) == how]),
                *(marks.get(how, set()), seconds, raised),
            )
            for how in experiment.hows
        }


def die(way, experiment, folder):
    """Run an experiment in a driver of its own, on the same Ray, that is killed in the middle."""
    address = ray.get_runtime_context().gcs_address
    places = map(str, (COLUMNS.index(way), EXPERIMENTS.index(experiment)))
    done = subprocess.run(
        [sys.executable, __file__, "--die", address, str(folder), *places],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode != -signal.SIGKILL:
        raise RuntimeError(f"The driver was not killed: {done.stdout}{done.stderr}")
    return Clock(folder / f"{name_of(way, experiment)}.marks")


def find(name, folder, way, disk):
    """The runs of an experiment; Ray's own lie in its session folder."""
    if way.ours or disk:
        return run_log.read_runs(disk or folder / name)
    session = Path(ray._private.worker.global_worker.node.get_session_dir_path())
    merged = {}
    for path in sorted(session.glob(f"artifacts/*/{name}/**/wandb")):
        for run_id, log in run_log.read_runs(path.parent).items():
            known = merged.setdefault(run_id, log)
            if known is not log:
                known.rows += log.rows
                known.exit_code = log.exit_code
    return merged


def judge(way, how, logs, expected, seconds, raised):
    """Compare what is left of an ending with what should be."""
    rows = [row["mark"] for log in logs for row in log.rows if row.get("mark") in expected]
    found = len(set(rows))
    dropped = sum(log.summary.get("wbtune/dropped", 0) for log in logs)
    codes = {log.exit_code for log in logs} or {None}
    truth = CODES.get(how, 0)
    if not way.watched:
        truth = UNWATCHED.get(how, truth)
    if how == "setup raises" and way is WAYS["setup_wandb"]:
        truth = None
    right = len(rows) == found and found + dropped == len(expected) and codes == {truth}
    if how == "population" and way.watched:
        right = right and any("wbtune/perturbations" in log.config for log in logs)
    code = next(iter(codes - {0}), 0)
    return Cell(found, len(expected), dropped, code, seconds, right, raised)


def table(cells):
    """The table, as Markdown."""
    rows = [[how, *(str(cell or "") for cell in row)] for how, row in cells.items()]
    return tables.markdown(["ending", *(way.title for way in COLUMNS)], rows)


def main():
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="the file whose table is replaced")
    parser.add_argument("--only", nargs="*", help="these endings alone")
    parser.add_argument("--die", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.die:
        address, folder, way, experiment = options.die
        ray.init(address, log_to_driver=False, logging_level=50)
        build(COLUMNS[int(way)], EXPERIMENTS[int(experiment)], Path(folder), "")[0].fit()
        return 1
    local_ray(4, forked=False)
    cells, begun = {}, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for experiment in EXPERIMENTS:
            if not options.only or set(options.only) & set(experiment.hows):
                fill(cells, experiment, Path(folder))
    ray.shutdown()
    print(f"{table(cells)}\n{time.monotonic() - begun:.0f} s in all")
    if options.write:
        tables.write(table(cells), options.write, "endings")
    wrong = [
        f"WRONG: {how}, {way.title}: {found}"
        for how, row in cells.items()
        for way, found in zip(COLUMNS, row, strict=True)
        if found and way.ours and not found.right
    ]
    print(*wrong, sep="\n")
    return bool(wrong)


def fill(cells, experiment, folder):
    """One experiment through every way."""
    try:
        for way in COLUMNS:
            for how, found in measure(way, experiment, folder).items():
                cells.setdefault(how, []).append(found)
                print(f"{how}, {way.title}: {found or 'has no such ending'}", flush=True)
    except NoDiskError as error:
        print(f"{experiment.hows[0]} is left out: {error.__doc__}")


if __name__ == "__main__":
    sys.exit(main())
