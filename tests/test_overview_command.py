"""`wbtune overview`: the page of any experiment's folder, with or without wbtune's runs in it."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pyarrow import fs
from ray import tune

from wbtune import wandb_tuner
from wbtune._cli.main import main
from wbtune._cli.overview import known_by_runs
from wbtune._cli.overview import record as overview_record
from wbtune._data.checkpoint import Objective
from wbtune._data.filtering import Excludes
from wbtune._driver import conclusion
from wbtune._overview import page
from wbtune._overview.record import ExperimentRecord
from wbtune._run.log_writer import LogWriter
from wbtune._tune_files import experiment_files
from wbtune._tune_files.folder import folder_of

RECORDED = Path(__file__).with_name("tune_folders")
STATE = "experiment_state-2026-01-01_00-00-00.json"
LONG_AGO = time.time() - 86_400


def overview(*arguments: Any) -> Any:
    """Run the command in this process."""
    return CliRunner().invoke(main, ["overview", *map(str, arguments)], catch_exceptions=False)


def record_of(
    folder: Any, objective: Objective | None = None, excludes: Excludes | None = None
) -> ExperimentRecord:
    files = experiment_files.read(folder_of(str(folder)))
    known = known_by_runs.read(files.folder)
    objective = objective or known.objective
    return overview_record.record_of(
        files, known, objective, excludes or Excludes(), lambda _: None
    )


def result(iteration: int, loss: Any, **more: Any) -> dict[str, Any]:
    return {
        "loss": loss,
        "training_iteration": iteration,
        "timestamp": 1_700_000_000 + iteration,
        "time_total_s": iteration / 2,
        "done": False,
        "checkpoint_dir_name": None,
        **more,
    }


class Made:
    """A folder as Tune leaves it, with a state if it has any trial's."""

    def __init__(self, folder: Path, metric: str | None = "loss") -> None:
        self.folder, self._metric = folder, metric
        self._states: list[Any] = []
        folder.mkdir()

    def trial(
        self,
        at: int,
        losses: list[Any],
        status: str = "TERMINATED",
        *,
        error: str = "",
        tail: str = "",
        **config: Any,
    ) -> Path:
        trial_id, config = f"abc_{at:05}", {"lr": 0.1 * at, "seed": 3, **config}
        folder = self.folder / f"train_{trial_id}_{at}_lr={at}"
        folder.mkdir()
        (folder / "params.json").write_text(json.dumps(config, sort_keys=True))
        rows = [result(1 + step, loss) for step, loss in enumerate(losses)]
        text = "".join(f"{json.dumps(row)}\n" for row in rows)
        (folder / "result.json").write_text(text + tail)
        if error:
            (folder / "error.txt").write_text(f"Failure # 1 (occurred at 2026)\n{error}\n")
        state = {"trial_id": trial_id, "trainable_name": "train", "experiment_tag": f"{at}_lr"}
        state |= {"status": status, "config": config, "relative_logdir": folder.name}
        state |= {"evaluated_params": {"lr": 0.1 * at}}
        more = {"last_result": rows[-1] if rows else {}}
        self._states.append([json.dumps(state), json.dumps(more)])
        content = {"trial_data": self._states, "runner_data": {"_metric": self._metric}}
        (self.folder / STATE).write_text(json.dumps(content))
        for path in [*folder.iterdir(), self.folder / STATE]:
            os.utime(path, (LONG_AGO, LONG_AGO))
        return folder


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path / "exp")


def log_run(
    folder: Path,
    run_id: str,
    config: dict[str, Any],
    summary: dict[str, Any] | None = None,
    *,
    exit_code: int | None = 0,
    prefix: str = "offline-run",
    **more: Any,
) -> None:
    """Write the log of a run beside an experiment, as wandb-core does."""
    place = folder / "wandb" / f"{prefix}-20260101_000000-{run_id}"
    place.mkdir(parents=True)
    log = LogWriter(place / f"run-{run_id}.wandb")
    items = {name: items_of(content) for name, content in (("c", config), ("s", summary or {}))}
    log.append(run={"run_id": run_id, "project": "p", "config": {"update": items["c"]}, **more})
    log.append(summary={"update": items["s"]})
    if exit_code is not None:
        log.append(exit={"exit_code": exit_code})
    log.close()


def items_of(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value_json": json.dumps(value)} for key, value in content.items()]


WHOLE = {
    "metric": "loss",
    "mode": "max",
    "space": {
        "lr": {"distribution": "uniform", "min": 0.0, "max": 1.0},
        "model": {"parameters": {"act": {"values": ["relu", "tanh"]}}},
        "seed": {"value": 3},
    },
}


# --- The folders of real experiments --------------------------------------------------------


@pytest.fixture(params=[path.name for path in sorted(RECORDED.glob("ray-*[ed]"))])
def recorded(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder of the newest Ray or of Ray 2.41: all trials have ended, or two were killed."""
    return Path(shutil.copytree(RECORDED / request.param, tmp_path / request.param))


def test_real_folders(recorded: Path) -> None:
    """Four trials with their results, parameters and endings; `activation` was sampled."""
    done = overview(recorded, "--mode", "min", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["overview"] == str(recorded / "overview.html")
    assert (found["trials"], found["metric"], found["best"]["value"]) == (4, "loss", 0.2)
    record = record_of(recorded, Objective("loss", "min"))
    assert [len(trial.curve.value) for trial in record.trials][:2] == [5, 5]
    names = ["lr", "activation", "model.depth"]
    assert [list(trial.params) for trial in record.trials] == [names] * 4
    if recorded.name.endswith("done"):
        assert found["outcomes"] == {"finished": 3, "failed": 1}
        assert record.trials[2].reason == "RuntimeError: learning rate 3.0 is too high"
    source = (recorded / "overview.html").read_text(encoding="utf-8")
    assert "not-for-wandb" not in source and "★" in source


def test_rllib(tmp_path: Path) -> None:
    """A nested metric, and one sampled parameter of the algorithm's two hundred."""
    folder = Path(shutil.copytree(RECORDED / "rllib", tmp_path / "rllib"))
    done = overview(folder, "--mode", "max", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["metric"] == "env_runners/episode_return_mean" and found["best"]["value"] > 0
    assert list(found["best"]["config"]) == ["lr"]
    assert found["outcomes"] == {"stopped": 2}


def test_an_experiment_that_seems_to_be_running(recorded: Path) -> None:
    """What Tune has written in the last minutes is taken for the present; older, for a crash."""
    unended = 2 if recorded.name.endswith("killed") else 0
    for age, expected in ((0, {"running", "pending"}), (86_400, {"interrupted"})):
        for path in recorded.rglob("*"):
            os.utime(path, (time.time() - age,) * 2)
        outcomes = [trial.outcome for trial in record_of(recorded).trials]
        assert sum(outcome in expected for outcome in outcomes) == unended


def test_it_is_the_record_of_the_driver(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an experiment of its own, the command finds all that its driver knew."""
    made: list[ExperimentRecord] = []
    original = conclusion.record_of

    def record_and_keep(*args: Any, **kwargs: Any) -> ExperimentRecord:
        made.append(original(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(conclusion, "record_of", record_and_keep)
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "0")

    def train(config: dict[str, Any]) -> None:
        for i in range(4):
            if config["how"] == "raises" and i == 2:
                raise ValueError("no <b>good</b>")
            tune.report({"loss": config["lr"] / (1 + i), "val": {"acc": i}})

    space = {"lr": tune.uniform(0, 1), "model": {"layers": tune.randint(1, 4)}, "seed": 3}
    wandb_tuner(
        train,
        {**space, "how": tune.grid_search(["returns", "raises"]), "password": "geheim"},
        project="p",
        sweep=True,
        tune_config=tune.TuneConfig(metric="loss", mode="min"),
        run_config=tune.RunConfig(name="exp", storage_path=str(tmp_path), verbose=0),
    ).fit()
    [expected] = made
    found = record_of(tmp_path / "exp")
    for at, trial in enumerate(expected.trials):
        assert found.trials[at] == trial
        assert [*found.trials[at].params] == [*trial.params]
    for name in ("name", "metric", "mode", "best_trial", "space", "links"):
        assert getattr(found, name) == getattr(expected, name)
    assert overview(tmp_path / "exp").exit_code == 0  # the driver's own page is replaced


# --- The metric and its mode ----------------------------------------------------------------


def test_without_a_mode_it_asks(made: Made) -> None:
    """A guess could crown the worst trial."""
    made.trial(1, [2.0, 1.0])
    done = overview(made.folder)
    assert done.exit_code == 2
    assert done.stderr == (
        "wbtune: Is a greater or a smaller loss better? Tune's files do not say. "
        "Add --mode max or --mode min.\n"
    )
    assert not (made.folder / page.FILE).exists()


@pytest.mark.parametrize(("mode", "best"), [("min", "abc_00001"), ("max", "abc_00002")])
def test_the_mode_decides(mode: str, best: str, made: Made) -> None:
    """The best trial is that of the last value, as in Tune."""
    made.trial(1, [9.0, 1.0])
    made.trial(2, [0.0, 3.0])
    done = overview(made.folder, "--mode", mode, "--json")
    assert json.loads(done.stdout)["best"]["trial"] == best


def test_without_any_metric(tmp_path: Path) -> None:
    """The page has the table of the trials, and a line says what could be compared."""
    made = Made(tmp_path / "exp", metric=None)
    made.trial(1, [1.0])
    done = overview(made.folder)
    assert done.exit_code == 0
    assert "Give --metric and --mode. The results have: loss." in done.stderr
    assert "1 trial: 1 finished" in done.stdout
    assert "No metric is known" in (made.folder / page.FILE).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--metric", "lss", "--mode", "min"], "No trial has reported 'lss' as a number. Did you"),
        (["--metric", "loss", "--mode", "best"], "'best' is not one of 'min', 'max'"),
        (["--metric", "loss"], "Is a greater or a smaller loss better?"),
        (["--mode", "min", "--excludes", "loss", "--metric", "loss"], "--excludes leaves out"),
    ],
)
def test_a_wrong_metric(arguments: list[str], said: str, made: Made) -> None:
    """Each mistake gets one line, and no page."""
    made.trial(1, [1.0])
    done = overview(made.folder, *arguments)
    assert done.exit_code == 2 and said in done.stderr
    assert not (made.folder / page.FILE).exists()


def test_a_mode_without_a_metric(tmp_path: Path) -> None:
    """The metrics that there are are listed."""
    made = Made(tmp_path / "exp", metric=None)
    made.trial(1, [1.0])
    done = overview(made.folder, "--mode", "min")
    assert (done.exit_code, "The results have: loss." in done.stderr) == (2, True)


# --- wbtune's runs --------------------------------------------------------------------------


def test_what_the_runs_know(made: Made) -> None:
    """Metric, mode and space are of the run for the whole; the rest is of the trials' runs."""
    made.trial(1, [1.0], model={"act": "relu"})
    made.trial(2, [2.0], model={"act": "tanh"})
    step = {"iteration": 1, "from_trial": "abc_00002", "old": {"lr": 1}, "new": {"lr": 2}}
    log_run(made.folder, "sweep-0123abcd", WHOLE, job_type="sweep")
    stopped = {"wbtune/outcome": "stopped", "wbtune/reason": "ASHA"}
    log_run(made.folder, "abc_00001", {"wbtune/perturbations": [step]}, stopped)
    log_run(made.folder, "abc_00002-1a2b", {"trial_id": "abc_00002"}, stopped, exit_code=None)
    record = record_of(made.folder)
    assert (record.metric, record.mode, record.best_trial) == ("loss", "max", "abc_00002")
    assert [*record.space] == ["lr", "model.act"]
    one, two = record.trials
    assert (one.outcome, one.reason, two.outcome) == ("stopped", "ASHA", "finished")
    assert one.params == {"lr": 0.1, "model.act": "relu"}
    assert (list(one.perturbations), list(two.perturbations)) == ([step], [])
    assert overview(made.folder).exit_code == 0
    assert overview(made.folder, "--mode", "min").exit_code == 0


def test_links_of_runs_that_are_online(made: Made) -> None:
    """An offline run has no page yet, and the page of one without an entity is not known."""
    made.trial(1, [1.0])
    made.trial(2, [1.0])
    made.trial(3, [1.0])
    log_run(made.folder, "abc_00001", {}, prefix="run", entity="me")
    log_run(made.folder, "abc_00002", {}, entity="me")
    log_run(made.folder, "abc_00003", {}, prefix="run")
    [(trial_id, url)] = record_of(made.folder).links.items()
    assert trial_id == "abc_00001" and url.endswith("/me/p/runs/abc_00001")


def test_damaged_runs_cost_only_what_they_knew(made: Made) -> None:
    """The page is made of Tune's files."""
    made.trial(1, [1.0])
    log_run(made.folder, "sweep-0123abcd", {"space": "text", "metric": 3, "mode": "up"})
    log_run(made.folder, "abc_00001", {"wbtune/perturbations": [7]}, {"wbtune/outcome": "odd"})
    (made.folder / "wandb" / "run-1-b").mkdir()
    (made.folder / "wandb" / "run-1-b" / "run-b.wandb").write_bytes(b"nothing")
    done = overview(made.folder, "--mode", "min")
    assert done.exit_code == 0, done.output


# --- Broken folders -------------------------------------------------------------------------


def test_broken_results(made: Made) -> None:
    """NaN, a line that is cut off, no results, no parameters, an error: the rest is shown."""
    made.trial(1, [3.0, float("nan"), 2.0], tail='{"loss": 1.0, "training_it')
    made.trial(2, [1.0, float("nan")])
    made.trial(3, [], "PENDING")
    (made.trial(4, [5.0]) / "params.json").unlink()
    made.trial(5, [0.5], "ERROR", error="Traceback\n  x\nValueError: password=hunter2x no")
    record = record_of(made.folder, Objective("loss", "min"))
    first, nan, empty, bare, failed = record.trials
    assert (first.iterations, first.seconds, first.last, first.best) == (3, 1.5, 2.0, 2.0)
    assert (nan.last, nan.best, nan.iterations) == (None, 1.0, 2)
    assert (empty.outcome, empty.last, len(empty.curve.value)) == ("interrupted", None, 0)
    assert bare.params == {"lr": pytest.approx(0.4)}  # by the state
    assert (failed.outcome, failed.reason) == ("failed", "ValueError: password=**** no")
    assert record.best_trial == "abc_00005"
    assert overview(made.folder, "--mode", "min").exit_code == 0


def test_results_that_cannot_be_read(made: Made) -> None:
    """The trial's row says so; the others have theirs."""
    folder = made.trial(1, [1.0])
    made.trial(2, [2.0])
    (folder / "result.json").unlink()
    (folder / "result.json").mkdir()
    one, two = record_of(made.folder, Objective("loss", "min")).trials
    assert "its results can't be read" in one.reason and len(two.curve.value) == 1


def test_a_broken_state_is_said(made: Made) -> None:
    """The trials are found by their folders, and their names give no parameter away."""
    made.trial(1, [1.0], password="geheim")
    (made.folder / STATE).write_text("{")
    shutil.move(made.folder / "train_abc_00001_1_lr=1", made.folder / "train_1_password=geheim")
    done = overview(made.folder, "--metric", "loss", "--mode", "min")
    assert done.exit_code == 0 and f"{STATE} can't be read" in done.stderr
    source = (made.folder / page.FILE).read_text(encoding="utf-8")
    assert "geheim" not in source and "geheim" not in done.output


def test_excludes(made: Made) -> None:
    """A parameter that is left out is nowhere on the page."""
    made.trial(1, [1.0])
    assert overview(made.folder, "--mode", "min", "--excludes", "l[r]").exit_code == 0
    record = record_of(made.folder, Objective("loss", "min"), Excludes(("l[r]",)))
    assert record.trials[0].params == {}
    done = overview(made.folder, "--excludes", "loss")
    assert done.exit_code == 0 and "No metric" in done.stderr


@pytest.mark.parametrize(
    ("name", "said"), [("nothing", "does not exist"), ("empty", "has no experiment of Ray Tune")]
)
def test_no_experiment(name: str, said: str, tmp_path: Path) -> None:
    """It says what was expected."""
    (tmp_path / "empty").mkdir()
    done = overview(tmp_path / name)
    assert done.exit_code == 2 and said in done.stderr


# --- Where the page goes --------------------------------------------------------------------


def test_only_a_page_of_its_own_is_replaced(made: Made, tmp_path: Path) -> None:
    """Unless somebody names the file."""
    made.trial(1, [1.0])
    target = made.folder / page.FILE
    target.write_text("mine")
    done = overview(made.folder, "--mode", "min")
    assert done.exit_code == 2 and "is there already" in done.stderr
    assert target.read_text() == "mine"
    assert overview(made.folder, "--mode", "min", "-o", target).exit_code == 0
    assert overview(made.folder, "--mode", "min").exit_code == 0
    assert page.is_page(target)
    assert [*made.folder.glob(".overview*")] == []


@pytest.mark.parametrize("where", ["no/such/folder/x.html", "exp/train_abc_00001_1_lr=1"])
def test_where_nothing_can_be_written(where: str, made: Made, tmp_path: Path) -> None:
    """The cure is named."""
    made.trial(1, [1.0])
    done = overview(made.folder, "--mode", "min", "-o", tmp_path / where)
    assert done.exit_code == 2 and ("-o FILE" in done.stderr or "'-o'" in done.stderr)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights(made: Made) -> None:
    """It names -o."""
    made.trial(1, [1.0])
    made.folder.chmod(0o555)
    done = overview(made.folder, "--mode", "min")
    made.folder.chmod(0o755)
    assert done.exit_code == 2 and "-o FILE" in done.stderr


def test_without_plotly(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says what to install."""
    made.trial(1, [1.0])
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    done = overview(made.folder, "--mode", "min")
    assert done.exit_code == 2
    assert done.stderr.startswith("wbtune: No overview.html: Plotly is not installed. Run: pip")
    assert done.stderr.count("\n") == 1


def test_it_opens_the_page(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the browser that click finds."""
    made.trial(1, [1.0])
    opened: list[str] = []
    monkeypatch.setattr("click.launch", opened.append)
    assert overview(made.folder, "--mode", "min").exit_code == 0 and opened == []
    assert overview(made.folder, "--mode", "min", "--open").exit_code == 0
    assert opened == [(made.folder / page.FILE).as_uri()]


def test_what_is_printed(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three lines: the trials, the best of them, the page."""
    made.trial(1, [1.0, 0.25])
    made.trial(2, [2.0])
    done = overview(made.folder, "--mode", "min")
    assert done.stdout.splitlines() == [
        "2 trials: 2 finished",
        "best trial train_abc_00001 (loss=0.25; lr=0.1)",
        f"overview: {made.folder / page.FILE}",
    ]


def test_a_remote_folder(
    moto: Any, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page is written here; the runs that were copied there are asked, too."""
    s3, more = moto
    address = f"s3://any:hunter2@bucket/{{}}{more}"
    made.trial(1, [1.0])
    made.trial(2, [2.0])
    log_run(made.folder, "sweep-0123abcd", WHOLE, job_type="sweep")
    fs.copy_files(str(made.folder), "bucket/exp", destination_filesystem=s3, use_threads=False)
    monkeypatch.chdir(tmp_path)
    done = overview(address.format("exp"), "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["overview"], found["best"]["trial"]) == ("exp-overview.html", "abc_00002")
    assert page.is_page(tmp_path / "exp-overview.html")
    assert "hunter2" not in done.output
    missing = overview(address.format("gone"))
    assert missing.exit_code == 2 and "hunter2" not in missing.output
