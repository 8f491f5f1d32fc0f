"""W&B's settings, and what ``wandb.init`` takes."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from wbtune._data import timeouts
from wbtune._data.masking import without_userinfo
from wbtune._upstream.capabilities import Capability, uses

if TYPE_CHECKING:
    from wandb import Run

PROCESS: Final = Capability(
    "W&B's settings of the process",
    without="under a W&B sweep agent or launch job, a trial's run may be that of the agent",
    since="wandb 0.22",
    needs=("wandb.sdk.wandb_setup:singleton",),
)

FLUSH: Final = Capability(
    "a log that is on disk within a second",
    without="rows of the last 15 s can be lost with a killed trial, as wandb-core writes its log "
    "only that often",
    since="wandb 0.31",
    needs=("wandb:Settings.x_transaction_log_flush_interval",),
)

STOP: Final = Capability(
    '"Stop run" at W&B ends the trial',
    without='"Stop run" at W&B interrupts the process of the trial, or nothing',
    since="wandb 0.26",
    needs=("wandb:Settings.stop_fn",),
)

FINISH: Final = Capability(
    "a trial's end that waits for uploads within bounds",
    without="uploads that take longer than 10 s at the end of a trial are left to `wandb sync`",
    since="wandb 0.27",
    needs=("wandb:Settings.finish_timeout", "wandb:Settings.finish_timeout_raises"),
)

FOREIGN: Final = Capability(
    "runs of the driver that say nothing of the driver",
    without="runs that the driver writes may show the driver's machine, code and packages, and "
    "wandb may print more",
    since="wandb 0.22",
    needs=(
        "wandb:Settings.silent",
        "wandb:Settings.symlink",
        "wandb:Settings.x_disable_stats",
        "wandb:Settings.x_disable_meta",
        "wandb:Settings.x_disable_machine_info",
        "wandb:Settings.x_save_requirements",
        "wandb:Settings.disable_git",
        "wandb:Settings.disable_code",
        "wandb:Settings.disable_job_creation",
        "wandb:Settings.console",
        "wandb:Settings.x_stats_pid",
        "wandb:Settings.program",
        "wandb:Settings.init_timeout",
    ),
)

APP_URL: Final = Capability(
    "the address of W&B's pages",
    without="the links to runs of a server of your own may be wrong",
    since="wandb 0.22",
    needs=("wandb.util:api_to_app_url",),
)


@functools.cache
def init_parameters() -> frozenset[str]:
    """Return the names of the parameters of the installed ``wandb.init``."""
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    return frozenset(inspect.signature(wandb.init).parameters)


def remember_s() -> float:
    """Return the seconds after which what was sent to wandb-core is on disk, if that works."""
    return timeouts.REMEMBER_S if FLUSH.is_here else timeouts.REMEMBER_LONG_S


def known(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of some settings that this wandb knows: it refuses the others."""
    return {name: value for name, value in settings.items() if name in _known_names()}


@functools.cache
def _known_names() -> frozenset[str]:
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    fields = getattr(wandb.Settings, "model_fields", None)
    return frozenset(fields or inspect.get_annotations(wandb.Settings))


def wandb_setting(name: str) -> Any:
    """Return one of W&B's settings as this process has it, without starting its core.

    Returns None for a name that W&B does not know.

    ``wandb.setup()`` is public but starts wandb-core and exports ``WANDB_SERVICE``, which
    every process started later would attach to [wandb 0.31, ``wandb_setup.singleton``].
    """
    value = getattr(of_process(), name, None)
    # wandb never logs in by it, but says it; the key is what it sends.
    return without_userinfo(value) if name == "base_url" and value else value


def refused(environ: Mapping[str, str]) -> dict[str, str]:
    """Return which environment variables have a value that wandb refuses, and why."""
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    found = {}
    for name, value in environ.items():
        try:
            wandb.Settings().update_from_env_vars({name: value})
        except ValueError as error:  # pydantic's; its own text repeats the value
            details: Any = getattr(error, "errors", list)()
            found[name] = str(details[0].get("msg") if details else type(error).__name__)
    return found


def variables() -> frozenset[str]:
    """Return the names of the environment variables that wandb reads."""
    from wandb import env  # noqa: PLC0415 - wandb is imported when first needed

    constants = {value for value in vars(env).values() if isinstance(value, str)}
    names = {name.upper() for name in _known_names()}
    names |= {name.removeprefix("X") for name in names if name.startswith("X_")}
    of_settings = {f"WANDB_{name}" for name in names}
    return frozenset(name for name in constants | of_settings if name.startswith("WANDB_"))


#: What reads W&B's settings files, by the releases.
_FILES: Final = (
    "update_from_system_settings",
    "update_from_system_config_file",
    "update_from_workspace_config_file",
)


def _of_environment() -> Any:
    """Return what W&B's files and the environment say, but not what ``wandb.setup`` was given."""
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    settings: Any = wandb.Settings()
    for name in _FILES:
        read = getattr(settings, name, None)
        if read is not None:
            read()
    settings.update_from_env_vars(dict(os.environ))
    return settings


@uses(PROCESS, otherwise=_of_environment)
def of_process() -> Any:
    """Return W&B's settings of this process, without starting its core."""
    from wandb.sdk import wandb_setup  # noqa: PLC0415 - wandb is imported when first needed

    return wandb_setup.singleton().settings


#: The settings whose mode is that of a trial's run now, and their own.
_FOLLOWING: Final[list[tuple[Any, Any]]] = []


def follow_mode(run: Run | None) -> None:
    """Give this process the mode of its trial's run; with None, its own again.

    ``wandb.init()`` in the trial returns that run, but asks for a login first unless the mode of
    the process is offline or disabled [wandb 0.31, ``_WandbInit.maybe_login``].
    """
    while _FOLLOWING:
        settings, mode = _FOLLOWING.pop()
        settings.mode = mode
    if run is not None and (run.offline or run.disabled):
        settings = of_process()
        _FOLLOWING.append((settings, settings.mode))
        settings.mode = "disabled" if run.disabled else "offline"


@uses(APP_URL, otherwise=lambda url: url.replace("://api.wandb.ai", "://wandb.ai"))
def _app_url_of(base_url: str) -> str:
    from wandb import util  # noqa: PLC0415 - wandb is imported when first needed

    return str(util.api_to_app_url(base_url))


def app_url(base_url: str) -> str:
    """Return where a server's pages are: ``wandb.ai`` for ``api.wandb.ai`` [wandb 0.31, ``util``].

    ``Settings.app_url`` is public, but of the settings that start wandb-core.
    """
    override = wandb_setting("app_url_override")
    return str(override or _app_url_of(base_url)).rstrip("/")


#: The settings of this process that are left out now: their values, and for how many runs.
_LEFT_OUT: Final[dict[int, tuple[Any, dict[str, Any], list[int]]]] = {}
_LEAVING_OUT = threading.Lock()


@contextlib.contextmanager
def settings_left_out(names: frozenset[str]) -> Iterator[None]:
    """Reset some of W&B's settings of this process to their defaults while a run is opened.

    ``wandb.Settings`` that are given to ``wandb.init`` can't unset one, and what
    `WANDB_SWEEP_ID` and `WANDB_LAUNCH` do is decided by the process's own
    [wandb 0.31, ``_WandbInit.clear_run_path_if_sweep_or_launch``, ``wandb_setup.singleton``].
    Several runs may be opened at once; the last that is open puts back what was there.
    """
    settings: Any = of_process()
    with _LEAVING_OUT:
        _, kept, count = _LEFT_OUT.setdefault(id(settings), (settings, {}, [0]))
        count[0] += 1
        for name, default in _defaults(names).items():
            value = getattr(settings, name, default)
            if value != default:
                kept[name] = value
                setattr(settings, name, default)
    try:
        yield
    finally:
        with _LEAVING_OUT:
            count[0] -= 1
            if not count[0]:
                del _LEFT_OUT[id(settings)]
                for name, value in kept.items():
                    setattr(settings, name, value)


@functools.cache
def _defaults(names: frozenset[str]) -> dict[str, Any]:
    """Return these settings' values where neither the environment nor a file says anything."""
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    nothing = wandb.Settings()
    return {name: getattr(nothing, name) for name in names if hasattr(nothing, name)}
