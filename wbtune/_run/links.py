"""Print where runs can be viewed: their pages at W&B, or their folder and how to upload it.

Each is printed once, in one line: the driver prints it for its experiment, and a trial that opens
its own run prints it to its own log. In a notebook, the links can be clicked.
"""

from __future__ import annotations

import html
import importlib
import logging
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

from wbtune._data import timeouts
from wbtune._place.server import Server
from wbtune._place.storage import OFFLINE
from wbtune._upstream import wandb_core, wandb_settings
from wbtune.errors import WbtuneError

if TYPE_CHECKING:
    from wandb import Run

    from wbtune._data.options import RunOptions
    from wbtune._data.sweep import Sweep
    from wbtune._place.credentials import Login

logger = logging.getLogger("wbtune")


#: Characters that W&B itself leaves unquoted in a run's URL.
_SAFE: Final = "=+&$@"


class Place(NamedTuple):
    """Where an experiment's runs are at W&B.

    Attributes:
        app_url: the address of W&B's pages.
        entity: the user or team.
        project: the project.
        group: the group.
    """

    app_url: str
    entity: str
    project: str
    group: str

    @property
    def project_url(self) -> str:
        """The project's page."""
        return f"{self.app_url}/{quote(self.entity)}/{quote(self.project)}"

    @property
    def group_url(self) -> str:
        """The group's page.

        >>> Place("https://wandb.ai", "me", "mnist", "lr/sweep 1").group_url
        'https://wandb.ai/me/mnist/groups/lr%2Fsweep%201/workspace'
        """
        return f"{self.project_url}/groups/{quote(self.group, safe='')}/workspace"

    def sweep_url(self, sweep: str) -> str:
        """A sweep's page."""
        return f"{self.project_url}/sweeps/{quote(sweep, safe='')}"

    def run_url(self, run_id: str) -> str:
        """A run's page."""
        return f"{self.project_url}/runs/{quote(run_id, safe=_SAFE)}"


def of_experiment(options: RunOptions, login: Login, experiment: str) -> Place | None:
    """On the driver, return where an experiment's runs will be; None if that is not known.

    Args:
        options: located.
        login: the key and the server.
        experiment: the experiment's name, which is its group unless another is given.
    """
    base_url = login.settings.get("base_url")
    if base_url is None or login.secret is None or not options.project:
        return None
    entity = login.settings.get("entity")
    if not entity:
        try:
            given = options.init_kwargs.get("settings")
            entity = Server(base_url, login.secret, timeouts.ENTITY_ASKED_S, given).default_entity()
        except WbtuneError:
            return None  # the runs will give a warning of the same trouble
    if not entity:
        return None
    return place(base_url, entity, options.project, options.group or experiment)


def place(base_url: str, entity: str, project: str, group: str) -> Place:
    """Return where the runs of a group are, by the address of the server's API."""
    return Place(_without_login(wandb_settings.app_url(base_url)), entity, project, group)


def print_experiment(place: Place) -> None:
    """Print an experiment's pages when it starts."""
    print_line(f"wbtune: project {place.project_url} group {place.group_url}")


def print_sweep(place: Place, sweep: Sweep) -> None:
    """Print an experiment's sweep when it starts."""
    where = place._replace(entity=sweep.entity or place.entity, project=sweep.project)
    print_line(f"wbtune: sweep {where.sweep_url(sweep.id)}")


def print_run(run: Run) -> None:
    """Print where a run is that has just been opened, in a trial or by the user."""
    if run.disabled:
        return
    wandb_core.when_init_is_called(_warn_of_no_effect)
    if not run.offline:
        print_line(f"wbtune: run {run.name or run.id}: {_without_login(run.url or '')}")
    else:
        folder = Path(run.dir).parent
        upload = f"wandb sync {shlex.quote(str(folder))}"
        print_line(f"wbtune: run {run.name or run.id} in {folder}; upload it by: {upload}")


#: Arguments of ``wandb.init`` that identify or describe a run.
_OF_A_RUN: Final = ("project", "entity", "id", "name", "group", "job_type", "tags")


def _warn_of_no_effect(given: Mapping[str, Any]) -> None:
    """Print that arguments of ``wandb.init`` have no effect; wandb's own warning is silenced."""
    import wandb  # noqa: PLC0415 - it is imported already: its `init` was called

    run = wandb.run
    if run is None or given.get("reinit") in {True, "finish_previous", "create_new"}:
        return
    asked = {name: given[name] for name in _OF_A_RUN if given.get(name) is not None}
    other = {name: what for name, what in asked.items() if what != getattr(run, name, None)}
    if other:
        what = ", ".join(f"{name}={value!r}" for name, value in other.items())
        # Message: a warning by itself.
        # Cause: In a trial, W&B's run is wbtune's: a second `wandb.init` returns it.
        print_line(
            f"wbtune: wandb.init({what}) gives the run that is open here, {run.name or run.id} "
            f"in project {run.project}; its arguments have no effect. Give them where that run "
            "is declared."
        )


def place_of(place: Place, init: Mapping[str, Any]) -> Place:
    """Return where a run is, given the arguments that it is opened with."""
    return place._replace(
        project=init.get("project") or place.project, entity=init.get("entity") or place.entity
    )


def sync_command(folder: Path) -> str:
    """Return the command that uploads a folder's offline runs, from the current directory.

    >>> sync_command(Path("/tmp/two words/wandb"))
    "wandb sync '/tmp/two words/wandb'/offline-run-*"
    """
    return f"wandb sync {_shown(folder)}/{OFFLINE}*"


def command(name: str, directory: Path) -> str:
    """Return a command of ``wbtune`` for an experiment's folder, from the current directory.

    >>> command("sync", Path("/tmp/two words"))
    "wbtune sync '/tmp/two words'"
    """
    return f"wbtune {name} {_shown(directory)}"


def _shown(folder: Path) -> str:
    here = Path.cwd()
    return shlex.quote(str(folder.relative_to(here) if folder.is_relative_to(here) else folder))


def print_line(text: str) -> None:
    """Print a line; in a notebook, with links that can be clicked.

    If standard output is closed, or can't encode the text, it is logged instead.
    """
    try:
        display = _notebooks_display()
        if display is None:
            print(text, flush=True)  # noqa: T201 - the one line
        else:
            display.display(display.HTML(_linked(text)))
    except Exception:  # noqa: BLE001 - a line must not end the experiment
        logger.warning("%s", text)


def _linked(text: str) -> str:
    """Return a text as HTML, with its links.

    >>> _linked("a<b https://x.y/z")
    'a&lt;b <a href="https://x.y/z" target="_blank">https://x.y/z</a>'
    """
    link = r'<a href="\g<0>" target="_blank">\g<0></a>'
    return re.sub(r"https?://[^\s<>]+", link, html.escape(text, quote=False))


def _notebooks_display() -> Any:
    """Return ``IPython.display`` in a notebook; None elsewhere, including IPython in a terminal."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if getattr(shell, "kernel", None) is None:
        return None
    return importlib.import_module("IPython.display")


def _without_login(url: str) -> str:
    """Return an address without user and password, because it is printed.

    >>> _without_login("https://me:secret@wandb.corp:8080/app")
    'https://wandb.corp:8080/app'
    """
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
