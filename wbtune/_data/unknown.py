"""The message for an unknown keyword argument: where it belongs, or which one was meant."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable

#: Arguments of ``tune.run`` and of wbtune's other functions, and what to write instead.
_INSTEAD = {
    "resources_per_trial": "Write tune.with_resources(train, ...)",
    "local_dir": "It is Tune's: run_config=RunConfig(storage_path=...)",
    "base_url": "Set WANDB_BASE_URL, or write settings={'base_url': ...}",
    "save_checkpoints": "Write upload_checkpoints=...",
    "run_arg": "It is wandb_trial's, which injects the run",
    "trial_id": "Write id=...",
    "trial_name": "Write name=...",
    "restart_errored": "It is for restore_wandb_tuner(path, train, restart_errored=...)",
    "resume_errored": "It is for restore_wandb_tuner(path, train, resume_errored=...)",
    "resume_unfinished": "It is for restore_wandb_tuner(path, train, resume_unfinished=...)",
}


def near(given: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant."""
    found = difflib.get_close_matches(given, sorted(known), n=1, cutoff=0.6)
    return found[0] if found else None


def option(public_name: str, name: str, known: frozenset[str]) -> str:
    """The message for an option that does not exist where it was given.

    Args:
        public_name: what the user called, for messages.
        name: the argument.
        known: all options of wbtune and of ``wandb.init``.
    """
    if name in _INSTEAD:
        return f"{public_name}: unknown option {name}=. {_INSTEAD[name]}."
    tunes = _of_tune(name)
    if tunes is not None:
        return f"{public_name}: {name}= is Tune's: {tunes}."
    meant = _without_prefix(name, known)
    if meant is None and name in _settings():
        return f"{public_name}: {name}= is a setting of W&B: settings={{{name!r}: ...}}."
    meant = meant or near(name, known)
    hint = "See 'Options' in the documentation." if meant is None else f"Did you mean {meant}=?"
    return f"{public_name}: unknown option {name}=. {hint}"


def _without_prefix(name: str, known: frozenset[str]) -> str | None:
    """The option's name for what W&B's settings call ``run_<name>``."""
    short = name.removeprefix("wandb_").removeprefix("run_")
    return short if short in known else None


def _settings() -> frozenset[str]:
    import wandb  # noqa: PLC0415 - needed only for a message

    return frozenset(wandb.Settings.model_fields)


def _of_tune(name: str) -> str | None:
    """How to give an argument of that name to Tune; None if Tune has no such argument."""
    from ray import tune  # noqa: PLC0415 - needed only for a message

    places = {
        tune.Tuner: "{}",
        tune.TuneConfig: "tune_config=TuneConfig({})",
        tune.RunConfig: "run_config=RunConfig({})",
        tune.CheckpointConfig: "run_config=RunConfig(checkpoint_config=CheckpointConfig({}))",
        tune.FailureConfig: "run_config=RunConfig(failure_config=FailureConfig({}))",
    }
    for place, written in places.items():
        if not name.startswith("_") and name in inspect.signature(place).parameters:
            argument = f"{name}=..."
            if place is tune.Tuner:
                return f"give it to wandb_tuner or tune.Tuner ({argument})"
            return written.format(argument)
    return None
