"""The one table of all options: what each does, where it has an effect, which values it may have.

The checks of every way read it (`refused_at`), and the tables in ``docs/ways`` are written from it
(``make pages``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from wbtune._data import checks, timeouts

#: The ways, by the names that their messages begin with.
IN_A_TRIAL: Final = frozenset({"wandb_trial", "WandbMixin", "setup_wandb"})
ON_THE_DRIVER: Final = frozenset({"wandb_tuner", "WandbLoggerCallback"})
WAYS: Final = IN_A_TRIAL | ON_THE_DRIVER

#: Takes the public name, the option's name and its value, which is not None; returns the value in
#: the form in which it is kept, or raises a `ConfigurationError`.
Check = Callable[[str, str, Any], Any]


class Option(NamedTuple):
    """One option.

    Attributes:
        does: what it does, in one line.
        check: the check of its value; None if any value will do.
        default: the value if none is given.
        ways: where it has an effect; the others refuse it.
        refusal: why the others refuse it, and the cure; it follows "<way>: <name>=".
    """

    does: str
    check: Check | None
    default: Any = None
    ways: frozenset[str] = WAYS
    refusal: str = ""


_NO_EFFECT: Final = "has no effect here."

#: wbtune's own options, in addition to the arguments of ``wandb.init``.
OPTIONS: Final[Mapping[str, Option]] = {
    "project": Option("The W&B project.", checks.as_project),
    "group": Option("The W&B group; by default the experiment's name.", checks.as_text),
    "api_key_file": Option("A file whose first line is the API key.", checks.as_key_file),
    "excludes": Option(
        "Metrics and config keys to leave out: names, prefixes, globs.", checks.as_patterns
    ),
    "unmask": Option("Config keys that look like secrets but are not.", checks.as_patterns),
    "log_config": Option(
        "Also log the config that is part of each of Tune's results.", checks.as_flag, False
    ),
    "log_results": Option(
        "Also log Tune's results to a trial's own run; True by default under `wandb_tuner`.",
        checks.as_flag,
        False,
        WAYS - {"WandbLoggerCallback"},
        f"{_NO_EFFECT} Give it to what opens the run: @wandb_trial(log_results=...).",
    ),
    "video_kwargs": Option(
        "For `wandb.Video`, for reported arrays (5 dimensions).", checks.as_dict
    ),
    "image_kwargs": Option(
        "For `wandb.Image`, for reported arrays (3 or 4 dimensions).", checks.as_dict
    ),
    "upload_timeout": Option(
        f"Seconds to wait for uploads at the experiment's end; at a trial's end, "
        f"{timeouts.TRIAL_UPLOAD_S:g} at most.",
        checks.as_seconds,
        timeouts.UPLOAD_TIMEOUT_S,
    ),
    "rank_zero_only": Option(
        "In a training loop of Ray Train, give a run to the worker of rank 0 only.",
        checks.as_flag,
        True,
        IN_A_TRIAL,
        f"{_NO_EFFECT} It is for a training loop of Ray Train: give it to @wandb_trial or "
        "setup_wandb in the loop.",
    ),
    "upload_checkpoints": Option(
        'Upload checkpoints as artifacts: `"all"` (or True), `"best"`, `"last"`.',
        checks.as_checkpoints,
        False,
        ON_THE_DRIVER,
        f"{_NO_EFFECT} It is the driver's work: give it to wandb_tuner or WandbLoggerCallback.",
    ),
    "checkpoint_references": Option(
        "With `upload_checkpoints` and a remote storage: upload references, not copies.",
        checks.as_flag,
        False,
        ON_THE_DRIVER,
        f"{_NO_EFFECT} It is the driver's work: give it to wandb_tuner or WandbLoggerCallback.",
    ),
    "system_metrics": Option(
        "Record git, packages, machine and its use for the driver's runs, as for a trial's own.",
        checks.as_flag,
        False,
        ON_THE_DRIVER,
        f"{_NO_EFFECT} Leave it out: a trial's own run has them by itself; it is for "
        "wandb_tuner and WandbLoggerCallback.",
    ),
    "sweep": Option(
        "Make the experiment one thing at W&B: a sweep of its runs, with the best one tagged, a "
        "run for the whole, and `overview.html`. `wandb_tuner` also takes a W&B sweep's config "
        "(a YAML file or a mapping), and runs it: "
        "[From W&B sweeps](../experiment/from-wandb-sweeps.md).",
        checks.as_sweep,
        False,
        ON_THE_DRIVER,
        f"{_NO_EFFECT} It is for a whole experiment: give it to wandb_tuner or "
        "WandbLoggerCallback.",
    ),
}

#: The arguments of ``wandb.init``; project and group are above.
INIT_OPTIONS: Final[Mapping[str, Option]] = {
    "entity": Option("The user or team that the project belongs to.", checks.as_text),
    "id": Option(
        "The run's id; by default the trial's. On the driver, further trials get ids made from it.",
        checks.as_id,
        ways=ON_THE_DRIVER | {"setup_wandb"},
        refusal="names one run, and all trials of the declaration would write into it. Leave it "
        "out: a trial's id is its run's; name=, tags= and notes= are free.",
    ),
    "name": Option("The run's name; by default the trial's.", checks.as_text),
    "notes": Option("A description of the run.", checks.as_note),
    "tags": Option("The run's tags; its outcome is added to them.", checks.as_tags),
    "job_type": Option("The kind of run, to group by.", checks.as_text),
    "mode": Option('`"online"`, `"offline"`, `"disabled"` or `"shared"`.', checks.as_mode),
    "config": Option("Further entries of the run's config.", checks.as_dict),
    "config_exclude_keys": Option("Keys of `config` to leave out.", checks.as_names),
    "config_include_keys": Option("The only keys of `config` to take.", checks.as_names),
    "allow_val_change": Option("Let values of the config change.", checks.as_flag, True),
    "force": Option("Fail without a login instead of logging to disk.", checks.as_flag),
    "save_code": Option(
        "Save the program that opens the run: with `setup_wandb` outside of a trial. In a trial, "
        "call `run.log_code(FOLDER)`.",
        checks.as_flag,
    ),
    "settings": Option("Any `wandb.Settings`, as a dict or an object.", checks.as_settings),
    "tensorboard": Option("The old name of `sync_tensorboard`.", checks.as_flag),
    "sync_tensorboard": Option(
        "Log TensorBoard's events, if the trial opens its run.", checks.as_flag
    ),
    "monitor_gym": Option("Log gymnasium's videos, if the trial opens its run.", checks.as_flag),
    "anonymous": Option("W&B's own; deprecated there.", None),
}

#: What wbtune decides itself, and why. Ray's callback and `setup_wandb` accept these arguments, so
#: wbtune's do too, and a line says that they have no effect; the other ways refuse them.
DECIDED: Final[Mapping[str, str]] = {
    "dir": "wbtune keeps an experiment's runs in <storage_path>/<experiment>/wandb",
    "reinit": "wbtune opens one run per trial and closes it",
    "resume": "wbtune resumes a trial's run by itself",
    "resume_from": "it names one run, and W&B resumes no run that has it",
    "fork_from": "W&B resumes no run that has it, which a retried trial needs",
}

_ALL: Final = {**OPTIONS, **INIT_OPTIONS}


def check_of(name: str) -> Check | None:
    """The check of an option's value; None if the option is not in the table or needs no check."""
    return _ALL[name].check if name in _ALL else None


def refused_at(way: str) -> dict[str, str]:
    """The options that a way refuses, and why, with the cure."""
    return {name: option.refusal for name, option in _ALL.items() if way not in option.ways}


def refused_in_config(way: str) -> dict[str, str]:
    """The options that ``config["wandb"]`` can't hold, and why.

    Options that only the driver can use are not refused in a trial: `wandb_tuner` takes them from
    there.
    """
    refused = dict.fromkeys(("rank_zero_only",), OPTIONS["rank_zero_only"].refusal)
    if way == "WandbLoggerCallback":
        refused |= {
            name: f"{_NO_EFFECT} Give it to WandbLoggerCallback itself."
            for name, option in OPTIONS.items()
            if option.ways == ON_THE_DRIVER
        }
    return refused
