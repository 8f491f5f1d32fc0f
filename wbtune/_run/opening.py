"""Open a run: the only caller of ``wandb.init``."""

from __future__ import annotations

import gc
import logging
import os
import pkgutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wbtune._data import timeouts
from wbtune._place import outer_job
from wbtune._place.server import Server
from wbtune._run import core, environment, guard, run_files, run_spec, segments
from wbtune._upstream import wandb_auth, wandb_core, wandb_finish, wandb_settings
from wbtune.errors import WbtuneError

if TYPE_CHECKING:
    from wandb import Run

    from wbtune._data.secret import Secret

logger = logging.getLogger("wbtune")

# Cause: The server refuses the run: the project or entity is not yours, for example.
# Cure: Correct what the error names, and send the runs: wbtune sync DIR.
_OPENS_NONE: Final = "wbtune: W&B opens no run (%s); what is logged is kept on disk"
RUN_INFO_HOOK: Final = "WANDB_PROCESS_RUN_INFO_HOOK"

#: For a run whose trial, or program, is in another process: this one's own data is not recorded.
ELSEWHERE: Final = {
    "x_disable_stats": True,
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "disable_git": True,
    "disable_code": True,
    "disable_job_creation": True,
    "console": "off",
}

#: For a run of a trial's own process.
_TRIAL_SETTINGS: Final = {"init_timeout": timeouts.TRIAL_INIT_S}


def open_run(
    spec: run_spec.RunSpec,
    secret: Secret | None = None,
    *,
    for_trial_elsewhere: bool = False,
    on_stop: Callable[[], None] | None = None,
) -> Run:
    """Open a run, in this process.

    If a server is needed and does not answer, the run is kept on disk, to be uploaded later.

    Args:
        spec: what to open.
        secret: the key; None if no server is needed, or wandb finds its own credentials.
        for_trial_elsewhere: True on the driver: the run is one of many, `wandb.run` is
            left alone, and nothing about this process is recorded in it. False in a trial: the run
            becomes `wandb.run`, because other libraries look there.
        on_stop: called in wandb's own thread when somebody presses "Stop run" at W&B;
            None for wandb's default, to interrupt the process.
    """
    away = False
    if secret is not None:
        patience = timeouts.DRIVER_SERVER_S if for_trial_elsewhere else timeouts.TRIAL_SERVER_S
        spec, away = _placed(spec, secret, patience)

    online = not away and (secret is not None or "identity_token_file" in spec.settings)

    def opened(*, create_new: bool = False, first: bool = False, on_disk: bool = False) -> Run:
        how: Any = {"for_trial_elsewhere": for_trial_elsewhere, "create_new": create_new}
        try:
            run = _init(run_spec.offline(spec) if on_disk else spec, secret, on_stop, **how)
        except wandb_core.core_is_gone():
            raise
        except Exception as error:
            if not online:
                raise
            logger.warning(_OPENS_NONE, error)
            if not for_trial_elsewhere:
                wandb_core.forget_core()  # it keeps the id of a run that it could not open
            run = _init(run_spec.offline(spec), secret, on_stop, **how)
            run_files.note_not_uploaded(Path(run.dir).parent)
        if away or (online and (on_disk or spec.init.get("mode") == "offline")):
            run_files.note_not_uploaded(Path(run.dir).parent)
        if spec.init.get("resume") in {"allow", "must", "auto", True}:
            if first:
                segments.wait_for_newest(run)
            segments.carry_over(run)
        return run

    run = core.with_living_core(partial(opened, first=True))
    # When it is reopened, it is the same run, even if wandb chose its id.
    spec = spec._replace(init={**spec.init, "id": run.id, "resume": "allow"})
    guard.protect(
        run,
        opened,
        patience=_patience(spec, for_trial_elsewhere=for_trial_elsewhere, online=online),
        may_be_shared=not for_trial_elsewhere,
    )
    _call_run_info_hook(run)
    return run


def _upload_s(spec: run_spec.RunSpec, *, for_trial_elsewhere: bool) -> float:
    """Return the seconds that a run's end waits for its uploads."""
    longest = timeouts.DRIVER_UPLOAD_S if for_trial_elsewhere else timeouts.TRIAL_UPLOAD_S
    return min(spec.settings.get("finish_timeout") or longest, longest)


def _patience(spec: run_spec.RunSpec, *, for_trial_elsewhere: bool, online: bool) -> float:
    """Return the seconds after which a run that is being closed is assumed to hang."""
    if for_trial_elsewhere:
        return _upload_s(spec, for_trial_elsewhere=True) + timeouts.DRIVER_CLOSES_S
    if online:
        return _upload_s(spec, for_trial_elsewhere=False) + timeouts.TRIAL_CLOSES_S
    return timeouts.OFFLINE_CLOSES_S


def _placed(
    spec: run_spec.RunSpec, secret: Secret, patience: float
) -> tuple[run_spec.RunSpec, bool]:
    """Look up the run's id at the server; use another id, or keep the run offline, if necessary.

    Returns:
        ``(spec, away)``: what to open, and whether the server does not answer.
    """
    base_url = spec.settings.get("base_url") or wandb_settings.wandb_setting("base_url")
    entity = spec.init.get("entity") or spec.settings.get("entity")
    run_id, project = spec.init.get("id"), spec.init.get("project") or "uncategorized"
    config = (
        {**spec.config, run_spec.EXPERIMENT_KEY: spec.experiment}
        if spec.experiment
        else spec.config
    )
    try:
        server = Server(base_url, secret, patience, spec.settings)
        theirs = server.run_config(entity, project, run_id or "none")
    except WbtuneError as error:
        # Cause: The server did not answer when the run was opened.
        # Cure: Send it later: wbtune sync DIR.
        logger.warning("wbtune: %s; what is logged meanwhile is kept on disk", error)
        return run_spec.offline(spec._replace(config=config)), True
    if (
        spec.experiment
        and theirs is not None
        and theirs.get(run_spec.EXPERIMENT_KEY) != spec.experiment
    ):
        other = spec.ids[0]
        # Cause: A run with the trial's id is there already.
        # Cure: Nothing to do: the two are not mixed.
        logger.warning(
            "wbtune: run %s of project %s belongs to another experiment; this trial's run is %s",
            *(run_id, project, other),
        )
        return spec._replace(init={**spec.init, "id": other}, config=config), False
    return spec._replace(config=config), False


def _init(
    spec: run_spec.RunSpec,
    secret: Secret | None,
    on_stop: Callable[[], None] | None,
    *,
    for_trial_elsewhere: bool,
    create_new: bool,
) -> Run:
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    ours = ELSEWHERE if for_trial_elsewhere else _TRIAL_SETTINGS
    settings = {**ours, **({} if spec.plain else outer_job.OVERRIDES), **spec.settings}
    if on_stop is not None:
        # A plain function: wandb deep-copies its settings, and would copy a method's object too.
        settings.setdefault("stop_fn", lambda: on_stop())  # noqa: PLW0108
    settings["finish_timeout"] = _upload_s(spec, for_trial_elsewhere=for_trial_elsewhere)
    login: Mapping[str, Any] = {}
    if secret is not None:
        base_url = settings.get("base_url") or wandb_settings.wandb_setting("base_url")
        login = wandb_auth.log_in(str(base_url), secret.reveal())
    directory = spec.init.get("dir")
    if directory:
        Path(directory, "wandb").mkdir(parents=True, exist_ok=True)
    # Without the settings that every run of this process has (see `prepare_for_many`).
    settings = {
        name: value
        for name, value in wandb_settings.known(settings).items()
        # The address in the environment may contain a password, so it is always given.
        if name == "base_url" or wandb_settings.wandb_setting(name) != value
    }
    wandb_core.keep_core_from_debugging()
    if "disabled" not in {spec.init.get("mode"), wandb_settings.wandb_setting("mode")}:
        wandb_core.ensure_core(own=not spec.plain)
    with wandb_settings.settings_left_out(frozenset() if spec.plain else outer_job.RUN_SETTINGS):
        # New Settings for each run: wandb writes the run's id into them.
        run = wandb.init(
            **spec.init,
            config=dict(spec.config),
            reinit="create_new" if for_trial_elsewhere or create_new else "finish_previous",
            settings=wandb.Settings(**settings, **login),
        )
    environment.log_packages(run, spec.command)
    return run


def prepare_for_many() -> None:
    """In the helper, set up once what all runs of this process have in common.

    Otherwise wandb would validate every setting of each run many times, traverse all imported
    objects at each garbage collection, and have every open run process each line of its own log.
    """
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    wandb_core.keep_core_from_debugging()
    common = wandb_settings.known({**run_spec.SETTINGS, **ELSEWHERE})
    wandb_core.ensure_core(own=True)
    wandb.setup(wandb.Settings(**common))
    logging.getLogger("wandb").setLevel(logging.WARNING)
    gc.collect()
    gc.freeze()


def disabled_run() -> Run:
    """Return a run that accepts everything and keeps nothing."""
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    run = wandb.init(mode="disabled", settings=wandb.Settings(silent=True))
    wandb_finish.keep_open(run, lambda exit_code: None)  # noqa: ARG005 - it accepts everything
    return run


def define_metrics(run: Run, spec: run_spec.RunSpec, *, logs_results: bool = True) -> None:
    """Make W&B plot a run over Tune's iteration, and summarise it by its best result.

    Args:
        run: an open run.
        spec: the spec that it was opened with.
        logs_results: Tune's results are logged to it, so its rows have an iteration; then W&B's
            own step is just a row number.
    """
    axis = run_spec.X_AXIS if logs_results else None
    if logs_results:
        run.define_metric(run_spec.X_AXIS, hidden=True)
        run.define_metric("*", step_metric=run_spec.X_AXIS)
    if spec.objective is not None:
        # The summary has the best value instead of the last one, as {"min": ...}.
        run.define_metric(spec.objective.metric, axis, summary=spec.objective.mode)


def update_config(run: Run, config: Mapping[str, Any]) -> None:
    """Change a run's config."""
    run.config.update(config, allow_val_change=True)


def _call_run_info_hook(run: Run) -> None:
    hook = os.environ.get(RUN_INFO_HOOK)
    if not hook:
        return
    try:
        pkgutil.resolve_name(hook)(run)
    except Exception:
        # Cause: The function that the variable names raised the error below.
        # Cure: Fix it, or unset the variable.
        logger.exception("The hook %s=%s failed for run %s.", RUN_INFO_HOOK, hook, run.id)
