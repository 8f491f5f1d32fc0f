"""The runs of one experiment, as its driver sees them: what the callback's hooks do.

For each trial there is one `Watched`. Either the driver writes its run (through the
`Writer`), or the trial's own process does: because it is a decorated function or a
`WandbMixin`, or because it called `setup_wandb` first. Then the driver only watches, and
corrects the run at the end where the trial no longer could: when its process was killed, or when
it could not know why it was stopped.
"""

# Over 250 lines: one state per trial and everything that changes it.

from __future__ import annotations

import glob
import logging
import math
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wbtune._data import drop_in, timeouts
from wbtune._data.checkpoint import BEST, LATEST, Objective, SavedCheckpoint, artifact_name
from wbtune._data.filtering import excludes_of
from wbtune._data.options import RunOptions, take_from_config
from wbtune._data.outcomes import FINISHED, OUTCOME_TAGS, STOPPED_AT_WANDB, Kind, Outcome
from wbtune._data.routing import Router
from wbtune._data.sanitize import plain
from wbtune._driver import endings, restoring
from wbtune._driver.checkpoint_copies import Shelf
from wbtune._driver.patience import Patience
from wbtune._driver.writer import Writer
from wbtune._helper.messages import Reopen
from wbtune._place import handover, identity, storage
from wbtune._place.credentials import Login
from wbtune._run import environment, links, media, ownership, run_files, run_log, run_spec
from wbtune._upstream import ray_loop, ray_stops, ray_storage, ray_trial, wandb_settings
from wbtune.errors import WbtuneError

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

logger = logging.getLogger("wbtune")


#: Runs that the last line names; if there are more, it names the folder of all.
SHOWN: Final = 8


@dataclass(slots=True)
class Watched:
    """One trial.

    Attributes:
        spec: its run.
        router: filters its results.
        claim: its name among the claims.
        config: its config when it was started last, filtered.
        own: its own process writes its run.
        unbuilt: it failed without having started.
        is_open: its run is open, and the driver's.
        behind: the trial, until what a crashed driver had not logged is filled in.
        delivered: what it has delivered to this driver, until then.
        due: when the run is opened, if nobody has claimed it by then; `time.monotonic`.
        attempt: 1, and one more for each time that Tune retried it.
        perturbations: what a population-based scheduler did to it.
        outcome: how it ended, or is about to end.
        ended: it has.
        last: takes its last checkpoint aside, if that is the one to upload.
        saved: where that is, or the newest that was handled.
        best: of its checkpoints' metric.
        mark: tells its experiment from others.
        artifact: the name of its checkpoints' artifact, once there is one.
        waiting: checkpoints for a run that its own process writes, until that has ended.
        directory: its experiment's.
    """

    spec: run_spec.RunSpec
    router: Router
    claim: str
    config: dict[str, Any]
    own: bool = False
    unbuilt: bool = False
    is_open: bool = False
    behind: Trial | None = None
    delivered: restoring.Known | None = None
    due: float = 0.0
    attempt: int = 1
    perturbations: list[dict[str, Any]] = field(default_factory=list)
    outcome: Outcome | None = None
    ended: bool = False
    last: Callable[[], None] | None = None
    saved: str = ""
    best: float | None = None
    mark: str = ""
    artifact: str = ""
    waiting: list[SavedCheckpoint] = field(default_factory=list)
    directory: str | None = None

    @property
    def key(self) -> str:
        """The run's id."""
        return str(self.spec.init["id"])

    def notes(self) -> dict[str, Any]:
        """What the summary says besides the outcome."""
        return {"wbtune/attempt": self.attempt} if self.attempt > 1 else {}


class Experiment:
    """The runs of one experiment.

    Runs on: driver.

    Args:
        who: what was called, for the messages.
        options: located and checked.
        login: the key and the server.
        objective: which checkpoint is the best.
        stops: what ``stop=`` and the time budget have said; None where that can't be known.
        restored: what `state` gave before the driver ended; empty for a new experiment.
        writer: where the runs are written.
        place: where the runs are at W&B, if that is known.
    """

    def __init__(
        self,
        who: str,
        options: RunOptions,
        login: Login | None = None,
        *,
        objective: Objective | None = None,
        stops: ray_stops.Stops | None = None,
        restored: Mapping[str, Any] | None = None,
        writer: Writer | None = None,
        place: links.Place | None = None,
    ) -> None:
        self._who = who
        self._options = options
        self._login = login or Login()
        self._objective = objective
        self._place = place
        self._stops = stops
        self._restored = dict(restored or {})
        self._writer = Writer() if writer is None else writer
        self._watched: dict[str, Watched] = {}
        # Of these, the ones whose runs are not open yet: Tune's loop looks at them often.
        self._due: list[Watched] = []
        # Which trial has which run's id.
        self._has_id = {one.get("id"): trial_id for trial_id, one in self._restored.items()}
        self._tags: dict[str, str] = {}
        self._directory: str | None = None
        # The folders of the experiments: `tune.run_experiments` has several in one call.
        self._places: dict[str, storage.Remote | None] = {}
        self._shelf: Shelf | None = None
        self._said_id = False
        self._store_is_away_until = 0.0
        self._taken_aside: list[SavedCheckpoint] = []
        self._interrupted: threading.Event | None = None
        self._told_of_it = False
        self._fetched = False
        # How the runs of a restored experiment had ended.
        self._ended: dict[str, int | None] | None = None

    def state(self) -> dict[str, Any]:
        """What a restored experiment has to know: plain data, without a secret."""
        return {
            trial_id: {
                "attempt": watched.attempt,
                "perturbations": watched.perturbations,
                "own": watched.own,
                "id": watched.key,
                "best": watched.best,
                "artifact": watched.artifact,
            }
            for trial_id, watched in self._watched.items()
        }

    # --- one trial ---

    def start(self, trial: Trial) -> None:
        """A trial starts, or starts again."""
        watched = self._watched.get(trial.trial_id)
        if watched is None:
            watched = self._watch(trial)
            if watched.own:
                return
            # At the first result, if that is to say in which process the trial is.
            watched.due = math.inf if self._options.system_metrics else time.monotonic()
            if ray_trial.is_function(trial.get_trainable_cls()):
                watched.due += timeouts.CLAIM_S  # its first line is still to come
            self._due.append(watched)
            self.open_overdue()
            return
        watched.attempt = max(watched.attempt, 1 + trial.num_failures)
        watched.outcome, watched.unbuilt = None, False
        self._note_perturbation(trial, watched)
        if watched.ended:  # a trial that had ended was taken up again
            watched.ended = False
            self._open(watched)

    def result(self, trial: Trial, result: Mapping[str, Any]) -> None:
        """A trial delivered a result."""
        self._stop_if_asked(trial)
        watched = self._watched.get(trial.trial_id)
        if watched is None:
            watched = self._watch(trial)
        delivered = watched.delivered  # another thread is done with it at some time
        if delivered is not None:
            delivered.note(result)
        if not watched.is_open and not watched.own:
            if self._options.system_metrics:
                here = ray_storage.node_address()
                watched.spec = environment.of_process(watched.spec, result, here)
            self._open(watched)
        if watched.ended:  # it goes on, whatever was said before
            watched.ended, watched.outcome = False, None
        if not watched.own:
            row = watched.router.snapshot(result, media.detached_copy)
            if watched.attempt > 1:
                row["wbtune/attempt"] = watched.attempt
            self._writer.log(watched.key, row)
        # After it: a value that can't even be compared with a bound costs no row.
        if result.get("done"):
            asked = watched.key in self._writer.stops
            watched.outcome = (
                STOPPED_AT_WANDB if asked else endings.after_result(trial, result, self._stops)
            )

    def _stop_if_asked(self, trial: Trial) -> None:
        """Somebody pressed "Stop run" at W&B: the trial's next result is its last.

        Callbacks are told of a result when Tune has decided on it already; this is the
        criterion by which it decides on the next.
        """
        if self._writer.stops and trial.trial_id in self._watched:
            watched = self._watched[trial.trial_id]
            if watched.key in self._writer.stops:
                trial.stopping_criterion = {**endings.criteria(trial), "training_iteration": 0}

    def save(self, trial: Trial) -> None:
        """A trial saved a checkpoint: upload it, if the policy says so."""
        watched = self._watched.get(trial.trial_id)
        checkpoint = trial.checkpoint
        if watched is None or checkpoint is None or self._directory is None:
            return
        if watched.saved == checkpoint.path:
            return  # a paused trial "saves" the checkpoint that it reported
        watched.saved = checkpoint.path
        if not watched.ended:
            self._open(watched)
        if self._shelf is None:
            self._shelf = Shelf(
                Path(self._directory, "wandb"),
                references=bool(self._options.checkpoint_references),
            )
        policy, result = self._options.checkpoints, trial.last_result
        value = None if self._objective is None else self._objective.value(result)
        if policy == "best" and not self._is_best(watched, value):
            return
        metadata = watched.router.excludes.metrics(result)
        take = partial(
            self._shelf.take,
            checkpoint,
            str(trial),
            SavedCheckpoint(
                self._artifact_of(trial, watched),
                Path(checkpoint.path).name,
                metadata=plain({k: v for k, v in metadata.items() if k != "config"}),
                run_id=watched.key,
            ),
            partial(self._taken, watched, value),
            partial(ray_loop.keeps, trial, checkpoint),
        )
        if policy != "last" or watched.ended:
            take()
            return
        watched.last = take  # at the end: Tune never deletes a trial's last checkpoint
        if self._is_best(watched, value):
            watched.best = value

    def _artifact_of(self, trial: Trial, watched: Watched) -> str:
        """The name of the trial's artifact: always the same, and no other trial's."""
        if not watched.artifact:
            before = self._restored.get(trial.trial_id, {})
            name = artifact_name(str(trial), trial.trial_id, watched.mark)
            taken = {one.artifact.lower() for one in self._watched.values()}
            taken |= {one.get("artifact", "").lower() for one in self._restored.values()}
            if name.lower() in taken:
                name = artifact_name(f"{trial} ", trial.trial_id, watched.mark)
            watched.artifact = before.get("artifact") or name
        return watched.artifact

    def _is_best(self, watched: Watched, value: float | None) -> bool:
        return self._objective is not None and self._objective.improves(value, watched.best)

    def _taken(self, watched: Watched, value: float | None, saved: SavedCheckpoint) -> None:
        """A checkpoint is on the shelf; perhaps from a thread, while its trial goes on."""
        if self._is_best(watched, value):
            watched.best = value
        if value is not None and value == watched.best:
            saved = saved._replace(aliases=(LATEST, BEST))
        elif self._options.checkpoints == "best":
            # A better one was still being fetched when it was saved.
            self._discard(watched, saved)
            return
        if saved.folder is not None:
            self._taken_aside.append(saved._replace(metadata={}))
        if not watched.own:
            self._writer.upload(
                watched.key, saved, partial(self._reopen, watched), self._login.secret
            )
            return
        if self._options.checkpoints != "all":
            for superseded in watched.waiting:
                self._discard(watched, superseded)
            watched.waiting.clear()
        watched.waiting.append(saved)

    def _discard(self, watched: Watched, saved: SavedCheckpoint) -> None:
        assert self._shelf is not None  # noqa: S101 - it was taken aside
        self._shelf.discard(watched.key, saved)

    @staticmethod
    def _reopen(watched: Watched, log: run_log.RunLog | None = None) -> Reopen:
        """How a run that has ended is opened once more, and left as it was.

        Args:
            watched: the trial.
            log: what its own process wrote, if that opened the run.
        """
        outcome = watched.outcome or FINISHED
        init = {name: value for name, value in watched.spec.init.items() if name != "tags"}
        init = _as_opened(init, log)
        if log is not None:
            tags: Iterable[str] = log.tags
        elif watched.own:
            tags = ()
        else:
            tags = watched.spec.init.get("tags") or ()
        tags = [*(tag for tag in tags if tag not in OUTCOME_TAGS), *outcome.tags]
        if tags:
            init["tags"] = tags
        return Reopen(watched.spec._replace(init=init, config={}), outcome.exit_code)

    def end(self, trial: Trial, *, failed: bool) -> None:
        """A trial ended."""
        watched = self._watched.get(trial.trial_id)
        if watched is None:  # its actor could not be built
            watched = self._watch(trial)
            watched.unbuilt = failed
        if watched.ended:
            return
        if failed:
            self._end(watched, endings.failure(trial))
        else:
            self._end(watched, watched.outcome or endings.between_results(trial))

    def _watch(self, trial: Trial) -> Watched:
        who_am_i = identity.of_trial(trial)
        inner, config = self._taken_from(trial)
        options = inner | self._options
        init = drop_in.of_the_driver(self._who, options.init_kwargs)
        options = replace(options, init_kwargs=init)
        excludes = excludes_of(options.excludes, options.unmask)
        kept = excludes.config(config)
        watched = Watched(
            spec=self._spec_of(
                trial, run_spec.spec(options, who_am_i, kept, self._login.settings)
            )._replace(objective=self._objective),
            router=Router(excludes, log_config=bool(options.log_config)),
            claim=who_am_i.claim,
            config=kept,
            own=_owns_run(trial),
            mark=who_am_i.mark,
            directory=who_am_i.directory,
        )
        before = self._restored.get(trial.trial_id)
        if before is not None:
            watched.attempt = max(before["attempt"], 1 + trial.num_failures)
            watched.perturbations = list(before["perturbations"])
            watched.best = before.get("best")
        if self._options.system_metrics and not watched.own:
            watched.spec = environment.described(watched.spec, environment.command_line())
        self._watched[trial.trial_id] = watched
        self._tags.setdefault(str(trial.experiment_tag), trial.trial_id)
        self._directory = who_am_i.directory
        if self._directory is not None:
            self._places[self._directory] = who_am_i.remote
            self._writer.launch(Path(self._directory, "wandb", "wbtune.log"))
        # Not where the trial called `setup_wandb`: it is about to claim its run again, and
        # Tune's results were never in there.
        owned = before is not None and before.get("own", False)
        if self._restored and not watched.own and not owned:
            watched.behind, watched.delivered = trial, restoring.Known()
        return watched

    def _taken_from(self, trial: Trial) -> tuple[RunOptions, dict[str, Any]]:
        try:
            inner, config, _ = take_from_config(
                self._who, trial.config, wandb_settings.init_parameters()
            )
        except WbtuneError as error:
            # Samples are drawn one by one: nobody could know before this trial.
            # Once; and where the trial opens its run itself, it is raised there.
            if trial.trial_id not in self._watched and not _owns_run(trial):
                logger.warning("%s Trial %s is logged without it.", error, trial)
            return RunOptions(), {k: v for k, v in trial.config.items() if k != "wandb"}
        return inner, config

    def _spec_of(self, trial: Trial, spec: run_spec.RunSpec) -> run_spec.RunSpec:
        """The trial's run, under an id that no other trial has.

        ``id=`` names one run: the first trial has it, and each further one an id that is
        made from it. Which trial had which, a restored experiment knows.
        """
        given, before = spec.init["id"], self._restored.get(trial.trial_id, {})
        is_free = self._has_id.setdefault(given, trial.trial_id) == trial.trial_id
        own = before.get("id") or (given if is_free else f"{given}-{trial.trial_id}")
        self._has_id.setdefault(own, trial.trial_id)
        if own == given:
            return spec
        if not self._said_id:
            self._said_id = True
            logger.warning(
                "%s: id=%r is one run's, and there are several trials: the others get that and "
                "their trial's id, such as %r. Leave id= out: a trial's id is its run's.",
                self._who,
                given,
                own,
            )
        return spec._replace(init={**spec.init, "id": own})

    def open_overdue(self) -> None:
        """Open the runs that their trials had time enough to claim."""
        now = time.monotonic()
        for watched in [watched for watched in self._due if watched.due <= now]:
            self._due = [other for other in self._due if other is not watched]
            if watched.due:
                self._open(watched)

    def tell_of_interruption(self, fit: str) -> None:
        """Ctrl-C: let trials that write their own runs know before Tune stops them.

        Else the driver has to correct what they say, and that is another segment of each run.
        """
        if self._interrupted is None:  # looked for once, in Tune's loop
            self._interrupted = ray_loop.interruption_event() or threading.Event()
        if self._interrupted.is_set() and not self._told_of_it:
            self._told_of_it = True
            try:
                handover.interrupt(fit, endings.SIGNAL)
            except handover.StoreError as error:
                logger.info("wbtune: the trials do not hear of the interruption: %s", error)

    def _open(self, watched: Watched) -> None:
        watched.due = 0.0
        if watched.own or watched.is_open:
            return
        if self._claimed(watched) != "driver":
            watched.own = True
            return
        watched.is_open = True
        if watched.behind is not None and any(self._places.values()):
            self._writer.call(self._fetch_once)
        self._writer.start(watched.key, watched.spec, watched.router, self._login.secret)
        if watched.behind is not None:
            # What a crashed driver had not yet logged, before anything new.
            self._writer.log_all(watched.key, partial(self._missing, watched, watched.behind))
            watched.behind = None
        if watched.perturbations:
            self._writer.configure(watched.key, {"wbtune/perturbations": watched.perturbations})

    def _claimed(self, watched: Watched) -> str:
        """Who writes the run; if that can't be asked, rather two than nobody."""
        if time.monotonic() < self._store_is_away_until:
            return "driver"
        try:
            return handover.claim(watched.claim, "driver", timeouts.STORE_IN_LOOP_S)
        except handover.StoreError as error:
            # Tune's loop does not wait for it again at once.
            self._store_is_away_until = time.monotonic() + timeouts.CLAIM_S
            logger.warning(
                "%s: %s. A run that its trial opens meanwhile by setup_wandb may get rows of both.",
                self._who,
                error,
            )
            return "driver"

    def _end(self, watched: Watched, outcome: Outcome) -> None:
        watched.outcome, watched.ended = outcome, True
        self._open(watched)
        last, watched.last = watched.last, None
        try:
            if last is not None:
                last()
        finally:  # a full disk, say, must not leave the run open
            if watched.is_open:
                watched.is_open = False
                self._writer.end(watched.key, outcome, watched.notes())

    def _note_perturbation(self, trial: Trial, watched: Watched) -> None:
        _, config = self._taken_from(trial)
        kept = watched.router.excludes.config(config)
        found = endings.perturbation(trial, watched.config, kept, self._tags)
        if found is None:
            return
        watched.config = kept
        watched.spec = watched.spec._replace(config={**watched.spec.config, **kept})
        watched.perturbations.append(found.plain())
        if watched.is_open:
            changes = {**found.new, "wbtune/perturbations": list(watched.perturbations)}
            self._writer.configure(watched.key, changes)

    def _missing(self, watched: Watched, trial: Trial) -> Iterator[Mapping[str, Any]]:
        directory = watched.directory or ""
        logs = [run_files.logs(directory, run_id) for run_id in watched.spec.ids]
        # Tune writes on meanwhile: what this driver has delivered is logged as it came.
        yield from restoring.missing(trial, next(filter(None, logs), []), watched.delivered)
        watched.delivered = None

    def _take_over(self, trial: Trial, outcome: Outcome) -> None:
        """A trial that had ended before the driver was restored: is its run complete?"""
        watched = self._watch(trial)
        if self._ended is None:
            self._fetch_once()
            self._ended = self._ends()
        ends = self._ended
        said = next((ends[run_id] for run_id in watched.spec.ids if run_id in ends), None)
        if said == outcome.exit_code:  # the last that is written, so that all is there
            watched.ended, watched.outcome, watched.due = True, outcome, 0.0
        else:
            self._end(watched, outcome)

    def _ends(self) -> dict[str, int | None]:
        return {
            run_id: end
            for directory in self._places
            for run_id, end in run_files.ends(directory).items()
        }

    def _fetch_once(self) -> None:
        if not self._fetched:
            self._fetched = True
            self._fetch()

    def _fetch(self) -> None:
        """Have here what trials on other nodes, or an earlier driver, have left behind."""
        for directory, remote in self._places.items():
            if remote is not None:
                remote.fetch(directory)

    # --- the end of the experiment ---

    def close(self, trials: list[Trial]) -> None:
        """Close what is still open, wait for uploads, and say where the runs are."""
        rest, failures = endings.of_the_rest(self._stops)
        patience = Patience(self._timeout(rest), ray_loop.interrupted_from_now())
        try:
            with patience:
                self._end_the_rest(trials, rest, failures)
                if self._shelf is not None:
                    self._shelf.close(patience.left, patience.is_over)
                self._speak_up()
        finally:  # whatever went wrong: the helper, its runs and the claims come to an end
            complete = False
            try:
                with patience:
                    self._upload_rest(patience.left)
                    complete = self._writer.close(patience.left, patience.is_over)
            finally:
                self._say_where(complete=complete, delivered=self._deliver(patience))
                self._say_best(trials)
                self._say_what_is_left()
                self._forget_claims()

    def _forget_claims(self) -> None:
        for trials in {watched.claim.rpartition("/")[0] for watched in self._watched.values()}:
            try:
                handover.unclaim(f"{trials}/")
            except handover.StoreError as error:
                logger.info("wbtune: a few bytes stay in Ray's store: %s", error)

    def _timeout(self, rest: Outcome) -> float:
        """Seconds to wait for uploads."""
        timeout = self._options.upload_timeout
        timeout = timeouts.UPLOAD_TIMEOUT_S if timeout is None else timeout
        if rest.kind is Kind.INTERRUPTED:
            return min(timeout, timeouts.INTERRUPTED_UPLOAD_S)
        return timeout

    def _upload_rest(self, seconds: float) -> None:
        base_url = self._login.settings.get("base_url")
        if self._login.secret is not None and base_url:
            for directory in self._places:
                self._writer.upload_rest(directory, base_url, self._login.secret, seconds)

    def _end_the_rest(
        self, trials: list[Trial], rest: Outcome, failures: Mapping[str, Outcome]
    ) -> None:
        for trial in trials:
            watched = self._watched.get(trial.trial_id)
            failed = trial.status == "ERROR"
            if watched is None and self._restored and trial.is_finished():
                self._take_over(trial, endings.failure(trial) if failed else FINISHED)
                continue
            if watched is None and _owns_run(trial):
                watched = self._watch(trial)  # interrupted before Tune said a word of it
            if watched is not None and not watched.ended:
                outcome = endings.failure(trial) if failed else failures.get(trial.trial_id)
                self._end(watched, outcome or watched.outcome or rest)

    def _speak_up(self) -> None:
        """Say for the trials that wrote their own run what they could not say themselves.

        Their processes are gone, so that the driver may write into their runs.
        """
        if any(watched.own for watched in self._watched.values()):
            self._fetch()
        ends = self._ends()
        for watched in self._watched.values():
            said = [run_id for run_id in watched.spec.ids if run_id in ends]
            if watched.own and (said or watched.unbuilt):
                self._correct(watched, *[(run_id, ends[run_id]) for run_id in said[:1]])
            if watched.waiting:
                self._upload_waiting(watched)

    def _correct(self, watched: Watched, ended: tuple[str, int | None] = ("", None)) -> None:
        run_id, said = ended
        outcome = watched.outcome
        if outcome is None:
            return
        agrees = said is not None and (said == 0) == (outcome.exit_code == 0)
        if agrees and not watched.perturbations:
            return
        if said is None and outcome.exit_code == 0:
            outcome = Outcome(Kind.LOST, reason="the trial's process died before it could say")
            watched.outcome = outcome
        spec = watched.spec
        if run_id and watched.directory is not None:
            found = run_log.read_runs(watched.directory, run_id)
            spec = spec._replace(init=_as_opened(spec.init, found.get(run_id)))
        self._writer.start(watched.key, spec, watched.router, self._login.secret)
        if watched.perturbations:
            changes = {"wbtune/perturbations": watched.perturbations}
            self._writer.configure(watched.key, changes)
        self._writer.end(watched.key, outcome, watched.notes())

    def _upload_waiting(self, watched: Watched) -> None:
        """Upload the checkpoints of a run that its own process wrote."""
        found = (run_log.read_runs(directory, watched.key) for directory in self._places)
        log = next((logs[watched.key] for logs in found if watched.key in logs), None)
        for saved in watched.waiting:
            reopen = partial(self._reopen, watched, log)
            self._writer.upload(watched.key, saved, reopen, self._login.secret)
        watched.waiting.clear()

    def _say_what_is_left(self) -> None:
        """Name the checkpoints that W&B was not even given in time; their copies go."""
        left = [saved for saved in self._taken_aside if not saved.is_gone]
        for saved in left:
            saved.discard()
        if left:
            names = ", ".join(f"{saved.source} ({saved.name})" for saved in left)
            logger.warning("%s: not uploaded in time: %s", self._who, names)

    def _deliver(self, patience: Patience) -> set[str]:
        """Copy the driver's runs, and what killed trials left on its node, to the storages.

        Returns:
            The folders that were copied.
        """
        seconds = max(timeouts.COPY_S, patience.left)
        return {
            directory
            for directory, remote in self._places.items()
            if remote is not None
            and remote.deliver(directory, seconds=seconds, is_interrupted=patience.is_over)
        }

    def _say_where(self, *, complete: bool, delivered: set[str]) -> None:
        """Name the folder of each experiment, with as many runs as there are in it."""
        for directory, remote in self._places.items():
            folder = Path(directory, "wandb")
            ids = run_files.run_ids(directory)
            if remote is not None:
                ids |= remote.run_ids()
            of_it = [one for one in self._watched.values() if one.directory == directory]
            there = sum(not ids.isdisjoint(one.spec.ids) for one in of_it)
            if not there:
                continue  # mode="disabled"; or why they could not be opened was said
            number = _count(there, "run") + (
                "" if there == len(of_it) else f" of {_count(len(of_it), 'trial')}"
            )
            where, more = str(folder), ""
            offline = any(folder.glob(f"{storage.OFFLINE}*"))
            if directory in delivered and offline:
                where = str(remote)
                more = "; copy that folder here and send them by: wandb sync wandb/offline-run-*"
            links.print_line(f"wbtune: {number} in {where}{more}")
            if offline and not more and self._mode not in {None, "online", "shared"}:
                links.print_line(f"wbtune: upload them by: {links.sync_command(folder)}")
        self._say_what_to_send(complete=complete)

    def _say_what_to_send(self, *, complete: bool) -> None:
        left = [
            folder for directory in self._places for folder in run_files.not_uploaded(directory)
        ]
        if not left and (complete or self._login.secret is None):
            return  # what is only kept on disk has nothing to be late for
        folders = [Path(directory, "wandb") for directory in self._places]
        named = folders if len(left) > SHOWN or not left else left
        what = " ".join(shlex.quote(str(path)) for path in named)
        links.print_line(
            "wbtune: not all was uploaded in time; send it by: "
            f"{self._server()}wandb sync --no-skip-online {what}"
        )

    @property
    def _mode(self) -> str | None:
        return self._options.mode or self._login.settings.get("mode")

    def _say_best(self, trials: list[Trial]) -> None:
        best = None if self._place is None else links.best_of(trials, self._objective)
        watched = None if best is None else self._watched.get(best[0].trial_id)
        if self._place is None or self._objective is None or best is None or watched is None:
            return
        init = watched.spec.init
        place = self._place._replace(
            project=init.get("project") or self._place.project,
            entity=init.get("entity") or self._place.entity,
        )
        there = [run_id for run_id in watched.spec.ids if self._has_folder(run_id)]
        said = f"{self._objective.metric}={best[1]:.6g}"
        links.print_best(place, best[0], said, there[0] if there else watched.key)

    def _has_folder(self, run_id: str) -> bool:
        name = f"*run-*-{glob.escape(run_id)}"
        return self._directory is not None and any(Path(self._directory, "wandb").glob(name))

    def _server(self) -> str:
        """For the command line, where wandb's own settings name another server."""
        base_url = self._login.settings.get("base_url")
        if base_url is None or base_url == wandb_settings.wandb_setting("base_url"):
            return ""
        return f"WANDB_BASE_URL={shlex.quote(base_url)} "


def _as_opened(init: Mapping[str, Any], log: run_log.RunLog | None) -> dict[str, Any]:
    """Where a trial's own process has opened its run: its declaration has the last word."""
    opened = dict(init)
    if log is not None:
        opened |= {"project": log.project, "name": log.name, "group": log.group}
        opened |= {"entity": log.entity} if log.entity else {}
    return {name: value for name, value in opened.items() if value is not None and value != ""}


def _count(number: int, noun: str) -> str:
    """As people write it.

    >>> _count(1, "run"), _count(2, "run")
    ('1 run', '2 runs')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _owns_run(trial: Trial) -> bool:
    trainable = trial.get_trainable_cls()
    return trainable is not None and issubclass(trainable, ownership.OwnsRun)
