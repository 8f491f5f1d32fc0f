"""Several accounts on one cluster; and what reaches a trial, whenever and wherever it was set."""

from __future__ import annotations

import json
import logging
import threading
import time
from pathlib import Path

import pytest
from ray import cloudpickle, tune
from wandb_server import WandbServer

from wbtune import (
    ConfigurationError,
    WandbLoggerCallback,
    WandbMixin,
    setup_wandb,
    wandb_trial,
    wandb_tuner,
)
from wbtune._data import timeouts
from wbtune._place import handover
from wbtune._run import run_files, run_log
from wbtune._upstream import ray_store

A, B = "a" * 40, "b" * 40


@wandb_trial(project="inner")
def inner(config, run):
    run.log({"i": 1})


@wandb_trial(project="outer")
def waits(config, run):
    run.log({"i": 1})
    folder = Path(config["folder"])
    if config["part"]:
        return
    tune.Tuner(
        inner, run_config=tune.RunConfig(name="same", storage_path=str(folder / "in"), verbose=0)
    ).fit()
    (folder / "began").touch()
    while not (folder / "go").exists():
        time.sleep(0.05)


class Quick(WandbMixin, tune.Trainable, project="quick"):
    def step(self):
        self.run.log({"i": 1})
        return {"done": True}

    def save_checkpoint(self, checkpoint_dir):
        pass


@wandb_trial
def nameless(config, run):
    run.log({"i": 1})


class Nameless(WandbMixin, tune.Trainable):
    step, save_checkpoint = Quick.step, Quick.save_checkpoint


def run_config(folder, name="same", **more):
    return tune.RunConfig(name=name, storage_path=str(folder), verbose=0, **more)


def files_with(folder, text):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if text.encode() in path.read_bytes() or text in path.name]


def test_equal_experiments_of_two_accounts_keep_apart(ray, tmp_path, monkeypatch):
    """Same name, same storage, at the same time: each trial's run is its own account's.

    One has its key in ``param_space``, which is then in no file; a ``fit()`` inside of its
    trial has its account. The others have what the environment says when they begin, whatever
    it said when Ray was started; that they end takes nothing from the first.
    """
    # Over 40 lines: experiments that overlap are told in one go.
    results = tmp_path / "results"
    before = ray_store.stored_keys(f"login/{ray_store.job()}/fit-")  # other tests' experiments
    with WandbServer(keys={A, B}) as server:
        space = {
            "part": tune.grid_search([0, 1]),
            "folder": str(tmp_path),
            "wandb": {"api_key": A},
            "deeper": [{"wandb": {"api_key": A, "tags": ["t"]}}],
        }
        tuner = wandb_tuner(
            waits,
            param_space=space,
            tune_config=tune.TuneConfig(max_concurrent_trials=1),
            run_config=run_config(results),
            mode="online",
            settings={"base_url": server.url},
        )
        assert space["wandb"] == {"api_key": A}, "the caller's own is not changed"
        grids = []
        first = threading.Thread(target=lambda: grids.append(tuner.fit()))
        first.start()
        while not (tmp_path / "began").exists():
            assert first.is_alive()
            time.sleep(0.05)
        with monkeypatch.context() as late:
            late.setenv("WANDB_MODE", "online")
            late.setenv("WANDB_BASE_URL", server.url)
            late.setenv("WANDB_API_KEY", B)
            grids.append(wandb_tuner(Quick, run_config=run_config(results)).fit())
            grids.append(tune.Tuner(Quick, run_config=run_config(results)).fit())
        (tmp_path / "go").touch()
        first.join()
    assert [grid.errors for grid in grids] == [[], [], []]
    accounts = [
        (key[1], {request.key for request in server.received(f"/{key[2]}/file_stream")})
        for key in server.runs
    ]
    assert sorted(accounts) == [
        ("inner", {A}),
        *[("outer", {A})] * 2,
        *[("quick", {B})] * 2,
    ]
    assert {run.state for run in server.runs.values()} == {"finished"}
    assert files_with(tmp_path, A) == files_with(tmp_path, B) == []
    assert ray_store.stored_keys(f"login/{ray_store.job()}/fit-") == before


def test_a_pickle_takes_along_a_name_and_no_more(ray, monkeypatch):
    """Under the name is what the environment says at that moment, in Ray's memory alone."""

    def stored_login():
        pickled = cloudpickle.dumps(inner)
        assert handover.process().encode() in pickled
        assert B.encode() not in pickled
        text = ray_store.stored(f"login/{ray_store.job()}/{handover.process()}")
        login = json.loads(text)
        return login["key"], login["settings"]["mode"]

    monkeypatch.setenv("WANDB_API_KEY", B)
    monkeypatch.setenv("WANDB_MODE", "online")
    assert stored_login() == (B, "online")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert stored_login() == (None, "offline")


def faulty(config):
    logged = []

    class Heard(logging.Handler):
        def emit(self, record):
            logged.append(record.getMessage())

    logging.getLogger("wbtune").addHandler(Heard())
    stored, fails = ray_store.stored, {"away": 10**9, "back": 2}.get(config["fault"], 0)

    def failing(key):
        nonlocal fails
        fails -= 1
        if fails >= 0:
            raise ConnectionError("the head is being restarted")
        return stored(key)

    ray_store.stored, timeouts.STORE_S = failing, 3.0
    if config["fault"] == "no project":
        run = setup_wandb(config)
    else:
        run = setup_wandb(config, project="p", mode="online")
    run.log({"i": 1})
    tune.report({"logged": logged, "offline": run.offline, "fault": config["fault"]})


def test_a_trial_that_has_begun_goes_on_whatever_is_missing(ray, tmp_path):
    """A key, an answer of Ray's store: then its run is on disk, and one warning says why."""
    faults = ["no key", "away", "back", "no project"]
    tuner = tune.Tuner(
        faulty,
        param_space={"fault": tune.grid_search(faults)},
        run_config=run_config(tmp_path, "faulty"),
    )
    results = tuner.fit()
    assert not results.errors
    logged = {result.metrics["fault"]: result.metrics["logged"] for result in results}
    assert all(result.metrics["offline"] for result in results)
    assert {fault: len(warnings) for fault, warnings in logged.items()} == dict.fromkeys(faults, 1)
    assert "no W&B API key has reached this trial" in logged["no key"][0]
    assert "no W&B API key has reached this trial" in logged["back"][0], "it was asked again"
    assert "Ray's key-value store did not answer for 3 s" in logged["away"][0]
    assert "the head is being restarted" in logged["away"][0]
    assert "no project" in logged["no project"][0]
    assert "'uncategorized'" in logged["no project"][0]
    logs = run_log.read_runs(tmp_path / "faulty")
    assert [(len(log.rows), log.exit_code) for log in logs.values()] == [(1, 0)] * 4
    for fault in ("no key", "away", "back"):
        [folder] = [path for path in logged[fault][0].split() if path.startswith(str(tmp_path))]
        assert Path(folder) in run_files.not_uploaded(tmp_path / "faulty")
        assert f"wandb sync {folder}" in logged[fault][0]


@pytest.mark.parametrize("trainable", [waits, Quick, None], ids=["wandb_trial", "mixin", "plain"])
def test_a_key_that_tune_would_write_down_is_refused(ray, tmp_path, trainable):
    """By every way that can't take it out, before any trial, with the cures."""
    callbacks = [] if trainable else [WandbLoggerCallback(project="p")]
    tuner = tune.Tuner(
        trainable or (lambda config: None),
        param_space={"loop": {"wandb": {"api_key": A}}},
        run_config=run_config(tmp_path, "refused", callbacks=callbacks),
    )
    with pytest.raises(ConfigurationError, match=r"is an API key.*wandb login.*api_key_file="):
        tuner.fit()
    assert files_with(tmp_path, A) == []


@pytest.mark.parametrize("trainable", [nameless, Nameless])
def test_a_declaration_without_a_project_is_refused(ray, tmp_path, trainable):
    """As by `wandb_tuner` and the callback; not where each trial's config names one."""
    space = {"wandb": {"project": "p"}}
    with pytest.raises(ConfigurationError, match=r"no project, .*'uncategorized'. Give project="):
        tune.Tuner(trainable, run_config=run_config(tmp_path, "refused")).fit()
    if trainable is nameless:
        tuner = tune.Tuner(trainable, param_space=space, run_config=run_config(tmp_path, "named"))
        assert not tuner.fit().errors
        assert {log.project for log in run_log.read_runs(tmp_path / "named").values()} == {"p"}
