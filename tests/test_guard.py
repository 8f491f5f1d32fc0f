"""wandb-core is killed, again and again: no row is missing, none is there twice.

Each scenario is played in a process of its own, with real wandb offline, so that the tests'
own process never has a core. In a debugger: ``python -m pdb tests/test_guard.py FOLDER NAME``.
"""

# Over 250 lines: the scenarios, and the program that plays them.

from __future__ import annotations

import contextlib
import faulthandler
import json
import math
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import psutil
import pytest
import wandb

from wbtune._data import timeouts
from wbtune._data.options import RunOptions
from wbtune._data.outcomes import FINISHED
from wbtune._helper.outbox import OF_ONE_RUN, TOGETHER, Outbox
from wbtune._place.identity import Identity
from wbtune._run import closing, guard, log_records, opening, replay, run_files, run_log, run_spec
from wbtune._trial import row_joiner
from wbtune._trial.trial_run import TrialRun
from wbtune._upstream import wandb_run, wandb_simple_rows, wandb_wire
from wbtune._upstream.wandb_simple_rows import SimpleRows

pytestmark = pytest.mark.usefixtures("measured")

HANGS_S = 30
#: Seconds after which a scenario that has not ended shows where it is, and is ended.
ENDS_S = 180


def wait_until(condition):
    deadline = time.monotonic() + HANGS_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


class Program:
    """The process under test: its runs, its core, and the time that passes for the guard."""

    def __init__(self, folder):
        self.folder = folder
        self.clock = 0.0
        guard.monotonic = replay.monotonic = lambda: time.monotonic() + self.clock

    def open(self, trial="t", *, elsewhere=False, **init):
        options = RunOptions(project="guard", init_kwargs={"mode": "offline", **init})
        who = Identity(trial, trial, "experiment", str(self.folder))
        return opening.open_run(run_spec.spec(options, who, {}), for_trial_elsewhere=elsewhere)

    def cores(self):
        children = psutil.Process().children(recursive=True)
        return [p for p in children if _is_core(p)]

    def kill(self):
        found = self.cores()
        assert found, "no core to kill"
        for core in found:
            core.kill()
        psutil.wait_procs(found, HANGS_S)

    def written(self, trial="t"):
        log = run_log.read_runs(self.folder).get(trial)
        return [] if log is None else log.rows

    def on_disk(self, count, trial="t"):
        wait_until(lambda: len(self.written(trial)) == count)

    def ends_with(self, count, run, trial="t"):
        """Close, and compare: each row once, in order, steps that only grow."""
        closing.close_run(run, FINISHED)
        rows = self.written(trial)
        seen = [row["i"] for row in rows]
        assert seen == list(range(count)), seen
        steps = [row["_step"] for row in rows]
        assert steps == sorted(set(steps)), steps
        assert run_log.read_runs(self.folder)[trial].exit_code == 0


@pytest.mark.parametrize("written", range(3, 9))
def test_what_is_on_disk_is_not_sent_again(written):
    """Of rows that were remembered together, those that are not on disk, with their steps."""
    rows = [{"i": step} for step in (5, 6, 7)]
    again = replay.Entry(0.0, 5, rows).after(written)  # a moment of 20 ms that no scenario hits
    left = [] if again is None else list(enumerate(again.what, again.step))
    assert left == [(row["i"], row) for row in rows if row["i"] > written]


# --- the scenarios --------------------------------------------------------------------------


def implicit(program):
    """Killed between rows, several times, at once and after they were flushed."""
    import wandb

    run = program.open()
    assert wandb.run is run
    for i in range(40):
        if i % 10 == 5:
            program.kill()
        if i == 27:
            program.on_disk(27)
            program.kill()
        run.log({"i": i})
        assert wandb.run is run
    assert run.id == "t"
    program.ends_with(40, run)


def through_wandb_run(program):
    """Other libraries log by `wandb.log`: that is the same run, before and after."""
    import wandb

    run = program.open()
    for i in range(20):
        if i == 10:
            program.kill()
        (wandb.run if i % 2 else run).log({"i": i})
    assert wandb.run is run
    program.ends_with(20, run)


def through_wandb_log(program):
    """`wandb.log`, which is another object than the run's method: guarded as well."""
    import wandb

    run = program.open()
    for i in range(20):
        if i in {5, 10}:
            program.kill()
        wandb.log({"i": i}, **({"step": i} if i > 12 else {}))
    program.ends_with(20, run)


def by_another_library(program):
    """`wandb.watch` logs gradients past `run.log`, in parts of rows: guarded as well."""
    run = program.open()
    assert "log" not in vars(run)  # wandb's own method
    for i in range(12):
        if i in {4, 5}:
            program.kill()
        run._log({"gradients": i}, commit=False)
        if i == 8:
            program.kill()
        run.log({"i": i})
    program.ends_with(12, run)
    assert all(row["gradients"] == row["i"] for row in program.written())


def beside_mirrored_results(program):
    """Rows with the user's own steps between Tune's results: neither costs the other a row."""
    declared = RunOptions(project="guard", log_results=True, init_kwargs={"mode": "offline"})
    trial_run = TrialRun("test", declared)
    run = trial_run.open(Identity("t", "t", "experiment", str(program.folder)), {})
    for i in range(0, 12, 2):
        run.log({"i": i}, step=i // 2)
        trial_run.result({"i": i + 1, "training_iteration": i // 2 + 1})
        if i == 4:
            program.kill()
    program.ends_with(12, run)


def explicit(program):
    """Rows with steps of the user's own, which stay pending until the next step."""
    run = program.open()
    for i in range(20):
        if i in {5, 6, 13}:
            program.kill()
        run.log({"i": i}, step=3 * i)
    program.ends_with(20, run)
    assert [row["_step"] for row in program.written()] == [3 * i for i in range(20)]


def in_parts(program):
    """Rows that are built by several calls, killed in the middle of a row."""
    run = program.open()
    for i in range(12):
        run.log({"a": i}, commit=False)
        if i % 4 == 2:
            program.kill()
        run.log({"b": i}, commit=False)
        if i % 4 == 3:
            program.kill()
        run.log({"i": i}, commit=True)
    program.ends_with(12, run)
    assert all(row["a"] == row["b"] == row["i"] for row in program.written())


def while_logging(program):
    """Killed by another thread, wherever the logging is just then."""
    run = program.open()
    done = threading.Event()

    def killer():
        for at in (500, 1000, 1500):
            wait_until(lambda at=at: run.wbtune_guard.step > at or done.is_set())
            for core in program.cores():
                with contextlib.suppress(psutil.NoSuchProcess):
                    core.kill()

    thread = threading.Thread(target=killer)
    thread.start()
    for i in range(2500):
        run.log({"i": i})
    done.set()
    thread.join()
    program.ends_with(2500, run)


def many_runs(program):
    """The driver's kind: several runs on one core, of which each finds out by itself."""
    import wandb

    trials = [f"t{n}" for n in range(4)]
    opened = {trial: program.open(trial, elsewhere=True) for trial in trials}
    assert wandb.run is None
    for i in range(30):
        if i in {7, 8, 20}:
            program.kill()
        for n, trial in enumerate(trials):
            if i == 15 and n == 2:
                program.kill()
            opened[trial].log({"i": i}, step=i, commit=True)
    program.kill()
    for trial in trials:
        program.ends_with(30, opened[trial], trial)
    assert wandb.run is None


def held_until_sent(program):
    """Rows of an outbox are sent together, in order; what others log meanwhile, at once."""
    opened = [program.open(trial, elsewhere=True) for trial in ("a", "b", "c")]
    outbox = Outbox()
    for i in range(3):
        for run in opened[:2]:
            outbox.log(run, {"i": i}, i)
    opened[2].log({"i": 0}, step=0, commit=True)
    threading.Thread(target=opened[2].log, args=({"i": 1},)).start()
    program.on_disk(2, "c")
    assert program.written("a") == program.written("b") == []
    outbox.send()
    program.on_disk(3, "a")
    for i in range(3, 3 + OF_ONE_RUN):  # so many are sent without being asked
        outbox.log(opened[0], {"i": i}, i)
    program.on_disk(3 + OF_ONE_RUN, "a")
    outbox.log(opened[1], {"i": 3, "large": "x" * TOGETHER}, 3)  # and so much
    program.on_disk(4, "b")
    for run, count in zip(opened, (3 + OF_ONE_RUN, 4, 2), strict=True):
        program.ends_with(count, run, run.id)


def simple_as_wandb_would_send_it(program):
    """What is sent for a row of numbers and text is what `run.log` would send."""
    values = [0, -1, 2**63, 10**300, 1.0, -0.0, 1e-7, 5e-324, sys.float_info.max, True, False, None]
    values += ["", "NaN", 'a "b"\n', "\\", "\u00fc\u4e2d\U0001f600", "\x00"]
    row = {f"v/{i} \u00fc": value for i, value in enumerate(values)}
    row |= {"_timestamp": 1.5, "_step": 3}
    run = program.open(elsewhere=True)
    simple = SimpleRows()
    assert not simple.knows(run, row)
    with wandb_wire.rows_held_back(run) as held:
        run.log(dict(row), step=7, commit=True)
    simple.learn(run, row, 7, held)
    assert simple.knows(run, row)
    assert not simple.knows(run, row | {"nan": math.nan})
    expected, local_step = held[0], run._local_step
    run.__dict__["_local_step"] = 0
    found = wandb_simple_rows.simple_row(run, row, 7)
    assert run._local_step == local_step == 8
    assert (found.core, found.run) == (expected.core, expected.run)
    for one in (expected, found):  # whose spelling of a number may differ, so:
        for item in one.request.record_publish.request.partial_history.item:
            value = json.loads(item.value_json)
            item.value_json = repr((type(value), value))
    assert found.request == expected.request
    outbox = Outbox()
    for i in range(3):
        outbox.log(run, {"i": i} if i < 2 else {"i": i, "_timestamp": 1.5}, i)
    outbox.send()
    program.ends_with(3, run)
    stamps = [row["_timestamp"] for row in program.written()]
    assert abs(stamps[1] - time.time()) < HANGS_S
    assert stamps[2] == 1.5


def not_simple(program):
    """Rows that wandb has more to do for, and runs that are not as they were read."""
    import wandb

    outbox, simple = Outbox(), SimpleRows()
    typed = program.open(
        "typed", elsewhere=True, settings={"x_history_value_encoding": "json,typed"}
    )
    disabled = program.open("disabled", elsewhere=True, mode="disabled")
    run = program.open(elsewhere=True)
    for i in range(3):
        for one in (typed, disabled, run):
            outbox.log(one, {"i": i}, i)
    with wandb_wire.rows_held_back(run) as held:
        run.log({"i": 3}, step=3, commit=True)
    simple.learn(run, {"i": 3}, 3, held)
    outbox.send()
    wandb_wire.send_together(held)
    assert simple.knows(run, {"i": 0})
    assert not simple.knows(run, {"i": "text"})  # not yet
    assert not simple.knows(typed, {"i": 0})
    assert not simple.knows(disabled, {"i": 0})
    for value in ([1], {"_type": "histogram"}, wandb.Table()):
        assert not simple.knows(run, {"i": 0, "x": value})
    wandb.patched["tensorboard"].append(["there", "is", "one"])
    assert not simple.knows(run, {"i": 0})
    wandb.patched["tensorboard"].clear()
    seen = []
    by_wandb, run.__dict__["log"] = run.log, lambda *a, **k: (seen.append(a[0]), by_wandb(*a, **k))
    outbox.log(run, {"i": 4}, 4)
    del run.__dict__["log"]
    assert seen == [{"i": 4}]
    assert simple.knows(run, {"i": 0})
    outbox.send()
    program.ends_with(5, run)
    program.ends_with(3, typed, "typed")
    assert set(run_log.read_runs(program.folder)) == {"t", "typed"}
    with pytest.raises(wandb.UsageError, match="finished"):
        outbox.log(run, {"i": 5}, 5)
    disabled.finish()


def written_in_another_way(program):
    """What is known of another wandb is not used, and every row is there."""
    run, outbox = program.open(elsewhere=True), Outbox()
    as_it_is = wandb_simple_rows._JSON[float]
    wandb_simple_rows._JSON[float] = lambda value: as_it_is(value + 1)
    for i in range(3):
        outbox.log(run, {"i": i, "x": 0.5}, i)
        assert not outbox._simple.knows(run, {"i": i})
    wandb_simple_rows._JSON[float] = as_it_is
    messages = wandb_simple_rows.server_messages
    wandb_simple_rows.server_messages = lambda: int("a field that is not there any more")
    outbox.send()
    outbox = Outbox()
    for i in range(3, 6):
        outbox.log(run, {"i": i, "x": 0.5}, i)
        assert not outbox._simple.knows(run, {"i": i})
    wandb_simple_rows.server_messages = messages
    outbox.send()
    program.ends_with(6, run)
    assert [row["x"] for row in program.written()] == [0.5] * 6


def many_of_one_run_held(program):
    """Rows that were lost with their core are not forgotten because others are held."""
    run = program.open(elsewhere=True)
    outbox = Outbox()
    for i in range(12):
        outbox.log(run, {"i": i}, i)
    outbox.send()
    program.kill()
    program.clock += 60
    for i in range(12, 24):
        outbox.log(run, {"i": i}, i)
    outbox.send()
    program.ends_with(24, run)


def by_another_wandb(program):
    """Without the private names by which rows are guarded and sent together, they are sent."""

    def renamed(interface, row):
        raise AttributeError("no _make_request")

    kept = wandb_wire._held_row
    wandb_wire._held_row = renamed
    try:
        for trial in ("t", "u"):
            run = program.open(trial, elsewhere=True)
            outbox = Outbox()
            for i in range(12):
                outbox.log(run, {"i": i}, i)
            assert not outbox.send()
            closing.close_run(run, FINISHED)
            wait_until(lambda trial=trial: run_files.ends(program.folder).get(trial) == 0)
            assert [row["i"] for row in program.written(trial)] == list(range(12))
            assert not wandb_wire.TOGETHER.is_here
            wandb_run.GUARD.fail(AttributeError("no _config_callback"))
    finally:
        wandb_wire._held_row = kept
        wandb_run.GUARD._trouble = wandb_wire.TOGETHER._trouble = ""


def sent_together(program):
    """Killed while rows are held, and a run with media finds out before the others are sent."""
    import wandb

    opened = {trial: program.open(trial, elsewhere=True) for trial in ("a", "b", "c", "d")}
    outbox = Outbox()
    for i in range(30):
        for trial, run in opened.items():
            row = {"i": i}
            if i % 10 == 5 and trial == "c":
                row["table"] = wandb.Table(data=[[1, 2]], columns=["x", "y"])
            if (i, trial) in {(5, "b"), (8, "a"), (17, "d"), (25, "a")}:
                program.kill()
            outbox.log(run, row, i)
        if i == 20:
            program.kill()
            opening.update_config(opened["d"], {"lr": 1})
        if i % 3 == 0:
            outbox.send()
        if i == 12:
            program.kill()  # what was sent is lost with it
    outbox.send()
    for trial, run in opened.items():
        program.ends_with(30, run, trial)
    assert run_log.read_runs(program.folder)["d"].config["lr"] == 1


def without_an_id(program):
    """Outside of Tune, wandb gives the run its id; after the core's death it has the same."""
    run = program.open(None)
    given = run.id
    for i in range(10):
        if i == 5:
            program.kill()
        run.log({"i": i})
    assert run.id == given
    program.ends_with(10, run, given)
    assert list(run_log.read_runs(program.folder)) == [given]


def when_closed(program):
    """Dead when the run is closed: the summary, the exit code and every row are there."""
    run = program.open()
    for i in range(5):
        run.log({"i": i})
    program.kill()
    program.ends_with(5, run)
    assert run_log.read_runs(program.folder)["t"].summary["wbtune/outcome"] == "finished"


def after_a_quiet_time(program):
    """Killed right after a row, and the next row comes much later: an epoch takes a minute."""
    run = program.open()
    for i in range(6):
        run.log({"i": i})
        if i % 2:
            program.kill()
        program.clock += 60
    program.ends_with(6, run)


def pending_for_a_quiet_time(program):
    """A row with a step is written when the next one comes; killed while it is pending."""
    run = program.open()
    for i in range(6):
        run.log({"i": i}, step=i)
        program.clock += 60
        if i % 2:
            program.kill()
    program.ends_with(6, run)


def config_finds_it_first(program):
    """All rows are on disk, and an update of the config is what finds the core dead."""
    run = program.open()
    for i in range(3):
        run.log({"i": i})
    program.on_disk(3)
    program.kill()
    opening.update_config(run, {"lr": 1})
    for i in range(3, 6):
        run.log({"i": i})
    program.on_disk(6)
    program.kill()
    for i in range(6, 9):
        run.log({"i": i})
    program.ends_with(9, run)
    assert run_log.read_runs(program.folder)["t"].config["lr"] == 1


def config_and_summary_of_the_user(program):
    """What a user sets between two rows, by objects held from before; killed before each."""
    run = program.open()
    config, summary = run.config, run.summary
    config.early = 1
    summary["early"] = 1
    run.log({"i": 0})
    program.on_disk(1)
    program.kill()
    config.lr = 2
    assert run.config.lr == 2
    program.kill()
    config.update({"lr": 3}, allow_val_change=True)
    program.kill()
    summary["best"] = 4
    program.kill()
    summary.update({"best": 5, "deep": {"er": 6}})
    program.kill()
    run.log({"i": 1})
    program.on_disk(2)
    for i in range(2, 30):  # one after the other, long before
        summary["best"] = i
        program.clock += 60
    assert summary["best"] == 29
    program.kill()
    assert "best" in dict(summary)
    assert run.config is config
    program.ends_with(2, run)
    log = run_log.read_runs(program.folder)["t"]
    assert log.config.items() >= {"early": 1, "lr": 3}.items()
    assert (log.summary["early"], log.summary["best"]) == (1, 29)


def step_that_goes_back(program):
    """A row whose step is taken gets the next free one; W&B alone would drop it."""
    run = program.open()
    for i in range(4):
        run.log({"i": i}, step=10 + i, commit=True)
    run.log({"i": 4}, step=2, commit=True)
    run.log({"i": 5})
    program.on_disk(6)
    program.kill()
    run.log({"i": 6})
    program.ends_with(7, run)


def between_rows_of_one_moment(program):
    """A summary that is set 20 ms after a row, in which rows are remembered as one."""
    run = program.open()
    now = guard.monotonic()
    guard.monotonic = replay.monotonic = lambda: now
    run.log({"i": 0})
    program.on_disk(1)
    run.summary["best"] = 7
    program.kill()
    run.log({"i": 1})
    program.ends_with(2, run)
    assert run_log.read_runs(program.folder)["t"].summary["best"] == 7


def with_media(program):
    """Rows with media, which wandb binds to the run object; one of them is logged again."""
    import wandb

    run = program.open()
    kept = wandb.Table(data=[[1, 2]], columns=["x", "y"])
    for i in range(12):
        if i in {5, 9}:
            program.kill()
        table = wandb.Table(data=[[i, i]], columns=["x", "y"])
        run.log({"i": i, "table": table, "kept": kept, "h": wandb.Histogram([1, 2, 3])})
    program.ends_with(12, run)
    assert all({"table", "kept", "h"} <= set(row) for row in program.written())


def refused(program):
    """Rows that wandb refuses, of each kind: they cost no other row, and no step."""
    import wandb

    endless = []
    endless.append(endless)
    chart = wandb.plot.line(wandb.Table(data=[[1, 2]], columns=["x", "y"]), "x", "y")
    bad = [
        ({1: 2}, {}),
        ({"bad": endless}, {}),
        ({"chart": chart, "bad": endless}, {}),
        ({"bad": endless}, {"step": 40}),
        ({"bad": endless}, {"commit": False}),
        ({"bad": endless}, {"commit": True}),
        ({"good": 1}, {"step": "5"}),
        (0.5, {}),
    ]
    run = program.open()
    row = {}
    for i in range(24):
        if i == 13:
            program.on_disk(i)
        row["i"] = i  # the same dict again
        run.log(row)
        data, how = bad[i % len(bad)]
        with pytest.raises((TypeError, ValueError, RecursionError)):
            run.log(data, **how)
        assert run.wbtune_guard.step == i + 1
        if i in {13, 14, 20}:
            program.kill()
    program.ends_with(24, run)
    assert [row["_step"] for row in program.written()] == list(range(24))


def refused_updates(program):
    """A metric and a summary that wandb refuses cost no row either."""
    import wandb

    run = program.open()
    endless = []
    endless.append(endless)
    run.define_metric("i", summary="max")
    run.log({"i": 0})
    with pytest.raises(wandb.Error):
        run.define_metric("loss", step_metric=5)
    with pytest.raises((TypeError, ValueError, RecursionError)):
        run.summary["bad"] = endless
    run.log({"i": 1})
    program.kill()
    run.log({"i": 2})
    program.ends_with(3, run)


def killed_while_it_recovers(program):
    """The new core dies too, before the rows are logged again."""
    run = program.open()
    for i in range(3):
        run.log({"i": i})
    protection = guard.of(run)
    reopen, kills = protection._reopen, [2]  # the moment that the scenario is about

    def killed_again(**how):
        new = reopen(**how)
        if kills[0]:
            kills[0] -= 1
            program.kill()
        return new

    protection._reopen = killed_again
    program.kill()
    for i in range(3, 6):
        run.log({"i": i})
    program.ends_with(6, run)


def killed_while_it_opens(program):
    """The core of other runs dies when one more is being opened."""
    import wandb

    other, init = program.open("other", elsewhere=True), wandb.init

    def kill_first(**how):
        wandb.init = init
        program.kill()
        return init(**how)

    wandb.init = kill_first
    run = program.open(elsewhere=True)
    for i in range(5):
        run.log({"i": i})
        other.log({"i": i})
    program.ends_with(5, run)
    program.ends_with(5, other, "other")


def killed_before_its_metrics_are_defined(program):
    """They are defined in the new core; and once more in the next, if that dies too soon."""
    run = program.open()
    program.kill()
    opening.define_metrics(run, run_spec.RunSpec({}))
    program.kill()
    for i in range(5):
        run.log({"i": i})
    program.ends_with(5, run)
    newest = run_files.logs(program.folder, "t")[-1]
    kinds = [
        record.WhichOneof("record_type") for record in log_records.records(newest, log_records.ROWS)
    ]
    assert kinds.index("metric") < kinds.index("history")


def killed_long_after_its_metrics_were_defined(program):
    """Each new core is told of all of them, by whatever name they were defined."""
    import wandb

    run = program.open()
    opening.define_metrics(run, run_spec.RunSpec({}))
    wandb.define_metric("loss", summary="min")
    for i in range(30):
        run.log({"i": i})
        program.clock += 60
    program.on_disk(30)
    program.kill()
    wandb.define_metric("accuracy", summary="max")
    for i in range(30, 40):
        run.log({"i": i})
    program.ends_with(40, run)
    newest = run_files.logs(program.folder, "t")[-1]
    metrics = [record.metric for record in log_records.records(newest, log_records.ROWS)]
    names = {metric.name or metric.glob_name for metric in metrics}
    assert names >= {"training_iteration", "*", "loss", "accuracy"}, names


def rows_of_a_log_that_is_not_whole(program):
    """A write failed: what is remembered goes into another part, what is not is counted."""
    run = program.open()
    for i in range(20):
        run.log({"i": i, "text": "x" * 4000}, step=2 * i)
        run.log({"more": i}, step=2 * i)
    run.log({"end": 1}, step=39)
    program.on_disk(20)
    protection = guard.of(run)
    buffer = protection._buffer
    while len(buffer.entries) > 21:  # as if these had been there for too long
        buffer.forgotten = buffer.forgotten.plus([buffer.entries.popleft()])
    run.finish()
    run_files.wait_for_end(run_files.logs(program.folder, "t")[0])
    [path] = run_files.logs(program.folder, "t")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 4])
    left = len(program.written())
    assert 0 < left < 9
    notes = {"wbtune/dropped": 1}
    closing._complete(run, FINISHED, notes)
    log = run_log.read_runs(program.folder)["t"]
    rows = [row["more"] for row in log.rows if "more" in row]
    assert rows == [*range(left), *range(10, 20)]
    assert log.summary["wbtune/dropped"] == 1 + 10 - left
    assert log.exit_code == 0


def killed_again_after_a_slow_recovery(program):
    """What was sent to the new core is as young as that is."""
    run = program.open()
    for i in range(5):
        run.log({"i": i})
    program.kill()
    program.clock += 60  # until there is another
    for i in range(5, 30):
        run.log({"i": i})
    program.kill()
    run.log({"i": 30})
    program.ends_with(31, run)


def a_row_in_many_parts(program):
    """One row from a dozen calls, minutes apart: pending until the last, and killed before."""
    run = program.open()
    run.log({"i": 0})
    program.on_disk(1)  # as it is long before a minute has passed
    for part in range(14):
        run.log({f"part{part}": part}, commit=False)
        program.clock += 60
    program.kill()
    run.log({"i": 1})
    program.ends_with(2, run)
    assert all(program.written()[1][f"part{part}"] == part for part in range(14))


def user_opens_and_finishes(program):
    """`wandb.init` and `finish` of the user's own, in a trial that mirrors its results."""
    import wandb

    declared = RunOptions(project="guard", log_results=True, init_kwargs={"mode": "offline"})
    trial_run = TrialRun("test", declared)
    run = trial_run.open(Identity("t", "t", "experiment", str(program.folder)), {})

    def result(i):
        trial_run.result({"i": i, "training_iteration": i + 1})

    result(0)
    assert wandb.init(dir=program.folder) is run  # wandb's default: the run that is there
    result(1)
    other = wandb.init(reinit="create_new", dir=program.folder)
    result(2)
    other.finish()
    mine = wandb.init(reinit=True, dir=program.folder, id="mine")  # finishes all others
    result(3)
    mine.log({"loss": 1})
    result(4)
    assert wandb.run is mine
    program.on_disk(5)
    program.kill()  # the part that nobody but us knows is guarded as well
    result(5)
    trial_run.run.finish()
    result(6)
    wandb.init(reinit=True, dir=program.folder, id="another")
    trial_run.close(FINISHED)
    rows = program.written()
    assert [row["i"] for row in rows] == list(range(7))
    wait_until(lambda: run_files.ends(program.folder)["t"] == 0)
    assert run_log.read_runs(program.folder)["t"].summary["wbtune/dropped"] == 0


def in_children(work, count=4):
    """Let forked children do it, and see them all end well."""
    children = [
        multiprocessing.get_context("fork").Process(target=work, args=(k,)) for k in range(count)
    ]
    for child in children:
        child.start()
    return children


def all_ended(children):
    for child in children:
        child.join(HANGS_S)
    codes = [child.exitcode for child in children]
    for child in children:
        child.kill()
    assert codes == [0] * len(children), codes


def by_whom(program):
    """The numbers of the rows of each process, in the run's order."""
    rows = {}
    for row in program.written():
        rows.setdefault(row.get("child", "parent"), []).append(row["i"])
    steps = [row["_step"] for row in program.written()]
    assert steps == sorted(set(steps)), steps
    return rows


def forked_while_a_thread_logs(program):
    """A child that is forked while a row is being sent logs, too; and closes nothing."""
    run = program.open()
    done, parents = threading.Event(), []

    def background():
        while not done.is_set():
            run.log({"i": len(parents)})
            parents.append(0)

    thread = threading.Thread(target=background)
    thread.start()

    def work(k):
        for i in range(3):
            run.log({"child": k, "i": i})
        run.define_metric("child")
        closing.close_run(run, FINISHED)
        closing.end_core()

    for _ in range(4):
        all_ended(in_children(work))
    done.set()
    thread.join()
    run.log({"i": len(parents)})
    closing.close_run(run, FINISHED)
    rows = by_whom(program)
    assert rows.pop("parent") == list(range(len(parents) + 1))
    assert rows == {k: [0, 1, 2] * 4 for k in range(4)}
    assert run_log.read_runs(program.folder)["t"].exit_code == 0


def beside_forked_children(program):
    """Tune's results and rows with steps, between those of children with and without steps."""
    declared = RunOptions(project="guard", log_results=True, init_kwargs={"mode": "offline"})
    trial_run = TrialRun("test", declared)
    trial_run.iteration, timeouts.RESULT_JOINS_S = (lambda: 1), 60.0
    run = trial_run.open(Identity("t", "t", "experiment", str(program.folder)), {})
    trial_run.result({"i": 0, "training_iteration": 1})

    def work(k):
        for i in range(5):
            run.log({"child": k, "i": i}, **({"step": 100 + i} if k == 1 else {}))
        trial_run.close(FINISHED)

    for i in range(1, 13, 3):
        children = in_children(work, 2)
        trial_run.result({"i": i, "training_iteration": i + 1})
        run.log({"i": i + 1}, step=i, commit=True)
        trial_run.result({"i": i + 2, "training_iteration": i + 2})
        all_ended(children)
    run.log({"i": 13})  # which waits for its result, but not when there are children
    all_ended(in_children(work, 2))
    trial_run.close(FINISHED)
    rows = by_whom(program)
    assert rows.pop("parent") == list(range(14))
    assert rows == {k: [0, 1, 2, 3, 4] * 5 for k in range(2)}
    # The children's steps, too, are W&B's to choose: none is behind what others log meanwhile.
    assert max(row["_step"] for row in program.written()) < 100


def forked_while_a_row_waits(program):
    """A row that waits for its result is committed first: a child's is another one."""
    timeouts.RESULT_JOINS_S = 60.0
    run = program.open()
    rows = row_joiner.RowJoiner(run, "training_iteration", lambda: 0)
    run.log({"i": 0})
    all_ended(in_children(lambda k: run.log({"child": k, "i": 0}), 1))
    run.log({"i": 1})
    rows.close()
    closing.close_run(run, FINISHED)
    assert by_whom(program) == {"parent": [0, 1], 0: [0]}


def stopped_while_a_row_waits(program):
    """A thread that logs to a core that hangs holds the end of its trial no longer than it may."""
    declared = RunOptions(project="guard", log_results=True, init_kwargs={"mode": "offline"})
    trial_run = TrialRun("test", declared)
    trial_run.iteration, timeouts.RESULT_JOINS_S = (lambda: 0), 60.0
    run = trial_run.open(Identity("t", "t", "experiment", str(program.folder)), {})
    run.log({"i": 0})
    for core in program.cores():
        core.suspend()
    guard.of(run).patience = 1.0
    begun = time.monotonic()

    def background():
        with contextlib.suppress(wandb.UsageError):  # the run is finished meanwhile
            for _ in range(300):
                run.log({"i": 1, "text": "x" * 4000})

    thread = threading.Thread(target=background, daemon=True)
    thread.start()
    thread.join(1.0)
    assert thread.is_alive()
    trial_run.close(FINISHED)
    assert time.monotonic() - begun < timeouts.ASKS_EVERY_S + timeouts.CORE_ANSWERS_S
    assert run_log.read_runs(program.folder)["t"].rows
    assert run_log.read_runs(program.folder)["t"].summary["wbtune/dropped"] == 0


def killed_beside_forked_children(program):
    """The core dies when children have logged: each of the parent's rows is there once."""
    run = program.open()
    run.log({"i": 0}, step=0, commit=True)
    all_ended(in_children(lambda k: [run.log({"child": k, "i": i}) for i in range(9)], 1))
    for i in range(1, 20):
        if i in {7, 8, 14}:
            program.kill()
        run.log({"i": i}, **({"step": i, "commit": True} if i % 2 else {}))
    closing.close_run(run, FINISHED)
    assert by_whom(program)["parent"] == list(range(20))


def stopped_when_it_is_closed(program):
    """A core that hangs holds the end of the trial no longer than its time; no row is lost."""
    run = program.open()
    for i in range(5):
        run.log({"i": i})
    program.on_disk(5)
    for core in program.cores():
        core.suspend()
    for i in range(5, 9):
        run.log({"i": i})
    guard.of(run).patience = 1.0
    program.ends_with(9, run)
    closing.end_core()


def stopped_when_the_process_ends(program):
    """A core that hangs when it is to end is killed."""
    closing.close_run(program.open(), FINISHED)
    [core] = program.cores()
    core.suspend()
    timeouts.CORE_TEARDOWN_S = 0.5
    closing.end_core()
    psutil.wait_procs([core], HANGS_S)
    assert not program.cores()


def stopped_while_it_is_logged_to(program):
    """A core that hangs takes no more rows at some time; it is killed, and they are all there."""
    timeouts.ASKS_EVERY_S, timeouts.CORE_ANSWERS_S = 0.1, 1.0
    run = program.open()
    for i in range(5):
        run.log({"i": i})
    for core in program.cores():
        core.suspend()
    for i in range(5, 300):
        run.log({"i": i, "text": "x" * 4000})
    timeouts.ASKS_EVERY_S, timeouts.CORE_ANSWERS_S = 10.0, 20.0
    program.ends_with(300, run)


def stopped_while_another_opens(program):
    """Nor does opening the next run wait for ever."""
    timeouts.RUN_OPENS_S = 5.0
    run = program.open()
    run.log({"i": 0})
    for core in program.cores():
        core.suspend()
    other = program.open("other")
    timeouts.RUN_OPENS_S = 150.0
    other.log({"i": 0})
    program.ends_with(1, other, "other")


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (
        implicit,
        through_wandb_run,
        through_wandb_log,
        by_another_library,
        beside_mirrored_results,
        explicit,
        in_parts,
        while_logging,
        many_runs,
        held_until_sent,
        simple_as_wandb_would_send_it,
        not_simple,
        written_in_another_way,
        many_of_one_run_held,
        by_another_wandb,
        sent_together,
        without_an_id,
        when_closed,
        after_a_quiet_time,
        pending_for_a_quiet_time,
        config_finds_it_first,
        config_and_summary_of_the_user,
        step_that_goes_back,
        user_opens_and_finishes,
        between_rows_of_one_moment,
        with_media,
        refused,
        refused_updates,
        killed_while_it_recovers,
        killed_while_it_opens,
        killed_before_its_metrics_are_defined,
        killed_long_after_its_metrics_were_defined,
        rows_of_a_log_that_is_not_whole,
        killed_again_after_a_slow_recovery,
        a_row_in_many_parts,
        forked_while_a_thread_logs,
        beside_forked_children,
        forked_while_a_row_waits,
        stopped_while_a_row_waits,
        killed_beside_forked_children,
        stopped_when_it_is_closed,
        stopped_when_the_process_ends,
        stopped_while_it_is_logged_to,
        stopped_while_another_opens,
    )
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """The process off which each scenario is forked: all is imported, and nothing has begun."""
    folder = tmp_path_factory.mktemp("guard")
    with subprocess.Popen(
        [sys.executable, __file__, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        yield folder, process


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_core_is_killed(name, stage):
    """Rows out are rows in, once and in order, in the same run; and no process is left."""
    folder, process = stage
    print(name, file=process.stdin, flush=True)
    pid, code = process.stdout.readline().split()
    output = (folder / f"{name}.log").read_text()
    assert code == "0", output
    assert "Traceback" not in output, output
    left = [one for one in psutil.process_iter(["cmdline"]) if pid in _words(one)]
    assert not left, left


def _is_core(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        return "wandb-core" in " ".join(process.cmdline())
    return False  # it has just ended


def _words(process):
    # wandb-core is told the pid of the process that it belongs to.
    words = process.info["cmdline"] or []
    return words if any("wandb-core" in word for word in words) else []


def play(folder, name):
    """Play one scenario, in this process, which has no core before and none afterwards."""
    under_test = Program(Path(folder, name))
    under_test.folder.mkdir(parents=True)
    try:
        SCENARIOS[name](under_test)
    finally:
        closing.end_core()
    psutil.wait_procs(under_test.cores(), HANGS_S)
    assert not under_test.cores()


def play_in_a_fork(folder, name):
    """Its pid and its exit code; what it printed is in a file."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            with Path(folder, f"{name}.log").open("wb") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            faulthandler.dump_traceback_later(ENDS_S, exit=True)
            play(folder, name)
            code = 0
        except BaseException:  # noqa: BLE001 - this process is a copy: it goes no further
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    return pid, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(folder, *names):
    """``python test_guard.py FOLDER [NAME]``: that scenario here, or those that are read."""
    for name in names:
        play(folder, name)
    for line in () if names else sys.stdin:
        print(*play_in_a_fork(folder, line.strip()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
