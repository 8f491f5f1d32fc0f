"""What surrounds a script (a core, an agent, a launched job) does not become its trials' own."""

from __future__ import annotations

import json

import pytest
import strategies_functions as functions
from drivers import fitted
from outer_job_program import ROWS

from wbtune._data.options import RunOptions
from wbtune._data.outcomes import FINISHED
from wbtune._place import outer_job
from wbtune._place.identity import Identity
from wbtune._run import run_log
from wbtune._trial.trial_run import TrialRun


@pytest.fixture(scope="module")
def inside_an_agent(tmp_path_factory):
    """The program's folder, and what it said."""
    folder = tmp_path_factory.mktemp("agent")
    return folder, fitted("outer_job_program.py", folder)


@pytest.mark.parametrize("way", ["decorated", "plain", "setup_wandb"])
def test_trials_inside_an_agent(way, inside_an_agent):
    """Each trial is a run of its own in the project that was declared, and no row is missing.

    Also when it writes again after its process was killed, and when the driver's core is killed.
    """
    folder, _ = inside_an_agent
    logs = run_log.read_runs(folder / way)
    assert len(logs) == 2 and "agents" not in logs
    again = list(range(5)) if way == "decorated" else []
    for log in logs.values():
        key = "loss" if way == "plain" else "mine"
        assert [row[key] for row in log.rows if key in row] == again + list(range(ROWS))
        assert (log.project, log.group, log.exit_code) == ("p", way, 0)
        assert "from-outside" in log.tags


def test_the_drivers_own_run_goes_on(inside_an_agent):
    """It is the agent's, in the agent's project, with what was logged before and after the fits."""
    folder, output = inside_an_agent
    (log,) = run_log.read_runs(folder).values()
    assert (log.id, log.project, log.exit_code) == ("agents", "of-the-sweep", 0)
    assert [set(row) & {"before", "after"} for row in log.rows] == [{"before"}, {"after"}]
    lines = [line for line in output.splitlines() if "started by the sweep" in line]
    assert len(lines) == 2  # of two experiments that a callback watches
    assert all("agents" in line for line in lines)


OPENS = """
import json, os, sys
from pathlib import Path
from wbtune._run import run_log
from wbtune._run import closing
from wbtune._run import opening
from wbtune._run import run_spec
from wbtune._place.identity import Identity
from wbtune._data.options import RunOptions
from wbtune._data.outcomes import FINISHED

folder = sys.argv[1]
before = dict(os.environ)
options = run_spec.locate("test", RunOptions(project="p", init_kwargs={"mode": "offline"}))
opened = {}
for trial, elsewhere in [("a", False), ("b", False), ("c", True), ("d", True)]:
    who = Identity(trial, f"trial {trial}", "exp", folder)
    what = run_spec.spec(options, who, {"lr": trial})
    run = opening.open_run(what, for_trial_elsewhere=elsewhere)
    run.log({"x": 1})
    opened[trial] = [Path(run.dir).parent.parent.parent.name, Path(run.dir).name]
    closing.close_run(run, FINISHED)
plain = opening.open_run(run_spec.spec(options, Identity(), {}))
described = [plain.id, plain.project]
closing.close_run(plain, FINISHED)
closing.end_core()
changed = {name for name, _ in before.items() ^ os.environ.items()}
logs = run_log.read_runs(folder).values()
found = {log.id: [log.name, log.project, log.group, log.config, len(log.rows)] for log in logs}
print(json.dumps([found, opened, described, sorted(changed)]))
"""

SURROUNDINGS = {
    "an agent, and the address of a core that is gone": {
        "WANDB_SWEEP_ID": "sweep",
        "WANDB_SWEEP_PARAM_PATH": "sweep.yaml",
        "WANDB_SERVICE": "3-1-unix-/nowhere/socket",
        "WANDB_RESUME": "must",
    },
    "a launched job, and an address that is none": {
        "WANDB_LAUNCH": "true",
        "WANDB_CONFIG": '{"lr": "of the job"}',
        "WANDB_ARTIFACTS": '{"a": {}}',
        "WANDB_SERVICE": "nonsense",
        "WANDB_RESUME_FROM": "other?_step=3",
    },
    "SageMaker": {
        "SM_TRAINING_ENV": '{"lr": "of the job"}',
        "TRAINING_JOB_NAME": "job",
        "WANDB_X_FILES_DIR": "elsewhere",
        "WANDB_RESUME": "never",
    },
}


@pytest.mark.parametrize("around", SURROUNDINGS)
def test_what_names_another_run(around, tmp_path):
    """Id, name, project, group, config and folder of a trial's run are what wbtune decided.

    A run that is nobody's trial is what wandb makes of the environment. That is not changed.
    """
    (tmp_path / "sweep.yaml").write_text("wandb_version: 1\nlr:\n  value: of the sweep\n")
    of_one_run = {"WANDB_PROJECT": "other", "WANDB_NAME": "other", "WANDB_DIR": "other"}
    if around != "SageMaker":  # which gives its own only where there is none
        of_one_run["WANDB_RUN_ID"] = "other"
    (tmp_path / "other").mkdir()
    env = functions.clean_env(tmp_path) | of_one_run | SURROUNDINGS[around]
    folder = tmp_path / "experiment"
    output = functions.program(env, tmp_path, "-c", OPENS, str(folder))
    found, opened, plain, changed = json.loads(output.splitlines()[-1])
    expected = {
        trial: [f"trial {trial}", "p", "exp", {"lr": trial}, 1] for trial in ("a", "b", "c", "d")
    }
    assert found == expected
    assert opened == {trial: ["experiment", "files"] for trial in "abcd"}
    assert changed in ([], ["WANDB_SERVICE"])  # that of its own core, which wandb takes back
    match around:
        case "SageMaker":
            assert plain[0].startswith("job-")
        case _:
            assert plain == ["other", "other"]


@pytest.mark.parametrize(
    ("environment", "names"),
    [
        ({"WANDB_SWEEP_ID": "s1", "WANDB_RUN_ID": "r1"}, "the sweep s1 as the run r1"),
        ({"WANDB_LAUNCH": "True"}, "W&B Launch"),
        ({"WANDB_LAUNCH": "false", "WANDB_RUN_ID": "r1"}, None),
        ({}, None),
    ],
)
def test_one_line_says_whose_runs_they_are(environment, names, monkeypatch, caplog, tmp_path):
    """By a trial that no callback watches as well; not where there is no agent and no launched job.

    A function that is called by hand is left to wandb, without a warning.
    """
    outer_job.warn_once.cache_clear()
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    options = RunOptions(project="p", init_kwargs={"mode": "disabled"})
    known = Identity("t", "t", "exp", str(tmp_path))
    for trial in (Identity(), known, known, known._replace(fit="of a callback")):
        trial_run = TrialRun("wandb_trial", options)
        trial_run.open(trial, {})
        trial_run.close(FINISHED)
    warnings = [record.getMessage() for record in caplog.records if record.name == "wbtune"]
    assert len(warnings) == (names is not None)
    assert all(f"started by {names}. " in text and "in the group exp;" in text for text in warnings)


GOES_ON = """
import json, multiprocessing, os, sys
import wandb
from wbtune._run import run_log
from wbtune._run import closing
from wbtune._run import opening
from wbtune._run import run_spec
from wbtune._place.identity import Identity
from wbtune._data.options import RunOptions
from wbtune._data.outcomes import FINISHED

folder = sys.argv[1]

def opened(trial):
    options = RunOptions(project="p", init_kwargs={"mode": "offline"})
    return opening.open_run(run_spec.spec(options, Identity(trial, trial, "exp", folder), {}))

def child():
    run = opened("child")
    address = os.environ["WANDB_SERVICE"]
    run.log({"x": 1})
    closing.close_run(run, FINISHED)
    with open("address", "w") as file:
        file.write(address)

run = opened("parent")
own = os.environ["WANDB_SERVICE"]
run.log({"x": 1})
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join()
run.log({"x": 2})
wandb.teardown()  # lets go of the core
run.log({"x": 3})
closing.close_run(run, FINISHED)
closing.end_core()
logs = run_log.read_runs(folder).values()
rows = {log.id: [row["x"] for row in log.rows] for log in logs}
print(json.dumps([rows, own == open("address").read(), {log.id: log.exit_code for log in logs}]))
"""


def test_who_has_let_go_of_a_core(tmp_path):
    """After ``wandb.teardown`` a run goes on in another; a forked child shares its parent's."""
    env = functions.clean_env(tmp_path) | {"WANDB_SERVICE": "3-1-unix-/nowhere/socket"}
    output = functions.program(env, tmp_path, "-c", GOES_ON, str(tmp_path / "experiment"))
    rows, shared, exit_codes = json.loads(output.splitlines()[-1])
    assert rows == {"parent": [1, 2, 3], "child": [1]}
    assert shared
    assert exit_codes == {"parent": 0, "child": 0}
