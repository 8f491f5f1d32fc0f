"""What the trials of a sweep do.

It is a module of its own, because each trial's process imports its function's module, and should
not wait for the imports of the others.
"""

from __future__ import annotations

import time
from typing import Any

from ray import tune


def train(config: dict[str, Any]) -> None:
    """Report results, and work before each, if there is work."""
    for i in range(config["results"]):
        work(config["work_s"])
        tune.report({"loss": 1.0 / (1 + i), "accuracy": i * 0.001})


def work(seconds: float) -> None:
    """Use a core for this many seconds of CPU time, which takes longer if others use it too."""
    if seconds:
        until = time.thread_time() + seconds
        while time.thread_time() < until:
            pass
