"""`wandb_tuner`: builds a `ray.tune.Tuner` that logs each trial to its own run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any, Final, Unpack

from ray import tune

from wbtune._data import timeouts
from wbtune._data.checkpoint import objective_of
from wbtune._data.config_keys import as_dict, take_key
from wbtune._data.filtering import excludes_of
from wbtune._data.keywords import Checkpoints, ConfigObject, Names, TunerOptions
from wbtune._data.option_table import refused_at
from wbtune._data.options import (
    RunOptions,
    one_id,
    parse,
    take_from_config,
)
from wbtune._data.plan import Plan
from wbtune._data.sweep_file import SweepFile
from wbtune._run import run_spec
from wbtune._trial import tuner_options
from wbtune._upstream import wandb_settings
from wbtune.callback import WandbLoggerCallback
from wbtune.errors import ConfigurationError, InvalidTrainableError

if TYPE_CHECKING:
    from ray.tune import RunConfig, TuneConfig, Tuner

PUBLIC_NAME = "wandb_tuner"


def wandb_tuner(
    trainable: Callable[..., Any] | type | str,
    param_space: Mapping[str, Any] | ConfigObject | None = None,
    *,
    tune_config: TuneConfig | None = None,
    run_config: RunConfig | None = None,
    project: str | None = None,
    group: str | None = None,
    api_key_file: str | PathLike[str] | None = None,
    api_key: str | None = None,
    excludes: Names | None = None,
    log_config: bool = False,
    upload_checkpoints: Checkpoints = False,
    upload_timeout: float = timeouts.UPLOAD_TIMEOUT_S,
    video_kwargs: Mapping[str, Any] | None = None,
    image_kwargs: Mapping[str, Any] | None = None,
    checkpoint_references: bool = False,
    log_results: bool = True,
    unmask: Names | None = None,
    system_metrics: bool = False,
    sweep: bool | str | PathLike[str] | Mapping[str, Any] = False,
    **init_kwargs: Unpack[TunerOptions],
) -> Tuner:
    """Build a `ray.tune.Tuner` that logs each trial to its own W&B run.

    A plain trainable is logged by a `WandbLoggerCallback`. A decorated function or a
    `WandbMixin` keeps its own run and logs Tune's results there too; what it declares
    overrides the options given here.

    Args:
        trainable: as for ``Tuner``: a function, a class, or the name of a registered one.
        param_space: as for ``Tuner``: a dict, or an object with ``to_dict``, such as RLlib's
            ``PPOConfig``. ``param_space["wandb"]`` may hold options; an ``api_key`` is taken out
            and appears in none of the experiment's files.
        tune_config: as for ``Tuner``.
        run_config: as for ``Tuner``. It is not changed; its callbacks are kept.
        project: name of the W&B project. Mandatory, here, in the declaration, or as the
            environment variable ``WANDB_PROJECT_NAME``.
        group: name of the W&B group. Defaults to the experiment's name.
        api_key_file: path of a file whose first line is the API key.
        api_key: the API key. It is never pickled with the experiment.
        excludes: metrics and config keys to leave out: names, prefixes, globs.
        log_config: also log the config that is part of each result.
        upload_checkpoints: upload model checkpoints as artifacts: True or ``"all"``,
            ``"best"`` (each that is the best so far, by the metric of ``tune_config``) or
            ``"last"``. Those of a trial that has its own run are uploaded when the experiment
            ends.
        upload_timeout: seconds to wait for uploads when the experiment ends.
        video_kwargs: keyword arguments for ``wandb.Video``.
        image_kwargs: keyword arguments for ``wandb.Image``.
        checkpoint_references: upload references to checkpoints in a remote storage, not copies.
        log_results: whether a trial that has its own run logs Tune's results to it.
        unmask: config keys that look like secrets (``*token*``, ``*password*``, ...) but
            are not; text under any other such key is masked.
        system_metrics: record for runs that the driver writes what a trial's own run records:
            git, command line (without secrets), packages, machine, and what the trial's process
            uses, if it is on the driver's node. Such runs are opened at the first result.
        sweep: make the experiment one thing at W&B: a sweep that the trials' runs belong to, the
            tag ``best`` at the best trial's run, a run for the whole, and ``overview.html``.
            Or run a W&B sweep on Ray: the path of a ``sweep.yaml``, or a mapping in the same
            format. It has the search space, metric, search, early stopping and number of trials;
            what is given here as an argument replaces its part by name or adds to it, and a
            `tune_config` with another metric or mode is an error.
        **init_kwargs: for ``wandb.init``.

    Returns:
        The tuner; call ``fit()`` on it.

    Raises:
        InvalidTrainableError: for anything that can't be a trainable.
        ConfigurationError: for a second W&B callback in ``run_config``, if there is no project,
            for an ``id=`` if the trials open their own runs, for a value that W&B does
            not accept, or for something wrong in a sweep's config, with its line and key.
        UnknownOptionError: for an option that neither wbtune nor ``wandb.init`` has.
        CredentialsError: in ``fit``, before any trial, if there is no key that the server
            accepts.
        ServerUnreachableError: in ``fit``, before any trial, if the server does not answer.

    Runs on: driver.

    Examples:
        >>> def train(config):
        ...     return {"loss": config["lr"]}
        >>> tuner = wandb_tuner(train, project="docs", mode="offline", param_space={"lr": 0.1})
        >>> type(tuner).__name__
        'Tuner'

    Source: https://docs.ray.io/en/latest/tune/examples/tune-wandb.html, ``tune_with_callback``,
    in one call.
    """
    _check_tunes_arguments(trainable, param_space)
    space, inner_key = take_key(PUBLIC_NAME, param_space)
    plan = _plan(sweep, space, tune_config, run_config)
    named = {
        "project": project,
        "group": group,
        "api_key_file": api_key_file,
        "excludes": excludes,
        "log_config": _given(log_config, "log_config"),
        "upload_checkpoints": _given(upload_checkpoints, "upload_checkpoints"),
        "upload_timeout": _given(upload_timeout, "upload_timeout"),
        "video_kwargs": video_kwargs,
        "image_kwargs": image_kwargs,
        "checkpoint_references": checkpoint_references or None,
        "log_results": _given(log_results, "log_results"),
        "unmask": unmask,
        "system_metrics": system_metrics or None,
        "sweep": plan.file is not None or sweep or None,
    }
    names = wandb_settings.init_parameters() if init_kwargs else frozenset()
    given = parse(PUBLIC_NAME, {**named, **init_kwargs}, names, refused_at(PUBLIC_NAME))
    inner, _, _ = take_from_config(PUBLIC_NAME, _certain(space), wandb_settings.init_parameters())
    if api_key is not None:  # an argument overrides config["wandb"]
        inner = replace(inner, api_key_file=None)
    elif api_key_file is None:
        api_key = inner_key
    options = run_spec.locate(PUBLIC_NAME, _DEFAULTS | _place_of(plan.file) | inner | given)
    declared, options = tuner_options.with_tuner_options(PUBLIC_NAME, trainable, options)
    if declared is not trainable and "id" in options.init_kwargs:
        raise ConfigurationError(one_id(PUBLIC_NAME))
    if not options.project:
        raise ConfigurationError(run_spec.no_project(PUBLIC_NAME))
    tuner_options.check_takes_config(PUBLIC_NAME, declared)
    callback = _callback(options, api_key, space, plan)
    return tune.Tuner(
        declared,
        param_space=None if plan.param_space is None else dict(plan.param_space),
        tune_config=plan.tune_config,
        run_config=_with_callback(plan.run_config, callback),
    )


#: Those of the signature: ``config["wandb"]`` comes before them.
_DEFAULTS: Final = RunOptions(
    log_config=False,
    upload_checkpoints=False,
    upload_timeout=timeouts.UPLOAD_TIMEOUT_S,
    log_results=True,
)


def _given(value: Any, name: str) -> Any:
    """An argument; None if it is its default, as if it was not given."""
    return None if value is getattr(_DEFAULTS, name) else value


def _plan(
    sweep: object,
    param_space: Mapping[str, Any] | None,
    tune_config: TuneConfig | None,
    run_config: RunConfig | None,
) -> Plan:
    """What the tuner is given, by the arguments and by a sweep's config if there is one."""
    if not isinstance(sweep, (str, PathLike, Mapping, SweepFile)):
        return Plan(param_space, tune_config, run_config)
    # Not needed, and not paid for, without a sweep's config.
    from wbtune._driver.sweep_plan import plan  # noqa: PLC0415 - see above

    return plan(PUBLIC_NAME, sweep, param_space, tune_config, run_config)


def _place_of(file: SweepFile | None) -> RunOptions:
    """The options that a sweep's config has: those that are given otherwise come before them."""
    if file is None:
        return RunOptions()
    given = {"project": file.text("project"), "entity": file.text("entity")}
    return parse(PUBLIC_NAME, given, frozenset(given))


def _callback(
    options: RunOptions, api_key: str | None, space: Mapping[str, Any] | None, plan: Plan
) -> WandbLoggerCallback:
    """The callback, with what Tune does not tell its callbacks.

    Args:
        options: located and checked.
        api_key: the API key, if it was given as an argument.
        space: the ``param_space`` that the user gave.
        plan: what the tuner is given.
    """
    callback, description = WandbLoggerCallback(), None
    asked = tune.TuneConfig() if plan.tune_config is None else plan.tune_config
    if options.sweep:
        # Not needed, and not paid for, without sweep=True.
        from wbtune._driver.description import describe  # noqa: PLC0415 - see above

        excludes = excludes_of(options.excludes, options.unmask)
        description = describe(
            excludes,
            space=space,
            search_alg=asked.search_alg,
            scheduler=asked.scheduler,
            num_samples=asked.num_samples,
        )
        if plan.file is not None:
            from wbtune._driver.sweep_shown import shown  # noqa: PLC0415 - see above

            description = shown(description, plan.file, excludes, asked.search_alg)
    objective = objective_of(asked.metric, asked.mode)
    callback.use(PUBLIC_NAME, options, api_key, objective, description)
    return callback


def _check_tunes_arguments(trainable: object, param_space: object) -> None:
    if not callable(trainable) and not isinstance(trainable, str):
        msg = (
            f"{PUBLIC_NAME}: expected a function, a class trainable or a registered name, got "
            f"{trainable!r}. For another kind, give its RunConfig a WandbLoggerCallback."
        )
        raise InvalidTrainableError(msg)
    if param_space is not None and as_dict(param_space) is None:
        got = type(param_space).__name__
        problem = f"expected param_space= to be a dict, got {got}"
        msg = f"{PUBLIC_NAME}: {problem}. Give the rest by its name."
        raise ConfigurationError(msg)


def _certain(space: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """A space with only those of its options for W&B that are not sampled.

    A sampled one is checked when its trial starts.
    """
    options = None if space is None else space.get("wandb")
    if space is None or not isinstance(options, Mapping):
        return space
    # Not needed, and not paid for, without options in the space.
    from wbtune._data.search_space import Fields, is_sampled  # noqa: PLC0415 - see above
    from wbtune._upstream import ray_spaces  # noqa: PLC0415 - see above

    node = ray_spaces.read(options)
    if not is_sampled(node):
        return space
    entries = node.entries if isinstance(node, Fields) else {}
    certain = {name: options[name] for name, inner in entries.items() if not is_sampled(inner)}
    return {**space, "wandb": certain}


def _with_callback(run_config: RunConfig | None, callback: WandbLoggerCallback) -> RunConfig:
    """A copy of the config with wbtune's callback added.

    Raises:
        ConfigurationError: if it has a W&B callback already.
    """
    config = tune.RunConfig() if run_config is None else copy.copy(run_config)
    others = list(config.callbacks or [])
    for other in others:
        if any(base.__name__ == "WandbLoggerCallback" for base in type(other).__mro__):
            kind = f"{type(other).__module__}.{type(other).__name__}"
            msg = (
                f"{PUBLIC_NAME}: run_config has a W&B callback already ({kind}), so each trial "
                "would be logged twice. Remove it from RunConfig(callbacks=...)."
            )
            raise ConfigurationError(msg)
    config.callbacks = [*others, callback]
    return config
