"""Without a private name of Ray's, wbtune does without one thing, and nothing of it raises."""

from __future__ import annotations

import contextlib
import sys
import threading
from types import ModuleType, SimpleNamespace

import pytest
from fakes import FakeTrial
from ray import cloudpickle, tune
from ray.tune.trainable.function_trainable import wrap_function

from wbtune import WandbMixin, wandb_trial, wandb_tuner
from wbtune._data.outcomes import Kind
from wbtune._driver import endings, experiment_start, restoring, trial_state
from wbtune._place import handover, identity, sender
from wbtune._trial import train_hooks, tuner_options
from wbtune._trial.trial_run import TrialRun
from wbtune._upstream import (
    capabilities,
    ray_failures,
    ray_functions,
    ray_launch,
    ray_loop,
    ray_stops,
    ray_storage,
    ray_store,
    ray_train,
    ray_trial,
    ray_trials,
)

RAYS = [capability for capability in capabilities.every() if capability.package == "ray"]


@pytest.fixture
def without(monkeypatch):
    """Take capabilities away."""

    def take(*taken):
        for capability in taken:
            monkeypatch.setattr(capability, "missing", ("a.name:that.is_gone",))

    return take


class Stub(tune.Trainable):
    """As Tune builds one, without Tune."""

    def __init__(self, **attributes):
        vars(self).update(attributes)


class Storage:
    """What is asked of a ``StorageContext``."""

    def __init__(self, folder):
        from pyarrow.fs import LocalFileSystem

        self.storage_filesystem = LocalFileSystem()
        self.experiment_fs_path = str(folder)
        self.experiment_dir_name, self.trial_dir_name = folder.name, "train_1a2b3_00000_0_lr=1"
        self.trial_fs_path = str(folder / self.trial_dir_name)


INFO = SimpleNamespace(
    trial_id="1a2b3_00000", trial_name="train_1a2b3_00000", experiment_name="experiment"
)


@pytest.fixture
def context(monkeypatch, tmp_path):
    """Tune's public context, as in a function's trial."""
    said = {
        "trial_id": "1a2b3_00000",
        "trial_name": "train_1a2b3_00000",
        "experiment_name": "experiment",
        "trial_dir": str(tmp_path / "staging" / "trial"),
    }
    methods = {f"get_{name}": (lambda value=value: value) for name, value in said.items()}
    monkeypatch.setattr(tune, "get_context", lambda: SimpleNamespace(**methods))


@pytest.mark.parametrize("capability", RAYS, ids=lambda one: one.name)
def test_the_ray_that_is_tested_with_has_everything(capability):
    assert capability.missing == ()
    assert capability.since.startswith("ray 2.")


# --- which trial this is, and where it is kept ---


def test_a_trial_is_known_by_the_public_properties_of_its_trainable(without):
    trainable = Stub(_trial_info=INFO)
    before = identity.of_trainable(trainable)
    without(ray_trial.TRIAL)
    assert identity.of_trainable(trainable) == before._replace(experiment=None)


def test_a_functions_trial_is_known_by_tunes_context(without, context, tmp_path):
    without(ray_trial.TRIAL, ray_storage.STORAGE)
    trainable = Stub(_trial_info=None, _storage=None)
    found = identity.of_trainable(trainable)
    assert found[:4] == (*vars(INFO).values(), str(tmp_path / "staging"))


def test_a_mixins_trial_is_known_by_what_its_config_has(without):
    config = {"lr": 1, "__trial_info__": INFO}
    before = identity.of_trainable(None, config)
    assert before.trial_id == INFO.trial_id
    without(ray_trial.TRIAL)
    assert identity.of_trainable(None, {"lr": 1, "__another_key__": INFO}) == before


def test_outside_of_tune_there_is_no_trial_either(without):
    without(*RAYS)
    assert identity.of_trainable(None) == identity.Identity()
    assert identity.of_here() is None
    assert identity.rank() is None


def test_a_storage_is_found_whatever_its_attribute_is_called(without, tmp_path):
    storage = Storage(tmp_path)
    without(ray_storage.STORAGE)
    assert ray_storage.storage_of(Stub(_renamed=storage)) is storage
    assert ray_storage.storage_of(None) is None


def test_the_name_of_a_fit_comes_with_a_storage_of_other_attributes(without):
    storage = type("StorageContext", (), {"wbtune_fit": "fit-1"})()
    without(ray_storage.STORAGE)
    assert identity.of_trainable(Stub(_trial_info=INFO, _storage=storage)).fit == "fit-1"


def test_a_storage_that_cannot_be_asked_has_no_folder(without, tmp_path):
    storage = Storage(tmp_path)
    assert ray_storage.local_experiment_path(storage) == str(tmp_path)
    without(ray_storage.STORAGE)
    assert ray_storage.local_experiment_path(storage) is None
    assert ray_storage.remote_experiment_path(storage) is None
    assert ray_storage.experiment_path(storage) == ""
    assert ray_storage.staging_path(object())


# --- the driver's trials ---


def test_the_driver_keeps_runs_where_tune_keeps_the_trials(without, tmp_path):
    trial = FakeTrial("1a2b3_00000", tmp_path)
    before = identity.of_trial(trial)
    del trial.experiment_dir_name, trial.local_experiment_path
    trial.local_path = str(tmp_path / "trial")
    trial.path = str(tmp_path.with_name("experiment") / "trial")
    without(ray_trials.TRIALS)
    assert identity.of_trial(trial) == before
    stored = tmp_path / "storage" / "experiment"
    stored.mkdir(parents=True)
    trial.path = str(stored / "trial")
    assert identity.of_trial(trial).directory == str(stored)
    del trial.storage
    trial.renamed = type("StorageContext", (), {"wbtune_fit": "fit-1"})()
    without(ray_storage.STORAGE)
    assert identity.of_trial(trial).fit == "fit-1"


def test_a_trial_of_an_unknown_class_may_open_its_run_first(without, monkeypatch, tmp_path):
    trial = FakeTrial("1a2b3_00000", tmp_path)
    assert not ray_trials.may_run_function(trial)
    monkeypatch.delattr(FakeTrial, "get_trainable_cls")
    without(ray_trials.TRAINABLES)
    assert ray_trials.may_run_function(trial)
    assert not trial_state.owns_run(trial)


def test_results_are_read_where_the_trial_says_that_it_is(without, tmp_path):
    (tmp_path / restoring.RESULTS_FILE).write_text('{"training_iteration": 1, "loss": 0.5}\n')
    trial = FakeTrial("1a2b3_00000", tmp_path)
    trial.path, trial.storage = str(tmp_path), object()
    without(ray_storage.STORAGE)
    assert [result["loss"] for result in restoring.missing(trial, [])] == [0.5]


def test_a_failures_error_is_asked_for_publicly(without, tmp_path):
    trial = FakeTrial("1a2b3_00000", tmp_path)
    del trial.pickled_error_file
    trial.error = ValueError("boom")
    without(ray_failures.ERRORS)
    assert endings.failure(trial).error_message == "boom"
    trial.error = None
    assert endings.failure(trial).kind is Kind.FAILED


# --- why something ended ---


def test_a_stop_is_unknown_and_not_taken_for_an_end(without, tmp_path):
    result = {"training_iteration": 3, "done": True}
    without(ray_stops.STOPS)
    assert ray_stops.observe_stops(None) is None
    of_function = FakeTrial("1a2b3_00000", tmp_path, wrap_function(lambda config: None))
    assert endings.after_result(of_function, result)[:2] == (Kind.STOPPED, "unknown")
    of_class = endings.after_result(FakeTrial("1a2b3_00000", tmp_path), result)
    assert (of_class.kind, of_class.reason[:7]) == (Kind.FINISHED, "unknown")
    of_function.last_result = {"training_iteration": 3}
    assert endings.between_results(of_function)[:2] == (Kind.STOPPED, "unknown")


def test_bounds_are_compared_all_the_same(without, tmp_path):
    trial = FakeTrial("1a2b3_00000", tmp_path)
    trial.stopping_criterion = {"training_iteration": 3}
    without(ray_stops.STOPS)
    outcome = endings.after_result(trial, {"training_iteration": 3, "done": True})
    assert outcome[:2] == (Kind.STOPPED, "stop={'training_iteration': 3}")


def test_an_experiments_end_is_unknown(without):
    def run(experiment_interrupted_event, runner):
        return endings.for_unended_trials(None), ray_loop.interrupted_from_now()()

    event = threading.Event()
    event.set()
    assert run(event, None)[0][0].reason == endings.SIGNAL
    without(ray_loop.ENDINGS)
    (rest, failures), interrupted = run(event, None)
    assert (rest.reason, failures, interrupted) == ("unknown", {}, False)
    assert ray_loop.interruption_event() is None


# --- the start ---


def test_an_experiment_starts_without_what_tune_was_asked(without):
    def run(run_or_experiment, config, metric, scheduler, experiments):  # as ``tune.run``
        return ray_loop.sweep(), ray_loop.name_fit("fit-1"), ray_launch.launch()

    storage = SimpleNamespace(experiment_dir_name="experiment", storage_filesystem=None)
    arguments = (None, {}, "loss", None, [SimpleNamespace(storage=storage)])
    sweep, named, launch = run(*arguments)
    assert (sweep.metric, named, storage.wbtune_fit) == ("loss", True, "fit-1")
    assert launch is not None
    without(ray_loop.SETUP, ray_launch.CHECKS, ray_launch.HEAD)
    assert run(*arguments) == (ray_loop.Sweep(), False, None)
    assert ray_launch.may_be_launching()
    assert not ray_launch.has_started_cluster()


def test_the_last_checkpoint_stands_in_for_an_unknown_best(without, tmp_path):
    without(*RAYS)
    given: dict[str, dict[str, object]] = {"restored": {}}
    options = wandb_tuner_options(upload_checkpoints="best")
    started = experiment_start.start_experiment("wandb", options, None, **given)
    assert started.options.checkpoints == "last"


def wandb_tuner_options(**more):
    from wbtune._data.options import RunOptions

    return RunOptions(project="p", init_kwargs={"mode": "offline"}, **more)


def test_all_checkpoints_count_as_kept(without, tmp_path):
    trial = FakeTrial("1a2b3_00000", tmp_path)
    without(ray_loop.CHECKPOINTS)
    assert ray_loop.keeps(trial, SimpleNamespace(path="checkpoint_000000"))


def test_a_tuners_callbacks_need_no_private_name():
    def train(config):
        pass

    tuner = wandb_tuner(train, project="p", mode="offline")
    (found,) = ray_loop.callbacks_of(tuner)
    assert type(found).__name__ == "WandbLoggerCallback"


# --- Ray's store ---


def test_nothing_is_handed_over_and_each_process_owns_its_run(without, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.experimental.internal_kv", ModuleType("gone"))
    without(ray_store.STORE)
    handover.hand_over("fit-1", {"key": "secret"})
    assert handover.handed_over("fit-1") is None
    assert handover.claim("fit-1/1a2b3_00000", "trial") == "trial"
    assert handover.announced_end("fit-1") is None
    handover.take_back("fit-1")
    handover.unclaim("fit-1/")
    sender.hand_over()
    assert sender.name("before") == "before"


# --- functions ---


def test_a_decorated_function_travels_without_any_private_name(without):
    without(*RAYS)

    @wandb_trial(project="p")
    def train(config, run):
        return run

    class Train(WandbMixin, tune.Trainable, project="p"):
        pass

    assert cloudpickle.loads(cloudpickle.dumps(train)).declared == train.declared
    assert cloudpickle.loads(cloudpickle.dumps(Train)).wbtune_options.project == "p"


def test_a_function_is_known_by_the_name_of_its_class(without):
    made = wrap_function(lambda config: None)
    without(ray_functions.FUNCTIONS)
    assert ray_functions.is_function(made)
    assert not ray_functions.is_function(tune.Trainable)
    assert not ray_functions.is_function(None)


def test_a_registered_name_is_taken_as_it_is(without):
    without(ray_functions.FUNCTIONS)
    options = wandb_tuner_options()
    assert tuner_options.with_tuner_options("wandb_tuner", "name", options) == ("name", options)


def test_a_duplicate_is_known_by_its_key(without):
    without(ray_trial.ENDS)
    assert ray_trial.is_duplicate({"__duplicate__": True})
    assert not ray_trial.is_duplicate({"loss": 1})
    assert not ray_trial.function_returned(Stub())


def test_the_thread_of_a_function_is_found_by_what_it_runs(without):
    without(ray_trial.ENDS)
    assert ray_trial.training_thread() is None
    done = threading.Event()
    kind = wrap_function(lambda config: done.wait() and sys.exit())

    def run():
        with contextlib.suppress(SystemExit):
            kind._trainable_func(Stub(), {})

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        assert ray_trial.training_thread() is thread
        ray_trial.on_training_error(print)  # does nothing
    finally:
        done.set()
        thread.join()


# --- Ray Train ---


def test_a_worker_is_known_by_trains_context(without, monkeypatch, tmp_path):
    from ray import train

    said = {"get_world_rank": lambda: 1, "get_experiment_name": lambda: "name"}
    without(ray_train.WORKERS, ray_train.WORKERS_V2)
    assert ray_train.train_worker() is None
    monkeypatch.setattr(train, "get_context", lambda: SimpleNamespace(**said))
    worker = ray_train.train_worker()
    assert (worker.rank, worker.run_name) == (1, "name")
    assert worker.run_id == ray_train.train_worker().run_id
    assert identity.of_worker(worker).trial_id == worker.run_id[:12]


def test_a_loop_whose_end_is_unknown_keeps_its_run(without, caplog):
    worker = ray_train.TrainWorker(0, "id", "name", None, None, SimpleNamespace())
    trial_run = TrialRun("setup_wandb", wandb_tuner_options())
    without(ray_train.LOOPS)
    train_hooks.attach_to_worker(worker, trial_run)
    assert not trial_run.keeps_open  # so that the user's own ``finish`` closes it
    assert "call run.finish() in the end" in caplog.text


@pytest.mark.parametrize("error", [None, ValueError("boom")])
def test_a_loop_before_ray_2_50_ends_where_its_thread_says_so(error):
    """Its runner has no queue, and stores what the loop returned or raised."""
    ends = []

    class Runner:
        _ret = _exc = None

        def run(self):
            if error is None:
                self._ret = "returned"
            else:
                self._exc = SimpleNamespace(_base_exc=error)

    runner = Runner()
    worker = ray_train.TrainWorker(0, "id", "name", None, None, runner)
    assert ray_train.watch_training_loop(worker, ends.append, list)
    runner.run()
    assert ends == [error]
    assert (runner._ret == "returned") is (error is None)
