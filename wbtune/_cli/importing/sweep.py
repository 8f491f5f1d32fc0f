"""The sweep of an imported experiment: its runs as one thing at W&B, with the best one tagged.

As when wbtune logs an experiment itself, there is a run for the whole beside those of the trials.
It says what was searched; `wbtune sync` makes the sweep from it if the runs are kept on disk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from wbtune._cli.importing.target import Target
from wbtune._cli.importing.trial import Imported
from wbtune._cli.output import Output
from wbtune._cli.syncing.memory import Memory, MemoryFile
from wbtune._data import sweep_config
from wbtune._data.outcomes import FINISHED, Kind, Outcome
from wbtune._data.sweep import BEST, BEST_RUN, JOB_TYPE, Sweep
from wbtune._driver import sweep_start
from wbtune._driver.best import finite
from wbtune._driver.description import Description
from wbtune._place import sweeps
from wbtune._place.identity import Identity
from wbtune._place.server import RefusedError
from wbtune._run import links, run_files, run_log, run_spec, without_core
from wbtune.errors import WbtuneError

#: The entry of the run's config that names the sweep, for the next import.
_SWEEP: Final = "wbtune/sweep"


@dataclass(frozen=True)
class ImportedSweep:
    """The sweep of an experiment, and the run for the whole.

    Attributes:
        target: where to the experiment is imported, with the sweep in its login.
        run_id: the id of the run for the whole.
        before: that run as it is on disk already; None if it is new.
        description: what the experiment has searched.
        place: where the runs are at W&B, if that is known.
        output: prints.
    """

    target: Target
    run_id: str
    before: run_log.RunLog | None
    description: Description
    place: links.Place | None
    output: Output

    @property
    def sweep(self) -> Sweep | None:
        """The sweep; None if none could be made, as without a server."""
        return self.target.login.sweep

    @classmethod
    def begin(cls, target: Target, place: links.Place | None, output: Output) -> Self:
        """Make the sweep, or find the one that the driver, an import or `wbtune sync` has made."""
        description = Description(sweep_config.seen(_configs(target)))
        before = _before(target)
        run_id = f"sweep-{target.key}" if before is None else before.id
        known = None if before is None else _sweep_of(before.config, place)
        known = known or _remembered(target)
        if known is None:
            run_id, config = _whole_at_server(target, None if before is None else run_id)
            known = _sweep_of(config, place)
        sweep = known
        if known is None or known.node:
            options, name = target.options, target.experiment.name
            config = sweep_start.config_of(name, description, _shown(target))
            sweep = sweep_start.begin(options, target.login, name, config, known)
        _remember(target, sweep)
        target = replace(target, login=target.login._replace(sweep=sweep))
        return cls(target, run_id, before, description, place, output)

    def end(self, done: Sequence[Imported]) -> None:
        """Write the run for the whole, if it has anything new."""
        best = self._best(done)
        counts = Counter(one.outcome.kind.value for one in done)
        summary: dict[str, Any] = {f"trials/{kind.value}": counts[kind.value] for kind in Kind}
        objective = _shown(self.target)
        if best is not None and objective is not None:
            summary |= {
                "best/trial": best.trial.trial_id,
                f"best/{objective.metric}": best.value,
                BEST_RUN: best.run_id,
            }
        has_ended = self.target.experiment.has_ended
        outcome = FINISHED if has_ended else Outcome(Kind.INTERRUPTED, "it has not ended")
        if self._is_new({**summary, **outcome.summary()}):
            segment = without_core.Segment(self._spec())
            without_core.close_run(segment, outcome, summary)

    def _is_new(self, summary: Mapping[str, Any]) -> bool:
        before = self.before
        if before is None:
            return True
        is_same = before.config.get("sweep") == (self.sweep and self.sweep.id)
        return not is_same or {**before.summary, **summary} != before.summary

    def _spec(self) -> run_spec.RunSpec:
        target, objective, sweep = self.target, _shown(self.target), self.sweep
        config = {
            "space": self.description.parameters,
            "method": self.description.method,
            "metric": objective and objective.metric,
            "mode": objective and objective.mode,
            "sweep": sweep and sweep.id,
            _SWEEP: sweep and list(sweep),
        }
        name = target.experiment.name
        who = Identity(self.run_id, name, name, str(target.directory))
        spec = run_spec.spec(target.options, who, config, target.login.settings)
        init = {**spec.init, "job_type": JOB_TYPE}
        return spec._replace(init=init, experiment=target.key, logs_results=False)

    def mark(self) -> None:
        """Mark the sweep as running or finished, as the experiment is, once the runs are sent.

        The engine of `wbtune sync` takes the experiment to have ended with the run for the whole,
        of which each import writes a segment that has ended.
        """
        server, sweep = self.target.server, self.sweep
        if server is None or sweep is None or not sweep.node:
            return
        file = _memory_file(self.target)
        memory = file.read()
        is_remembered = memory.known_sweep == sweep
        state = sweeps.FINISHED if self.target.experiment.has_ended else sweeps.RUNNING
        if state == (memory.state if is_remembered else sweeps.RUNNING):
            return
        try:
            sweeps.change(server, sweep, state=state)
        except (WbtuneError, RefusedError) as error:
            # Cure: Import again; or ignore it: only the sweep's state is wrong.
            self.output.warn(f"sweep {sweep.id} is not marked as {state.lower()}: {error}")
            return
        if is_remembered:
            memory.state = state
            file.write(memory)

    def _best(self, done: Sequence[Imported]) -> Imported | None:
        """The trial whose last value of the metric is the best, as Tune's results have it."""
        objective, best, value = _shown(self.target), None, None
        for one in done:
            if objective is not None and objective.improves(finite(one.value), value):
                best, value = one, one.value
        return best

    def tag_best(self, done: Sequence[Imported]) -> None:
        """Tag the best trial's run at the server, and no longer the one that was it before."""
        server, place, best = self.target.server, self.place, self._best(done)
        if server is None or place is None or best is None:
            return
        tagged = "" if self.before is None else str(self.before.summary.get(BEST_RUN) or "")
        try:
            sweeps.tag(server, (place.entity, place.project, best.run_id), (BEST,))
            if tagged not in {"", best.run_id}:
                sweeps.tag(server, (place.entity, place.project, tagged), (), (BEST,))
        except (WbtuneError, RefusedError) as error:
            # Cure: Import again, or add the tag `best` at W&B.
            self.output.warn(f"run {best.run_id} is not tagged as the best: {error}")


def _shown(target: Target) -> Any:
    """The objective, unless it is left out."""
    objective = target.objective
    return None if objective is None or target.excludes.drops(objective.metric) else objective


def _configs(target: Target) -> Iterator[dict[str, Any]]:
    """The trials' parameters: those that were sampled, if Tune's files tell which they are."""
    for trial in target.experiment.trials:
        config, _ = trial.config()
        kept = target.excludes.config(config)
        yield _sampled(kept, trial.sampled.keys(), "") if trial.sampled else kept


def _sampled(config: Mapping[str, Any], names: Any, above: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in config.items():
        if f"{above}{name}" in names:
            found[name] = value
        elif isinstance(value, dict) and (inner := _sampled(value, names, f"{above}{name}/")):
            found[name] = inner
    return found


# --- what there is already ----------------------------------------------------------------------


def _before(target: Target) -> run_log.RunLog | None:
    """The run for the whole, as far as it is on disk."""
    for run_id in sorted(run_files.run_ids(target.directory)):
        if run_id.startswith("sweep-"):
            log = run_log.merged(run_files.logs(target.directory, run_id))
            is_its = target.is_own_folder or log.config.get(run_spec.EXPERIMENT_KEY) == target.key
            if is_its and run_log.is_whole(log) and log.project == target.options.project:
                return log
    return None


def _whole_at_server(target: Target, run_id: str | None) -> tuple[str, Mapping[str, Any]]:
    """The run for the whole at the server, which another machine may have sent.

    Args:
        target: where to the experiment is imported.
        run_id: its id; None if it is not on this machine.

    Returns:
        Its id, or the one that it is to have; and its config, which is empty if it is not there.
    """
    ids = _ids_of_whole(target) if run_id is None else iter([run_id])
    for one in ids if target.server is not None else ():
        assert target.server is not None  # noqa: S101 - as above
        status = target.server.run_status(target.entity, str(target.options.project), one)
        if status is not None and _is_whole(status.config):
            return one, status.config
    return run_id or f"sweep-{target.key}", {}


def _ids_of_whole(target: Target) -> Iterator[str]:
    """The ids that it may have: an experiment that was moved has its runs by its earlier key."""
    yield f"sweep-{target.key}"
    for trial in target.experiment.trials:
        if trial.has_results:
            _, status = target.at_server(target.spec(trial, {}))
            key = "" if status is None else status.config.get(run_spec.EXPERIMENT_KEY)
            if key and key != target.key:
                yield f"sweep-{key}"
            return


def _is_whole(config: Mapping[str, Any]) -> bool:
    return {"space", "sweep"} <= config.keys()


def _sweep_of(config: Mapping[str, Any], place: links.Place | None) -> Sweep | None:
    """The sweep that the run for the whole names."""
    written, sweep_id = config.get(_SWEEP), config.get("sweep")
    if isinstance(written, list) and len(written) == len(Sweep._fields):
        return Sweep(*map(str, written))
    if sweep_id and place is not None:  # the driver's or `wbtune sync`'s, which end it themselves
        return Sweep(str(sweep_id), "", place.entity, place.project)
    return None


# --- what `wbtune sync` remembers ---------------------------------------------------------------


def _memory_file(target: Target) -> MemoryFile:
    return MemoryFile(target.directory / "wandb", lambda _: None)


def _remembered(target: Target) -> Sweep | None:
    """The sweep that `wbtune sync` has made."""
    known = _memory_file(target).read().known_sweep if target.is_own_folder else None
    return known if known is not None and known.project == target.options.project else None


def _remember(target: Target, sweep: Sweep | None) -> None:
    """Tell `wbtune sync` the sweep, which has just been marked as running, lest it makes another.

    Its file is about one experiment: it is not written beside the runs of several.

    Raises:
        OSError: if it can't be written.
    """
    if sweep is None or not sweep.node or target.server is None or not target.is_own_folder:
        return
    file = _memory_file(target)
    memory = file.read()
    if memory.known_sweep != sweep:
        memory = Memory(list(sweep))
    memory.state = sweeps.RUNNING
    file.write(memory)
