"""What the trials of a sweep do.

A module of its own: each trial's process imports the one that its function is in, and must not
wait for what the others import.
"""

from __future__ import annotations

import time
from typing import Any

from ray import tune


def train(config: dict[str, Any]) -> None:
    """Report, and work in between, if there is work."""
    for i in range(config["results"]):
        work(config["work_s"])
        tune.report({"loss": 1.0 / (1 + i), "accuracy": i * 0.001})


def work(seconds: float) -> None:
    """Use a core for so long: what else uses it makes this take longer."""
    if seconds:
        until = time.thread_time() + seconds
        while time.thread_time() < until:
            pass
