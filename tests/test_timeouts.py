"""Every time limit stands in one file; together, those of a trial's end are what Tune grants."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.tune.execution import tune_controller

import wbtune
from wbtune._data import deadline, timeouts
from wbtune._data.options import RunOptions
from wbtune._data.outcomes import Kind, Outcome
from wbtune._place import identity
from wbtune._run import closing, run_files
from wbtune._trial import tune_hooks
from wbtune._trial.trial_run import TrialRun

SOURCE = Path(wbtune.__file__).parent
FILE = Path(timeouts.__file__)
MODULES = {
    str(path.relative_to(SOURCE)): path.read_text(encoding="utf-8")
    for path in SOURCE.rglob("*.py")
    if path != FILE
}
LIMITS = {name: value for name, value in vars(timeouts).items() if name.endswith("_S")}

#: Seconds that nobody waits for: a bound of an option, a rate, how finely rows are remembered.
NO_LIMITS = {"_LONGEST_S", "_FRAMES_PER_S", "TOGETHER_S"}

#: What waits, by the name of the call, and where it is told how long.
WAITS = {
    "acquire",
    "done_within",
    "get",
    "join",
    "settimeout",
    "sleep",
    "Timer",
    "wait",
    "wait_for",
}
#: Between two looks at what is a moment away.
A_MOMENT_S = 0.1


def literals(tree: ast.AST) -> list[str]:
    """The calls that wait for a time that is written where they stand."""
    return [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] in WAITS
        and any(
            isinstance(given, ast.Constant)
            and type(given.value) in {int, float}
            and given.value > A_MOMENT_S
            for given in (*node.args, *(k.value for k in node.keywords if k.arg == "timeout"))
        )
    ]


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_module_has_a_limit_of_its_own(module):
    """A limit is neither a constant nor a number elsewhere."""
    text = MODULES[module]
    assert set(re.findall(r"^ *(\w+_S)(?:: .+)? = ", text, re.MULTILINE)) <= NO_LIMITS
    assert literals(ast.parse(text)) == []


@pytest.mark.parametrize(
    "text", ["thread.join(5)", "done.wait(timeout=5.0)", "time.sleep(2)", "x.done_within(1.0)"]
)
def test_a_number_is_noticed(text):
    """The rule sees what it is there for."""
    assert literals(ast.parse(text)) == [text]


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_is_used_and_explained(name):
    """By a line above it, or above the others of its group."""
    assert any(f"timeouts.{name}" in text for text in MODULES.values())
    before = FILE.read_text(encoding="utf-8").partition(f"\n{name}: Final = ")[0]
    assert re.search(r"\n#: .+(\n\w+: Final = .+)*$", before)


# --- what a trial's end may take ----------------------------------------------------------


def granted_s() -> float:
    """The seconds that Tune waits for a trial which it has asked to end, before it is killed.

    At the experiment's end, that is; before it, Tune waits for ten minutes.
    """
    source = inspect.getsource(tune_controller.TuneController.__init__)
    return float(re.search(r"_actor_force_cleanup_timeout: int = (\d+)", source)[1])


class Clock:
    """A clock that only waiting moves on."""

    def __init__(self):
        self.now = 0.0
        self.waits = []

    def monotonic(self):
        return self.now

    def wait(self, seconds):
        self.waits.append(seconds)
        self.now += seconds


class NeverDone:
    """Something that nobody hears the end of."""

    clock: Clock

    def __init__(self, act):
        pass

    def done_within(self, seconds):
        self.clock.wait(seconds)
        return False


def let_all_hang(patch, clock, protection, logs, *, unwinds):
    """Whatever a trial's end waits for takes as long as it may."""
    join = SimpleNamespace(join=lambda thread, seconds: clock.wait(seconds))
    thread = SimpleNamespace(is_alive=lambda: unwinds)
    patch.setattr(tune_hooks, "threading", SimpleNamespace(Thread=join))
    patch.setattr(tune_hooks.ray_trial, "training_thread", lambda: thread)
    patch.setattr(deadline, "time", clock)
    patch.setattr(closing, "Waiting", type("Hangs", (NeverDone,), {"clock": clock}))
    patch.setattr(closing.guard, "of", lambda run: protection)
    patch.setattr(closing.forks, "in_child", lambda: False)
    patch.setattr(closing.wandb_finish, "is_finished", lambda run: False)
    patch.setattr(closing.wandb_core, "core_killer", lambda: lambda: None)
    patch.setattr(run_files, "logs", lambda *of: logs)
    patch.setattr(run_files, "wait_for_end", lambda path, seconds: clock.wait(seconds))


@pytest.fixture
def worst_end(monkeypatch, tmp_path):
    """Ends a trial of which everything takes as long as it may; gives the clock."""
    clock = Clock()

    def outcome(trainable):
        clock.wait(timeouts.STORE_IN_LOOP_S)  # for what the driver has said
        return Outcome(Kind.STOPPED)

    def end(patience, *, unwinds=True, ended=False, cleanup_s=0.0):
        protection = SimpleNamespace(
            patience=patience,
            is_ours=True,
            at_risk=0,
            give_up_core=lambda: None,
            has_ended=lambda: ended,
        )
        let_all_hang(monkeypatch, clock, protection, [tmp_path], unwinds=unwinds)
        trial_run = TrialRun("test", RunOptions())
        run = SimpleNamespace(dir=str(tmp_path / "files"), id="r", offline=False)
        remote = SimpleNamespace(deliver=lambda *of, seconds, after: clock.wait(seconds))
        trial_run._is_open, trial_run._trial = True, identity.Identity(directory="d", remote=remote)
        trial_run._results = SimpleNamespace(run=run, close=lambda: None, notes=dict)
        trial_run.outcome = outcome
        tune_hooks._cleanup(SimpleNamespace(cleanup=lambda: clock.wait(cleanup_s)), trial_run)()
        return clock

    return end


ONLINE_S = timeouts.TRIAL_UPLOAD_S + timeouts.TRIAL_CLOSES_S


@pytest.mark.parametrize("unwinds", [True, False])
@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("patience", [ONLINE_S, timeouts.OFFLINE_CLOSES_S])
def test_the_worst_end_of_a_trial_is_within_what_tune_grants(worst_end, patience, ended, unwinds):
    """Everything hangs, and a second is left for what nobody waits for."""
    clock = worst_end(patience, ended=ended, unwinds=unwinds)
    assert clock.now <= timeouts.END_S <= granted_s() - 1


def test_a_slow_function_leaves_time_to_close_its_run(worst_end):
    """It may unwind for six seconds, and closing has one, at least, before it is hanging."""
    store, _, unwinding, closes, *_ = worst_end(ONLINE_S).waits
    assert (store, unwinding) == (timeouts.STORE_IN_LOOP_S, 6.0)
    assert closes > timeouts.TRIAL_CLOSES_S


def test_the_users_own_slow_cleanup_leaves_time_to_close_the_run(worst_end):
    """A trial that was not killed meanwhile is not at its experiment's end."""
    clock = worst_end(timeouts.OFFLINE_CLOSES_S, unwinds=False, cleanup_s=12.0)
    assert clock.waits[:3] == [timeouts.STORE_IN_LOOP_S, 12.0, pytest.approx(6.0)]


def test_a_run_that_is_being_uploaded_is_left_to_the_driver(worst_end, tmp_path):
    """It is whole on disk: its core is not taken to hang, and it is marked."""
    clock = worst_end(ONLINE_S, unwinds=False, ended=True)
    assert clock.now <= timeouts.END_S
    assert [path.name for path in tmp_path.iterdir()] == [run_files._NOT_UPLOADED]
