"""What the environment says to wandb of some other run: a trial's run does not take it for its own.

wandb reads each ``WANDB_<NAME>`` of the environment, and its settings files, as the setting
``<name>``, in every process. Most of that is meant for all runs: the mode, the server, tags,
notes, a default project and entity. Some of it names one run, or one job that has one run: a
sweep's agent and a launched job describe theirs like that to the program that they start. The
trials of an experiment in there inherit it, every one of them, and they are not that run.
"""

from __future__ import annotations

import functools
import logging
import os
from typing import Final

logger = logging.getLogger("wbtune")

#: W&B's settings that say which run it is, or where its files are. wbtune decides that, and what
#: it does not decide is as if nobody had said it.
OF_OTHER_RUNS: Final = frozenset(
    {
        "run_id",
        "run_name",
        "resume",
        "resume_from",
        "fork_from",
        "sweep_id",  # of these three, wandb drops the id, the project and the entity
        "sweep_param_path",
        "launch",
        "launch_config_path",
        "x_runqueue_item_id",
        "x_files_dir",
        "x_sync_dir_suffix",
    }
)

#: Settings that every trial's run is given: in a SageMaker job, wandb names each run after it.
SETTINGS: Final = {"sagemaker_disable": True}

_AGENT: Final = "WANDB_SWEEP_ID"
_LAUNCH: Final = "WANDB_LAUNCH"
_RUN: Final = "WANDB_RUN_ID"


@functools.cache
def say_whose_run_it_is_not(who: str, group: str | None) -> None:
    """One line where the environment describes a run: the trials' are others.

    On the driver; of trials that nobody there knows of, in each of them, in the same words, which
    Ray shows on the driver's terminal once.

    Args:
        who: what was called.
        group: the group of the trials' runs.
    """
    if sweep := os.environ.get(_AGENT):
        job = f"the sweep {sweep}"
    elif os.environ.get(_LAUNCH, "").lower() in {"1", "true", "t", "yes", "y", "on"}:
        job = "W&B Launch"
    else:
        return
    run = os.environ.get(_RUN)
    logger.warning(
        "%s: this program was started by %s%s. Each trial has a run of its own, in the group %s; "
        "the other is left alone.",
        *(who, job, f" as the run {run}" if run else "", group or "(none)"),
    )
