"""W&B's settings, and what ``wandb.init`` takes."""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Iterator
from typing import Any, Final

from wbtune._data.masking import without_userinfo


@functools.cache
def init_parameters() -> frozenset[str]:
    """Return the names of the parameters of the installed ``wandb.init``."""
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    return frozenset(inspect.signature(wandb.init).parameters)


def wandb_setting(name: str) -> Any:
    """Return one of W&B's settings as this process has it, without starting its core.

    Returns None for a name that W&B does not know.

    ``wandb.setup()`` is public but starts wandb-core and exports ``WANDB_SERVICE``, which
    every process started later would attach to [wandb 0.31, ``wandb_setup.singleton``].
    """
    from wandb.sdk import wandb_setup  # noqa: PLC0415 - wandb is imported when first needed

    value = getattr(wandb_setup.singleton().settings, name, None)
    # wandb never logs in by it, but says it; the key is what it sends.
    return without_userinfo(value) if name == "base_url" and value else value


def app_url(base_url: str) -> str:
    """Return where a server's pages are: ``wandb.ai`` for ``api.wandb.ai`` [wandb 0.31, ``util``].

    ``Settings.app_url`` is public, but of the settings that start wandb-core.
    """
    from wandb import util  # noqa: PLC0415 - wandb is imported when first needed

    override = wandb_setting("app_url_override")
    return str(override or util.api_to_app_url(base_url)).rstrip("/")


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
    from wandb.sdk import wandb_setup  # noqa: PLC0415 - wandb is imported when first needed

    settings: Any = wandb_setup.singleton().settings
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
