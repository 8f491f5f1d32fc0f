"""Log the checkpoints of imported trials as artifacts of their runs, one at a time.

Only wandb-core can do that, so each run is opened once more, after it was sent.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wbtune._cli.importing import report
from wbtune._cli.importing.target import Target
from wbtune._cli.importing.trial import Imported, State
from wbtune._cli.output import Output
from wbtune._data import timeouts
from wbtune._data.checkpoint import BEST, LATEST, SavedCheckpoint, artifact_name
from wbtune._data.outcomes import OUTCOME_TAGS
from wbtune._data.sanitize import plain
from wbtune._driver.reopening import reopening_arguments
from wbtune._run import closing, opening, run_files, run_log, run_spec
from wbtune._tune_files.trial_files import TrialFiles

if TYPE_CHECKING:
    from wandb import Run

#: In each result of a function whose checkpoint was saved with it, and in the artifacts' metadata.
_SOURCE: Final = "checkpoint_dir_name"
#: In a segment's folder: the names of the checkpoints that were logged with it. Online, its log
#: does not tell.
_LOGGED: Final = "wbtune-checkpoints"


def upload(target: Target, done: Sequence[Imported], output: Output) -> int:
    """Log the checkpoints that are asked for and were not logged before.

    Returns:
        How many were logged.
    """
    if not target.options.checkpoints:
        return 0
    count = 0
    with output.progress("trials' checkpoints", len(done)) as advance:
        for one in done:
            if one.state in {State.ADDED, State.COMPLETE}:
                count += _upload_of(target, one, output)
            advance(1)
    if count:
        closing.end_core()
    unknown = [one for one in done if one.is_best_unknown]
    if unknown and target.objective is not None:
        # Cure: Nothing to do, unless you need the best one: log it yourself.
        output.warn(
            f"the best checkpoint is not known for {report.named(unknown)}: no result with "
            f"a value of {target.objective.metric!r} names one, as with class trainables and "
            "RLlib. The last one is logged, without the alias 'best'."
        )
    return count


def _upload_of(target: Target, one: Imported, output: Output) -> int:
    arrived: list[str] = []
    try:
        paths = run_files.logs(target.directory, one.run_id)
        log, known = run_log.merged(paths), _logged(paths)
        chosen = [saved for saved in _chosen(target, one) if saved.source not in known]
        if not chosen:
            return 0
        run = opening.open_run(
            _spec(target, one, log), target.login.secret, for_trial_elsewhere=True
        )
        _log(run, one, chosen, arrived)
    except Exception as error:  # noqa: BLE001 - whatever W&B or a storage raises; the next trial's
        # Cure: Correct what the error names, and import again: only what lacks is uploaded.
        one.problems.append(
            f"checkpoints of {one.trial.name} are not uploaded: {type(error).__name__}: {error}"
        )
        # Message: none by itself.
        output.warn(one.problems[-1])
    return len(arrived)


def _log(run: Run, one: Imported, chosen: Iterable[SavedCheckpoint], arrived: list[str]) -> None:
    """Log checkpoints to the reopened run of a trial, and close it, whatever fails.

    Args:
        run: the run.
        one: the trial.
        chosen: the checkpoints.
        arrived: gets the names of those that are uploaded, of which the next import takes note.

    Raises:
        Exception: whatever W&B or a storage raises.
    """
    artifacts: dict[str, Any] = {}
    try:
        for saved in chosen:
            # W&B has its own copy once this returns.
            with tempfile.TemporaryDirectory(prefix="wbtune-") as folder:
                assert one.trial.folder is not None  # noqa: S101 - it has checkpoints
                (one.trial.folder / saved.source).copy_to(Path(folder))
                artifacts[saved.source] = closing.log_checkpoint(run, saved._replace(folder=folder))
    finally:  # wandb would close it with its own idea of how the trial ended
        closing.close_reopened(run, one.outcome.exit_code)
        try:
            for name, artifact in artifacts.items():
                closing.wait_for_upload(run, artifact, timeouts.IMPORT_ARTIFACT_S)
                arrived.append(name)
        finally:
            names = "".join(f"{name}\n" for name in arrived)
            (Path(run.dir).parent / _LOGGED).write_text(names, encoding="utf-8")


def _logged(paths: Iterable[Path]) -> set[str]:
    """The names of the checkpoints that earlier imports have logged to a run with these logs."""
    files = [path.parent / _LOGGED for path in paths]
    texts = [file.read_text(encoding="utf-8") for file in files if file.exists()]
    return {name for text in texts for name in text.splitlines()}


def _spec(target: Target, one: Imported, log: run_log.RunLog) -> run_spec.RunSpec:
    spec = target.spec(one.trial, {})
    init = {**reopening_arguments(spec.init, log), "id": one.run_id}
    tags = [tag for tag in log.tags if tag not in OUTCOME_TAGS]
    init["tags"] = [*tags, *one.outcome.tags]
    experiment = str(log.config.get(run_spec.EXPERIMENT_KEY) or spec.experiment)
    return spec._replace(init=init, config={}, experiment=experiment)


def _chosen(target: Target, one: Imported) -> Iterator[SavedCheckpoint]:
    """The checkpoints that are asked for, the oldest first.

    The best is the one that was saved with the best result, or the only one. Where results name
    none, nothing else tells: a checkpoint's number is no iteration.
    """
    trial = one.trial
    names = trial.checkpoints()
    if not names:
        return
    results = _results_of(trial, set(names))
    objective, policy = target.objective, target.options.checkpoints
    values = {}
    for name in names:
        value = None if objective is None else objective.value(results.get(name, {}))
        if value is not None:
            values[name] = value
    best = ""
    if objective is not None and values:
        best = (min if objective.mode == "min" else max)(values, key=values.__getitem__)
    elif objective is not None and len(names) == 1:
        best = names[0]
    one.is_best_unknown = policy == "best" and not best
    wanted = {"all": names, "last": names[-1:], "best": [best] if best else names[-1:]}
    artifact = artifact_name(trial.name, trial.trial_id, target.key)
    for name in wanted[str(policy)]:
        metadata = plain(target.excludes.metrics(results.get(name, {})))
        yield SavedCheckpoint(
            artifact,
            name,
            metadata={**metadata, _SOURCE: name},
            aliases=(LATEST, BEST) if name == best else (LATEST,),
            run_id=trial.trial_id,
        )


def _results_of(trial: TrialFiles, names: set[str]) -> dict[str, dict[str, Any]]:
    """The results with which these checkpoints were saved, as far as that is known."""
    found: dict[str, dict[str, Any]] = {}
    for result in trial.results():
        name = result.get(_SOURCE)
        if isinstance(name, str) and name in names:
            found[name] = {key: value for key, value in result.items() if key != "config"}
    return found
