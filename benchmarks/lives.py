"""What the table of endings is made of: trials that end in every way, and the ways to log them."""

# Over 250 lines: fourteen endings in one life, and seven doors.

from __future__ import annotations

import json
import os
import signal
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
from ray.air.integrations import wandb as peer

import wbtune

ROWS = 10
MANY = 300  # rows of 2 kB, which do not fit on the small disk
PROJECT = "endings"
Log = Callable[[dict[str, Any]], object]


def life(config: dict[str, Any], log: Log, begin: int = 0) -> Iterator[dict[str, Any]]:
    """Ten iterations from the checkpoint on, and the ending that the config asks for.

    Every row has a mark of its own, by which it is found again.
    """
    how = config["how"]
    for i in range(begin + 1, 1 + (MANY if how == "disk full" else ROWS)):
        wait(config, i)
        row = {"loss": float(i), "mark": time.time()}
        if how == "disk full":
            row["text"] = "z" * 2000
        log(row)
        if how == "wandb-core killed" and i == 6:
            kill_core(psutil.Process(config["owner"] or os.getpid()), config["since"])
        stop = how == "stopped" and i == ROWS // 2
        yield {**row, "score": i * config.get("lr", 1.0), "stop_me": float(stop)}
        if how == "retried" and i == 7 and not begin:
            raise RuntimeError("once")
    if how == "raises":
        raise ValueError("the trial's own")
    if how == "killed":
        time.sleep(1.2)
        os.kill(os.getpid(), signal.SIGKILL)


def wait(config: dict[str, Any], i: int) -> None:
    """What has to have happened before a row, for its ending."""
    how, folder = config["how"], Path(config["folder"])
    if how in {"time budget", "Ctrl-C"} and i > 1:
        time.sleep(0.5)
    elif how == "driver killed, restored" and i == KILLED_AT:
        time.sleep(1.5)
    elif how == "disk full" and i == MANY:
        until(lambda: not os.statvfs(config["disk"]).f_bavail)
        Path(config["disk"], "ballast").unlink(missing_ok=True)
    elif how == "population":
        in_turn(config["lr"], folder, i)


#: The population's hyperparameters, the worse first.
WORSE, BETTER = 0.1, 2.0


def in_turn(lr: float, folder: Path, i: int) -> None:
    """Have the worse trial's eighth result between the better's fifth and eighth.

    So that it is put back to what the better one saved after its fourth.
    """
    if lr == WORSE and i == 8:
        (folder / "8 of the worse").touch()
        until((folder / "6 of the better").exists)
    elif lr == BETTER:
        until((folder / "8 of the worse").exists)
        if i == 6:
            (folder / "6 of the better").touch()
        if i == 8:
            until((folder / "put back").exists)
    elif lr != WORSE:
        (folder / "put back").touch()


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)


def kill_core(owner: psutil.Process, since: float) -> None:
    """Kill what writes the run of a process or its children; earlier experiments' is spared."""

    def cores() -> list[psutil.Process]:
        found = [p for p in owner.children(recursive=True) if p.name().startswith("wandb-core")]
        return [p for p in found if p.create_time() > since and writes(p)]

    until(lambda: bool(cores()))
    [core] = cores()
    core.kill()
    psutil.wait_procs([core], timeout=10)


def writes(process: psutil.Process) -> bool:
    return any(file.path.endswith(".wandb") for file in process.open_files())


def report(config: dict[str, Any], log: Log) -> None:
    """The life of a trainable function, with a checkpoint for each result."""
    begin = 0
    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            begin = int(Path(folder, "i").read_text())
    for i, result in enumerate(life(config, log, begin), begin + 1):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "i").write_text(str(i))
            tune.report(result, checkpoint=tune.Checkpoint.from_directory(folder))


def nowhere(row: dict[str, Any]) -> None:
    """For trials that are logged from the driver."""


def plain(config: dict[str, Any]) -> None:
    report(config, nowhere)


def with_setup(config: dict[str, Any]) -> None:
    report(config, wbtune.setup_wandb(config, project=PROJECT).log)


def with_peers_setup(config: dict[str, Any]) -> None:
    where = {"dir": config["disk"]} if config["disk"] else {}
    report(config, peer.setup_wandb(config, project=PROJECT, **where).log)


@wbtune.wandb_trial(project=PROJECT)
def decorated(config: dict[str, Any], run: Any) -> None:
    report(config, run.log)


@wbtune.wandb_trial(project=PROJECT)
def reports(config: dict[str, Any]) -> None:
    report(config, nowhere)


class NotBuilt(tune.Trainable):
    """Its actor cannot be built."""

    def setup(self, config: dict[str, Any]) -> None:
        raise ValueError("the trial's own")


class NotBuiltWithSetup(NotBuilt):
    """The same, when it has a run."""

    def setup(self, config: dict[str, Any]) -> None:
        wbtune.setup_wandb(config, project=PROJECT)
        super().setup(config)


class NotBuiltWithPeersSetup(NotBuilt):
    """The same, when it has one of Ray's."""

    def setup(self, config: dict[str, Any]) -> None:
        peer.setup_wandb(config, project=PROJECT)
        super().setup(config)


class NotBuiltMixed(wbtune.WandbMixin, NotBuilt, project=PROJECT):
    """The same, as a mixin."""


def importing(decorate: Callable[[Any], Any]) -> Any:
    """A function that needs a module that only the driver has."""
    absent = sys.modules.setdefault("only_here", types.ModuleType("only_here"))

    def imports(config: dict[str, Any]) -> None:
        tune.report({"loss": 0.0, "by": absent.__name__})

    return decorate(imports)


class Mixed(wbtune.WandbMixin, tune.Trainable, project=PROJECT):
    """The same life, as a class."""

    def setup(self, config: dict[str, Any]) -> None:
        self.load_checkpoint({"i": 0})

    def step(self) -> dict[str, Any]:
        result = next(self.life, None)
        if result is None:
            return {"loss": 0.0, "score": 0.0, "stop_me": 0.0, "done": True}
        self.i += 1
        return result

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {"i": self.i}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        self.i = (checkpoint or {})["i"]
        self.life = life(self.config, self.run.log, self.i)


@dataclass(frozen=True)
class Door:
    """One way to log a trial.

    Attributes:
        name: the column's title.
        trainable: what is run.
        not_built: the same, whose `setup` raises; None if it has none.
        not_imported: the same, which the worker cannot import; None if nobody could log that.
        callback: makes the callback, if there is one.
        tuner: makes the tuner.
        restore: makes it again from an experiment's folder.
        ours: wbtune's; its cells have to be right.
        watched: somebody on the driver can speak for a trial that was killed.
    """

    name: str
    trainable: Any
    not_built: type | None = None
    not_imported: Any = None
    callback: Callable[..., tune.Callback] | None = None
    tuner: Callable[..., Any] = tune.Tuner
    restore: Callable[..., Any] = tune.Tuner.restore
    ours: bool = True
    watched: bool = False


DOORS = [
    Door(
        "`WandbLoggerCallback`",
        plain,
        NotBuilt,
        importing(lambda function: function),
        callback=lambda: wbtune.WandbLoggerCallback(project=PROJECT),
        watched=True,
    ),
    Door("`setup_wandb`", with_setup, NotBuiltWithSetup),
    Door("`@wandb_trial`", decorated),
    Door("`WandbMixin`", Mixed, NotBuiltMixed),
    Door(
        "`wandb_tuner`, decorated",
        reports,
        not_imported=importing(wbtune.wandb_trial(project=PROJECT)),
        tuner=wbtune.wandb_tuner,
        restore=wbtune.restore_wandb_tuner,
        watched=True,
    ),
    Door(
        "Ray's callback",
        plain,
        NotBuilt,
        importing(lambda function: function),
        callback=lambda **where: peer.WandbLoggerCallback(PROJECT, upload_timeout=20, **where),
        ours=False,
    ),
    Door("Ray's `setup_wandb`", with_peers_setup, NotBuiltWithPeersSetup, ours=False),
]

#: Before which result of an experiment its driver is interrupted or killed.
KILLED_AT = 5


class Clock(tune.Callback):
    """Writes down when which result came, and interrupts or kills its driver if it is told so."""

    def __init__(self, file: Path, ending: signal.Signals | None = None) -> None:
        self.file, self.ending = file, ending
        self.driver = os.getpid()  # a restored one goes on
        self.count = 0

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: Any, **_: Any
    ) -> None:
        self.count += 1
        if self.ending and self.count == KILLED_AT and self.driver == os.getpid():
            os.kill(self.driver, self.ending)
        if "mark" in result:
            line = [trial.config["how"], result["mark"], time.time()]
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def read(self) -> tuple[dict[str, set[float]], float]:
        """The marks that were delivered, by ending, and when the last one was."""
        marks: dict[str, set[float]] = {}
        last = 0.0
        for line in self.file.read_text(encoding="utf-8").splitlines():
            how, mark, last = json.loads(line)
            marks.setdefault(how, set()).add(mark)
        return marks, last
