"""What logging costs: wbtune, no logging, Ray's own callback and bare wandb compared.

    python benchmarks/bench.py [--quick] [--rounds N] [--only PART ...] [--write docs/costs.md]

Everything is offline. A ratio compares neighbours, which are affected alike by the machine's other
load: it is the median of the pairs, with the least and the greatest. Every measurement reads its
runs back from disk, and a missing row ends the benchmark; if Ray's own callback lost it, it is only
counted. The exit code is not zero if a bound of the table is missed.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import datetime as dt
import io
import os
import platform
import shutil
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

# In /tmp, because Ray makes sockets in it, which need short paths.
FOLDER = Path(tempfile.mkdtemp(prefix="wb-", dir="/tmp"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
# Before anything imports Ray or wandb: workers inherit the environment, and wandb reads it once.
for _name in [name for name in os.environ if name.startswith("WANDB_")]:
    del os.environ[_name]
os.environ |= {
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    "WANDB_ERROR_REPORTING": "false",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
# Modules are compiled once, as pip does when it installs a wheel.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ |= {f"WANDB_{name}_DIR": str(FOLDER / name) for name in ("CONFIG", "DATA", "CACHE")}

import picture
import ray
import report
import sweeps
from figures import Bound
from lanes import Lanes
from parts import NEED_RAY, PARTS, Measured, Place


def main() -> int:
    """Measure, print the table, and return 1 if a bound is missed."""
    began = time.monotonic()
    arguments = parse()
    about = machine()
    print("\n".join(f"{name}: {value}" for name, value in about.items()), flush=True)
    measured, bounds = measure(arguments)
    about["minutes"] = round((time.monotonic() - began) / 60, 1)
    print(f"\n{report.table(bounds)}\n")
    if arguments.json:
        arguments.json.write_text(report.as_json(about, measured, bounds), encoding="utf-8")
    if arguments.picture:
        picture.draw(measured, about, arguments.picture)
    if arguments.write:
        report.write(report.section(about, measured, bounds), arguments.write)
    missed = [bound.name for bound in bounds if not bound.is_met]
    print(f"missed: {'; '.join(missed)}" if missed else "all bounds are met")
    return 1 if missed else 0


def measure(arguments: argparse.Namespace) -> tuple[dict[str, Measured], list[Bound]]:
    """Measure each part that is asked for."""
    measured: dict[str, Measured] = {}
    bounds: list[Bound] = []
    with contextlib.closing(Lanes(FOLDER)) as lanes:
        place = Place(FOLDER, lanes, arguments.rounds, arguments.quick)
        for name in arguments.only or PARTS:
            began = time.monotonic()
            with contextlib.redirect_stdout(io.StringIO()):  # Tune's tables
                if name in NEED_RAY and not ray.is_initialized():
                    lanes.close()
                    sweeps.start_ray(FOLDER)
                measured[name], found = PARTS[name](place)
            bounds += found
            print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    ray.shutdown()
    return measured, bounds


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="less of everything, as a check")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=" ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=1, help="pairs of each comparison")
    parser.add_argument("--json", type=Path, help="write everything into this file")
    parser.add_argument("--picture", type=Path, help="draw into this file")
    parser.add_argument("--write", type=Path, help="the file whose section is replaced")
    arguments = parser.parse_args()
    if arguments.write and arguments.only:
        parser.error("--write needs every part")
    return arguments


def machine() -> dict[str, Any]:
    """The date, the machine and the versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.machine()}",
        "Python": platform.python_version(),
        **{name: version(name) for name in ("ray", "wandb", "wbtune")},
        "load before": round(os.getloadavg()[0], 2),
    }


if __name__ == "__main__":
    sys.exit(main())
