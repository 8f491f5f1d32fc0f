"""`WandbMixin`: the class keywords are the declaration, and `self.run` is there in `setup`."""

# Over 250 lines: one contract, for every way to declare and to pickle a class.

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import strategies_functions as functions
import wandb
from hypothesis import given, settings
from hypothesis import strategies as st
from ray import cloudpickle, tune
from strategies import examples

from wbtune import ConfigurationError, InvalidTrainableError, UnknownOptionError, WandbMixin
from wbtune._data.options import RunOptions
from wbtune._run import ownership, run_log


@pytest.fixture(autouse=True)
def no_ray_results(tmp_path, monkeypatch):
    """Outside Tune, a `Trainable` makes its folder in Ray's default storage."""
    monkeypatch.setattr("ray.tune.trainable.trainable.DEFAULT_STORAGE_PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> Iterator[functions.Elsewhere]:
    """Another process."""
    process = functions.Elsewhere(tmp_path_factory.mktemp("elsewhere"))
    yield process
    process.close()


# --- The declaration --------------------------------------------------------------------

names = st.text("abcxyz", min_size=1, max_size=5)
declarations = st.fixed_dictionaries(
    {},
    optional={
        "project": names,
        "group": names,
        "excludes": st.lists(names, max_size=3),
        "log_config": st.booleans(),
        "upload_timeout": st.integers(0, 99),
        "image_kwargs": st.dictionaries(names, st.integers(), max_size=2),
        "log_results": st.booleans(),
        "tags": st.lists(names, max_size=2),
        "notes": names,
        "job_type": names,
    },
)


@settings(max_examples=examples(50))
@given(levels=st.lists(declarations, min_size=1, max_size=4), data=st.data())
def test_subclasses_inherit_and_override(levels, data):
    """Each class has its own keywords over its base's; excludes and mappings add up."""
    cls: Any = type("Train", (WandbMixin, tune.Trainable), {}, **levels[0])
    classes = [cls]
    for keywords in levels[1:]:
        cls = type("Train", (cls,), {}, **keywords)
        classes.append(cls)
    level = data.draw(st.integers(0, len(levels) - 1))  # a subclass leaves its bases alone
    inherited = levels[: level + 1]
    options = classes[level].wbtune_options

    def last(name):
        return next((keywords[name] for keywords in reversed(inherited) if name in keywords), None)

    for name in ("project", "group", "log_config", "upload_timeout", "log_results"):
        assert getattr(options, name) == last(name)
    for name in ("tags", "notes", "job_type"):
        assert options.init_kwargs.get(name) == last(name)
    excludes = [item for keywords in inherited for item in keywords.get("excludes", [])]
    assert set(options.excludes or ()) == set(excludes)
    assert (options.excludes is None) is (last("excludes") is None)
    merged = {k: v for keywords in inherited for k, v in keywords.get("image_kwargs", {}).items()}
    assert (options.image_kwargs or {}) == merged
    assert WandbMixin.wbtune_options == RunOptions()


def test_two_bases_that_declare():
    """A mixin of mixins takes part: what stands first in the bases is asked first."""

    class Project(WandbMixin, project="docs", tags=["a"]):
        pass

    class Train(Project, tune.Trainable, group="g"):
        pass

    assert (Train.wbtune_options.project, Train.wbtune_options.group) == ("docs", "g")
    assert Train.wbtune_options.init_kwargs == {"tags": ["a"]}
    assert issubclass(Train, ownership.OwnsRun)


def test_mixin_behind_trainable():
    """There its methods would never be called, so the class statement itself fails."""
    with pytest.raises(InvalidTrainableError) as raised:

        class Train(tune.Trainable, WandbMixin, project="docs"):
            pass

    message = str(raised.value)
    assert message.startswith("WandbMixin: in the bases of Train, tune.Trainable comes before it")
    assert "class Train(WandbMixin, tune.Trainable)" in message


def test_mixin_without_trainable():
    """A class with a `step` and no `tune.Trainable` can't be trained; the error shows how."""
    with pytest.raises(InvalidTrainableError, match=r"class Train\(WandbMixin, tune.Trainable\)"):

        class Train(WandbMixin, project="docs"):
            def step(self):
                pass


@pytest.mark.parametrize(
    ("keywords", "error", "says"),
    [
        ({"api_key": "k" * 40}, ConfigurationError, ("api_key=", "wandb login", "api_key_file=")),
        ({"id": "one"}, ConfigurationError, ("id= names one run", "Leave it out")),
        (
            {"projct": "docs"},
            UnknownOptionError,
            ("class Train", "projct=", "Did you mean project="),
        ),
        ({"run_arg": "tracker"}, UnknownOptionError, ("class Train", "run_arg=")),
        ({"excludes": "loss"}, ConfigurationError, ("class Train", "['loss']")),
        ({"tags": "a"}, ConfigurationError, ("class Train", "['a']")),
        ({"dir": "x"}, ConfigurationError, ("class Train", "dir=", "Leave it out")),
    ],
)
def test_bad_keywords(keywords, error, says):
    """Refused in the class statement; never with a secret."""
    with pytest.raises(error) as raised:
        type("Train", (WandbMixin, tune.Trainable), {}, **keywords)
    message = str(raised.value)
    assert "WandbMixin" in message
    assert all(part in message for part in says)
    assert "k" * 40 not in message


# --- Pickled ----------------------------------------------------------------------------

PROGRAM = """
import sys
from ray import cloudpickle, tune
from wbtune import WandbMixin

class Base(WandbMixin, tune.Trainable, project="docs", mode="disabled", excludes=["a"]):
    def setup(self, config):
        self.seen = self.run.project, self.run.group, sorted(self.run.config.keys())

    def step(self):
        return {"seen": self.seen}

class Train(Base, group="g", excludes=["b"]):
    pass

def local():
    class Train(Base, group="g", excludes=["b"]):
        def setup(self, config):
            super().setup(config)
    return Train

def use(classes):
    import wandb
    results = {}
    for name, cls in classes.items():
        trainable = cls({"a": 1, "b": 2, "lr": 3})
        result = trainable.train()
        trainable.stop()
        results[name] = result["seen"], wandb.run is None
    return results

classes = {"at the top": Train, "local": local()}
if __name__ == "__main__":
    open(sys.argv[1], "wb").write(cloudpickle.dumps((use, (classes,))))
"""


@pytest.mark.parametrize("place", ["__main__", "a module"])
def test_pickled(place, tmp_path, elsewhere):
    """Another process gets the class with its whole declaration, wherever it is defined."""
    if place == "__main__":
        (tmp_path / "script.py").write_text(PROGRAM)
    else:
        (tmp_path / "defined_here.py").write_text(PROGRAM)
        (tmp_path / "script.py").write_text(
            "import sys; from ray import cloudpickle; import defined_here as d\n"
            "open(sys.argv[1], 'wb').write(cloudpickle.dumps((d.use, (d.classes,))))\n"
        )
    env = functions.clean_env(tmp_path, tmp_path)
    functions.program(env, tmp_path, "script.py", "classes.pkl")
    elsewhere.can_import_from(tmp_path)
    results = elsewhere.pickled((tmp_path / "classes.pkl").read_bytes())
    assert results == dict.fromkeys(("at the top", "local"), (("docs", "g", ["lr"]), True))


# --- The run ----------------------------------------------------------------------------


class Train(WandbMixin, tune.Trainable, project="docs", mode="disabled", tags=["t"]):
    def setup(self, config, data=None):
        self.seen = [self.run]
        self.data = data
        self.fail("setup")

    def step(self):
        self.seen += [self.run, wandb.run]
        self.fail("step")
        return {"loss": 1.0, "data": self.data, "done": self.config.get("done", False)}

    def reset_config(self, new_config):
        self.config = new_config
        self.seen = [self.run]
        return True

    def cleanup(self):
        self.seen += [self.run, wandb.run]
        self.fail("cleanup")

    def fail(self, here):
        """Nothing, here; a subclass raises."""


def life(cls: type, config: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Train once and stop; what `step` returned, and what the run's summary says."""
    trainable = cls(config)
    result = trainable.train()
    run = trainable.run
    trainable.stop()
    return result["data"], dict(run.summary)


@pytest.mark.parametrize(("done", "outcome"), [(False, "stopped"), (True, "finished")])
def test_the_run_is_there_from_setup_to_cleanup(done, outcome):
    """One run, which is `wandb.run`, in all methods; closed behind the user's `cleanup`."""
    config = {"lr": 0.1, "done": done, "wandb": {"group": "g"}}
    untouched = copy.deepcopy(config)
    trainable = Train(config=config)
    run = trainable.run
    assert (run.project, run.group, run.tags) == ("docs", "g", ("t",))
    assert dict(run.config) == {"lr": 0.1, "done": done}
    assert config == untouched
    trainable.train()
    trainable.stop()
    assert trainable.seen == [run] * 5
    assert wandb.run is None
    assert run.summary["wbtune/outcome"] == outcome


@pytest.mark.parametrize("where", ["setup", "step", "cleanup"])
@pytest.mark.parametrize(
    "error", [ValueError("mine"), functions.CustomError(code=3), KeyboardInterrupt()]
)
def test_the_users_error_passes_through(where, error):
    """Whatever raises, and where: the very exception arrives, and no run stays open."""
    opened: list[Any] = []

    class Failing(Train):
        def setup(self, config, data=None):
            opened.append(self.run)
            super().setup(config)

        def fail(self, here):
            if here == where:
                raise error

    def live():
        trainable = Failing({})
        try:
            trainable.train()
        finally:
            trainable.stop()

    with pytest.raises(type(error)) as raised:
        live()
    assert str(raised.value) == str(error)
    assert where == "step" or raised.value is error  # Tune raises a copy of what `step` raised
    assert wandb.run is None
    if where != "cleanup" and isinstance(error, Exception):
        assert opened[0].summary["wbtune/outcome"] == "failed"
        assert opened[0].summary["wbtune/error"] == type(error).__name__


def test_reused():
    """With ``reuse_actors=True`` each trial has its own run, open when `reset_config` is called.

    Whoever has kept the first trial's has the second's, its config and its summary too.
    """
    trainable = Train({"lr": 1, "done": True})
    first = trainable.run
    held = first.config, first.summary
    trainable.train()
    assert trainable.reset({"lr": 2, "done": False})
    second = trainable.run
    assert trainable.seen == [second] and second is first is wandb.run
    assert held[0] is second.config
    assert dict(second.config) == {"lr": 2, "done": False}
    trainable.train()
    trainable.stop()
    assert wandb.run is None
    assert second.summary["wbtune/outcome"] == "stopped"


def test_no_run_before_there_is_one():
    """`run` of an object that Tune has not built says so, in an AttributeError."""
    assert not hasattr(Train.__new__(Train), "run")
    with pytest.raises(AttributeError, match=r"Train\.run is there once Tune has built"):
        _ = Train.__new__(Train).run


def test_on_disk(tmp_path):
    """Outside Tune, too: an offline run is on disk, with its rows and its exit record."""

    class Offline(WandbMixin, tune.Trainable, project="docs", mode="offline", log_results=True):
        def step(self):
            self.run.log({"mine": self.training_iteration})
            return {"loss": 1.0, "done": self.training_iteration == 2}

    trainable = Offline({"lr": 0.1})
    for _ in range(3):
        trainable.train()
    trainable.stop()
    (path,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    log = run_log.read(path)
    assert [row["mine"] for row in log.rows if "mine" in row] == [0, 1, 2]
    assert [row["training_iteration"] for row in log.rows if "loss" in row] == [1, 2, 3]
    assert (log.exit_code, log.config["lr"]) == (0, 0.1)
    assert log.summary["wbtune/outcome"] == "finished"


# --- Tune's own wrappers ----------------------------------------------------------------

WRAPPERS = {
    "both": lambda cls: tune.with_resources(tune.with_parameters(cls, data="data"), {"cpu": 3}),
    "reversed": lambda cls: tune.with_parameters(tune.with_resources(cls, {"cpu": 3}), data="data"),
}


@pytest.mark.usefixtures("no_cluster")
@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_tunes_wrappers_keep_it(wrap, elsewhere):
    """`tune.with_parameters` and `tune.with_resources` keep the declaration and the run."""
    wrapped = wrap(Train)
    assert issubclass(wrapped, ownership.OwnsRun)
    assert wrapped.wbtune_options == Train.wbtune_options
    assert wrapped.default_resource_request({}).required_resources == {"CPU": 3.0}
    for data, summary in (life(wrapped, {}), elsewhere(life, wrapped, {})):
        assert data == "data"
        assert summary["wbtune/outcome"] == "stopped"
    assert cloudpickle.loads(cloudpickle.dumps(wrapped)).wbtune_options == Train.wbtune_options


def test_the_mixin_is_a_base_and_not_called():
    """Its options are class keywords; a Trainable of it is built as any other."""
    with pytest.raises(InvalidTrainableError, match=r"class Train\(WandbMixin, tune.Trainable, "):
        WandbMixin(project="p")
