"""Tune's folders, read without Ray: recorded ones of real experiments, and broken ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.experiment import Trial

from wbtune._data.outcomes import FINISHED, Kind, Outcome
from wbtune._tune_files import endings, experiment_files, folder_name
from wbtune._tune_files.folder import folder_of
from wbtune._tune_files.trial_files import Reading, TrialFiles
from wbtune.errors import ConfigurationError

RECORDED = Path(__file__).with_name("tune_folders")
DONE = sorted(path.name for path in RECORDED.glob("ray-*-done"))
KILLED = sorted(path.name for path in RECORDED.glob("ray-*-killed"))
LOSSES = {1.0: [1.0, 0.5, 1 / 3, 0.25, 0.2]}


def read(path: Path) -> experiment_files.ExperimentFiles:
    return experiment_files.read(folder_of(str(path)))


def trial(path: Path, **files: str) -> TrialFiles:
    """A trial in an experiment's folder of its own, without a state."""
    folder = path / "experiment" / "trial"
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text, encoding="utf-8")
    (found,) = read(path / "experiment").trials
    return found


def test_recorded_by_several_rays():
    """Both ends of the window of releases are there, each with both experiments, and Ray 2.7."""
    assert [name.split("-")[1] for name in DONE] == ["2.41.0", "2.60.0", "2.7.2"]
    assert [name.split("-")[1] for name in KILLED] == ["2.41.0", "2.60.0"]


@pytest.mark.parametrize("name", [*DONE, *KILLED])
def test_a_real_experiment(name):
    """Trials in the order of their creation, with parameters, results, errors and checkpoints."""
    experiment = read(RECORDED / name)
    assert (experiment.name, experiment.metric, experiment.problems) == (name, "loss", ())
    assert experiment.changed > 0
    configs = []
    for one in experiment.trials:
        config, problem = one.config()
        assert problem == ""
        assert set(one.sampled) == {"lr", "activation", "model/depth"}
        assert one.name == f"train_{one.trial_id}"
        as_text = str(dict) if one.folder is not None else "<pickled by Ray>"
        assert config["model"] == {"depth": one.sampled["model/depth"], "class": as_text}
        configs.append(config["lr"])
        reading = Reading()
        losses = [result["loss"] for result in one.results(reading)]
        assert losses == [config["lr"] / (i + 1) for i in range(len(losses))]
        assert (reading.results, reading.broken) == (len(losses), 0)
        last_saved = [f"checkpoint_{(len(losses) - 1) // 2:06}"] if losses else []
        assert set(last_saved) <= set(one.checkpoints())  # the next may be there before its result
        assert (one.changed > 0) == bool(losses)
    assert configs == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("name", DONE)
def test_how_trials_ended(name):
    """What finished, and what raised, with its error and its traceback."""
    experiment = read(RECORDED / name)
    assert experiment.has_ended
    outcomes = [endings.outcome_of(one, last_of(one)) for one in experiment.trials]
    assert [outcome.kind for outcome in outcomes] == [
        *(Kind.FINISHED, Kind.FINISHED, Kind.FAILED, Kind.FINISHED)
    ]
    failed = outcomes[2]
    assert (failed.error_type, failed.error_message) == (
        *("RuntimeError", "learning rate 3.0 is too high"),
    )
    assert 'raise RuntimeError("learning rate 3.0 is too high")' in failed.error_traceback
    assert "\x1b" not in failed.error_traceback
    assert len(failed.error_traceback.splitlines()) <= 20


@pytest.mark.parametrize("name", KILLED)
def test_a_killed_driver(name):
    """The trials that ran have not ended by Tune's word, and have what they had reported."""
    experiment = read(RECORDED / name)
    assert not experiment.has_ended
    assert [one.has_ended for one in experiment.trials] == [True, True, False, False]
    kinds = [endings.outcome_of(one, last_of(one)).kind for one in experiment.trials]
    assert kinds == [Kind.FINISHED, Kind.FINISHED, Kind.INTERRUPTED, Kind.INTERRUPTED]
    results = [len(list(one.results())) for one in experiment.trials]
    assert results == [5, 5, {"2.41": 2, "2.60": 0}[name[4:8]], 3]


def test_a_driver_that_was_killed_while_it_wrote():
    """Ray 2.7 had just emptied the state and a file of parameters; the results are there."""
    experiment = read(RECORDED / "ray-2.7.2-cut")
    (problem,) = experiment.problems
    assert problem.startswith("experiment_state-") and "can't be read" in problem
    assert [one.trial_id for one in experiment.trials] == [f"06d2f_0000{i}" for i in range(4)]
    assert [one.name for one in experiment.trials] == [f"train_06d2f_0000{i}" for i in range(4)]
    assert [len(list(one.results())) for one in experiment.trials] == [0, 5, 0, 0]
    assert [bool(one.config()[1]) for one in experiment.trials] == [True, False, False, True]


def last_of(one: TrialFiles):
    reading = Reading()
    for _ in one.results(reading):
        pass
    return reading.last


def test_rllib():
    """An algorithm's results are nested, its parameters are the algorithm's whole config."""
    experiment = read(RECORDED / "rllib")
    assert experiment.metric == "env_runners/episode_return_mean" and experiment.has_ended
    for number, one in enumerate(experiment.trials):
        assert one.name == f"PPO_CartPole-v1_{one.trial_id}"
        assert one.sampled == {"lr": [0.001, 0.0001][number]}
        results = list(one.results())
        assert len(results) == 3
        assert all(result["env_runners"]["episode_return_mean"] > 0 for result in results)
        config, problem = one.config()
        assert config["lr"] == one.sampled["lr"] and len(config) > 100 and not problem
        assert one.checkpoints() == ["checkpoint_000000"]
        outcome = endings.outcome_of(one, results[-1])
        assert outcome == Outcome(Kind.STOPPED, "stop={'training_iteration': 3}")


@pytest.mark.parametrize("name", [*DONE, *KILLED])
def test_without_a_state(name, tmp_path):
    """Trials are found by their folders; which had ended is not known, what raised is."""
    shutil.copytree(RECORDED / name, tmp_path / "e")
    for state in (tmp_path / "e").glob("experiment_state-*"):
        state.unlink()
    experiment, with_state = read(tmp_path / "e"), read(RECORDED / name)
    begun = {one.trial_id: one for one in with_state.trials if one.folder is not None}
    assert {one.trial_id for one in experiment.trials} == set(begun)
    assert experiment.metric is None and not experiment.has_ended
    for one in experiment.trials:
        known = begun[one.trial_id]
        assert list(map(str, one.results())) == list(map(str, known.results()))
        failed = known.status == "ERROR"
        expected = Kind.FAILED if failed else Kind.INTERRUPTED
        assert endings.outcome_of(one, {}).kind is expected


def test_a_half_written_state_gives_way_to_an_older_one(tmp_path):
    """Each restore begins another file; the newest that can be read counts, and it is said."""
    shutil.copytree(RECORDED / DONE[0], tmp_path / "e")
    (state,) = (tmp_path / "e").glob("experiment_state-*")
    newer = tmp_path / "e" / "experiment_state-2999-01-01_00-00-00.json"
    newer.write_bytes(state.read_bytes()[:-100])
    experiment = read(tmp_path / "e")
    assert [one.status for one in experiment.trials].count("TERMINATED") == 3
    (problem,) = experiment.problems
    assert newer.name in problem


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"trial_data": 3}',
        '{"trial_data": [[1]]}',
        '{"trial_data": [["{}", "{}"]]}',
    ],
)
def test_states_of_nobody(content, tmp_path):
    """A state that is no state costs no trial."""
    shutil.copytree(RECORDED / DONE[0], tmp_path / "e")
    (state,) = (tmp_path / "e").glob("experiment_state-*")
    state.write_text(content, encoding="utf-8")
    experiment = read(tmp_path / "e")
    assert len(experiment.trials) == 4
    assert len(experiment.problems) == 1


def test_nothing_is_unpickled_and_ray_is_not_needed(tmp_path):
    """A folder may come from anybody: what is pickled in it is never loaded."""
    code = (
        "import sys\n"
        "from wbtune._tune_files import experiment_files, folder\n"
        f"found = experiment_files.read(folder.folder_of({str(RECORDED / DONE[0])!r}))\n"
        "assert len([one.config() for one in found.trials]) == 4\n"
        "assert not {'ray', 'wandb', 'cloudpickle'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere", "does not exist. It is relative to"),
        ("file", "is a file. Give the experiment's folder"),
        (".", "no experiment of Ray Tune"),
        ("above", 'There is one in each of these folders of it: "first", "second"'),
        ("above/first/trial", "It is a trial's folder; give the one above it."),
        ("s3:nothing", "does not exist"),
        ("unknown://bucket/x", "can't be read"),
    ],
)
def test_folders_that_are_none(path, said, tmp_path, monkeypatch):
    """The error says what is wrong, and which folder may have been meant."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    for name in ("first", "second"):
        (tmp_path / "above" / name / "trial").mkdir(parents=True)
        (tmp_path / "above" / name / "experiment_state-1.json").touch()
        (tmp_path / "above" / name / "trial" / "result.json").touch()
    with pytest.raises(ConfigurationError) as error:
        experiment_files.read(folder_of(path))
    assert said in str(error.value)


@pytest.mark.parametrize(
    "address",
    [
        "nope://me:hidden@host/path?access_key=hidden",
        "s3://AKIAABCDEFGHIJKLMNOP:ab/hidden@bucket/exp",
    ],
)
def test_a_password_is_not_shown(address):
    """An address may have one, which may have a slash."""
    with pytest.raises(ConfigurationError) as error:
        folder_of(address)
    assert "hidden" not in str(error.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
RESULT = st.dictionaries(st.text(), JSON, max_size=4)
BROKEN = st.sampled_from(["{", '{"loss": 1', "[1]", "3", "\0\0\0", "]" * 9, "[" * 100_000, '"x"'])


@given(lines=st.lists(RESULT | BROKEN, max_size=8), cut=st.booleans())
def test_results_between_broken_lines(lines, cut, tmp_path_factory):
    """Whatever else is in the file, each result that can be read is read, in order."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    text = "\n".join(texts) + ("" if cut else "\n")
    reading = Reading()
    one = trial(tmp_path_factory.mktemp("t"), result_json=text)
    expected = [line for line in lines if isinstance(line, dict)]
    assert json.dumps(list(one.results(reading))) == json.dumps(expected)
    assert (reading.results, reading.broken) == (len(expected), len(lines) - len(expected))


def test_parameters_from_elsewhere(tmp_path):
    """Without params.json, or with a broken one, the first result has them; it is said."""
    result = json.dumps({"loss": 1, "config": {"lr": 0.1}, "trial_id": "abc"})
    without = trial(tmp_path / "1", result_json=result)
    assert without.config() == ({"lr": 0.1}, "trial has no params.json")
    assert without.trial_id == "abc"
    broken = trial(tmp_path / "2", result_json=result, params_json='{"lr": ')
    config, problem = broken.config()
    assert config == {"lr": 0.1} and "params.json of trial can't be read" in problem


SAMPLED = "1_lr=0.1000,user=bob_2026-01-01_00-00-00"


@pytest.mark.parametrize(
    ("folder", "trial_id", "name"),
    [
        (f"train_06d2f_00001_{SAMPLED}", "06d2f_00001", "train_06d2f_00001"),
        (f"train_06d2f_100000_{SAMPLED}", "06d2f_100000", "train_06d2f_100000"),
        (f"train_a1b2c3d4_{SAMPLED}", "a1b2c3d4", "train_a1b2c3d4"),  # a searcher's
        (f"train_a1b2c3d4_10000{SAMPLED[1:]}", "a1b2c3d4", "train_a1b2c3d4"),
        ("train_06d2f_00001", "06d2f_00001", "train_06d2f_00001"),  # trial_dirname_creator=str
        (
            f"my_train_PPO_20260101_16d2f_00001_{SAMPLED}",
            "16d2f_00001",
            "my_train_PPO_20260101_16d2f_00001",
        ),
        ("trial 7", "trial 7", "trial 7"),  # the user's own
        (f"mine_{SAMPLED}", "trial-76e5cf0f", "trial-76e5cf0f"),  # trial_name_creator
        (f"user=bob_06d2f_00001_{SAMPLED}", "trial-0647bdbe", "trial-0647bdbe"),
    ],
)
def test_which_trial_a_folder_is_of(folder, trial_id, name, tmp_path):
    """By Tune's names for folders; no value of a parameter is in what a run would be called."""
    (tmp_path / "e" / folder).mkdir(parents=True)
    (tmp_path / "e" / folder / "params.json").write_text("{}", encoding="utf-8")
    (found,) = read(tmp_path / "e").trials
    assert (found.trial_id, found.name) == (trial_id, name)
    result = json.dumps({"loss": 1, "trial_id": "abc"})
    (tmp_path / "e" / folder / "result.json").write_text(result, encoding="utf-8")
    (found,) = read(tmp_path / "e").trials
    assert found.trial_id == "abc" and "bob" not in found.name


def test_the_names_that_ray_makes():
    """A searcher's trials have ids of Ray's own making."""
    trial = Trial("train", stub=True, experiment_tag="1_lr=0.1000,user=bob")
    found = folder_name.trial_of(trial._generate_dirname())
    assert found == (trial.trial_id, str(trial), True)


@pytest.mark.parametrize(
    ("status", "stop", "last", "outcome"),
    [
        ("TERMINATED", {}, {"done": False}, FINISHED),
        ("TERMINATED", {}, {}, FINISHED),
        (
            *("TERMINATED", {"validation/loss": 3}, {"validation": {"loss": 4}, "done": True}),
            Outcome(Kind.STOPPED, "stop={'validation/loss': 3}"),
        ),
        (
            *("TERMINATED", {"loss": 9}, {"loss": 3, "done": True, "checkpoint_dir_name": None}),
            Outcome(Kind.STOPPED, "unknown"),
        ),
        (
            *("TERMINATED", {"loss": 9}, {"done": True}),
            Outcome(Kind.FINISHED, "unknown: the trial's own word, or Tune's"),
        ),
        ("PENDING", {}, {}, Outcome(Kind.INTERRUPTED, "it has not ended in Tune's files")),
        ("ERROR", {}, {}, Outcome(Kind.FAILED, "Tune reports an error without an exception")),
    ],
)
def test_endings_without_an_error(status, stop, last, outcome):
    """As the driver would have it, as far as the files tell; what they do not is "unknown"."""
    one = TrialFiles("id", "name", None, status=status, stop=stop)
    assert endings.outcome_of(one, last) == outcome


@pytest.mark.parametrize(
    ("text", "kind", "error", "message"),
    [
        ("ray::f()\n  File x\nValueError: a\nb", "failed", "ValueError", "a\nb"),
        ("ray::f()\nmy.package.Bad", "failed", "Bad", ""),
        (
            "The actor died unexpectedly before finishing this task.\n\tclass_name: F",
            "lost",
            "",
            "The actor died unexpectedly before finishing this task.",
        ),
        (
            "The actor died because of an error raised in its creation task\n  at\nKeyError: 'x'",
            "failed",
            "KeyError",
            "'x'",
        ),
        (
            "Task was killed due to the node running low on memory.\nMemory",
            "lost",
            "",
            "Task was killed due to the node running low on memory.",
        ),
    ],
)
def test_errors(text, kind, error, message, tmp_path):
    """The last failure's error: a raised one with its class and text, a killed process as lost."""
    first = "Failure # 1 (occurred at 2026-01-01)\nOSError: earlier\n"
    one = trial(
        tmp_path, error_txt=f"{first}Failure # 2 (occurred at 2026-01-02)\n{text}\n", result_json=""
    )
    found = endings.outcome_of(one, {})
    assert (found.kind.value, found.error_type, found.error_message) == (kind, error, message)
