"""Programs that are drivers of their own, with a Ray of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def fitted(program, *arguments):
    """Run one that says "all fitted" in the end; what it said on the way."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name(program)), *map(str, arguments)],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0 and "all fitted" in said, said
    return said


def quick_workers():
    """As the session's: measured by coverage, they would start half as fast."""
    os.environ["COVERAGE_PROCESS_CONFIG"] = ""


def local_ray(num_cpus, **more):
    """The program's own Ray; several of them run at once, and each would look for the others."""
    import ray

    os.environ.pop("RAY_ADDRESS", None)
    quiet = {"include_dashboard": False, "logging_level": "error", "log_to_driver": False}
    ray.init("local", num_cpus=num_cpus, **quiet, **more)
