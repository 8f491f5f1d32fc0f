"""The sweep of an experiment that was declared with ``sweep=True``, and ran without a server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from wbtune._cli.output import Output
from wbtune._cli.syncing.memory import MemoryFile
from wbtune._cli.syncing.runs import LocalRun
from wbtune._data import sweep_config
from wbtune._data.checkpoint import Objective
from wbtune._data.sweep import BEST, BEST_RUN, GIVEN, Sweep
from wbtune._place import sweeps
from wbtune._place.server import RefusedError, Server
from wbtune._run import run_log
from wbtune.errors import WbtuneError

#: Beginnings of config keys that are no parameters.
_NO_PARAMETERS: Final = ("_wandb", "wbtune/")


def whole_of(runs: Mapping[str, LocalRun]) -> LocalRun | None:
    """The run for the whole experiment; None without ``sweep=True``."""
    return next((run for run in runs.values() if run_log.is_whole(run.head)), None)


def is_wanted(whole: LocalRun | None) -> bool:
    """Was a sweep declared that could not be made?"""
    return whole is not None and not whole.head.config.get("sweep")


class ExperimentSweep:
    """Makes the sweep, says which runs belong to it, and ends it.

    Args:
        server: where it is made; its requests are refused or not.
        entity: the user or team of runs that name none; None for the key's own.
        file: remembers it for the next `wbtune sync`.
        output: what is printed.

    Attributes:
        memory: what is known of it.
        is_missing: whether it could not be made, or not be ended.
    """

    def __init__(
        self, server: Server, entity: str | None, file: MemoryFile, output: Output
    ) -> None:
        self._server = server
        self._entity = entity
        self._file = file
        self._output = output
        self.memory = file.read()
        self.is_missing = False
        self._is_forgotten = False

    @property
    def sweep(self) -> Sweep | None:
        """The sweep; None if there is none."""
        return self.memory.known_sweep

    def begin(self, runs: Mapping[str, LocalRun]) -> None:
        """Make the sweep, if it was declared and there is none yet; and it can be remembered."""
        whole = whole_of(runs)
        if whole is None or not is_wanted(whole) or self.sweep is not None or self.is_missing:
            return
        try:
            self._file.write(self.memory)  # before: else, each `wbtune sync` would make another
            config = self._config(whole, runs)
            sweep, warnings = sweeps.create(
                self._server,
                whole.head.entity or self._entity,
                whole.head.project,
                config.get("name") or whole.head.name,
                config,
            )
        except OSError as error:
            # Cure: Make the folder writable, and run this again: the runs themselves are sent.
            self._missing(f"no sweep is made, because it can't be recorded ({error})")
            return
        except (WbtuneError, RefusedError) as error:
            # Cure: Run this again when the server makes sweeps; the runs lack nothing else.
            self._missing(f"the experiment has no sweep at W&B ({error}); its runs are sent")
            return
        self.memory.sweep = list(sweep)
        self._remember()
        for text in warnings:
            self._output.line(f"W&B says of the sweep's config: {text}")

    def of_run(self, run: LocalRun) -> Sweep | None:
        """The sweep that a run is to be a member of; None if it is not, or has another."""
        sweep = self.sweep
        if sweep is None or run_log.is_whole(run.head) or run.head.sweep:
            return None
        entity = run.head.entity or self._entity or sweep.entity
        return sweep if (entity, run.head.project) == (sweep.entity, sweep.project) else None

    def is_attached(self, run: LocalRun) -> bool:
        """Is a run a member, if it is to be one?"""
        return self.of_run(run) is None or run.id in self.memory.attached

    def attached(self, run: LocalRun) -> None:
        """Remember that a run was sent as a member."""
        if not self.is_attached(run):
            self.memory.attached.append(run.id)
            self._remember()

    def change(self, run: LocalRun, record: Any) -> None:
        """Write the sweep into the record that opens a run."""
        sweep = self.of_run(run)
        record.sweep_id = run.head.sweep if sweep is None else sweep.id
        if run_log.is_whole(run.head) and self.sweep is not None:
            for item in record.config.update:
                if item.key == "sweep":
                    item.value_json = f'"{self.sweep.id}"'

    def mark(self, runs: Mapping[str, LocalRun]) -> None:
        """Tag the best run; and the sweep is running, or finished.

        Args:
            runs: those of the experiment, which have arrived.
        """
        whole, sweep = whole_of(runs), self.sweep
        if whole is None or sweep is None:
            return
        has_ended = whole.segments[-1].has_ended
        state = sweeps.FINISHED if has_ended else sweeps.RUNNING
        try:
            if state != self.memory.state:
                sweeps.change(self._server, sweep, state=state)
                self.memory.state = state
                self._remember()
            if has_ended:
                self._tag(str(run_log.merged(whole.logs).summary.get(BEST_RUN) or ""), sweep)
        except (WbtuneError, RefusedError) as error:
            # Cure: Run this again; or ignore it: only the sweep's state or the tag `best` is
            #   wrong.
            self._missing(f"the sweep is not marked as it should be: {error}")

    def _tag(self, best: str, sweep: Sweep) -> None:
        before = self.memory.best
        if not best or best == before:
            return
        sweeps.tag(self._server, (sweep.entity, sweep.project, best), add=(BEST,))
        if before:
            place = (sweep.entity, sweep.project, before)
            sweeps.tag(self._server, place, add=(), remove=(BEST,))
        self.memory.best = best
        self._remember()

    def _config(self, whole: LocalRun, runs: Mapping[str, LocalRun]) -> dict[str, Any]:
        # They import Ray, which takes seconds.
        from wbtune._driver.description import CUSTOM, Description  # noqa: PLC0415 - as above
        from wbtune._driver.sweep_start import config_of  # noqa: PLC0415 - as above

        known = whole.head.config
        if isinstance(given := known.get(GIVEN), dict):
            return given
        parameters = known.get("space") or sweep_config.seen(
            {
                name: value
                for name, value in run.head.config.items()
                if not name.startswith(_NO_PARAMETERS)
            }
            for run in runs.values()
            if run is not whole
        )
        metric, mode = known.get("metric"), known.get("mode")
        objective = Objective(metric, mode) if metric and mode else None
        description = Description(parameters, method=known.get("method") or CUSTOM)
        return config_of(whole.head.name, description, objective)

    def _remember(self) -> None:
        """Remember it for the next `wbtune sync`; say once if that does not work."""
        try:
            self._file.write(self.memory)
        except OSError as error:
            if not self._is_forgotten:
                self._is_forgotten = True
                # Cure: Give a folder that can be written: another `wbtune sync` would make
                #   another sweep.
                self._output.warn(f"what was done to the sweep can't be recorded: {error}")

    def _missing(self, text: str) -> None:
        self.is_missing = True
        self._output.warn(text)
