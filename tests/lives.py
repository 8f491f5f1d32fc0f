"""Trials that end in every way, and each way to log them; `endings_program` makes a table of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from ray import tune
from ray.tune.schedulers import FIFOScheduler

from wbtune import (
    WandbLoggerCallback,
    WandbMixin,
    restore_wandb_tuner,
    setup_wandb,
    wandb_trial,
    wandb_tuner,
)

ROWS = 10
PROJECT = "endings"
#: The population's hyperparameters, the worse first.
WORSE, BETTER = 0.1, 2.0


class BoomError(Exception):
    """Raised by a trial."""


# --- One trial ---------------------------------------------------------------------------


def life(config, log, begin=0):
    """Rows from the checkpoint on, and the ending that the config asks for.

    Every row has a mark of its own, by which it is found again.
    """
    how, rows = config.get("how", "returns"), config.get("rows", ROWS)
    for i in range(begin + 1, rows + 1):
        before_row(config, how, i)
        row = {"loss": float(i), "i": i, "mark": time.time()}
        if how == "disk full":
            row["text"] = "z" * 2000
        log(row)
        after_row(config, how, i)
        stop_me = float(how == "stopped" and i == rows // 2)
        yield {**row, "score": i * config.get("lr", 1.0), "stop_me": stop_me}
    if how == "raises":
        raise BoomError("the trial's own")
    if how == "exits":
        sys.exit("no data: see\nthe log.")
    if how == "killed":
        kill_this_process()


def before_row(config, how, i):
    """What has to have happened before a row, for its ending."""
    if how in {"time budget", "Ctrl-C"} and i > 1:
        time.sleep(0.5)
    elif how == "driver killed, restored" and i == 5:
        time.sleep(1.5)
    elif how == "disk full" and i == config["rows"]:
        wait_until(lambda: not os.statvfs(config["disk"]).f_bavail)
        Path(config["disk"], "ballast").unlink(missing_ok=True)
    elif how == "population":
        in_turn(config["lr"], Path(config["folder"]), i)


def after_row(config, how, i):
    """What happens to a trial in the middle."""
    if how == "wandb-core killed" and i == 6:
        kill_core(psutil.Process(config["owner"] or os.getpid()), config["since"])
    if "retried" in how and i == 8:
        begun_before = Path(config["folder"], how)
        if not begun_before.exists():
            begun_before.touch()
            if how == "killed, retried":
                kill_this_process()
            raise BoomError("once")


def kill_this_process():
    time.sleep(1.2)  # the promise: all but the last second's
    os.kill(os.getpid(), signal.SIGKILL)


def kill_core(owner, since):
    """Kill what writes the runs of a process and its children, but no earlier experiment's."""

    def cores():
        return [p for p in owner.children(recursive=True) if writes_a_run(p, since)]

    wait_until(cores)
    found = cores()
    for core in found:
        with contextlib.suppress(psutil.NoSuchProcess):  # the other trial was faster
            core.kill()
    psutil.wait_procs(found, timeout=10)


def writes_a_run(process, since):
    with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
        is_core = process.name().startswith("wandb-core") and process.create_time() > since
        return is_core and any(file.path.endswith(".wandb") for file in process.open_files())
    return False


def in_turn(lr, folder, i):
    """Have the worse trial's eighth result between the better's fifth and eighth.

    So that it is put back to what the better one saved after its fourth.
    """
    if lr == WORSE and i == 8:
        (folder / "8 of the worse").touch()
        wait_until((folder / "6 of the better").exists)
    elif lr == BETTER:
        wait_until((folder / "8 of the worse").exists)
        if i == 6:
            (folder / "6 of the better").touch()
        if i == 8:
            wait_until((folder / "put back").exists)
    elif lr != WORSE:
        (folder / "put back").touch()


def wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)


# --- The same trial, for each way to log it ------------------------------------------------


def nowhere(row):
    """For trials that are logged from the driver."""


def report(config, log):
    """The life of a trainable function, with a checkpoint for each result."""
    if not config.get("checkpoints", True):
        for result in life(config, log):
            tune.report(result)
        return
    begin, checkpoint = 0, tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            begin = int(Path(folder, "i").read_text())
    for i, result in enumerate(life(config, log, begin), begin + 1):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "i").write_text(str(i))
            tune.report(result, checkpoint=tune.Checkpoint.from_directory(folder))


def plain(config):
    report(config, nowhere)


def with_setup(config):
    report(config, setup_wandb(config, project=PROJECT).log)


@wandb_trial(project=PROJECT)
def decorated(config, run):
    try:
        report(config, run.log)
    finally:
        run.log({"unwound": 1})


@wandb_trial(project=PROJECT)
def reports(config):
    report(config, nowhere)


class PlainClass(tune.Trainable):
    """The life of a class."""

    def setup(self, config):
        if config["how"] == "setup raises":
            raise BoomError("the trial's own")
        self.load_checkpoint({"i": 0})

    def log_row(self, row):
        nowhere(row)

    def step(self):
        result = next(self.life, None)
        if result is None:
            return {"loss": 0.0, "score": 0.0, "stop_me": 0.0, "done": True}
        self.i += 1
        return result

    def save_checkpoint(self, checkpoint_dir):
        return {"i": self.i}

    def load_checkpoint(self, checkpoint):
        self.i = checkpoint["i"]
        self.life = life(self.config, self.log_row, self.i)


class WithMixin(WandbMixin, PlainClass, project=PROJECT):
    def log_row(self, row):
        self.run.log(row)


class WithSetup(PlainClass):
    def setup(self, config):
        self.run = setup_wandb(config, project=PROJECT)
        super().setup(config)

    def log_row(self, row):
        self.run.log(row)


def not_imported():
    """A function that needs a module that only the driver has."""
    only_here = sys.modules.setdefault("only_here", types.ModuleType("only_here"))

    def imports(config):
        tune.report({"loss": 0.0, "by": only_here.__name__})

    return imports


@dataclass(frozen=True)
class Way:
    """One way to log a trial.

    Attributes:
        title: its column's, in the table.
        trainable: what is run.
        as_class: the same as a class, whose `setup` may raise; None if there is none.
        not_imported: makes one that a worker can't import; None if nobody could log that.
        callback: makes the callback, if there is one.
        tuner: makes the tuner.
        restore: makes it again from an experiment's folder.
        ours: wbtune's, which has to keep every row.
        watched: somebody on the driver can speak for a trial that was killed.
    """

    title: str
    trainable: Any
    as_class: type | None = None
    not_imported: Callable[[], Any] | None = None
    callback: Callable[..., tune.Callback] | None = None
    tuner: Callable[..., Any] = tune.Tuner
    restore: Callable[..., Any] = tune.Tuner.restore
    ours: bool = True
    watched: bool = False

    def build(self, run_config, trainable=None, callback_options=None, **options):
        """The tuner of an experiment."""
        if self.callback:
            callback = self.callback(**(callback_options or {}))
            run_config.callbacks = [*(run_config.callbacks or []), callback]
        return self.tuner(trainable or self.trainable, run_config=run_config, **options)


WAYS = {
    "callback": Way(
        "`WandbLoggerCallback`",
        plain,
        PlainClass,
        not_imported,
        callback=lambda: WandbLoggerCallback(project=PROJECT),
        watched=True,
    ),
    "setup_wandb": Way("`setup_wandb`", with_setup, WithSetup),
    "wandb_trial": Way("`@wandb_trial`", decorated),
    "WandbMixin": Way("`WandbMixin`", WithMixin, WithMixin),
    "wandb_tuner": Way(
        "`wandb_tuner`, decorated",
        reports,
        not_imported=lambda: wandb_trial(project=PROJECT)(not_imported()),
        tuner=wandb_tuner,
        restore=restore_wandb_tuner,
        watched=True,
    ),
}


# --- What an experiment may have ------------------------------------------------------------


class PauseOnce(FIFOScheduler):
    """Pauses each trial after its fourth iteration, as HyperBand does when it has to choose."""

    def __init__(self):
        super().__init__()
        self.paused = set()

    def on_trial_result(self, tune_controller, trial, result):
        if result["training_iteration"] != 4 or trial.trial_id in self.paused:
            return self.CONTINUE
        self.paused.add(trial.trial_id)
        return self.PAUSE


class NoDiskError(Exception):
    """Mounting a file system needs to be root."""


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int, ballast: int) -> Iterator[Path]:
    """A file system of its own, with a ballast that leaves little room."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        raise NoDiskError
    try:
        (folder / "ballast").write_bytes(b"x" * 1000 * ballast)
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
