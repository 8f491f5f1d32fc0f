"""Experiments as the overview gets them, of any size."""

from __future__ import annotations

import math
import random
from array import array
from typing import Any

from wbtune._overview.record import Curve, ExperimentRecord, TrialRecord

START = 1_764_158_400.0
SPACE = {
    "lr": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-1},
    "batch_size": {"distribution": "categorical", "values": [16, 32, 64, 128]},
    "optimizer.name": {"distribution": "categorical", "values": ["sgd", "adam", "rmsprop"]},
    "optimizer.beta2": {"distribution": "uniform", "min": 0.9, "max": 0.999},
    "layers": {"distribution": "int_uniform", "min": 1, "max": 8},
    "dropout": {"distribution": "uniform", "min": 0.0, "max": 0.6},
    "weight_decay": {"distribution": "log_uniform_values", "min": 1e-6, "max": 1e-2},
    "augment": {"distribution": "categorical", "values": [True, False]},
    "epochs": {"value": 100},
}


def experiment(trials: int, results: int = 100, *, population: bool = False) -> ExperimentRecord:
    """An image classifier's search with a scheduler that stops the worse half early."""
    chance = random.Random(trials)
    made = [_trial(chance, at, trials, results) for at in range(trials)]
    if population:
        made = [_perturbed(chance, trial, made, results) for trial in made]
    return ExperimentRecord(
        name=f"resnet-cifar10-{trials}",
        trials=made,
        metric="val/loss",
        mode="min",
        space=SPACE,
        links={trial.trial_id: f"https://wandb.ai/me/docs/runs/{trial.trial_id}" for trial in made},
        note="Tune 2.60.0, wandb 0.31.0, wbtune 0.1.0",
    )


def _trial(chance: random.Random, at: int, trials: int, results: int) -> TrialRecord:
    params = _params(chance)
    end = 0.12 + 0.09 * (math.log10(params["lr"]) + 2.7) ** 2 + 0.15 * abs(params["dropout"] - 0.2)
    end += 0.12 * (not params["augment"]) + chance.gauss(0, 0.02)
    outcome, reason, number = "finished", "", results
    if end > 0.45:
        outcome, reason, number = "stopped", "ASHAScheduler", max(1, results // 8)
    if chance.random() < 0.05:
        outcome, number = "failed", chance.randint(0, results // 4)
        reason = "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 15.78 GiB)"
    values = [
        end + 2 * math.exp(-5 * one / results) + chance.gauss(0, 0.015) for one in range(number)
    ]
    if params["lr"] > 0.08 and values:
        values[-1] = 1e6 * chance.random()
    began = START + 4 * 3600 * at / max(1, trials) + chance.uniform(0, 60)
    per_result = chance.uniform(8, 14)
    times = [began + per_result * (one + 1) for one in range(number)]
    return TrialRecord(
        trial_id=f"7d3f1_{at:05}",
        name=f"train_7d3f1_{at:05}",
        outcome=outcome,
        reason=reason,
        iterations=number,
        seconds=number * per_result,
        params=params,
        last=values[-1] if values else None,
        best=min(values) if values else None,
        curve=Curve(array("d", range(1, number + 1)), array("d", times), array("d", values)),
    )


def _params(chance: random.Random) -> dict[str, Any]:
    params = {
        "lr": 10 ** chance.uniform(-5, -1),
        "batch_size": chance.choice([16, 32, 64, 128]),
        "optimizer.name": chance.choice(["sgd", "adam", "rmsprop"]),
        "layers": chance.randint(1, 8),
        "dropout": chance.uniform(0, 0.6),
        "weight_decay": 10 ** chance.uniform(-6, -2),
        "augment": chance.choice([True, False]),
        "epochs": 100,
    }
    if params["optimizer.name"] == "adam":
        params["optimizer.beta2"] = chance.uniform(0.9, 0.999)
    return params


def _perturbed(
    chance: random.Random, trial: TrialRecord, trials: list[TrialRecord], results: int
) -> TrialRecord:
    steps = []
    for iteration in range(max(1, results // 5), trial.iterations, max(1, results // 5)):
        donor = chance.choice(trials)
        if donor is not trial and chance.random() < 0.4:
            old = {"lr": trial.params["lr"], "dropout": trial.params["dropout"]}
            new = {"lr": donor.params["lr"] * 1.2, "dropout": donor.params["dropout"] * 0.8}
            source = donor.trial_id if chance.random() < 0.8 else f"{trials.index(donor)}_lr=0.1"
            steps.append({"iteration": iteration, "from_trial": source, "old": old, "new": new})
    fields = {name: getattr(trial, name) for name in trial.__slots__}
    return TrialRecord(**{**fields, "perturbations": steps})
