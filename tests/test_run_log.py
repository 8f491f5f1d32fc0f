# Over 250 lines: a small log, and all that can happen to it.
"""Reading W&B's logs back, where no real run would show it: damaged ones above all."""

from __future__ import annotations

import json
import os
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logs import BLOCK, HEADER, chunk, log_of
from strategies import examples

from wbtune._run import log_rows, log_summary, run_files, run_log
from wbtune._upstream import wandb_records


def log_with_end(path: Path, exit_code: int) -> None:
    """The shortest log that has an end."""
    record = wandb_records.record_type()()
    record.exit.exit_code = exit_code
    path.parent.mkdir(parents=True)
    path.write_bytes(HEADER + chunk(record.SerializeToString()))


def test_the_newest_part_tells_how_a_run_ended(tmp_path: Path) -> None:
    """Whether it was begun online or, because the server was away, offline."""
    names = ["run-20260101_000000-a", "offline-run-20260101_000001-a", "run-20260101_000002-a"]
    for exit_code, name in enumerate(names):
        log_with_end(tmp_path / "wandb" / name / "run-a.wandb", exit_code)
        assert run_files.ends(tmp_path) == {"a": exit_code}
    assert [part.parent.name for part in run_files.logs(tmp_path, "a")] == names


@pytest.mark.parametrize("blocks", [1, 3, 8000])
def test_the_end_of_a_long_log_is_read_alone(blocks, tmp_path):
    """A quarter of a gigabyte of rows costs no memory, and the end is found in the last blocks."""
    record = wandb_records.record_type()()
    record.exit.exit_code = 7
    path = tmp_path / "run-a.wandb"
    with path.open("wb") as file:
        file.write(HEADER)
        if blocks > 1:  # the last part of a record that began before
            file.seek((blocks - 2) * BLOCK)
            file.write(chunk(bytes(BLOCK - 7), 4))
        file.write(chunk(record.SerializeToString()))
    tracemalloc.start()
    try:
        assert run_files.exit_code(path) == 7
        assert tracemalloc.get_traced_memory()[1] < 20 * BLOCK
    finally:
        tracemalloc.stop()


# --- The summary ------------------------------------------------------------------------

PLACES = st.sampled_from([("b",), ("a", "b"), ("a",), ("c", "b"), ("c",), ("long" * 40,), ("d",)])
VALUES = st.one_of(st.integers(0, 3), st.text("x" * 3, max_size=200), st.just({"b": 1}))
CHANGES = st.one_of(
    st.dictionaries(PLACES, VALUES, min_size=1, max_size=4),  # of a row
    st.sampled_from([{("b",): 1, ("d",): 2}, {("a", "b"): 3, ("d",): 4}, {("c",): 5}]),
    st.tuples(st.sampled_from("abcd"), VALUES),  # set by the user
    st.sampled_from("abcd"),  # deleted
)


@given(st.lists(CHANGES, max_size=30))
def test_the_last_changes_make_the_summary(tmp_path_factory, changes):
    """Of the records that set the same places only the last is read, and that changes nothing."""
    leaves: dict[tuple[str, ...], str] = {}
    payloads = []
    for number, change in enumerate(changes, 1):
        record = wandb_records.record_type()(num=number)
        if isinstance(change, dict):
            for place, value in change.items():
                record.summary.update.add(nested_key=place, value_json=json.dumps(value))
        elif isinstance(change, tuple):
            record.summary.update.add(key=change[0], value_json=json.dumps(change[1]))
        else:
            record.summary.remove.add(key=change)
        log_summary._apply(leaves, {"a", "b", "c", "d"}, record.summary)  # one after the other
        payloads.append(record.SerializeToString())
    path = tmp_path_factory.mktemp("summary") / "run-a.wandb"
    path.write_bytes(log_of(payloads)[0])
    assert log_summary.summary([path]) == log_summary._tree(leaves)


# --- Damage -----------------------------------------------------------------------------


def kind(record: Any) -> str:
    return str(record.WhichOneof("record_type"))


def records(note: str) -> list[Any]:
    """A run of three rows, as wandb-core writes one down."""
    new = wandb_records.record_type()
    run, config, metric, artifact, end = new(), new(), new(), new(), new()
    run.run.run_id, run.run.project, run.run.display_name = "a", "p", "trial a"
    run.run.start_time.seconds = 1795656510
    config.config.update.add(key="note", value_json=json.dumps(note))
    metric.metric.name, metric.metric.summary.min = "loss", True
    artifact.artifact.name, artifact.artifact.metadata = "checkpoint_a", '{"loss": 1}'
    artifact.artifact.manifest.contents.add(path="model", local_path="/model")
    end.exit.exit_code = 3
    rows = []
    for step in range(3):
        summary, row = new(), new()
        for key, value in (("loss", {"min": 1 / (1 + step)}), ("text", f"é {step}")):
            summary.summary.update.add(nested_key=[key], value_json=json.dumps(value))
        summary.summary.update.add(nested_key=["deep", "x"], value_json=str(step))
        for key, value in (("training_iteration", step + 1), ("loss", 0.5), ("text", f"é {step}")):
            row.history.item.add(nested_key=[key], value_json=json.dumps(value))
        row.history.item.add(nested_key=["deep", "x"], value_json=str(step))
        row.history.step.num = step
        rows += [summary, row]
    made = [run, config, metric, *rows, artifact, end]
    for number, record in enumerate(made, 1):
        record.num = number
    return made


def everything(path: Path) -> tuple[run_log.RunLog, list[Any], list[Any]]:
    """All that is ever read of a log; none of it raises but `read`, and that of no log."""
    numbers = [n for n in log_rows.numbers([path], "training_iteration", "loss") if None not in n]
    list(log_rows.steps(path))
    run_files.exit_code(path)
    try:
        log = run_log.read(path)
    except ValueError:
        log = run_log.RunLog()
    assert isinstance(log.summary, dict)
    return log, log.rows, numbers


def overwritten(data: bytes, random: random.Random, ends: list[int]) -> tuple[bytes, int]:
    """The file after something has happened to it, and the first byte that is another one."""
    # Chunks' own headers are little of a file, and much of what can go wrong.
    at = random.choice([random.randrange(len(data)), random.choice(ends) + random.randrange(7)])
    at = min(at, len(data) - 1)
    size = random.choice([1, 2, 4, 40, BLOCK])
    match random.randrange(5):
        case 0:
            return data[:at], at
        case 1:
            flipped = data[at] ^ (1 << random.randrange(8))
            return data[:at] + bytes([flipped]) + data[at + 1 :], at
        case 2:
            changed = data[:at] + bytes(size) + data[at + size :]
        case 3:
            changed = data[:at] + random.randbytes(size) + data[at + size :]
        case _:
            changed = data + random.choice([random.randbytes(size), bytes(size), data])
    both = zip(data, changed, strict=False)
    same = (i for i, (one, other) in enumerate(both) if one != other)
    return changed, next(same, min(len(data), len(changed)))


@pytest.mark.parametrize("long", [False, True])
def test_a_damaged_log_ends_where_the_damage_begins(long, tmp_path):
    """Thousands of overwritten logs: every record before the first wrong byte, none after it."""
    chance = random.Random(25)
    made = records("x" * (3 * BLOCK if long else 3))
    data, ends = log_of([record.SerializeToString() for record in made])
    path = tmp_path / "run-a.wandb"
    path.write_bytes(data)
    _, rows, numbers = everything(path)
    kinds = [kind(record) for record in made]
    assert len(rows) == 3 and run_files.exit_code(path) == 3
    for _ in range(examples(200 if long else 6000)):
        changed, at = overwritten(data, chance, ends)
        path.write_bytes(changed)
        whole = sum(end <= at for end in ends)
        expected = kinds[:whole].count("history") if at >= len(HEADER) else 0
        log, found, found_numbers = everything(path)
        assert found == rows[:expected], (at, changed[at - 8 : at + 8])
        assert found_numbers == numbers[:expected]
        assert log.id == ("a" if whole and at >= len(HEADER) else "")
        assert log.exit_code in ({3} if whole == len(made) else {None})


ODD = (
    *("", "{", "nul", "1e999", "-Infinity", "[" * 20_000, "9" * 5000, '"\\ud800"', "[1, {}]"),
    *("{}", "null", "true", "-1", '"text"', "1.5", '{"a": {"b": []}}'),
)


def test_a_record_that_no_run_writes_costs_that_run_alone(tmp_path):
    """Chunks are whole, and what is in them is nonsense: rows before that count, nothing raises."""
    chance = random.Random(26)
    path = tmp_path / "wandb" / "offline-run-20260101_000000-a" / "run-a.wandb"
    log_with_end(path, 0)
    other = tmp_path / "wandb" / "offline-run-20260101_000001-b" / "run-b.wandb"
    log_with_end(other, 0)
    sound = records("sound")
    sound[0].run.run_id = "b"
    other.write_bytes(log_of([record.SerializeToString() for record in sound])[0])
    made = records("odd")
    before = [sum(kind(record) == "history" for record in made[:n]) for n in range(len(made))]
    whole = [record.SerializeToString() for record in made]
    for turn in range(examples(3800)):
        payloads, number = [*whole], chance.randrange(len(made))
        if chance.random() < 0.5:
            damaged = bytearray(payloads[number])
            for _ in range(chance.choice([1, 3])):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            payloads[number] = bytes(damaged)
        else:
            record = wandb_records.record_type().FromString(whole[number])
            payloads[number] = odd(record, chance).SerializeToString()
        path.write_bytes(log_of(payloads)[0])
        _, rows, _ = everything(path)
        iterations = [row.get("training_iteration") for row in rows[: before[number]]]
        assert iterations == list(range(1, before[number] + 1))
        if turn % 50 == 0:
            assert len(run_log.read_runs(tmp_path)["b"].rows) == 3
            assert run_files.ends(tmp_path)["b"] == 3


def odd(record: Any, chance: random.Random) -> Any:
    """The record with a value, or all of its steps and names, that is not as expected."""
    match kind(record):
        case "history":
            items = record.history.item
            if chance.random() < 0.3:
                record.history.ClearField("step")
        case "summary":
            items = record.summary.update
        case "config":
            items = record.config.update
        case "artifact":
            record.artifact.metadata = chance.choice(ODD)
            return record
        case _:
            record.run.start_time.seconds = chance.choice([-(2**62), 2**62])
            return record
    item = chance.choice(items)
    item.value_json = chance.choice(ODD)
    if chance.random() < 0.5:
        item.key, item.nested_key[:] = "", chance.choice([[], ["loss", "x"], ["deep"], [""] * 50])
    return record


def test_a_huge_damaged_file_costs_nothing(tmp_path):
    """A gigabyte of zeros, or a record that has no end: what is read of it is a few blocks."""
    path = tmp_path / "run-a.wandb"
    data, _ = log_of([record.SerializeToString() for record in records("")])
    tracemalloc.start()
    try:
        for begin in (data, data[:9], b""):
            path.write_bytes(begin)
            with path.open("r+b") as file:
                file.truncate(1024**3)
            everything(path)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("what", ["folder", "fifo", "no permission", "text"])
def test_what_is_no_log_costs_no_other_run(what, tmp_path):
    """It is passed over, wherever the logs of an experiment are looked through."""
    log_with_end(tmp_path / "wandb" / "offline-run-20260101_000001-b" / "run-b.wandb", 3)
    path = tmp_path / "wandb" / "offline-run-20260101_000000-a" / "run-a.wandb"
    path.parent.mkdir()
    if what == "folder":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    else:
        path.write_text("text of eight")
        path.chmod(0 if what == "no permission" else 0o600)
    assert run_log.read_runs(tmp_path).keys() <= {"b"}
    assert run_files.ends(tmp_path) == {"a": None, "b": 3}
    assert run_files.attempts(tmp_path, "a") == 1
    assert (list(log_rows.rows([path])), log_summary.summary([path])) == ([], {})
