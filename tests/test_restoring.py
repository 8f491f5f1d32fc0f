"""After a crash of the driver: what Tune kept and W&B does not have, and what it costs to see."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import FakeTrial
from hypothesis import example, given
from hypothesis import strategies as st
from logs import log_of_rows
from pyarrow.fs import LocalFileSystem

from wbtune._data import options
from wbtune._data.outcomes import FINISHED, Kind
from wbtune._driver import experiment, restoring
from wbtune._run import log_file

#: A retry repeats iterations, at other times; a population-based scheduler goes back.
MARKS = st.tuples(
    st.one_of(st.integers(0, 6), st.sampled_from([-1, 5000, 10**30])),
    st.floats(0, 1e6).map(lambda seconds: round(seconds, 3)),
)
#: What only looks like the two.
MORE = st.dictionaries(
    st.sampled_from(["loss", "note", "nested", 'a"training_iteration": 3, "']),
    st.one_of(
        st.text(st.sampled_from('"\\,: 1training_iteration\x12\x82\u0001é'), max_size=40),
        st.fixed_dictionaries({"training_iteration": st.integers(), "time_total_s": st.floats()}),
        st.integers(),
    ),
)


def a_trial(folder: Path, text: str, trial_id: str = "a") -> Any:
    """A trial whose results are in the storage."""
    (folder / "result.json").write_text(text)
    trial = FakeTrial(trial_id, folder)
    trial.storage = SimpleNamespace(
        storage_filesystem=LocalFileSystem(), trial_fs_path=str(folder), experiment_fs_path="e"
    )
    return trial


@given(
    results=st.lists(st.tuples(MARKS, MORE), max_size=12, unique_by=lambda result: result[0]),
    kept=st.lists(st.booleans(), min_size=12, max_size=12),
    timed=st.booleans(),
    torn=st.booleans(),
)
@example([((1, 0.0), {}), ((2, 1.0), {"x": {"training_iteration": 1}})], [True, False], True, True)
def test_no_row_twice_none_missing(tmp_path_factory, results, kept, timed, torn):
    """Whatever else rows say; also where `excludes` kept the time out of W&B."""
    folder = tmp_path_factory.mktemp("restored")
    rows = [
        {**more, "training_iteration": iteration, "time_total_s": seconds}
        for (iteration, seconds), more in results
    ]
    there = [row for row, is_kept in zip(rows, kept, strict=False) if is_kept]
    left_out = set() if timed else {"time_total_s"}
    logged = [{k: v for k, v in row.items() if k not in left_out} for row in there]
    (folder / "a.wandb").write_bytes(log_of_rows([{"other": 1}, *logged]))
    lines = [json.dumps(row) for row in rows]
    half = [lines[0][:9]] if torn and lines else []
    trial = a_trial(folder, "\n".join([*lines[:1], *half, *lines[1:], *lines[:1], *half]))
    iterations = [row["training_iteration"] for row in there]
    expected: list[Any] = []
    for row in rows:
        if timed or not there:
            expected += [row] * (row not in there)
        elif row["training_iteration"] not in iterations:
            expected.append(row)
            iterations.append(row["training_iteration"])
    found = list(restoring.missing(trial, [folder / "a.wandb"]))
    assert json.dumps(found) == json.dumps(expected)


def test_what_it_costs_does_not_grow_with_the_rows(tmp_path):
    """Neither the log nor Tune's results are held; of each row, 8 bytes are remembered."""
    count = 30_000
    rows = [{"training_iteration": i, "time_total_s": i / 8, "loss": 0.5} for i in range(count)]
    (tmp_path / "a.wandb").write_bytes(log_of_rows(rows))
    trial = a_trial(tmp_path, "\n".join(json.dumps({**row, "x": "y" * 90}) for row in rows))
    rows.clear()
    restoring.known([])  # what it needs is imported
    tracemalloc.start()
    try:
        assert list(restoring.missing(trial, [tmp_path / "a.wandb"])) == []
        # 8 bytes each, and as much again while the array grows; a megabyte of the file, twice.
        assert tracemalloc.get_traced_memory()[1] < 16 * count + 6_000_000
    finally:
        tracemalloc.stop()


def test_what_tune_writes_meanwhile_is_not_filled_in(restored, tmp_path):
    """Tune's file is read when there is time: by then it may have results of this driver's, too.

    They are logged as they come; whatever they have for numbers.
    """
    watching, writer, trials, _ = restored
    watching.start(trials["running"])
    new = [{"training_iteration": i, "time_total_s": i / 8} for i in range(5, 9)]
    odd = {"training_iteration": [1], "time_total_s": None}
    for result in [*new, odd]:
        watching.result(trials["running"], result)
    with (tmp_path / "running" / "result.json").open("a") as file:
        file.writelines(f"\n{json.dumps(result)}" for result in new)
    (filling,) = [rest[0] for name, _, *rest in writer.orders if name == "log_all"]
    assert [row["training_iteration"] for row in filling()] == [4]
    assert sum(name == "log" for name, *_ in writer.orders) == len([*new, odd])


class LazyWriter:
    """Takes orders, and carries none of them out."""

    def __init__(self) -> None:
        self.orders: list[tuple[Any, ...]] = []
        self.stops: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self.orders.append((name, *args)) or True


@pytest.fixture
def restored(tmp_path, monkeypatch):
    """An experiment with four trials, one of which still runs; and what opens a log."""
    opened: list[str] = []
    payloads = log_file.payloads

    def noted(path, **how):
        if "last_blocks" not in how or how["last_blocks"] is None:
            opened.append(path.stem)
        return payloads(path, **how)

    monkeypatch.setattr(log_file, "payloads", noted)
    rows = [{"training_iteration": i, "time_total_s": i / 8} for i in range(1, 5)]
    exits = {"running": 130, "whole": 0, "cut": None, "other": 130}
    for trial_id, exit_code in exits.items():
        folder = tmp_path / "wandb" / f"offline-run-20260101_000000-{trial_id}"
        folder.mkdir(parents=True)
        (folder / f"run-{trial_id}.wandb").write_bytes(log_of_rows(rows[:3], exit_code))
    state = {key: {"attempt": 1, "perturbations": [], "own": False} for key in exits}
    writer = LazyWriter()
    watching = experiment.Experiment(
        "who", options.RunOptions(project="p"), writer=writer, restored=state
    )
    text = "\n".join(json.dumps(row) for row in rows)
    trials = {}
    for trial_id in exits:
        (tmp_path / trial_id).mkdir()
        trials[trial_id] = a_trial(tmp_path / trial_id, text, trial_id)
        trials[trial_id].local_experiment_path = str(tmp_path)
        trials[trial_id].storage.storage_filesystem = LocalFileSystem()
        trials[trial_id].is_finished = lambda: True
        trials[trial_id].status = "TERMINATED"
    monkeypatch.setattr("wbtune._place.identity._places", lambda storage: (str(tmp_path), None))
    return watching, writer, trials, opened


def test_restoring_reads_what_it_needs_and_not_in_tunes_loop(restored):
    """The runs of trials that go on, by another thread; of the others, their last bytes."""
    watching, writer, trials, opened = restored
    watching.start(trials["running"])
    watching.result(trials["running"], {"training_iteration": 5, "time_total_s": 1})
    assert opened == []
    names = [name for name, key, *_ in writer.orders if key == "running"]
    assert names == ["start", "log_all", "log"]  # before anything new
    watching.end(trials["running"], failed=False)
    watching.close(list(trials.values()))
    filled = {}
    for name, key, *rest in writer.orders:
        if name == "log_all":
            filled[key] = [row["training_iteration"] for row in rest[0]()]
    assert filled == {"running": [4], "cut": [4], "other": [4]}
    assert "whole" not in " ".join(opened)
    ends = {key: rest[0].kind for name, key, *rest in writer.orders if name == "end"}
    assert ends == dict.fromkeys(("running", "cut", "other"), Kind.FINISHED)
    assert FINISHED.exit_code == 0
