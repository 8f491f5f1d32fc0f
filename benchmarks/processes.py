"""Which processes a way of logging needs, and how much memory they take."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

#: The actors that Ray's own callback starts for each trial.
PEERS = ("ray::_WandbLoggingActor", "ray::_QueueActor")


@dataclass(frozen=True, slots=True)
class Footprint:
    """The processes and memory of logging at one moment.

    Attributes:
        processes: how many processes there are besides Ray's own and the driver.
        megabytes: their PSS, in which shared pages count once.
        driver_mb: by how much the driver has grown, if that was measured.
    """

    processes: int
    megabytes: float
    driver_mb: float = 0.0


def extra() -> list[psutil.Process]:
    """The driver's descendants that are not Ray's own: helpers, wandb-cores, logging actors."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and not _is_rays(process):
                found.append(process)
    return found


def _is_rays(process: psutil.Process) -> bool:
    line = " ".join(process.cmdline())
    if line.startswith(PEERS):
        return False
    # Workers are renamed to "ray::..." once they run; before that they have their command's name.
    return line.startswith("ray::") or "/ray/" in line or not line


def pss(process: psutil.Process, kind: str = "Pss") -> float:
    """The proportional set size of one process, in MB; 0 when it has just ended."""
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    found = (int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{kind}:"))
    return next(found, 0.0)


def own_mb() -> float:
    """The driver's own memory, without its share of library pages, which would vary."""
    return pss(psutil.Process(), "Pss_Anon")


def footprint() -> Footprint:
    """The processes and memory of logging now."""
    found = extra()
    return Footprint(len(found), sum(map(pss, found)))


def cpu_s() -> dict[str, float]:
    """Seconds of CPU that logging has used so far: the client's, and wandb-core's."""
    used = {"client": 0.0, "core": 0.0}
    for process in extra():
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            used["core" if "core" in process.name() else "client"] += times.user + times.system
    return used


def settle(quiet_s: float = 1.0, timeout: float = 120.0) -> None:
    """Wait until logging has nothing more to do, and uses hardly any CPU for a while.

    The driver is included: while it prepares a large batch, the other processes wait for it.
    """
    deadline = time.monotonic() + timeout
    busy_s = quiet_s
    while busy_s > 0.1 * quiet_s and time.monotonic() < deadline:
        others, own = sum(cpu_s().values()), time.process_time()
        time.sleep(quiet_s)
        busy_s = time.process_time() - own + sum(cpu_s().values()) - others


def none_left(timeout: float = 20.0) -> None:
    """Wait until the processes of the last measurement are gone.

    Raises:
        RuntimeError: if any of them stays.
    """
    deadline = time.monotonic() + timeout
    while found := extra():
        if time.monotonic() > deadline:
            raise RuntimeError(f"still there: {[process.cmdline()[:3] for process in found]}")
        time.sleep(0.05)
