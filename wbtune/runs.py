"""The only caller of ``wandb.init`` and ``run.finish``: open a run, close it with an outcome.

A run's data are on disk soon after they were logged (`FLUSH_S`): wandb-core flushes its
log every 15 s by default, and not at all when the process that owns it dies.
"""

# Over 250 lines: opening and closing share what they know of wandb's settings.

from __future__ import annotations

import contextlib
import gc
import logging
import os
import pkgutil
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wbtune import _compat, environment, guard, runlog, segments, surroundings
from wbtune.checkpoints import ARTIFACT_TYPE, Objective, SavedCheckpoint
from wbtune.deadline import Waiting
from wbtune.errors import ConfigurationError, WbtuneError
from wbtune.filtering import excludes_of
from wbtune.identity import Identity
from wbtune.outcomes import OUTCOME_TAGS
from wbtune.sanitize import clean
from wbtune.server import Server

if TYPE_CHECKING:
    from wandb import Run

    from wbtune.credentials import Secret
    from wbtune.options import RunOptions
    from wbtune.outcomes import Outcome

logger = logging.getLogger("wbtune")

#: Seconds after which a logged row is on disk, whatever happens to its process.
FLUSH_S: Final = 0.3

X_AXIS: Final = "training_iteration"

PROJECT_ENV: Final = "WANDB_PROJECT_NAME"
GROUP_ENV: Final = "WANDB_GROUP_NAME"
LOCATION_HOOK: Final = "WANDB_POPULATE_RUN_LOCATION_HOOK"
RUN_INFO_HOOK: Final = "WANDB_PROCESS_RUN_INFO_HOOK"

#: A run of the driver: the trial is elsewhere, so nothing of this process is its data.
_DRIVER_SETTINGS: Final = {
    "x_disable_stats": True,
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "disable_git": True,
    "disable_code": True,
    "disable_job_creation": True,
    "console": "off",
}

#: A run of a trial's own process.
_TRIAL_SETTINGS: Final = {"init_timeout": 30.0}

#: Seconds for which a trial's end waits for its own run's uploads; what is left then is
#: uploaded by the driver, or stays on disk. Tune gives its actors 15 s to end.
TRIAL_UPLOAD_S: Final = 10.0

#: The same for a run of the driver: several end at a time, and others are waiting.
RUN_UPLOAD_S: Final = 60.0

#: Seconds that closing a run takes at most, besides its uploads, before wandb-core is taken
#: to hang: in a trial, and on the driver, where nobody counts the seconds.
_TRIAL_CLOSES_S: Final = 1.0
_DRIVER_CLOSES_S: Final = 30.0
#: The same where there is nothing to upload.
_OFFLINE_CLOSES_S: Final = 8.0
#: Seconds to close a run after all, when the core that hung was killed.
LAST_S: Final = 5.0

#: Seconds for which the server may be away when a run is opened, before that is kept on
#: disk; a trial waits, the driver does not.
_TRIAL_PATIENCE_S: Final = 3.0
_DRIVER_PATIENCE_S: Final = 8.0

#: The config's key that tells one experiment's runs from another's.
MARK: Final = "wbtune/experiment"

#: Every run of ours.
_SETTINGS: Final = {
    "silent": True,  # wandb's greetings; its warnings still come through
    "symlink": False,  # many processes would fight over one `latest-run`
    "x_transaction_log_flush_interval": FLUSH_S,
    "finish_timeout_raises": False,
}


class RunSpec(NamedTuple):
    """Everything that opening one run needs, but the key; picklable.

    Attributes:
        init: arguments for ``wandb.init``, without ``settings`` and ``config``.
        config: the run's config, filtered and sanitised.
        settings: W&B settings by name.
        video_kwargs: for ``wandb.Video``.
        image_kwargs: for ``wandb.Image``.
        experiment: marks the run on the server as one of this experiment; empty when the
            id was chosen by the user, who may want to continue another's.
        objective: what is best; None where nobody said.
        command: of the program that the run belongs to; empty where that is not to be said.
        plain: nobody's trial: a run as ``wandb.init`` opens it, by what the environment says.
    """

    init: Mapping[str, Any]
    config: Mapping[str, Any] = {}
    settings: Mapping[str, Any] = {}
    video_kwargs: Mapping[str, Any] = {}
    image_kwargs: Mapping[str, Any] = {}
    experiment: str = ""
    objective: Objective | None = None
    plain: bool = False
    command: tuple[str, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids that the run may have, the one that counts where both are there first.

        A run of another experiment may have had its own before it: see `open_run`.
        """
        own = self.init.get("id")
        if not own:
            return ()
        return (f"{own}-{self.experiment}", own) if self.experiment else (own,)


def locate(who: str, options: RunOptions) -> RunOptions:
    """Fill in project and group from the environment and the location hook.

    The guide's order: the argument, the environment variables ``WANDB_PROJECT_NAME`` and
    ``WANDB_GROUP_NAME``, then ``WANDB_POPULATE_RUN_LOCATION_HOOK``, which sets those.

    Raises:
        ConfigurationError: when the hook can't be imported or raises.
    """
    hook = os.environ.get(LOCATION_HOOK)
    if hook and not options.project and not os.environ.get(PROJECT_ENV):
        try:
            pkgutil.resolve_name(hook)()
        except Exception as error:
            msg = f"{who}: the hook {LOCATION_HOOK}={hook} raised {error!r}. Fix it, or unset it."
            raise ConfigurationError(msg) from error
    return replace(
        options,
        project=options.project or os.environ.get(PROJECT_ENV) or os.environ.get("WANDB_PROJECT"),
        group=options.group or os.environ.get(GROUP_ENV) or os.environ.get("WANDB_RUN_GROUP"),
    )


def no_project(who: str) -> str:
    """The message for a callback or a tuner that was given no project."""
    return f"{who}: no project. Give project=, or set the environment variable {PROJECT_ENV}."


def spec(
    options: RunOptions,
    identity: Identity,
    config: Mapping[str, Any],
    login: Mapping[str, str] | None = None,
) -> RunSpec:
    """What to open for this trial: explicit options first, then who the trial is.

    Args:
        options: located (see `locate`).
        identity: id, name, group and folder by default.
        config: the run's config, filtered and sanitised; ``config=`` of the options is
            laid on top of it.
        login: the settings of a `credentials.Login`.
    """
    given = dict(options.init_kwargs)
    settings = {**_SETTINGS, **(login or {}), **(given.pop("settings", None) or {})}
    if options.upload_timeout is not None:
        # 0 would mean "for ever" to wandb.
        settings.setdefault("finish_timeout", max(1.0, float(options.upload_timeout)))
    extra = given.pop("config", None)
    excludes = excludes_of(options.excludes, options.unmask)
    defaults = {
        "project": options.project,
        "group": options.group or identity.experiment,
        "id": identity.trial_id,
        "name": identity.trial_name,
        "dir": identity.directory,
        "resume": "allow" if identity.trial_id else None,
        "allow_val_change": True,
    }
    if "resume_from" in given or "fork_from" in given:  # by hand: wandb takes one of them
        defaults["resume"] = None
    init = {**defaults, **given}
    return RunSpec(
        init={name: _sendable(value) for name, value in init.items() if value is not None},
        config={**config, **(excludes.config(extra) if isinstance(extra, Mapping) else {})},
        settings=settings,
        video_kwargs=dict(options.video_kwargs or {}),
        image_kwargs=dict(options.image_kwargs or {}),
        experiment="" if "id" in given or not identity.trial_id else identity.mark,
        plain=identity == Identity(),
    )


def _sendable(value: Any) -> Any:
    """An argument for ``wandb.init`` whose text W&B's protocol can send: names, tags, notes."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value)(map(_sendable, value))
    return value


def open_run(
    spec: RunSpec,
    secret: Secret | None = None,
    *,
    for_trial_elsewhere: bool = False,
    on_stop: Callable[[], None] | None = None,
) -> Run:
    """Open a run, in this process.

    Where a server is needed and away, the run is kept on disk, to be uploaded later.

    Args:
        spec: what to open.
        secret: the key; None where no server is needed, or wandb finds its credentials.
        for_trial_elsewhere: True on the driver: the run is one of many, `wandb.run` is
            left alone and nothing of this process goes into it. False in a trial: the run
            becomes `wandb.run`, because other libraries look there.
        on_stop: called by wandb's own thread when somebody presses "Stop run" at W&B;
            None for wandb's default, to interrupt the process.
    """
    away = False
    if secret is not None:
        patience = _DRIVER_PATIENCE_S if for_trial_elsewhere else _TRIAL_PATIENCE_S
        spec, away = _placed(spec, secret, patience)

    online = not away and (secret is not None or "identity_token_file" in spec.settings)

    def opened(*, beside: bool = False, first: bool = False, on_disk: bool = False) -> Run:
        how: Any = {"for_trial_elsewhere": for_trial_elsewhere, "beside": beside}
        try:
            run = _init(offline(spec) if on_disk else spec, secret, on_stop, **how)
        except _compat.core_is_gone():
            raise
        except Exception as error:
            if not online:
                raise
            logger.warning("wbtune: W&B opens no run (%s); what is logged is kept on disk", error)
            if not for_trial_elsewhere:
                _compat.forget_core()  # it keeps the id of what it could not open
            run = _init(offline(spec), secret, on_stop, **how)
            runlog.mark_not_uploaded(Path(run.dir).parent)
        if away or (online and (on_disk or spec.init.get("mode") == "offline")):
            runlog.mark_not_uploaded(Path(run.dir).parent)
        if spec.init.get("resume") in {"allow", "must", "auto", True}:
            if first:
                segments.wait_for_newest(run)
            segments.bring(run)
        return run

    run = guard.opened(partial(opened, first=True))
    # Opened again, it is the same run, also where wandb gave it its id.
    spec = spec._replace(init={**spec.init, "id": run.id, "resume": "allow"})
    guard.protect(
        run,
        opened,
        patience=_patience(spec, for_trial_elsewhere=for_trial_elsewhere, online=online),
        may_be_shared=not for_trial_elsewhere,
    )
    _call_run_info_hook(run)
    return run


def _upload_s(spec: RunSpec, *, for_trial_elsewhere: bool) -> float:
    """Seconds that a run's end waits for its uploads."""
    longest = RUN_UPLOAD_S if for_trial_elsewhere else TRIAL_UPLOAD_S
    return min(spec.settings.get("finish_timeout") or longest, longest)


def _patience(spec: RunSpec, *, for_trial_elsewhere: bool, online: bool) -> float:
    """Seconds after which a run that is being closed is taken to hang."""
    if for_trial_elsewhere:
        return _upload_s(spec, for_trial_elsewhere=True) + _DRIVER_CLOSES_S
    if online:
        return _upload_s(spec, for_trial_elsewhere=False) + _TRIAL_CLOSES_S
    return _OFFLINE_CLOSES_S


def offline(spec: RunSpec) -> RunSpec:
    """The same run, kept on disk."""
    return spec._replace(init={**spec.init, "mode": "offline"})


def _placed(spec: RunSpec, secret: Secret, patience: float) -> tuple[RunSpec, bool]:
    """The run's place at the server, once that was asked: an id of its own, or offline.

    Returns:
        ``(spec, away)``: what to open, and whether the server is away.
    """
    base_url = spec.settings.get("base_url") or _compat.wandb_setting("base_url")
    entity = spec.init.get("entity") or spec.settings.get("entity")
    run_id, project = spec.init.get("id"), spec.init.get("project") or "uncategorized"
    config = {**spec.config, MARK: spec.experiment} if spec.experiment else spec.config
    try:
        server = Server(base_url, secret, patience, spec.settings)
        theirs = server.run_config(entity, project, run_id or "none")
    except WbtuneError as error:
        logger.warning("wbtune: %s; what is logged meanwhile is kept on disk", error)
        return offline(spec._replace(config=config)), True
    if spec.experiment and theirs is not None and theirs.get(MARK) != spec.experiment:
        other = spec.ids[0]
        logger.warning(
            "wbtune: run %s of project %s belongs to another experiment; this trial's run is %s",
            *(run_id, project, other),
        )
        return spec._replace(init={**spec.init, "id": other}, config=config), False
    return spec._replace(config=config), False


def _init(
    spec: RunSpec,
    secret: Secret | None,
    on_stop: Callable[[], None] | None,
    *,
    for_trial_elsewhere: bool,
    beside: bool,
) -> Run:
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    ours = _DRIVER_SETTINGS if for_trial_elsewhere else _TRIAL_SETTINGS
    settings = {**ours, **({} if spec.plain else surroundings.SETTINGS), **spec.settings}
    if on_stop is not None:
        # A plain function: wandb copies its settings deeply, and a method's object with them.
        settings.setdefault("stop_fn", lambda: on_stop())  # noqa: PLW0108
    settings["finish_timeout"] = _upload_s(spec, for_trial_elsewhere=for_trial_elsewhere)
    if secret is not None:
        base_url = settings.get("base_url") or _compat.wandb_setting("base_url")
        _compat.log_in(str(base_url), secret.reveal())
    directory = spec.init.get("dir")
    if directory:
        Path(directory, "wandb").mkdir(parents=True, exist_ok=True)
    # What every run of this process has (see `prepare_for_many`) is not given once more.
    settings = {
        name: value
        for name, value in settings.items()
        # The environment's address may have a password.
        if name == "base_url" or _compat.wandb_setting(name) != value
    }
    _compat.start_without_launch()
    _compat.keep_core_from_debugging()
    environment.say_command(spec.command)
    if "disabled" not in {spec.init.get("mode"), _compat.wandb_setting("mode")}:
        _compat.ensure_core(own=not spec.plain)
    with _compat.settings_left_out(frozenset() if spec.plain else surroundings.OF_OTHER_RUNS):
        # A fresh Settings for each run: wandb writes the run's id into the one it is given.
        run = wandb.init(
            **spec.init,
            config=dict(spec.config),
            reinit="create_new" if for_trial_elsewhere or beside else "finish_previous",
            settings=wandb.Settings(**settings),
        )
    environment.say_packages(run, spec.command)
    return run


def prepare_for_many() -> None:
    """Let this process have what all of its runs have in common, once: the helper's.

    wandb checks each setting that a run is given many times over, collects the garbage of
    all that it has imported, and has every open run look at each line of its own log.
    """
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    _compat.keep_core_from_debugging()
    common: dict[str, Any] = {**_SETTINGS, **_DRIVER_SETTINGS}
    _compat.ensure_core(own=True)
    wandb.setup(wandb.Settings(**common))
    logging.getLogger("wandb").setLevel(logging.WARNING)
    gc.collect()
    gc.freeze()


def disabled_run() -> Run:
    """A run that takes everything and keeps nothing."""
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    run = wandb.init(mode="disabled", settings=wandb.Settings(silent=True))
    _compat.keep_open(run, lambda exit_code: None)  # noqa: ARG005 - it takes everything
    return run


def end_core() -> None:
    """End wandb-core, in a trial's process when it has no more runs.

    Otherwise wandb's own exit hook finds it killed by Ray, and prints a traceback for
    every trial (wandb 0.31). Never on a driver: it would end the user's own runs.
    """

    def end() -> None:
        with contextlib.suppress(*_compat.core_is_gone()):
            _compat.forget_core()

    if not guard.in_child():  # else it is the parent's
        kill, ending = _compat.core_killer(), Waiting(end)
        if not ending.done_within(LAST_S):
            kill()
            ending.done_within(1.0)


def define_metrics(run: Run, spec: RunSpec, *, mirrors: bool = True) -> None:
    """How W&B draws and sorts the run: over Tune's iteration, and by its best result.

    Args:
        run: an open run.
        spec: what it was opened by.
        mirrors: Tune's results are logged to it, so its rows have an iteration; W&B's own
            step is a mere row number then.
    """
    axis = X_AXIS if mirrors else None
    if mirrors:
        run.define_metric(X_AXIS, hidden=True)
        run.define_metric("*", step_metric=X_AXIS)
    if spec.objective is not None:
        # The summary says the best instead of the last value, as {"min": ...}.
        run.define_metric(spec.objective.metric, axis, summary=spec.objective.mode)


def log_checkpoint(run: Run, checkpoint: SavedCheckpoint) -> Any:
    """Log a checkpoint as an artifact of the run, of type ``model``.

    Returns:
        What `wait_for_upload` asks.
    """
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    name = checkpoint.name_in(run.id)
    artifact = wandb.Artifact(name, ARTIFACT_TYPE, metadata=dict(checkpoint.metadata))
    if checkpoint.reference is not None:
        # No checksums: nobody but the user reads the storage.
        artifact.add_reference(checkpoint.reference, name=checkpoint.source, checksum=False)
    elif checkpoint.folder is not None:
        artifact.add_dir(checkpoint.folder)  # copies the files
    return run.log_artifact(artifact, aliases=list(checkpoint.aliases))


def upload_has_ended(artifact: Any) -> bool:
    """Is it known already what became of an artifact? Waiting for that would cancel the upload."""
    return _compat.is_answered(artifact)


def wait_for_upload(run: Run, artifact: Any, timeout: float) -> None:
    """Hear what became of an artifact, when its run is closed; nothing is known offline.

    Its failure is told to who waits for it, and to nobody else (wandb 0.31). Closing the
    run waits for uploads already, and within its bounds.

    Raises:
        Exception: what W&B says, or that it took too long.
    """
    if not run.offline:
        artifact.wait(timeout=timeout)


def leave_run(run: Run, exit_code: int) -> None:
    """Close a run that had ended before and was opened again, and change nothing else."""
    segments.bring_outcome(run)
    run.finish(exit_code=exit_code)
    _note_timeout(run)


def update_config(run: Run, config: Mapping[str, Any]) -> None:
    """Change a run's config."""
    run.config.update(config, allow_val_change=True)


def go_on(run: Run) -> Run:
    """The run; or another part of it, where its user has finished it in the middle.

    ``wandb.init(reinit=True)`` finishes it, too. The other part is no `wandb.run`: that is
    its user's affair from there on.
    """
    protection = guard.of(run) if _compat.is_finished(run) else None
    if protection is None:
        return run
    segments.wait_for_end(run)
    other = protection.reopen()
    protection.hand_on(other)
    return other


def is_ours(run: Run) -> bool:
    """Is it this process's to close? Not in a forked child."""
    protection = guard.of(run)
    return protection is None or protection.is_ours


def next_step(run: Run) -> int:
    """The step of the run's next row, however many its user has logged."""
    protection = guard.of(run)
    return run.step if protection is None else protection.step


def close_run(run: Run, outcome: Outcome, notes: Mapping[str, Any] | None = None) -> None:
    """Tell W&B how it ended, and wait until what was logged is safe.

    When wandb-core does not answer, it is killed, and the run is closed in a new one, with
    the rows that are not on disk. When that hangs, too (the disk does, say), the run stays
    as it is there. In a forked child nothing is closed: the run is its parent's.

    Args:
        run: an open run.
        outcome: decides the exit code, the tag and what the summary says.
        notes: more for the summary.
    """
    protection = guard.of(run)
    if protection is None:
        _close_here(run, outcome, notes or {})
        return
    if not protection.is_ours:
        return
    closing = Waiting(partial(_close_here, run, outcome, notes or {}))
    if closing.done_within(protection.patience):
        return
    logger.warning("wbtune: wandb-core does not answer; run %s is closed in a new one.", run.id)
    protection.give_up_core()
    if not closing.done_within(LAST_S):
        logger.warning(
            "wbtune: run %s could not be closed in time; its last rows, %d at most, may be lost.",
            *(run.id, protection.at_risk),
        )


def _close_here(run: Run, outcome: Outcome, notes: Mapping[str, Any]) -> None:
    protection = guard.of(run)
    if protection is not None and _compat.is_finished(run):
        # Its user called `finish` (or `wandb.finish`): too early to know how the trial ends.
        _note_timeout(run)
        segments.wait_for_end(run)
        part = protection.reopen()
        _close(part, outcome, notes)
        _note_timeout(part)
        return
    try:
        _close(run, outcome, notes)
    except _compat.core_is_gone():
        if protection is None:
            raise
        protection.recover()
        _close(run, outcome, notes)
    _note_timeout(run)
    _complete(run, outcome, dict(notes))


def discard_unused(run: Run) -> bool:
    """Delete what an offline run that has ended left on disk, if nothing was ever logged to it."""
    folder = Path(run.dir).parent
    if not folder.name.startswith("offline-run-"):
        return False
    unused = segments.says_nothing(run)
    if unused:
        shutil.rmtree(folder, ignore_errors=True)
    return unused


def _note_timeout(run: Run) -> None:
    if _compat.finish_timed_out(run):
        runlog.mark_not_uploaded(Path(run.dir).parent)


def upload_rest(directory: str, base_url: str, secret: Secret) -> None:
    """Upload what an experiment's runs have left on disk while the server was away.

    Args:
        directory: the experiment's folder.
        base_url: the server.
        secret: the key for it.
    """
    folders = runlog.not_uploaded(directory)
    if folders:
        _compat.sync(folders, base_url, secret.reveal())


def _complete(run: Run, outcome: Outcome, notes: dict[str, Any]) -> None:
    """Close a run once more, in another part, if its log is not whole: its disk was full.

    If it still is, the rows that are not there are counted.
    """
    protection = guard.of(run)
    if protection is None or protection.is_whole():
        return
    lost, dropped, why = protection.lost(), notes.get("wbtune/dropped", 0), ""
    try:
        protection.go_on()
        _close(run, outcome, {**notes, "wbtune/dropped": dropped + lost})
        if not protection.is_whole():
            why = "is the disk full?"
    except Exception as error:  # noqa: BLE001 - W&B's trouble is not the trial's
        why = f"{type(error).__name__}: {error}"
    if why:
        lost += protection.at_risk
    if lost or why:
        why = why or "the disk was full for too long"
        logger.warning("wbtune: %d rows of run %s are not on disk; %s", lost, run.id, why)


def _close(run: Run, outcome: Outcome, notes: Mapping[str, Any]) -> None:
    run.summary.update({**outcome.summary(), **notes})
    segments.bring_computed(run)
    # An earlier attempt may have left its own.
    tags = (*(tag for tag in run.tags or () if tag not in OUTCOME_TAGS), *outcome.tags)
    if tags != tuple(run.tags or ()):
        run.tags = tags
    _compat.let_finish(run)
    run.finish(exit_code=outcome.exit_code)


def _call_run_info_hook(run: Run) -> None:
    hook = os.environ.get(RUN_INFO_HOOK)
    if not hook:
        return
    try:
        pkgutil.resolve_name(hook)(run)
    except Exception:
        logger.exception("The hook %s=%s failed for run %s.", RUN_INFO_HOOK, hook, run.id)


#: Above this no number is a step: W&B's web page could not tell it from the next one, and the
#: protocol's numbers end soon after.
_LAST_STEP: Final = 2**53 - 2**32


class Steps:
    """W&B's step, which must only grow, from Tune's iteration, which need not.

    >>> steps = Steps()
    >>> [steps.next(i) for i in (1, 2, 5, 3, 4, 7)]
    [1, 2, 5, 6, 7, 8]
    """

    __slots__ = ("_free",)

    def __init__(self, free: int = 0) -> None:
        self._free = free

    def next(self, iteration: object, at_least: int = 0) -> int:
        """The step of the next row: its iteration, or the next free one above."""
        wanted = iteration if type(iteration) is int and iteration < _LAST_STEP else 0
        step = max(wanted, self._free, at_least)
        self._free = step + 1
        return step
