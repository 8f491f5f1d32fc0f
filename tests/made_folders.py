"""Experiments' folders as Ray Tune leaves them, made without Ray."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: When the first result of each trial was reported.
BEGAN = 1_700_000_000


@dataclass
class Trial:
    """What is written of one trial; `lines` are those of its ``result.json``."""

    trial_id: str
    lines: Sequence[bytes | str] | None = ()
    status: str = "TERMINATED"
    params: Any = field(default_factory=lambda: {"lr": 0.1})
    error: str = ""
    sampled: Mapping[str, Any] = field(default_factory=dict)
    checkpoints: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    failures: int = 0

    @property
    def folder(self) -> str:
        return f"train_{self.trial_id}_1_lr=0.1000_2026-01-01_00-00-00"


def results(count: int, first: int = 1, **more: Any) -> list[str]:
    """The lines of this many results, one each half second; the loss falls."""
    return [result(number, **more) for number in range(first, first + count)]


def result(number: int, **more: Any) -> str:
    """One of them; `number` is its iteration."""
    return json.dumps(
        {
            "loss": 1 / number,
            "timestamp": BEGAN + number // 2,
            "training_iteration": number,
            "time_total_s": number / 2,
            "trial_id": "t",
            "done": False,
            "checkpoint_dir_name": None,
            "config": {"lr": 0.1},
        }
        | more
    )


def experiment(
    folder: Path, trials: Iterable[Trial], metric: str | None = None, *, state: bool = True
) -> Path:
    """Write an experiment, or write it again as it is later."""
    folder.mkdir(parents=True, exist_ok=True)
    data = []
    for number, trial in enumerate(trials, 1):
        write_trial(folder / trial.folder, trial)
        data.append([json.dumps(state_of(trial, number)), json.dumps(more_of(trial))])
    if state:
        content = {"trial_data": data, "runner_data": {"_metric": metric}, "stats": {}}
        name = "experiment_state-2026-01-01_00-00-00.json"
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def state_of(trial: Trial, number: int) -> dict[str, Any]:
    return {
        "trial_id": trial.trial_id,
        "trainable_name": "train",
        "experiment_tag": f"{number}_lr=0.1000",
        "relative_logdir": trial.folder,
        "status": trial.status,
        "config": trial.params if isinstance(trial.params, dict) else {"lr": 0.1},
        "evaluated_params": dict(trial.sampled),
        "stopping_criterion": {},
    }


def more_of(trial: Trial) -> dict[str, Any]:
    return {"num_failures": trial.failures, "last_result": {}, "start_time": BEGAN}


def write_trial(folder: Path, trial: Trial) -> None:
    folder.mkdir(exist_ok=True)
    if trial.lines is not None:
        parts = [one.encode() if isinstance(one, str) else one for one in trial.lines]
        (folder / "result.json").write_bytes(b"".join(part + b"\n" for part in parts))
    if trial.params is not None:
        text = trial.params if isinstance(trial.params, str) else json.dumps(trial.params)
        (folder / "params.json").write_text(text, encoding="utf-8")
    if trial.error:
        text = f"Failure # 1 (occurred at 2026-01-01_00-00-00)\n{trial.error}\n"
        (folder / "error.txt").write_text(text, encoding="utf-8")
    for name, files in trial.checkpoints.items():
        (folder / name).mkdir(exist_ok=True)
        for file, text in files.items():
            (folder / name / file).write_text(text, encoding="utf-8")
