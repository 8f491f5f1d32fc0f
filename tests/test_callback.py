"""What the guide promises of the callback, on real Ray: config, excludes, media, hooks."""

# Over 250 lines: one claim of the guide after another, each with its program.

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from programs import run_config
from ray import cloudpickle, tune

from wbtune import WandbLoggerCallback, setup_wandb, wandb_trial, wandb_tuner
from wbtune._run import run_log
from wbtune.callback import declaration_of

SECRET = "sentinel-of-what-is-excluded"


def train(config):
    import wandb

    for i in range(1, 6):
        page, table = wandb.Html("<b>x</b>"), wandb.Table(["i"], [[i]])
        tune.report(
            {
                "page": page,
                "table": table,
                "video": np.zeros((1, 2, 3, 4, 4), dtype=np.uint8),
                "loss": float(i),
                "debug": {"x": SECRET},
                "auth": {"token": SECRET},
                "nan": float("nan"),
                "text": "12",
                "set": {1, 2},
                "image": np.zeros((4, 5, 3), dtype=np.uint8),
                "images": np.zeros((2, 4, 5, 3), dtype=np.uint8),
                "weights": np.arange(100.0),
            }
        )
        Path(page._path).unlink()  # as at the end of this process


def test_results_and_config(ray, tmp_path, monkeypatch):
    """Excluded keys are nowhere on disk, the rest arrives, ``config["wandb"]`` is read."""
    monkeypatch.setenv("WANDB_PROJECT_NAME", "environment")  # the argument comes first
    monkeypatch.setenv("WANDB_GROUP_NAME", "environment")  # config["wandb"] comes first
    # Over 40 lines: one experiment, and all that it shows.
    excludes = ["debug", "*/token", "password", "hostname"]
    tune.Tuner(
        train,
        param_space={
            "lr": 0.1,
            "password": SECRET,
            "db": {"password": SECRET, "host": "h"},
            "wandb": {"group": "from-config", "tags": ["t"]},
        },
        run_config=run_config(
            tmp_path,
            "callback",
            callbacks=[
                WandbLoggerCallback(
                    project="p",
                    excludes=excludes,
                    image_kwargs={"caption": "a caption"},
                    job_type="train",
                    config={"mine": 1},
                )
            ],
        ),
    ).fit()
    [log] = run_log.read_runs(tmp_path / "callback").values()
    assert len(log.rows) == 5
    row = log.rows[0]
    assert {"debug/x", "auth/token"}.isdisjoint(row)
    assert (row["loss"], row["nan"], row["text"], row["set"]) == (1.0, "NaN", "12", [1, 2])
    assert row["image"]["_type"] == "image-file"
    assert row["image"]["caption"] == "a caption"
    assert row["images"]["count"] == 2
    assert row["weights"]["_type"] == "histogram"
    types = [[row[key]["_type"] for key in ("page", "table", "video")] for row in log.rows]
    assert types == [["html-file", "table-file", "video-file"]] * 5
    assert (log.project, log.group, log.tags) == ("p", "from-config", ["t"])
    assert log.config["lr"] == 0.1
    assert log.config["mine"] == 1
    assert log.config["db"] == {"host": "h"}
    assert log.config["trial_id"] == log.id
    assert {"wandb", "password", "hostname"}.isdisjoint(log.config)
    assert not any(key.startswith("config") for key in row)
    for path in (tmp_path / "callback" / "wandb").rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


class Mine(WandbLoggerCallback):
    """A user's own: attributes that are called like ours, a result that is added to."""

    def __init__(self, note):
        self.options, self._experiment, self.hf_token = note, [], SECRET
        super().__init__(project="p", api_key=SECRET)

    def setup(self, *args, **info):
        super().setup(*args, **info)
        self._experiment.append("setup")

    def log_trial_start(self, trial):
        super().log_trial_start(trial)
        self._experiment.append(trial.trial_id)

    def log_trial_result(self, iteration, trial, result):
        result["note"] = self.options
        super().log_trial_result(iteration, trial, result)
        result["note"] = "too late"

    def log_trial_end(self, trial, failed=False):
        super().log_trial_end(trial, failed=failed)
        self._experiment.append(failed)

    def get_state(self):
        return {**super().get_state(), "mine": len(self._experiment)}


class Meddler(tune.Callback):
    """Changes what others still have to log."""

    def on_trial_result(self, iteration, trials, trial, result, **info):
        result["nested"]["deep"][0]["x"] = "too late"


def nested(config):
    for i in range(1, 4):
        tune.report({"nested": {"deep": [{"x": i}]}})


def test_a_subclass_and_a_result_that_changes(ray, tmp_path, monkeypatch):
    """Hooks that call `super` work; what is logged is the result as it was in the hook."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    mine = Mine("a note")
    tune.Tuner(
        nested,
        run_config=run_config(tmp_path, "subclass", callbacks=[mine, Meddler()]),
    ).fit()
    [log] = run_log.read_runs(tmp_path / "subclass").values()
    assert mine._experiment == ["setup", log.id, False]
    assert [row["note"] for row in log.rows] == ["a note"] * 3
    assert [row["nested/deep"] for row in log.rows] == [[{"x": i}] for i in (1, 2, 3)]
    state = mine.get_state()
    mine.set_state(state)
    assert state == {"mine": 3}
    copy = cloudpickle.loads(cloudpickle.dumps(mine))
    assert (copy.options, copy.hf_token, declaration_of(copy).project) == ("a note", None, "p")
    for path in (tmp_path / "subclass").rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


@wandb_trial(project="p", log_results=True)
def owns(config, run):
    import wandb

    table = wandb.Table(["i"], [[1]])
    run.log({"mine": wandb.Html("x")})
    tune.report({"loss": 1.0, "table": table, "page": wandb.Html("x")})


def test_tune_gets_its_own_objects(ray, tmp_path):
    """A trial's own run has a copy: else Tune could not pickle the result, and would end."""
    results = wandb_tuner(
        owns, project="p", run_config=run_config(tmp_path, "objects"), param_space={}
    ).fit()
    assert cloudpickle.dumps(results[0].metrics["table"])
    [log] = run_log.read_runs(tmp_path / "objects").values()
    [row] = [row for row in log.rows if "loss" in row]
    assert (row["table"]["_type"], row["page"]["_type"]) == ("table-file", "html-file")
    assert log.exit_code == 0


def changes(config):
    for i in range(1, 4):
        config["lr"] = i
        tune.report({"loss": float(i)})


@pytest.mark.parametrize("log_config", [False, True])
def test_log_config(log_config, ray, tmp_path):
    """With ``log_config`` the config of each result is logged; without, nothing of it is."""
    wandb_tuner(
        changes,
        project="p",
        log_config=log_config,
        param_space={"lr": 0},
        run_config=run_config(tmp_path, "config"),
    ).fit()
    [log] = run_log.read_runs(tmp_path / "config").values()
    assert [row.get("config/lr") for row in log.rows] == ([1, 2, 3] if log_config else [None] * 3)
    assert log.config["lr"] == (3 if log_config else 0)


def test_hooks(ray, tmp_path, monkeypatch):
    """The three environment hooks are called as the guide says."""
    (tmp_path / "wbtune_test_hooks.py").write_text(
        "import os, pathlib\n"
        "def location():\n"
        "    os.environ['WANDB_PROJECT_NAME'] = 'hooked'\n"
        "    os.environ['WANDB_GROUP_NAME'] = 'hooked-group'\n"
        "def info(run):\n"
        f"    pathlib.Path({str(tmp_path / 'info')!r}).write_text(run.id)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("WANDB_POPULATE_RUN_LOCATION_HOOK", "wbtune_test_hooks.location")
    monkeypatch.setenv("WANDB_PROCESS_RUN_INFO_HOOK", "wbtune_test_hooks.info")
    for name in ("WANDB_PROJECT_NAME", "WANDB_GROUP_NAME"):
        monkeypatch.setenv(name, "")  # so that what the hook sets is undone
    tune.Tuner(
        changes,
        param_space={"lr": 0},
        run_config=run_config(tmp_path, "hooks", callbacks=[WandbLoggerCallback()]),
    ).fit()
    [log] = run_log.read_runs(tmp_path / "hooks").values()
    assert (log.project, log.group) == ("hooked", "hooked-group")
    assert (tmp_path / "info").read_text() == log.id


def until_it_has_a_run(config):
    context = tune.get_context()
    log = f"wandb/*/run-{context.get_trial_id()}.wandb"
    tune.report({"loss": 0.0})
    while not [*Path(config["folder"], context.get_experiment_name()).glob(log)]:
        time.sleep(0.05)
    tune.report({"loss": 1.0})


class Census(tune.Callback):
    """Counts the processes that are ours, at each result."""

    def __init__(self):
        self.most = 0
        self.before = _ours()  # of other tests

    def on_trial_result(self, iteration, trials, trial, result, **info):
        self.most = max(self.most, len(_ours() - self.before))


def _ours():
    return {p for p in psutil.Process(os.getpid()).children(recursive=True) if _is_ours(p)}


def _is_ours(process):
    try:
        return "wandb-core" in process.name() or "wbtune._helper" in " ".join(process.cmdline())
    except psutil.Error:
        return False  # it has just ended


@pytest.mark.parametrize("trials", [1, 6])
def test_processes_do_not_grow(trials, ray, tmp_path):
    """The callback needs one helper and one wandb-core, for one trial as for six."""
    census = Census()
    tune.Tuner(
        until_it_has_a_run,
        param_space={"n": tune.grid_search(list(range(trials))), "folder": str(tmp_path)},
        run_config=run_config(
            tmp_path, "census", callbacks=[WandbLoggerCallback(project="p"), census]
        ),
    ).fit()
    assert census.most == 2
    assert not _ours() - census.before
    assert len(run_log.read_runs(tmp_path / "census")) == trials


def late(config):
    tune.report({"loss": 0.0})
    run = setup_wandb(config, project="p")
    for i in range(1, 4):
        run.log({"late": i})
        tune.report({"loss": float(i)})


def test_one_writer(ray, tmp_path):
    """A trial that calls `setup_wandb` when the callback writes already gets a disabled run."""
    results = tune.Tuner(
        late,
        run_config=run_config(tmp_path, "one", callbacks=[WandbLoggerCallback(project="p")]),
    ).fit()
    assert not results.errors
    [log] = run_log.read_runs(tmp_path / "one").values()
    assert len(log.paths) == 1
    assert [row["loss"] for row in log.rows] == [0.0, 1.0, 2.0, 3.0]
    assert log.exit_code == 0


def test_driver_run_is_left_alone(ray, tmp_path):
    """A run that the user has open on the driver stays open, and stays `wandb.run`."""
    import wandb

    mine = wandb.init(mode="disabled", project="mine")
    try:
        wandb_tuner(
            changes,
            project="p",
            param_space={"lr": 0},
            run_config=run_config(tmp_path, "mine"),
        ).fit()
        assert wandb.run is mine
        mine.log({"still": "open"})
    finally:
        mine.finish()
    assert len(run_log.read_runs(tmp_path / "mine")) == 1


def saves(config):
    for i in range(1, 4):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "model").write_text(f"weights of iteration {i}")
            tune.report({"loss": float(i)}, checkpoint=tune.Checkpoint.from_directory(folder))


def test_checkpoints(ray, tmp_path):
    """Each checkpoint becomes a version of the trial's artifact, though Tune keeps only one."""
    wandb_tuner(
        saves,
        project="p",
        upload_checkpoints=True,
        run_config=run_config(
            tmp_path,
            "checkpoints",
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
        ),
    ).fit()
    [log] = run_log.read_runs(tmp_path / "checkpoints").values()
    assert len(log.rows) == 3
    assert [a.name for a in log.artifacts] == [f"checkpoint_{log.name}"] * 3
    assert {a.type for a in log.artifacts} == {"model"}
    assert all("latest" in a.aliases for a in log.artifacts)
    assert [a.metadata["training_iteration"] for a in log.artifacts] == [1, 2, 3]
    assert {a.metadata["trial_id"] for a in log.artifacts} == {log.id}
    for i, artifact in enumerate(log.artifacts, start=1):
        [file] = artifact.files.values()
        assert Path(file).read_text() == f"weights of iteration {i}"
    folder = tmp_path / "checkpoints" / "wandb"
    assert not list(folder.glob(".checkpoint-*"))


def test_several_experiments_in_one_call(ray, tmp_path, capfd, caplog):
    """Each has its folder, its group and its line; what Ray's callback takes costs no run."""

    def train(config):
        for loss in range(3):
            tune.report({"loss": loss})

    callback = WandbLoggerCallback(
        "p",
        dir=tmp_path,
        resume="must",
        reinit="create_new",
        fork_from="a?_step=1",
        monitor_gym=True,  # in the process that opens a run, which needs gymnasium
        sync_tensorboard=True,  # the same
        save_code=True,
    )
    names, storages = ("one", "two", "one"), [tmp_path, tmp_path, tmp_path / "other"]
    experiments = [
        tune.Experiment(name, train, storage_path=str(folder), config={"lr": 1})
        for name, folder in zip(names, storages, strict=True)
    ]
    tune.run(experiments, callbacks=[callback], verbose=0)
    printed = capfd.readouterr().out
    for name, folder in zip(names, storages, strict=True):
        [log] = run_log.read_runs(folder / name).values()
        assert (log.group, log.exit_code) == (name, 0)
        assert [row["loss"] for row in log.rows] == [0, 1, 2]
        [said] = [
            line for line in printed.splitlines() if line.endswith(f" in {folder / name / 'wandb'}")
        ]
        assert said.startswith("wbtune: 1 run")
    in_its_process = ("monitor_gym", "sync_tensorboard", "save_code")
    for option in ("dir", "resume", "reinit", "fork_from", *in_its_process):
        said = [line for line in caplog.messages if f" {option}=" in line and "no effect" in line]
        assert len(said) == 1
