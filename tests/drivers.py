"""Drivers, each with a Ray of its own: the tests' session, and programs that it runs."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import warm_workers


def fitted(program, *arguments):
    """Run one that prints "all fitted" at the end; its output."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name(program)), *map(str, arguments)],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0 and "all fitted" in output, output
    return output


def quick_workers():
    """Measured by coverage, this program's workers would start half as fast."""
    os.environ["COVERAGE_PROCESS_CONFIG"] = ""


def local_ray(num_cpus, *, forked=True, **more):
    """A Ray of one's own: several run at once, and each would look for the others' address.

    Where workers start actors themselves, as Train's do, they can't be forked: Ray would draw the
    same ids at random in each of them.
    """
    import ray

    os.environ.pop("RAY_ADDRESS", None)
    quiet = {"include_dashboard": False, "logging_level": "error", "log_to_driver": False}
    with warm() if forked else contextlib.nullcontext():
        ray.init("local", num_cpus=num_cpus, **quiet, **more)


@contextlib.contextmanager
def warm():
    """Raylets that are started within have quick workers."""
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    python, sys.executable = sys.executable, warm_workers.python(folder)
    try:
        yield
    finally:
        sys.executable = python
