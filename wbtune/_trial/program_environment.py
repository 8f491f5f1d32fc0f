"""The environment of a trial's program, in which its ``wandb.init()`` continues the trial's run.

It is that of a W&B agent's program: the agent tells its program the run, the project and the file
with the sampled values in the same variables. In a sweep, or else in a job of W&B Launch, wandb
leaves out the project, the entity and the id that the program itself gives to ``wandb.init``
[wandb 0.31, ``sdk/wandb_init.py``, ``clear_run_path_if_sweep_or_launch``].
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import yaml

from wbtune._data import timeouts
from wbtune._data.secret import Secret
from wbtune._place import credentials, outer_job

if TYPE_CHECKING:
    from wandb import Run

    from wbtune._data.sweep_command import Start

#: What describes another run or this process's wandb, and what a job of W&B Launch is told.
_LEFT_OUT: Final = frozenset(f"WANDB_{name.upper()}" for name in outer_job.RUN_SETTINGS)
_OF_LAUNCH: Final = re.compile(r"WANDB_(SERVICE.*|ARTIFACTS|CONFIG(_\d+)?)")


class RunPlace(NamedTuple):
    """A trial's run, and where its program finds it.

    Attributes:
        directory: the folder whose ``wandb`` has the run's segments.
        run_id: the run's id.
        base_url: the server that it is uploaded to; empty if it is kept on disk.
        variables: the variables that describe it, except the key.
        secret: the API key; None if it is kept on disk, or an identity token is used.
    """

    directory: Path
    run_id: str
    base_url: str
    variables: Mapping[str, str]
    secret: Secret | None = None


def of_run(run: Run) -> RunPlace:
    """Where a trial's open run is, and with which login."""
    directory = Path(run.dir).parents[2]
    found: dict[str, Any] = {
        "RUN_ID": run.id,
        "PROJECT": run.project,
        "ENTITY": run.entity,
        "RUN_GROUP": run.group,
        "NAME": run.name,
        "DIR": directory,
        "RESUME": "allow",
        "BASE_URL": run.settings.base_url,
        "MODE": "offline" if run.offline else "online",
        "X_TRANSACTION_LOG_FLUSH_INTERVAL": timeouts.FLUSH_S,
        "SYMLINK": "false",  # many processes would fight over one `latest-run`
    }
    found |= {"SWEEP_ID": run.sweep_id} if run.sweep_id else {"LAUNCH": "true"}
    base_url, secret = "", None
    if not run.offline:
        base_url = str(run.settings.base_url)
        secret = credentials.found_by_wandb(base_url)
        found["IDENTITY_TOKEN_FILE"] = run.settings.identity_token_file
    variables = {f"WANDB_{name}": str(value) for name, value in found.items() if value}
    return RunPlace(directory, run.id, base_url, variables, secret)


def written(place: RunPlace, start: Start, folder: Path) -> dict[str, str]:
    """Write the sampled values as an agent does, and return the program's whole environment.

    Args:
        place: the trial's run.
        start: has the values, and the path of the file with them as JSON.
        folder: where the file for ``wandb.config`` is written.
    """
    content = {name: {"value": value} for name, value in start.parameters.items()}
    text = yaml.safe_dump({"wandb_version": 1, **content}, allow_unicode=True, sort_keys=False)
    config = folder / "config.yaml"
    config.write_text(text, encoding="utf-8")
    Path(start.json_file).write_text(start.as_json, encoding="utf-8")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _LEFT_OUT and not _OF_LAUNCH.fullmatch(name)
    }
    key = {} if place.secret is None else {"WANDB_API_KEY": place.secret.reveal()}
    return {**kept, **place.variables, **key, "WANDB_SWEEP_PARAM_PATH": str(config)}
