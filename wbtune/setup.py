"""`setup_wandb`: opens a run for the code that calls it, wherever that code runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any, Unpack

from wbtune._data import ignored_options
from wbtune._data.keywords import SetupOptions
from wbtune._data.option_table import refused_at
from wbtune._data.options import parse
from wbtune._place import credentials, identity
from wbtune._run import opening
from wbtune._trial.caller import run_of_caller
from wbtune._upstream import ray_trial, wandb_settings

if TYPE_CHECKING:
    from wandb import Run

PUBLIC_NAME = "setup_wandb"


def setup_wandb(
    config: Mapping[str, Any] | None = None,
    api_key: str | None = None,
    api_key_file: str | PathLike[str] | None = None,
    rank_zero_only: bool = True,
    **init_kwargs: Unpack[SetupOptions],
) -> Run:
    """Open a W&B run in a trainable function or in ``Trainable.setup``.

    By default the run's id is the trial's id, its name the trial's name, and its group the
    experiment's name. The run is closed, with all its rows, when the trial ends: there is no
    need to call ``finish``.

    Under `wandb_tuner` or `WandbLoggerCallback`, their options apply where none is given here,
    and the trial writes its run itself: call this first. Under `wandb_tuner`
    Tune's results are also logged to the run (``log_results``).

    In a training loop of Ray Train (V2 or V1) the worker of rank 0 has the run. It has the name
    and group of the Train run, or those of the trial if the Train run is a trial of Tune. It is
    in ``<storage_path>/<name>/wandb``, and is closed as finished or failed when the loop returns
    or raises. If Ray restarts the workers, they continue the same run.

    Args:
        config: the run's config; usually the trial's. ``config["wandb"]`` may hold
            arguments for ``wandb.init`` and authentication, and is not logged.
        api_key: the API key. The trial's environment or ``wandb login`` is safer.
        api_key_file: path of a file, on this node, whose first line is the API key.
        rank_zero_only: in distributed training, give a run to the worker of rank 0 only; the
            others get a disabled run. If False, each worker has its own run, whose id and name
            end in ``-rank<k>``, all in one group.
        **init_kwargs: for ``wandb.init``; they override every default. ``trial_id=`` and
            ``trial_name=`` mean ``id=`` and ``name=``. ``excludes=``, ``unmask=``,
            ``log_config=``, ``log_results=``, ``video_kwargs=`` and ``image_kwargs=`` are
            accepted too. In a trial, ``dir=``, ``resume=``, ``reinit=``, ``fork_from=`` and
            ``resume_from=`` have no effect; one line says so.

    Returns:
        The run, which is also `wandb.run`.

    Raises:
        UnknownOptionError: for an option that neither wbtune nor ``wandb.init`` has.
        ConfigurationError: for a value that W&B does not accept, or an option that only the
            driver can use (``upload_checkpoints=``).
        CredentialsError: if the server needs a key and there is none, or if two are given.

    Runs on: trial (and anywhere else, as a plain ``wandb.init``).

    Examples:
        >>> run = setup_wandb({"lr": 0.1}, project="docs", mode="disabled")
        >>> run.log({"loss": 0.123})
        >>> run.finish()

    Source: https://docs.ray.io/en/latest/tune/examples/tune-wandb.html, ``setup_wandb``.
    """
    given: dict[str, Any] = {**init_kwargs, "api_key_file": api_key_file}
    for theirs, ours in (("trial_id", "id"), ("trial_name", "name")):
        value = given.pop(theirs, None)
        if value is not None:
            given.setdefault(ours, value)
    given, taken = ignored_options.set_aside(given)
    options = parse(PUBLIC_NAME, given, wandb_settings.init_parameters(), refused_at(PUBLIC_NAME))
    credentials.refuse_two(PUBLIC_NAME, api_key, options.api_key_file)
    if rank_zero_only and identity.rank():
        return opening.disabled_run()
    trial_run, trial = run_of_caller(
        PUBLIC_NAME, options, api_key, declared=False, only=rank_zero_only
    )
    if trial.experiment is None:  # outside Ray they take effect
        more = {name: value for name, value in taken.items() if name != "reinit"}
        options = replace(options, init_kwargs={**options.init_kwargs, **more})
    else:
        ignored_options.warn_without_effect(PUBLIC_NAME, taken)
    if identity.rank() is None:
        ray_trial.on_training_error(trial_run.note_error)
    return trial_run.open_once(options, trial, config)  # it may be open: a run has one writer
