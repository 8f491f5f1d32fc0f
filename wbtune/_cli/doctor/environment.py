"""Environment variables that hurt, and the limits of this process."""

from __future__ import annotations

import configparser
import difflib
import math
import os
import re
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from wbtune._cli.doctor.findings import Context, Finding, note, ok, problem
from wbtune._data import timeouts
from wbtune._data.masking import looks_secret, mask_text
from wbtune._helper.process import most_open
from wbtune._upstream import wandb_settings
from wbtune._upstream.wandb_core import CORE_ENV

_PREFIX: Final = "WANDB_"
#: wandb-core's address: of a socket, or of a port of this machine [wandb 0.31, ``service_token``].
_SERVICE: Final = re.compile(r"\d+-\d+-(?:unix-(?P<path>.+)|tcp-localhost-(?P<port>\d+))")
#: They identify or describe one run; wbtune keeps them from a trial's.
_OF_ONE_RUN: Final = ("WANDB_RUN_ID", "WANDB_NAME", "WANDB_RESUME", "WANDB_RESUME_FROM")
#: They are for all runs, and are only named, so that nobody wonders.
_OF_ALL_RUNS: Final = ("ENTITY", "PROJECT", "RUN_GROUP", "JOB_TYPE", "TAGS", "NOTES", "BASE_URL")
#: How alike two names are, if one is a typo of the other.
_TYPO: Final = 0.9
#: Fewer runs at once than these are not enough for a usual experiment.
_FEW_RUNS: Final = 64
_YES: Final = frozenset({"1", "true", "t", "yes", "y", "on"})


def mode(context: Context) -> Iterator[Finding]:
    """Variables by which nothing is sent."""
    match context.variables.get("WANDB_MODE", ""):
        case "disabled":
            yield problem("WANDB_MODE=disabled: nothing is logged at all", "unset WANDB_MODE")
        case "offline" | "dryrun" as given:
            yield note(
                f"WANDB_MODE={given}: runs are kept on disk, and not sent",
                "unset WANDB_MODE; or send the runs later: wbtune sync DIR",
            )
    if "WANDB_DISABLED" in context.variables:
        yield note(
            "WANDB_DISABLED is set: wandb ignores it, but other libraries (Transformers) do not "
            "log with it",
            "unset it; what wandb knows is WANDB_MODE=disabled",
        )


def one_run(context: Context) -> Iterator[Finding]:
    """Variables that identify one run, or the job that this program would be a part of."""
    sweep = context.variables.get("WANDB_SWEEP_ID")
    if sweep and context.variables.get("WANDB_SWEEP_PARAM_PATH"):
        yield note(f"WANDB_SWEEP_ID={sweep}: an agent of that sweep has started this program")
    elif sweep:
        yield problem(
            f"WANDB_SWEEP_ID={sweep}: wandb takes each run for one that a sweep's agent started",
            "unset WANDB_SWEEP_ID",
        )
    if context.variables.get("WANDB_LAUNCH", "").lower() in _YES:
        yield note("WANDB_LAUNCH is set: this is a job of W&B Launch, or was to be one")
    if names := [name for name in _OF_ONE_RUN if context.variables.get(name)]:
        yield note(
            f"for one run only: {_shown(context, names)}",
            "unset: trials get their own, but other programs would continue that run",
        )


def service(context: Context) -> Iterator[Finding]:
    """The address of a wandb-core that has gone, to which wandb would connect."""
    address = context.variables.get(CORE_ENV)
    if not address:
        return
    found = _SERVICE.fullmatch(address)
    if found is None:
        yield problem(f"{CORE_ENV}={address} is no address of a wandb-core", f"unset {CORE_ENV}")
    elif not _answers(found["path"], found["port"]):
        yield problem(
            f"{CORE_ENV}={address}: nobody answers there; that wandb-core has gone",
            f"unset {CORE_ENV}: wandb starts its own",
        )
    else:
        yield note(
            f"{CORE_ENV}: runs of this shell go to the wandb-core of another process, and end "
            "with it",
            f"unset {CORE_ENV}, unless that is meant",
        )


def _answers(path: str | None, port: str | None) -> bool:
    try:
        if path is None:
            socket.create_connection(
                ("localhost", int(port or 0)), timeouts.DOCTOR_SERVICE_S
            ).close()
            return True
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeouts.DOCTOR_SERVICE_S)
            connection.connect(path)
    except (OSError, ValueError, OverflowError):
        return False
    return True


def refused(context: Context) -> Iterator[Finding]:
    """Variables with a value that wandb refuses, and those that are spelled wrong."""
    # The form of the key is looked at with the login.
    given = {
        name: value
        for name, value in context.variables.items()
        if name.startswith(_PREFIX) and name != "WANDB_API_KEY"
    }
    for name, why in wandb_settings.refused(given).items():
        yield problem(f"wandb refuses {name}: {why}", f"correct or unset {name}")
    known = wandb_settings.variables()
    for name in sorted(given):
        if name not in known and name not in _OTHERS:
            for meant in difflib.get_close_matches(name, known, n=1, cutoff=_TYPO):
                yield note(f"wandb does not know {name}", f"is {meant} meant?")


#: Variables that are not wandb's own settings, but someone's: wbtune's, Ray's, Transformers'.
_OTHERS: Final = frozenset(
    {"WANDB_SETUP_API_KEY_HOOK", "WANDB_DISABLED", "WANDB_WATCH", "WANDB_LOG_MODEL"}
    | {"WANDB_PROJECT_NAME", "WANDB_GROUP_NAME", "WANDB_API_KEY_FILE"}
)


def settings_files(context: Context) -> Iterator[Finding]:
    """W&B's settings files, of which wandb leaves out what it can't read."""
    of_user = context.variables.get("WANDB_CONFIG_DIR") or "~/.config/wandb"
    of_folder = Path(context.variables.get("WANDB_DIR") or "", "wandb")
    for folder in (os.path.expanduser(of_user), of_folder):  # noqa: PTH111 - there may be no home
        path = Path(folder, "settings")
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError, configparser.Error) as error:  # their texts repeat the file's
            kind = getattr(error, "strerror", None) or type(error).__name__
            yield problem(f"{path} can't be read ({kind}), and has no effect", f"correct {path}")
            continue
        items = parser.items("default") if parser.has_section("default") else []
        given = {f"{_PREFIX}{key.upper()}": value for key, value in items}
        for name, why in wandb_settings.refused(given).items():
            key = name.removeprefix(_PREFIX).lower()
            yield problem(f"wandb refuses {key} of {path}: {why}", f"correct it in {path}")


def base_url(context: Context) -> Iterator[Finding]:
    """An address of the server with more in it than that."""
    given = context.variables.get("WANDB_BASE_URL", "")
    try:
        parts = urlsplit(given.strip())
    except ValueError:
        return  # wandb refuses it
    if given and (given != given.strip() or parts.query or parts.fragment or "@" in parts.netloc):
        yield problem(
            "WANDB_BASE_URL has more than the server's address in it",
            f"WANDB_BASE_URL={parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}",
        )


def folders(context: Context) -> Iterator[Finding]:
    """Folders that wandb is told to write to."""
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
        given = context.variables.get(name)
        if given and not _can_write(Path(given)):
            yield problem(f"{name}={given} can't be written to", f"correct or unset {name}")
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - without a home, it stays "~"
    if not _can_write(home):
        yield note(
            f"the home folder ({home}) can't be written to: wandb's settings and cache go there",
            "set HOME, or WANDB_CONFIG_DIR, WANDB_CACHE_DIR and WANDB_DATA_DIR",
        )


def _can_write(path: Path) -> bool:
    """Can it be written to, or be made? Nothing is tried."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path.is_dir() and os.access(path, os.W_OK | os.X_OK)


def named(context: Context) -> Iterator[Finding]:
    """Variables that are meant for all runs, and Tune's that takes its files away."""
    names = [f"{_PREFIX}{name}" for name in _OF_ALL_RUNS if context.variables.get(_PREFIX + name)]
    if names:
        yield note(f"for all runs: {_shown(context, names)}")
    if context.variables.get("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "") == "1":
        yield note(
            "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS=1: Tune writes no result.json, from which "
            "`wbtune import`, `overview` and a restored experiment read",
            "unset it",
        )


def _shown(context: Context, names: list[str]) -> str:
    shown = (name if looks_secret(name) else f"{name}={context.variables[name]}" for name in names)
    return mask_text(", ".join(shown))


def open_files(_: Context) -> Iterator[Finding]:
    """How many runs can be open at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    runs = most_open(hard)
    limits = "unlimited" if hard == resource.RLIM_INFINITY else f"{soft:,}, at most {hard:,}"
    what = f"open files: {limits}"
    if runs < _FEW_RUNS:
        yield problem(f"{what}: {runs:.0f} runs can be open at once", "raise it: ulimit -Hn 65536")
    else:
        number = "any number of" if math.isinf(runs) else f"{runs:,.0f}"
        yield ok(f"{what}: enough for {number} runs at once")
