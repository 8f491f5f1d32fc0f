"""`wandb_tuner` and the callback on the driver: what is refused, what is kept, what is pickled."""

# Over 250 lines: all that is refused on the driver.

from __future__ import annotations

import copy
import functools
import inspect
import pickle

import pytest
from programs import run_config
from ray import cloudpickle, tune
from ray.tune.experiment import Experiment
from ray.tune.trainable import wrap_function

import wbtune
from wbtune import (
    ConfigurationError,
    CredentialsError,
    InvalidTrainableError,
    UnknownOptionError,
    WandbLoggerCallback,
    WandbMixin,
    restore_wandb_tuner,
    wandb_trial,
    wandb_tuner,
)
from wbtune._data.checkpoint import Objective
from wbtune._driver import experiment_start
from wbtune._run import run_log
from wbtune._run.ownership import OwnsRun
from wbtune._trial.trial_function import WandbTrial

KEY = "k" * 40


def train(config):
    return {"loss": 1.0}


def callback_of(tuner):
    [found] = [
        callback
        for callback in tuner._local_tuner.get_run_config().callbacks
        if isinstance(callback, WandbLoggerCallback)
    ]
    return found


def test_run_config_is_not_changed_and_its_callbacks_are_kept(tmp_path):
    """The caller's RunConfig is the same before and after; the tuner's has both callbacks."""

    class Mine(tune.Callback):
        pass

    mine = Mine()
    given = tune.RunConfig(name="n", storage_path=str(tmp_path), callbacks=[mine])
    before = copy.copy(vars(given))
    tuner = wandb_tuner(train, project="p", run_config=given)
    assert vars(given) == before
    assert given.callbacks == [mine]
    assert tuner._local_tuner.get_run_config().callbacks[0] is mine
    assert callback_of(tuner).options.project == "p"


def test_param_space_may_be_given_by_position():
    """As the second argument; another of Tune's in its place is refused by name."""
    tuner = wandb_tuner(train, {"lr": 0.1}, project="p")
    assert tuner._local_tuner.param_space == {"lr": 0.1}
    with pytest.raises(ConfigurationError, match=r"param_space= to be a dict, got TuneConfig\."):
        wandb_tuner(train, tune.TuneConfig(), project="p")


def test_param_space_may_be_an_object():
    """RLlib's ``PPOConfig`` has a ``to_dict``, which Tune uses; a key in it is taken."""

    class Config:
        def to_dict(self):
            return {"lr": 0.1, "wandb": {"api_key": KEY, "tags": ["t"]}}

    tuner = wandb_tuner(train, Config(), project="p")
    assert tuner._local_tuner.param_space == {"lr": 0.1, "wandb": {"tags": ["t"]}}
    with pytest.raises(ConfigurationError, match=r"param_space= to be a dict, got type\."):
        wandb_tuner(train, Config, project="p")  # the class, not an object of it


@pytest.mark.parametrize(
    "options",
    [
        tune.sample_from(lambda spec: {"tags": ["a"]}),
        tune.grid_search([{"tags": ["a"]}, {"tags": ["b"]}]),
        {"name": tune.sample_from(lambda spec: f"lr={spec.config.lr}"), "notes": "n"},
        {"tags": ["a", tune.choice(["b", "c"])]},
        {"group": tune.grid_search(["a", "b"])},
    ],
)
def test_sampled_options_are_left_to_the_trials(options):
    """What is drawn can't be checked on the driver; what is the same for all trials is."""
    space = {"lr": 0.1, "wandb": options}
    assert wandb_tuner(train, space, project="p")._local_tuner.param_space == space


def test_options_beside_sampled_ones_are_checked():
    """Before any trial, as they are where nothing is sampled."""
    options = {"name": tune.choice(["a", "b"]), "projct": "p"}
    with pytest.raises(UnknownOptionError, match="projct"):
        wandb_tuner(train, {"wandb": options}, project="p")


def test_each_trial_has_its_own_name_and_tags(ray, tmp_path):
    """By options that are sampled like hyperparameters."""
    wandb_tuner(
        train,
        {
            "lr": tune.grid_search([1, 2]),
            "wandb": {
                "name": tune.sample_from(lambda spec: f"lr={spec.config.lr}"),
                "tags": ["t", tune.sample_from(lambda spec: f"lr-{spec.config.lr}")],
                "notes": "n",
            },
        },
        project="p",
        run_config=run_config(tmp_path, "named"),
    ).fit()
    logs = run_log.read_runs(tmp_path / "named").values()
    assert {log.name: (log.tags, log.notes) for log in logs} == {
        "lr=1": (["t", "lr-1"], "n"),
        "lr=2": (["t", "lr-2"], "n"),
    }
    assert all("wandb" not in log.config for log in logs)


def test_second_callback_is_refused():
    """Ray's own callback or ours in the RunConfig: an error that says which to remove."""
    theirs = type("WandbLoggerCallback", (tune.Callback,), {"__module__": "ray.air.integrations"})
    for second, name in ((WandbLoggerCallback(project="q"), "wbtune."), (theirs(), "ray.air.")):
        with pytest.raises(ConfigurationError, match="Remove it") as caught:
            wandb_tuner(train, project="p", run_config=tune.RunConfig(callbacks=[second]))
        assert name in str(caught.value)


def test_no_project(monkeypatch):
    """Without a project there is an error with both cures; the environment is one of them."""
    for name in ("WANDB_PROJECT_NAME", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError, match=r"project=.*WANDB_PROJECT_NAME"):
        wandb_tuner(train)
    with pytest.raises(ConfigurationError, match=r"project=.*WANDB_PROJECT_NAME"):
        WandbLoggerCallback().setup()
    monkeypatch.setenv("WANDB_PROJECT_NAME", "from-environment")
    assert callback_of(wandb_tuner(train)).options.project == "from-environment"


def test_precedence():
    """Explicit comes before ``param_space["wandb"]``, a declaration before the tuner's options."""
    space = {"lr": 1, "wandb": {"project": "inner", "group": "inner", "tags": ["t"]}}
    options = callback_of(wandb_tuner(train, project="explicit", param_space=space)).options
    assert (options.project, options.group) == ("explicit", "inner")
    assert options.init_kwargs["tags"] == ["t"]

    inner = {"upload_checkpoints": "last", "upload_timeout": 5, "log_config": True}
    space = {"wandb": {**inner, "log_results": False}}
    options = callback_of(wandb_tuner(train, space, project="p")).options
    assert {name: getattr(options, name) for name in space["wandb"]} == space["wandb"]
    options = callback_of(wandb_tuner(train, space, project="p", upload_timeout=7)).options
    assert (options.upload_timeout, options.log_config) == (7, True)
    options = callback_of(wandb_tuner(train, project="p")).options
    assert (options.upload_timeout, options.log_results) == (1800, True)

    declared = wandb_trial(project="declared", excludes=["a"])(train)
    options = callback_of(wandb_tuner(declared, project="tuner", group="g", excludes=["b"])).options
    assert (options.project, options.group) == ("declared", "g")
    assert set(options.excludes) == {"a", "b"}


def test_declaration_travels_with_the_trainable():
    """Decorated functions and mixins learn the tuner's options, and to log Tune's results."""
    declared = wandb_trial(project="p")(train)
    tuner = wandb_tuner(declared, group="g")
    configured = cloudpickle.loads(cloudpickle.dumps(tuner._local_tuner.trainable))
    assert (configured.declared.group, configured.declared.log_results) == ("g", True)
    assert declared.declared.group is None  # the original is left alone

    class Train(WandbMixin, tune.Trainable, project="p", log_results=False):
        def step(self):
            return {"done": True}

    configured = wandb_tuner(Train, group="g")._local_tuner.trainable
    assert (configured.wbtune_options.group, configured.wbtune_options.log_results) == ("g", False)
    assert configured.__name__ == "Train"
    assert Train.wbtune_options.group is None


def test_typo_is_a_type_error_with_the_nearest_name():
    """A misspelt option is refused on the driver, and the right one suggested."""
    with pytest.raises(UnknownOptionError, match="Did you mean entity="):
        wandb_tuner(train, project="p", entiti="x")
    with pytest.raises(UnknownOptionError, match="Did you mean excludes="):
        WandbLoggerCallback(project="p", exclude=["x"])
    with pytest.raises(UnknownOptionError, match="Did you mean tags="):
        wbtune.setup_wandb({}, tag=["x"])


def test_key_is_in_no_pickle(tmp_path):
    """A key given to the callback or the tuner is nowhere in what Tune pickles."""
    callback = WandbLoggerCallback(project="p", api_key=KEY)
    tuner = wandb_tuner(
        train, project="p", api_key=KEY, run_config=tune.RunConfig(storage_path=str(tmp_path))
    )
    for dumped in (
        pickle.dumps(callback),
        cloudpickle.dumps(callback),
        cloudpickle.dumps(tuner._local_tuner.get_run_config()),
        *(path.read_bytes() for path in tmp_path.rglob("*.pkl")),
    ):
        assert KEY.encode() not in dumped
    assert KEY not in repr(vars(callback))


def test_two_keys(tmp_path):
    """`api_key` and `api_key_file` together are refused at once."""
    file = tmp_path / "key"
    file.write_text(KEY)
    for way in (
        lambda **kw: WandbLoggerCallback(project="p", **kw),
        lambda **kw: wandb_tuner(train, project="p", **kw),
        lambda **kw: wbtune.setup_wandb({}, **kw),
    ):
        with pytest.raises(CredentialsError, match="Leave one out"):
            way(api_key=KEY, api_key_file=str(file))


def test_no_credentials_is_an_error_before_any_trial(ray, tmp_path, monkeypatch):
    """Online without a key: `fit` raises on the driver, and all four cures are named."""
    monkeypatch.setenv("WANDB_MODE", "online")
    started = tmp_path / "started"

    def starts(config):
        started.touch()

    with pytest.raises(CredentialsError) as caught:
        wandb_tuner(
            starts, project="p", run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0)
        ).fit()
    for cure in ("wandb login", "WANDB_API_KEY", "api_key_file=", 'mode="offline"'):
        assert cure in str(caught.value)
    assert not started.exists()


def test_save_checkpoints_is_deprecated():
    """The guide's old name still works, and says what to use."""
    with pytest.warns(DeprecationWarning, match="upload_checkpoints="):
        callback = WandbLoggerCallback(project="p", save_checkpoints=True)
    assert callback.options.upload_checkpoints is True


def test_one_id_for_trials_that_open_their_own_runs():
    """`id=` is refused where each trial would open the same run; a plain trainable may have it."""
    for trainable in (
        wandb_trial(train),
        type("Train", (WandbMixin, tune.Trainable), {"__module__": __name__}),
    ):
        with pytest.raises(ConfigurationError, match="wandb_tuner: id= names one run"):
            wandb_tuner(trainable, project="p", id="one")
    assert callback_of(wandb_tuner(train, project="p", id="one")).options.init_kwargs["id"] == "one"


@wandb_trial(project="declared")
def decorated(config, data=None):
    return {"loss": 1.0}


class Mixed(WandbMixin, tune.Trainable, project="declared"):
    def step(self):
        return {"done": True}


def _inner(trainable):
    """The decorated function that a told trainable calls."""
    if isinstance(trainable, functools.partial):
        return _inner(trainable.func)
    if type(trainable) is not WandbTrial:
        names = inspect.getclosurevars(trainable)
        found = {**names.globals, **names.nonlocals}.values()
        [trainable] = [value for value in found if type(value) is WandbTrial]
    return trainable


def _local(called=decorated):
    mine = called
    return lambda config: mine(config, data=1)


@pytest.mark.parametrize(
    "trainable",
    [
        functools.partial(decorated, data=1),
        functools.partial(functools.partial(decorated), data=1),
        tune.with_resources(functools.partial(decorated, data=1), {"cpu": 1}),
        lambda config: decorated(config, data=1),
        _local(),
    ],
    ids=["partial", "of a partial", "with resources", "lambda", "closure"],
)
def test_what_calls_a_decorated_function_has_the_tuners_options(trainable):
    """A partial or a lambda of one is told the options, and owns its run: nobody else opens it."""
    tuner = wandb_tuner(trainable, group="g", excludes=["x"])
    assert callback_of(tuner).options.project == "declared"
    configured = cloudpickle.loads(cloudpickle.dumps(tuner._local_tuner.trainable))
    made = wrap_function(configured)
    assert issubclass(made, OwnsRun)
    options = made.wbtune_tuner_options
    assert (options.group, options.log_results) == ("g", True)
    assert _inner(trainable).declared.group is None  # the user's own is left alone
    assert "OwnsRun" not in str(vars(trainable))
    name = Experiment.get_trainable_name(trainable)
    assert Experiment.get_trainable_name(tuner._local_tuner.trainable) == name
    assert vars(configured).get("_resources") == vars(trainable).get("_resources")


def test_a_lambda_of_something_else_is_left_alone():
    """And so is a partial: they are logged by the callback."""
    for plain in (lambda config: {**train(config)}, functools.partial(train)):
        assert wandb_tuner(plain, project="p")._local_tuner.trainable is plain


def test_registered_names():
    """A name is as good as what it stands for: the callback logs it, or its own run is told."""
    tune.register_trainable("plain", train)
    tune.register_trainable("decorated", decorated)
    tune.register_trainable("mixed", Mixed)
    assert wandb_tuner("plain", project="p")._local_tuner.trainable == "plain"
    configured = wandb_tuner("decorated", group="g")._local_tuner.trainable
    assert (configured.declared.group, configured.declared.log_results) == ("g", True)
    configured = wandb_tuner("mixed", group="g")._local_tuner.trainable
    assert (configured.wbtune_options.group, configured.wbtune_options.log_results) == ("g", True)


def test_the_metric_comes_from_the_tuners_own_config(monkeypatch, no_cluster):
    """What is best is known from `TuneConfig`, without a look into Tune's loop."""
    made = {}
    monkeypatch.setattr(experiment_start, "Experiment", lambda *args, **more: made.update(more))
    tuner = wandb_tuner(
        train,
        project="p",
        mode="offline",
        upload_checkpoints="best",
        tune_config=tune.TuneConfig(metric="loss", mode="max"),
    )
    callback_of(tuner).setup()
    assert made["objective"] == Objective("loss", "max")


def test_a_restored_callback_keeps_what_is_best():
    """The tuner's metric and mode are pickled with its callback, and restoring gives no others."""
    callback = WandbLoggerCallback(project="p")
    callback.use("wandb_tuner", callback.options, None, Objective("loss", "max"))
    restored = pickle.loads(pickle.dumps(callback))
    restored.use("restore_wandb_tuner", restored.options, None)
    assert restored._WandbLoggerCallback__objective == Objective("loss", "max")


@pytest.mark.parametrize(
    ("trainable", "says"),
    [
        ("unknown", "no trainable is registered as 'unknown'. Give the trainable itself."),
        (3, "expected a function, a class trainable or a registered name, got 3."),
    ],
)
def test_no_trainable(trainable, says):
    """Said before anything starts."""
    with pytest.raises(InvalidTrainableError, match="wandb_tuner: ") as caught:
        wandb_tuner(trainable, project="p")
    assert says in str(caught.value)


def test_with_parameters_keeps_the_declaration(no_cluster):
    """`tune.with_parameters` of a decorated function is told the tuner's options as well."""
    trainable = tune.with_parameters(decorated, data=1)
    tuner = wandb_tuner(trainable, group="g")
    assert callback_of(tuner).options.project == "declared"
    configured = cloudpickle.loads(cloudpickle.dumps(tuner._local_tuner.trainable))
    made = wrap_function(configured)
    options = made.wbtune_tuner_options
    assert (options.group, options.log_results) == ("g", True)
    assert issubclass(made, OwnsRun)
    assert _inner(trainable).declared.group is None  # the user's own is left alone


@pytest.mark.parametrize("path", ["/none", "s3://[/x", "nowhere://x/y"])
def test_nothing_to_restore(path, tmp_path):
    """Is said with what tells whether there is something."""
    with pytest.raises(ConfigurationError, match=r"_tuner: (no experiment in|can't)"):
        restore_wandb_tuner(path, train)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("project", "is stored with the experiment"),
        ("tags", "is stored with the experiment"),
        ("metric", "is no argument of tune.Tuner.restore. Leave it out."),
    ],
)
def test_what_restore_does_not_take(name, says):
    """Options are stored; the rest is what Tune's own restore takes."""
    with pytest.raises(UnknownOptionError, match=f"{name}= {says}"):
        restore_wandb_tuner("/none", train, **{name: "p"})


@pytest.mark.parametrize("way", ["wandb_tuner", "WandbLoggerCallback"])
def test_a_folder_that_cannot_be_written_is_an_error_before_any_trial(way, ray, tmp_path):
    """A file in its place, say; with the folder's name and a cure."""
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "wandb").write_text("in the way")
    run_config = tune.RunConfig(name="e", storage_path=str(tmp_path))
    if way == "wandb_tuner":
        tuner = wandb_tuner(train, project="p", run_config=run_config)
    else:
        run_config.callbacks = [WandbLoggerCallback("p")]
        tuner = tune.Tuner(train, run_config=run_config)
    with pytest.raises(ConfigurationError, match=f"can't write runs to {tmp_path}/e/wandb"):
        tuner.fit()
