"""Send the runs of an experiment: several at a time, and each as `upload` does it."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

from wbtune._cli.output import Output
from wbtune._cli.syncing import progress, report
from wbtune._cli.syncing.runs import LocalRun
from wbtune._cli.syncing.source import Source, opened
from wbtune._cli.syncing.sweep import ExperimentSweep
from wbtune._cli.syncing.upload import RunUpload, Steps, Target
from wbtune._cli.syncing.watch import Watch
from wbtune._data import timeouts
from wbtune._data.options import RunOptions
from wbtune._place import credentials, driver_login
from wbtune._place.credentials import Login
from wbtune._place.server import Server
from wbtune._run import closing, core
from wbtune._upstream import wandb_core, wandb_records, wandb_sync
from wbtune._upstream.capabilities import Capability
from wbtune.errors import ConfigurationError, CredentialsError, ServerUnreachableError

#: How many runs are uploaded at a time, besides those that are still being written; as many as by
#: `wandb sync`.
AT_ONCE: Final = 5

_CURES: Final = "run `wandb login`, or set the environment variable WANDB_API_KEY"

#: wandb's command, as it is called in messages.
_CALLED: Final = "wbtune sync"


def dry_run(output: Output, text: str) -> int:
    """Say what would be sent; nothing is asked of a server.

    Returns:
        The exit code.
    """
    with opened(text, alone=False) as source:
        return report.print_plan(output, source.folder, source.runs.look(), source.memory)


def sync(output: Output, text: str, *, idle_s: float | None) -> int:
    """Send the runs of an experiment.

    Args:
        output: what is printed.
        text: the folder that the user named.
        idle_s: to watch the experiment: see `Watch`. None to send what is there.

    Returns:
        The exit code.
    """
    _check(wandb_records.RECORDS, wandb_sync.UPLOADS)
    if idle_s is not None:
        _check(wandb_sync.LIVE)
    live = idle_s is not None
    with opened(text, alone=True, waits=live) as source, _own_core():
        target = _target(output, source, _log_in(), live=live)
        watch = None if idle_s is None else Watch(source.folder, idle_s)
        done = _Experiment(source, target, watch, output)
        done.send_all()
        return report.print_report(output, source.folder, target, done.last, watch)


def send(
    output: Output, directory: Path, run_ids: Collection[str], login: Login
) -> Mapping[str, RunUpload]:
    """Send some of the runs that are in a folder of this machine.

    Args:
        output: what is printed.
        directory: the folder that has ``wandb/``.
        run_ids: the runs.
        login: with an API key.

    Returns:
        What was done for each, by its id.

    Raises:
        ConfigurationError: if this release of wandb can't, or another sync is there.
    """
    _check(wandb_records.RECORDS, wandb_sync.UPLOADS)
    with opened(str(directory), alone=True) as source, _own_core():
        target = _target(output, source, login, live=False)
        done = _Experiment(source, target, None, output, only=run_ids)
        done.send_all()
        return done.last


def _check(*needed: Capability) -> None:
    for one in needed:
        if not one.is_here:
            # Cure: Upgrade wandb.
            raise ConfigurationError(f"{one.without} ({one.reason}; {one.since} has it).")


@contextlib.contextmanager
def _own_core() -> Iterator[None]:
    """A wandb-core for this command alone; it is killed when the command is interrupted."""
    wandb_core.keep_core_from_debugging()
    wandb_core.ensure_core(own=True)
    try:
        yield
    except BaseException:
        core.kill()
        raise
    finally:
        closing.end_core()


def _log_in() -> Login:
    """Log in, as a driver does; but what it could do without a server is of no use here."""
    try:
        return driver_login.log_in(_CALLED, RunOptions(init_kwargs={"mode": "online"}))
    except CredentialsError as error:
        text = str(error).replace(credentials.CURES, _CURES)
        if credentials.NO_KEY in text:
            text = f"{credentials.NO_KEY}. {_CURES[0].upper()}{_CURES[1:]}."
        raise CredentialsError(text) from None
    except ServerUnreachableError as error:
        text, without, _ = str(error).partition(", or log without a server")
        raise ServerUnreachableError(text + "." * bool(without)) from None


def _target(output: Output, source: Source, login: Login, *, live: bool) -> Target:
    base_url, secret = login.settings["base_url"], login.secret
    if secret is None:
        # Cure: Run `wandb login`, or set WANDB_API_KEY.
        raise CredentialsError("an identity token is not enough to send runs: an API key is.")
    server = Server(base_url, secret, timeouts.LOGIN_SERVER_S)
    entity = login.settings.get("entity") or server.default_entity()
    settings = {
        "base_url": base_url,
        "mode": "online",
        "root_dir": str(source.scratch),
        "x_file_stream_transmit_interval": timeouts.SYNC_SENDS_S,
    }
    return Target(
        server,
        entity,
        settings,
        secret,
        ExperimentSweep(server, entity, source.memory, output),
        source.scratch,
        live,
        output,
    )


class _Experiment:
    """Sends the runs of an experiment.

    Args:
        source: the runs.
        target: where to.
        watch: looks whether the experiment goes on; None to send what is there.
        output: what is printed.
        only: the ids of the runs that are sent; all, if it is None.

    Attributes:
        last: the last upload of each run, by its id.
    """

    def __init__(
        self,
        source: Source,
        target: Target,
        watch: Watch | None,
        output: Output,
        only: Collection[str] | None = None,
    ) -> None:
        self.last: dict[str, RunUpload] = {}
        self._source = source
        self._target = target
        self._watch = watch
        self._output = output
        self._only = only
        self._runs: dict[str, LocalRun] = {}
        self._waiting: deque[str] = deque()
        self._active: dict[str, Steps[None]] = {}
        self._written: set[str] = set()  # those of the active ones that are still being written
        self._sent: dict[str, object] = {}  # what a run was when it was last sent
        self._is_away = False  # the storage, when it was last looked at

    def send_all(self) -> None:
        """Send everything, until there is nothing more."""
        self._look()
        with progress.shown(self._output, self._watch, self._runs, self.last) as show:
            due = time.monotonic() + timeouts.SYNC_DISCOVERS_S
            while self._step():
                show()
                time.sleep(timeouts.SYNC_LOOKS_S)
                if self._watch is not None and time.monotonic() >= due:
                    self._look()
                    due = time.monotonic() + timeouts.SYNC_DISCOVERS_S
            show()
        self._target.sweep.mark(self._runs)
        self._publish()

    def _publish(self) -> None:
        mirror = self._source.mirror
        if mirror is not None:
            try:
                mirror.publish_markers()
            except OSError as error:
                # Cure: Nothing to do: nothing is sent twice.
                self._output.warn(
                    f"{self._source.folder.shown} can't be written, so the next `wbtune sync` "
                    f"asks the server again: {error}"
                )

    def _look(self) -> None:
        """Look for runs, new segments, and whether the experiment goes on."""
        try:
            self._source.fetch()
            self._is_away = False
        except OSError as error:
            if self._watch is None:
                raise
            if not self._is_away:
                self._is_away = True
                # Cause: The storage is away.
                # Cure: Nothing to do: with --watch, it is tried again.
                self._output.warn(f"{self._source.folder.shown} can't be read: {error}")
        for run_id, found in self._source.runs.look().items():
            if self._only is not None and run_id not in self._only:
                continue
            run = self._runs.setdefault(run_id, found)
            run.head, run.segments[:] = found.head, found.segments  # an upload may wait for it
            is_known = run_id in self._active or run_id in self._waiting
            if not is_known and self._sent.get(run_id) != _state(run):
                self._waiting.append(run_id)
        if self._watch is not None:
            self._watch.look(self._runs)
        self._target.sweep.begin(self._runs)

    def _step(self) -> bool:
        """Advance each upload; return whether there is anything to wait for."""
        self._begin()
        for run_id, steps in list(self._active.items()):
            if next(steps, self) is self:
                del self._active[run_id]
                self._written.discard(run_id)
                self._sent[run_id] = _state(self._runs[run_id])
        return bool(self._active or self._waiting) or not self._is_over()

    def _begin(self) -> None:
        """Begin to upload runs: all that are being written, and some of the others."""
        for run_id in list(self._waiting):
            run = self._runs[run_id]
            is_written = not self._is_over() and not run.segments[-1].has_ended
            if is_written or len(self._active) - len(self._written) < AT_ONCE:
                self._waiting.remove(run_id)
                self._written |= {run_id} if is_written else set()
                before = self.last.get(run_id)
                upload = RunUpload(run, self._target, self._is_over)
                upload.sent_before = 0 if before is None else before.sent
                self.last[run_id] = upload
                self._active[run_id] = upload.steps()

    def _is_over(self) -> bool:
        return self._watch is None or self._watch.is_over


def _state(run: LocalRun) -> object:
    """What changes when there is more of a run to send."""
    return [(log, log.stat().st_size) for log in run.logs if log.exists()]
