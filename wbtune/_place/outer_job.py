"""Keep the run of the job that started this program apart from the trials' runs.

In every process, wandb reads each environment variable ``WANDB_<NAME>``, and its settings files,
as the setting ``<name>``. Most of them are meant for all runs: the mode, the server, tags,
notes, a default project and entity. Some identify one run: that is how a sweep's agent, W&B Launch
and SageMaker describe their run to the program that they start. Every trial of an
experiment in that program inherits the description, but no trial is that run.
"""

from __future__ import annotations

import functools
import logging
import os
from typing import Final

logger = logging.getLogger("wbtune")

#: W&B's settings that identify a run or place its files. wbtune sets some of them itself, and
#: keeps the others unset, whatever the environment says.
RUN_SETTINGS: Final = frozenset(
    {
        "run_id",
        "run_name",
        "resume",
        "resume_from",
        "fork_from",
        "sweep_id",  # with this or the next two, wandb drops the id, the project and the entity
        "sweep_param_path",
        "launch",
        "launch_config_path",
        "x_runqueue_item_id",
        "x_files_dir",
        "x_sync_dir_suffix",
    }
)

#: Settings of every trial's run. In a SageMaker job, wandb would name each run after the job.
OVERRIDES: Final = {"sagemaker_disable": True}

_AGENT: Final = "WANDB_SWEEP_ID"
_LAUNCH: Final = "WANDB_LAUNCH"
_RUN: Final = "WANDB_RUN_ID"


@functools.cache
def warn_once(public_name: str, group: str | None) -> None:
    """Warn in one line that the trials' runs are not the run that the environment describes.

    Called on the driver or, if there is no callback, in each trial. The text is the same in each,
    so Ray shows it once on the driver's terminal.

    Args:
        public_name: what the user called, for messages.
        group: the group of the trials' runs.
    """
    if sweep := os.environ.get(_AGENT):
        job = f"the sweep {sweep}"
    elif os.environ.get(_LAUNCH, "").lower() in {"1", "true", "t", "yes", "y", "on"}:
        job = "W&B Launch"
    else:
        return
    run = os.environ.get(_RUN)
    # Cure: Nothing to do, unless the trials were to log into that run: wbtune gives each its own.
    logger.warning(
        "%s: this program was started by %s%s. Each trial has a run of its own, in the group %s; "
        "the other is left alone.",
        *(public_name, job, f" as the run {run}" if run else "", group or "(none)"),
    )
