"""Both ends of the writer's pipe: whatever arrives in whatever order, each run gets its own.

The helper's end is driven in this process, with runs that behave as W&B's do and with
openings and closings that take as long as the machine wants. The whole writer, with its
process and real wandb, has a few examples of its own below.
"""

# Over 250 lines: both ends, and a model of both.

from __future__ import annotations

import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import wandb
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from strategies import examples

import wbtune
from wbtune._data import timeouts
from wbtune._data.checkpoint import SavedCheckpoint
from wbtune._data.options import RunOptions
from wbtune._data.outcomes import FINISHED, Kind, Outcome
from wbtune._data.routing import Router
from wbtune._driver import helper_process
from wbtune._driver.message_queue import BATCH, BATCH_BYTES
from wbtune._driver.supervisor import MAX_HELPERS
from wbtune._driver.unacknowledged import Sent, SentMessages
from wbtune._driver.writer import Writer
from wbtune._helper.backend import AT_ONCE, Backend
from wbtune._helper.helper import Helper
from wbtune._helper.messages import (
    Configure,
    End,
    Log,
    Reopen,
    Start,
    Upload,
    UploadRest,
    framed,
    pack,
)
from wbtune._helper.uploads import upload_rest
from wbtune._place.identity import Identity
from wbtune._run import closing, run_files, run_log, run_spec
from wbtune._run.run_spec import RunSpec

#: Nothing here waits this long, unless it hangs.
HANGS_S = 30


# --- a run that behaves ---------------------------------------------------------------------


class TroubleError(Exception):
    """W&B's."""


class FakeRun:
    """As `wandb.Run`: drops a row whose step goes back, takes nothing once it is finished."""

    def __init__(self, init):
        self.id = init["id"]
        self.number = init["number"]
        self.trouble = init["trouble"]
        self.starting_step = self.next_step = init["starting_step"]
        self.rows: list[Any] = []
        self.dropped: list[Any] = []
        self.config = self
        self.configured: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.tags: tuple[str, ...] = ("own",)
        self.exit_codes: list[int] = []
        self.threads: set[int] = set()
        self.faults: list[str] = []
        self.artifacts: list[Any] = []
        self.offline = True
        self.disabled = True  # nobody can look at it

    def _must_be_open(self, what):
        self.threads.add(threading.get_ident())
        if self.exit_codes:
            self.faults.append(f"{what} after finish")

    def define_metric(self, name, **how):
        self._must_be_open("define_metric")
        if self.trouble == "define":
            raise TroubleError("define")

    def log(self, row, step=None, commit=None):
        self._must_be_open("log")
        if "boom" in row:
            raise TroubleError("log")
        if step < self.next_step or not commit:
            self.dropped.append(row)
            return
        self.next_step = step + 1
        self.rows.append((step, row))

    def update(self, changes, *, allow_val_change):
        self._must_be_open("config")
        if "boom" in changes:
            raise TroubleError("config")
        self.configured.update(changes)

    def log_artifact(self, artifact, aliases):
        self._must_be_open("log_artifact")
        self.artifacts.append((artifact.name, aliases))
        return artifact

    def finish(self, exit_code=None):
        self._must_be_open("finish")
        self.exit_codes.append(exit_code)
        if self.trouble == "finish":
            raise TroubleError("finish")


# --- the model ------------------------------------------------------------------------------


@dataclass
class Expected:
    """What one run has to be in the end, from its messages alone, one after the other."""

    key: str
    number: int
    trouble: str
    free: int
    rows: list[Any] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    lost: int = 0
    outcome: Outcome | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def opens(self):
        return self.trouble != "open"

    def take(self, message):
        match message:
            case Log(row=row, config=config) if not self.opens or "boom" in row:
                self.lost += 1
                if self.opens:
                    self.free += 1
                    self.config.update(config)
            case Log(row=row, config=config):
                wanted = row.get("training_iteration", 0)
                step = max(self.free, wanted if type(wanted) is int else 0)
                self.free = step + 1
                self.rows.append((step, row))
                self.config.update(config)
            case Configure(config=config) if "boom" not in config:
                self.config.update(config)
            case End():
                self.outcome, self.notes = message.outcome, message.notes
            case _:
                pass


class Model:
    """All runs, the open ones by their key."""

    def __init__(self):
        self.runs: list[Expected] = []
        self.open: dict[str, Expected] = {}
        self.homeless: set[str] = set()

    def take(self, message):
        run = self.open.get(message.key)
        if isinstance(message, Start):
            if run is None:
                init = message.spec.init
                trouble, free = init["trouble"], init["starting_step"]
                run = Expected(message.key, init["number"], trouble, free)
                self.runs.append(run)
                self.open[message.key] = run
        elif run is not None:
            run.take(message)
            if isinstance(message, End):
                del self.open[message.key]
        elif not isinstance(message, End):
            self.homeless.add(message.key)

    def driver_ended(self):
        for key in list(self.open):
            self.take(End(key, Outcome(Kind.INTERRUPTED, "the driver ended")))


# --- the machine ----------------------------------------------------------------------------

KEYS = ["a", "b", "c", *(f"trial{n}" for n in range(9))]  # more than are opened at once
keys = st.sampled_from(KEYS[:3]) | st.sampled_from(KEYS)
outcomes = st.builds(Outcome, st.sampled_from(Kind), st.sampled_from(["", "why"]))
rows = st.fixed_dictionaries(
    {},
    optional={"training_iteration": st.integers(0, 9) | st.none(), "loss": st.floats(0, 1)},
)
configs = st.dictionaries(st.sampled_from(["lr", "pid", "boom"]), st.integers(0, 3), max_size=2)


class HelperMachine(RuleBasedStateMachine):
    """Any messages for many runs at once, while opening and closing take any time."""

    def __init__(self):
        super().__init__()
        self.model = Model()
        self.batch: list[Any] = []
        self.opened: list[FakeRun] = []
        self.attempts: list[int] = []
        self.closes: list[FakeRun] = []
        self.warnings: list[tuple[str, str]] = []
        self.number = 0
        self.over = False
        # Each opening and each closing of a key takes one; the machine gives them out.
        self.permits: dict[str, threading.Semaphore] = defaultdict(partial(threading.Semaphore, 0))
        for key in KEYS:
            self.permits[key]
        read, write = os.pipe()
        self.pipe = os.fdopen(write, "wb")
        self.messages = os.fdopen(read, "rb")
        helper = Helper(
            lambda key, text: self.warnings.append((key, text)),
            backend=Backend(open_run=self.opening, close_run=self.closing, most_open=5),
        )
        self.serving = threading.Thread(target=helper.serve, args=(self.messages,), daemon=True)
        self.serving.start()

    def wait(self, key):
        if not self.permits[key].acquire(timeout=HANGS_S):
            self.warnings.append((key, "HANGS"))

    def opening(self, spec, secret, *, for_trial_elsewhere, on_stop):
        self.wait(spec.init["id"])
        self.attempts.append(spec.init["number"])
        assert for_trial_elsewhere
        assert secret.reveal() == "key"
        if spec.init["trouble"] == "open":
            raise TroubleError("open")
        run = FakeRun(spec.init)
        self.opened.append(run)
        return run

    def closing(self, run, outcome, notes):
        self.closes.append(run)
        self.wait(run.id)
        closing.close_run(run, outcome, notes)

    def gather(self, message):
        self.batch.append(message)

    # --- rules ---

    @precondition(lambda self: not self.over)
    @rule(
        key=keys,
        trouble=st.sampled_from(["", "", "", "open", "finish"]),
        starting_step=st.sampled_from([0, 0, 5]),
    )
    def start(self, key, trouble, starting_step):
        """Also of a run that is open, opening or closing."""
        self.number += 1
        init = {
            "id": key,
            "number": self.number,
            "trouble": trouble,
            "starting_step": starting_step,
        }
        self.gather(Start(key, RunSpec(init), "key"))

    @precondition(lambda self: not self.over)
    @rule(key=keys, results=st.lists(rows, min_size=1, max_size=4))
    def log(self, key, results):
        """Some rows; the iterations go where they want."""
        for row in results:
            self.number += 1
            self.gather(Log(key, {**row, "number": self.number}, {}))

    @precondition(lambda self: not self.over)
    @rule(key=keys, config=configs, boom=st.booleans())
    def log_with_config(self, key, config, boom):
        """A row that brings config along; the row may be one that W&B refuses."""
        self.number += 1
        config.pop("boom", None)
        row = {"number": self.number, **({"boom": 1} if boom else {})}
        self.gather(Log(key, row, config))

    @precondition(lambda self: not self.over)
    @rule(key=keys, config=configs)
    def configure(self, key, config):
        """A perturbation, say."""
        self.gather(Configure(key, config))

    @precondition(lambda self: not self.over)
    @rule(key=keys, outcome=outcomes, attempt=st.integers(1, 3))
    def end(self, key, outcome, attempt):
        """Also of a run that was never started, or has ended."""
        self.gather(End(key, outcome, {"wbtune/attempt": attempt}))

    @precondition(lambda self: not self.over and self.batch)
    @rule()
    def send(self):
        """What has gathered, as the writer sends it."""
        for message in self.batch:
            self.model.take(message)
        self.pipe.write(framed([pack(message) for message in self.batch]))
        self.pipe.flush()
        self.batch = []

    @rule(key=keys)
    def permit(self, key):
        """The next opening or closing of this run comes to its end."""
        self.permits[key].release()

    @precondition(lambda self: not self.over)
    @rule(cut=st.floats(0, 1))
    def driver_dies(self, cut):
        """In the middle of a batch, which is lost with it."""
        if self.batch:
            sent = framed([pack(message) for message in self.batch])
            self.pipe.write(sent[: int(cut * (len(sent) - 1))])
        self.pipe.close()
        self.over = True

    # --- the end ---

    def teardown(self):
        """Everything that was sent has happened, once, in order, and nothing else has."""
        if not self.over:
            if self.batch:
                self.send()
            self.pipe.close()
        for key in KEYS:
            self.permits[key].release(100)
        self.serving.join(HANGS_S)
        assert not self.serving.is_alive(), "the helper does not end"
        self.messages.close()
        self.model.driver_ended()
        self.compare()

    def compare(self):
        assert sorted(self.attempts) == sorted(run.number for run in self.model.runs)
        made = {run.number: run for run in self.opened}
        expected = [run for run in self.model.runs if run.opens]
        assert set(made) == {run.number for run in expected}
        assert sorted(run.number for run in self.closes) == sorted(made)
        for want in expected:
            run = made[want.number]
            assert run.faults == []
            assert run.dropped == [], "wandb drops a row whose step goes back"
            assert run.rows == want.rows
            steps = [step for step, _ in run.rows]
            assert steps == sorted(set(steps))
            assert run.configured == want.config
            assert want.outcome is not None
            assert run.exit_codes == [want.outcome.exit_code]
            notes = {**want.notes, "wbtune/dropped": want.lost}
            assert run.summary == {**want.outcome.summary(), **notes}
            assert run.tags == ("own", *want.outcome.tags)
        for want in self.model.runs:
            texts = [text for key, text in self.warnings if key == want.key]
            if want.trouble in {"open", "finish"}:
                assert any(f"TroubleError: {want.trouble}" in text for text in texts)
        homeless = {key for key, text in self.warnings if "not open" in text}
        assert homeless == self.model.homeless
        assert not [text for _, text in self.warnings if text == "HANGS"]


TestHelper = HelperMachine.TestCase
TestHelper.settings = settings(max_examples=examples(150), stateful_step_count=40, derandomize=True)


# --- single messages that have stopped a helper ----------------------------------------------


def serve(tmp_path, batches, open_run, close_run=closing.close_run, most_open=math.inf):
    """Let a helper work off the batches; what it said."""
    warnings: list[tuple[str, str]] = []
    path = Path(tmp_path, "messages")
    with path.open("wb") as stream:
        for batch in batches:
            stream.write(framed([pack(message) for message in batch]))
    helper = Helper(
        lambda key, text: warnings.append((key, text)),
        backend=Backend(open_run=open_run, close_run=close_run, most_open=most_open),
    )
    with path.open("rb") as stream:
        thread = threading.Thread(target=helper.serve, args=(stream,), daemon=True)
        thread.start()
        thread.join(5)
        assert not thread.is_alive(), "the helper does not end"
    return warnings


def fake_spec(key, trouble=""):
    return RunSpec({"id": key, "number": 0, "trouble": trouble, "starting_step": 0})


def opener(opened):
    def open_run(spec, secret, **how):
        run = FakeRun(spec.init)
        opened.append(run)
        return run

    return open_run


def test_a_run_that_refuses_define_metric_is_used_and_closed(tmp_path):
    """It is open: its rows go into it, and it is closed; without the x-axis, which is said."""
    opened: list[FakeRun] = []
    batch = [Start("a", fake_spec("a", "define")), Log("a", {"loss": 1}, {}), End("a", FINISHED)]
    warnings = serve(tmp_path, [batch], opener(opened))
    (run,) = opened
    assert (run.rows, run.exit_codes) == ([(0, {"loss": 1})], [0])
    assert len(warnings) == 1


class Crowd:
    """How many are at it, and how many were at the same time."""

    def __init__(self):
        self.now = self.most = 0
        self.changed = threading.Condition()

    def enter(self):
        with self.changed:
            self.now += 1
            self.most = max(self.most, self.now)
            self.changed.notify_all()

    def leave(self):
        with self.changed:
            self.now -= 1

    def wait_for(self, count):
        with self.changed:
            self.changed.wait_for(lambda: self.most >= count, HANGS_S)


def test_only_so_many_runs_are_opened_at_once(tmp_path):
    """More would storm the server; they come when there is room, and every run is opened."""
    crowd, opened = Crowd(), []
    keys = [f"run{number}" for number in range(2 * AT_ONCE + 3)]

    def open_run(spec, secret, **how):
        crowd.enter()
        crowd.wait_for(AT_ONCE)
        time.sleep(0.05)  # for those that should not come
        opened.append(FakeRun(spec.init))
        crowd.leave()
        return opened[-1]

    assert not serve(tmp_path, [[Start(key, fake_spec(key)) for key in keys]], open_run)
    assert crowd.most == AT_ONCE
    assert sorted(run.id for run in opened) == sorted(keys)


def test_only_so_many_runs_are_open_at_once(tmp_path):
    """Each has files: the others wait, with their rows, which is said; none is lost."""
    crowd, opened = Crowd(), []
    keys = [f"run{number}" for number in range(7)]

    def open_run(spec, secret, **how):
        crowd.enter()
        opened.append(FakeRun(spec.init))
        return opened[-1]

    def close_run(run, outcome, notes):
        crowd.leave()
        closing.close_run(run, outcome, notes)

    batches = [
        [Start(key, fake_spec(key)) for key in keys],
        [Log(key, {"loss": 1}, {}) for key in keys],
        [End(key, FINISHED) for key in keys],
    ]
    warnings = serve(tmp_path, batches, open_run, close_run, most_open=3)
    assert crowd.most == 3
    assert {run.id: (len(run.rows), run.exit_codes) for run in opened} == {
        key: (1, [0]) for key in keys
    }
    assert {text.partition(",")[0] for _, text in warnings} == {"3 runs are open at the same time"}


@pytest.mark.parametrize("late", [False, True])
def test_a_checkpoint_is_taken_in_time_or_later_and_its_copy_never_stays(late, tmp_path):
    """After the end of its run, that is opened again, and left with its exit code."""
    copy = tmp_path / ".checkpoint-1"
    copy.mkdir()
    (copy / "model").write_text("weights")
    saved = SavedCheckpoint("checkpoint_a", "checkpoint_000000", str(copy))
    upload = Upload("a", saved, Reopen(fake_spec("a"), 3))
    opened: list[FakeRun] = []
    messages = [Start("a", fake_spec("a")), upload, End("a", FINISHED)]
    if late:
        messages[1:] = [End("a", FINISHED), upload]
    warnings = serve(tmp_path, [messages], opener(opened))
    runs_seen = [(len(run.artifacts), run.exit_codes) for run in opened]
    assert runs_seen == ([(0, [0]), (1, [3])] if late else [(1, [0])])
    assert opened[-1].summary.get("wbtune/dropped") == (None if late else 0)
    assert not warnings
    assert not copy.exists()


def test_late_checkpoints_share_a_reopen(tmp_path):
    """The run is opened once more for all of them, and before what comes after them."""
    uploads = []
    for number in range(3):
        copy = tmp_path / f".checkpoint-{number}"
        copy.mkdir()
        saved = SavedCheckpoint(f"checkpoint_{number}", "checkpoint_000000", str(copy))
        uploads.append(Upload("a", saved, Reopen(fake_spec("a"), 3)))
    opened: list[FakeRun] = []
    again = [Start("a", fake_spec("a")), Log("a", {"loss": 1}, {}), End("a", FINISHED)]
    assert not serve(tmp_path, [[*uploads, *again]], opener(opened))
    seen = [(len(run.artifacts), len(run.rows), run.exit_codes) for run in opened]
    assert seen == [(3, 0, [3]), (0, 1, [0])]


@pytest.mark.parametrize("late", [False, True])
def test_a_checkpoint_without_a_run_is_said(late, tmp_path):
    """The run could not be opened: the warning names the checkpoint, and the copy goes."""
    copy = tmp_path / ".checkpoint-1"
    copy.mkdir()
    saved = SavedCheckpoint("checkpoint_a", "checkpoint_000007", str(copy))
    messages = [Start("a", fake_spec("a")), Upload("a", saved, Reopen(fake_spec("a"), 0))]
    if late:
        del messages[0]

    def open_run(spec, secret, **how):
        raise TroubleError("no server")

    warnings = serve(tmp_path, [messages], open_run)
    assert ["checkpoint_000007 (checkpoint_a)" in text for _, text in warnings] == [False, True]
    assert not copy.exists()


def test_a_long_upload_is_not_stuck(monkeypatch):
    """It may take half an hour and more, longer than a helper in which nothing moves may live."""
    monkeypatch.setattr(timeouts, "HELPER_STUCK_S", 0.02)
    enough, progress = threading.Event(), []

    def note_progress():
        progress.append(time.monotonic())
        if len(progress) == 5:
            enough.set()

    monkeypatch.setattr(closing, "upload_rest", lambda *_: enough.wait(30))
    rest = UploadRest("folder", "https://server", 60.0, "k")
    upload_rest(rest, time.monotonic() + 60, lambda *_: None, note_progress)
    assert enough.is_set()


@pytest.mark.parametrize("what", ["open", "finish"])
def test_a_hook_that_exits_does_not_hold_up_the_helper(what, tmp_path):
    """`sys.exit` in a user's hook ends neither a thread nor the experiment: it is said."""

    class Exits(FakeRun):
        def finish(self, exit_code=None):
            sys.exit(exit_code or 3)

    def open_run(spec, secret, **how):
        if what == "open":
            raise SystemExit(3)
        return Exits(spec.init)

    batch = [Start("a", fake_spec("a")), Log("a", {"loss": 1}, {}), End("a", FINISHED)]
    warnings = serve(tmp_path, [batch], open_run)
    assert any("SystemExit" in text for _, text in warnings)


# --- the writer, its process, and wandb -------------------------------------------------------


def spec(directory, trial):
    who = Identity(trial, f"train_{trial}", "experiment", str(directory))
    options = RunOptions(project="writer", init_kwargs={"mode": "offline"})
    return run_spec.spec(options, who, {"lr": 0.1})


def wait_until(condition, timeout=HANGS_S):
    """Poll; returns the seconds that it took."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < timeout, "it did not happen"
        time.sleep(0.02)
    return time.monotonic() - begun


def rows_on_disk(directory, trial):
    try:
        log = run_log.read_runs(directory).get(trial)
    except ValueError:  # its header is being written
        return []
    return [] if log is None else [row["i"] for row in log.rows]


def family(pid):
    return psutil.Process(pid).children(recursive=True)


def all_end(processes):
    """Do they end by themselves?"""
    _, alive = psutil.wait_procs(processes, timeout=HANGS_S)
    for process in alive:
        process.kill()
    return not alive


@pytest.fixture
def writer(tmp_path):
    writer = Writer()
    writer.launch(tmp_path / "wandb" / "wbtune.log")
    yield writer
    writer.close(1)


def test_many_runs_at_once(writer, tmp_path, caplog):
    """Rows of a dozen runs, mixed: each in its own run, in order, with its own ending."""
    caplog.set_level(logging.WARNING, "wbtune")
    trials = [f"t{n}" for n in range(12)]
    for trial in trials:
        writer.start(trial, spec(tmp_path, trial), Router(), None)
    for i in range(40):
        for n, trial in enumerate(trials):
            # A trial that is restored goes back by some iterations.
            writer.log(trial, {"i": i, "training_iteration": i - 5 * (i > 20 and n % 2), "pid": n})
    writer.configure("t3", {"lr": 0.2})
    for n, trial in enumerate(trials[:-1]):
        writer.end(trial, Outcome(list(Kind)[n % 5]), {"wbtune/attempt": n})
    # Nobody else has its pid; the session's Ray is our child, too.
    helper = writer._supervisor.helper
    assert helper is not None
    children = family(helper.pid)
    soft, hard = psutil.Process(helper.pid).rlimit(psutil.RLIMIT_NOFILE)
    assert soft == hard  # each open run is a file
    assert writer.close(HANGS_S)

    assert all_end(children)
    found = run_log.read_runs(tmp_path)
    assert set(found) == set(trials)
    for n, trial in enumerate(trials[:-1]):
        log = found[trial]
        assert [row["i"] for row in log.rows] == list(range(40))
        steps = [row["_step"] for row in log.rows]
        assert steps == sorted(set(steps))
        outcome = Outcome(list(Kind)[n % 5])
        assert (log.exit_code, tuple(log.tags)) == (outcome.exit_code, outcome.tags)
        assert log.summary.items() >= {"wbtune/attempt": n, "wbtune/dropped": 0}.items()
        assert log.config == {"lr": 0.2 if trial == "t3" else 0.1, "pid": n}
    last = found[trials[-1]]  # which nobody ended
    assert ([row["i"] for row in last.rows], last.exit_code) == (list(range(40)), 130)
    assert caplog.messages == []


def test_a_row_is_on_disk_within_about_a_second(writer, tmp_path):
    """Not at the end of the run, and not when wandb's buffer is full."""
    writer.start("t", spec(tmp_path, "t"), Router(), None)
    took = []
    for i in range(4):
        writer.log("t", {"i": i})
        took.append(wait_until(lambda i=i: rows_on_disk(tmp_path, "t") == [*range(i + 1)]))
    assert max(took[1:]) < 2  # the first waits for the process; 0.5 s on an idle machine
    assert min(took[1:]) < 1


def test_a_flood_is_sent_in_batches():
    """The helper begins with the first of it while the rest is being made ready."""
    writer = Writer()
    writer._rows.open("t", Router())  # as `start` has it done, by the same thread
    for i in range(2 * BATCH + 1):
        writer.log("t", {"i": i})
    assert [len(writer._queue.batch()) for _ in range(4)] == [BATCH, BATCH, 1, 0]


class Loopback:
    """A helper that has carried out each batch when it is sent; what the writer then remembers."""

    is_ready, failure = True, ""

    def __init__(self, writer):
        self.writer = writer
        self.remembered = []

    def send(self, batch):
        self.remembered.append(len(self.writer._unacknowledged.runs["t"].sent))
        self.writer._supervisor.handle_answer({"done": {"t": len(batch)}})

    def send_end(self):
        pass

    def is_alive(self):
        return True

    def wait(self):
        return True


def test_a_flood_is_forgotten_while_it_lasts():
    """What is done is heard between its batches: the driver remembers no more than one of them."""
    writer = Writer()
    writer._rows.open("t", Router())
    for i in range(5 * BATCH):
        writer.log("t", {"i": i})
    writer._supervisor._closing = True
    helper = Loopback(writer)
    assert writer._supervisor._deliver(helper, [])
    assert helper.remembered == [BATCH] * 5


def test_a_batch_of_large_rows_is_small():
    """It is made ready, sent and read as a whole: no gigabytes at a time."""
    writer = Writer()
    writer._rows.open("t", Router())
    for i in range(20):
        writer.log("t", {"i": i, "text": "x" * (BATCH_BYTES // 8)})
    assert [len(writer._queue.batch()) for _ in range(3)] == [8, 8, 4]


def no_interpreter(folder, monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    return "no helper process can be started"


def another_program(folder, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    return "it ended with 1"


def broken_wandb(folder, monkeypatch):
    Path(folder, "wandb.py").write_text("raise ImportError('half installed')")
    monkeypatch.syspath_prepend(folder)  # this process has imported the other one
    return "half installed"


def no_memory(folder, monkeypatch):
    def popen(*args, **how):
        raise MemoryError

    monkeypatch.setattr(subprocess, "Popen", popen)
    return "MemoryError"


@pytest.mark.parametrize("trouble", [no_interpreter, another_program, broken_wandb, no_memory])
def test_no_helper_process_can_start(trouble, tmp_path, caplog, monkeypatch):
    """It is said why, and a thread writes the runs: whole, and without wandb in this process."""
    (tmp_path / "first").mkdir()
    reason = trouble(str(tmp_path / "first"), monkeypatch)
    environment, run = dict(os.environ), wandb.run
    writer = Writer()
    writer.launch(tmp_path / "wandb" / "wbtune.log")
    for trial in ("a", "b"):
        writer.start(trial, spec(tmp_path, trial), Router(), None)
        for i in range(10):
            writer.log(trial, {"i": i, "training_iteration": i, "pid": 7})
    writer.log("a", {"i": 10, "image": np.zeros((8, 8, 3))})
    writer.end("a", Outcome(Kind.STOPPED, "enough"), {"wbtune/attempt": 2})
    assert writer.close(HANGS_S)
    assert [reason in text for text in caplog.messages] == [True, False]
    assert "image" in caplog.messages[1]
    found = run_log.read_runs(tmp_path)
    assert [row["i"] for row in found["a"].rows] == list(range(11))
    assert [row["i"] for row in found["b"].rows] == list(range(10))
    assert (found["a"].exit_code, found["b"].exit_code) == (0, 130)
    assert found["a"].config == {"lr": 0.1, "pid": 7}
    assert (found["a"].tags, found["a"].name, found["a"].group) == (
        ["stopped"],
        "train_a",
        "experiment",
    )
    entries = {"wbtune/reason": "enough", "wbtune/attempt": 2, "wbtune/dropped": 0, "i": 10}
    assert found["a"].summary.items() >= entries.items()
    assert (dict(os.environ), wandb.run) == (environment, run)


def test_neither_process_nor_thread_can_start(tmp_path, caplog, monkeypatch):
    """Nothing can be written: that is said, with the number of rows of each run."""

    def none_left(*args):
        raise OSError("Too many open files")

    monkeypatch.setattr("socket.socketpair", none_left)
    writer = Writer()
    writer.launch(tmp_path / "wandb" / "wbtune.log")
    writer.start("t", spec(tmp_path, "t"), Router(), None)
    writer.log("t", {"i": 0})
    writer.log("t", {"i": 1})
    assert not writer.close(1)
    assert "Too many open files" in caplog.text
    assert "wbtune (run t): 2 results were not logged" in caplog.messages


def test_the_helper_finds_the_package(tmp_path, monkeypatch):
    """It is the one that the driver has, whatever has become of where that was found."""
    monkeypatch.setattr(sys, "path", ["src"])
    package = Path(wbtune.__file__).parents[1]
    found = helper_process._environment(None)["PYTHONPATH"].split(os.pathsep)
    assert found == ["src", str(package)]


DRIVER = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_writer_machine import Router, Writer, spec
writer = Writer()
writer.launch(Path(sys.argv[1], "wandb", "wbtune.log"))
for trial in ("a", "b", "c"):
    writer.start(trial, spec(sys.argv[1], trial), Router(), None)
    for i in range(10):
        writer.log(trial, {"i": i})
if os.fork() == 0:
    signal.pause()  # with a copy of all that the driver has open
signal.pause()
"""


def test_the_driver_is_killed(tmp_path):
    """Every run is closed as interrupted with all its rows, and no process is left.

    Also where SIGTERM, SIGHUP and SIGINT came to all processes before (a job is cancelled, a
    terminal is closed), and where a child of the driver outlives it.
    """
    tests = str(Path(__file__).parent)
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path), tests])
    try:
        wait_until(lambda: all(len(rows_on_disk(tmp_path, t)) == 10 for t in "abc"), 60)
        children = family(driver.pid)
        (core,) = (one for one in children if "wandb-core" in " ".join(one.cmdline()))
        (helper,) = (one for one in children if one.pid == core.ppid())
        (fork,) = (one for one in children if one not in (core, helper))
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            helper.send_signal(number)
        core.send_signal(signal.SIGTERM)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    assert all_end([core, helper])
    fork.kill()
    for log in run_log.read_runs(tmp_path).values():
        assert [row["i"] for row in log.rows] == list(range(10))
        assert log.exit_code == 130
        assert log.summary["wbtune/outcome"] == "interrupted"
        assert log.tags == ["interrupted"]


def kill_helper(writer):
    """As the kernel does when memory is short: the helper alone."""
    helper = writer._supervisor.helper  # nobody else has its pid
    assert helper is not None
    children = family(helper.pid)
    helper.kill()
    return children


def test_the_helper_is_killed(writer, tmp_path, caplog):
    """Again and again: another one goes on with the same runs, each row once; said once.

    Once while the rows are on their way, once while nothing happens, and one of the runs
    had ended before.
    """
    for trial in ("a", "b", "done"):
        writer.start(trial, spec(tmp_path, trial), Router(), None)
        writer.log(trial, {"i": 0, "pid": 0})
    writer.end("done", FINISHED)
    writer.configure("a", {"lr": 0.2})
    wait_until(lambda: run_files.ends(tmp_path).get("done") == 0)
    wait_until(
        lambda: rows_on_disk(tmp_path, "a") == [0] and "done" not in writer._unacknowledged.runs
    )
    parts = [len(log.paths) for log in (run_log.read_runs(tmp_path)["done"],)]
    children = []
    for i in range(1, 400):
        for trial in ("a", "b"):
            writer.log(trial, {"i": i})
        if i == 50:
            children += kill_helper(writer)
        if i == 100:
            wait_until(lambda: len(set(rows_on_disk(tmp_path, "a"))) == 101)
            children += kill_helper(writer)
            wait_until(lambda: writer._supervisor.started == MAX_HELPERS)
    writer.end("a", Outcome(Kind.STOPPED))
    writer.end("b", FINISHED)
    assert writer.close(HANGS_S)
    assert all_end(children)
    assert "the helper process is gone" in caplog.messages[0]
    assert caplog.messages[1:] == [caplog.messages[0].replace(": the", ": 2 times in all: the", 1)]
    found = run_log.read_runs(tmp_path)
    for trial, outcome in (("a", "stopped"), ("b", "finished")):
        log = found[trial]
        assert [row["i"] for row in log.rows] == list(range(400))
        assert (log.exit_code, log.summary["wbtune/outcome"]) == (0, outcome)
        assert log.config == {"lr": 0.2 if trial == "a" else 0.1, "pid": 0}
    assert [len(found["done"].paths)] == parts


def test_the_helper_is_killed_while_it_closes(writer, tmp_path):
    """Messages that were sent, and not carried out: another helper does it, before `close`."""
    writer.start("t", spec(tmp_path, "t"), Router(), None)
    writer.log("t", {"i": 0})
    wait_until(lambda: rows_on_disk(tmp_path, "t") == [0])
    os.kill(writer._supervisor.helper.pid, signal.SIGSTOP)
    writer.log("t", {"i": 1})
    writer.end("t", FINISHED)
    closing = threading.Thread(target=writer.close, args=(HANGS_S,))
    closing.start()
    wait_until(lambda: writer._queue.is_empty)
    kill_helper(writer)
    closing.join(HANGS_S)
    log = run_log.read_runs(tmp_path)["t"]
    assert ([row["i"] for row in log.rows], log.exit_code) == ([0, 1], 0)


def test_every_helper_is_killed(writer, tmp_path, caplog):
    """After some, a thread goes on: every row, the summary whole, and what it can't do is said."""
    writer.start("t", spec(tmp_path, "t"), Router(), None)
    for number in range(1, MAX_HELPERS + 1):
        wait_until(lambda number=number: writer._supervisor.started == number)
        writer.log("t", {"i": number, f"only{number}": number})
        wait_until(lambda number=number: len(rows_on_disk(tmp_path, "t")) == number)
        kill_helper(writer)
    copy = tmp_path / ".checkpoint-1"
    copy.mkdir()
    for i in range(4, 9):
        writer.log("t", {"i": i})
    saved = SavedCheckpoint("checkpoint_t", "checkpoint_000000", str(copy))
    writer.upload("t", saved, lambda: Reopen(spec(tmp_path, "t"), 0), None)
    writer.end("t", FINISHED)
    assert writer.close(HANGS_S)
    assert not copy.exists()
    assert "3 helper processes were killed" in caplog.messages[1]
    assert "checkpoint_000000 (checkpoint_t) was not uploaded" in caplog.messages[2]
    log = run_log.read_runs(tmp_path)["t"]
    assert ([row["i"] for row in log.rows], log.exit_code) == (list(range(1, 9)), 0)
    assert {name: log.summary[name] for name in ("only1", "only3", "i")} == {
        "only1": 1,
        "only3": 3,
        "i": 8,
    }


def test_a_helper_that_hangs_is_not_waited_for(writer, tmp_path, caplog):
    """Its rows that only the driver has are written by the driver, and the run ends as it did."""
    writer.start("t", spec(tmp_path, "t"), Router(), None)
    writer.log("t", {"i": 0})
    wait_until(lambda: rows_on_disk(tmp_path, "t") == [0])
    helper = psutil.Process(writer._supervisor.helper.pid)
    stopped = [helper, *helper.children(recursive=True)]
    for process in stopped:
        process.suspend()
    for i in range(1, 3000):
        writer.log("t", {"i": i})
    writer.end("t", Outcome(Kind.FAILED))
    assert not writer.close(0, is_interrupted=lambda: True)
    assert "it hung" in caplog.text
    log = run_log.read_runs(tmp_path)["t"]
    assert ([row["i"] for row in log.rows], log.exit_code) == (list(range(3000)), 1)
    assert all_end(stopped)


class AsItIs(Router):
    """Sanitises nothing."""

    def route(self, result):
        return dict(result), {}


class Bomb:
    """Pickles here, and can't be read there: a class of the user's main program."""

    def __reduce__(self):
        return (_explode, ())


def _explode():
    if "wbtune-helper" in sys.argv or "ray" not in sys.modules:
        raise ModuleNotFoundError("the user's main program")
    return Bomb()


@pytest.mark.parametrize("bad", [Bomb(), lambda: None], ids=["unreadable", "unpicklable"])
def test_a_message_that_does_not_get_through(bad, writer, tmp_path, caplog):
    """It is left out, said once and counted if it is a row; what comes after it is not.

    A run whose end could not be read in full ends as it did.
    """
    for trial in ("a", "b"):
        writer.start(trial, spec(tmp_path, trial), AsItIs(), None)
        writer.log(trial, {"i": 0})
    wait_until(lambda: rows_on_disk(tmp_path, "a") == [0])
    writer.configure("a", {"bad": bad})
    for _ in range(3):
        writer.log("a", {"bad": bad})
    for trial in ("a", "b"):
        writer.log(trial, {"i": 1})
    can_be_sent = isinstance(bad, Bomb)
    writer.end("a", Outcome(Kind.STOPPED), {"bad": bad} if can_be_sent else {})
    writer.end("b", FINISHED)
    assert not writer.close(10)
    found = run_log.read_runs(tmp_path)
    assert rows_on_disk(tmp_path, "a") == rows_on_disk(tmp_path, "b") == [0, 1]
    assert (found["a"].exit_code, found["a"].tags) == (0, ["stopped"])
    assert [found[trial].summary["wbtune/dropped"] for trial in "ab"] == [3, 0]
    lost = [text for text in caplog.messages if "a row was lost" in text]
    assert len(lost) == 2 and "3 times in all" in lost[1]
    assert "wbtune (run a): 3 results were not logged" in caplog.messages


def test_what_is_remembered_does_not_show_the_key():
    """The messages carry it, in clear or packed; nobody prints it with them."""
    message = Start("a", fake_spec("a"), "sentinel")
    sent = Sent(message, pack(message))
    assert b"sentinel" in sent.packed.data
    for shown in (message, sent, SentMessages(sent=deque([sent]), start=sent)):
        assert "sentinel" not in repr(shown)
    rest = UploadRest("folder", "https://wandb.example.com", 1.0, "sentinel")
    assert "sentinel" not in repr(rest)
