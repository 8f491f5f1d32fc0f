"""`@wandb_trial` is transparent, and stays so wherever the function is pickled to.

Every claim is made of the function as it was decorated, and of what comes out of
cloudpickle; in this process (`TRIPS`) or in another one (`elsewhere`).
"""

# Over 250 lines: one contract, for every kind of function and every place that it is defined in.

from __future__ import annotations

import copy
import functools
import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import strategies_functions as functions
import wandb
import wrapt
from hypothesis import given, settings
from hypothesis import strategies as st
from ray import cloudpickle, tune
from ray.tune.trainable import FunctionTrainable, wrap_function
from strategies import examples

from wbtune import (
    ConfigurationError,
    InvalidTrainableError,
    UnknownOptionError,
    wandb_trial,
    wandb_tuner,
)
from wbtune._run import ownership

decorate = wandb_trial(project=functions.PROJECT, mode="disabled")


def original(function: Any) -> Any:
    """Instead of `decorate`."""
    return function


def pickled(function: Any) -> Any:
    """There and back."""
    return cloudpickle.loads(cloudpickle.dumps(function))


TRIPS: dict[str, Callable[[Any], Any]] = {
    "as decorated": lambda function: function,
    "pickled": pickled,
    "pickled twice": lambda function: pickled(pickled(function)),
    "copied": copy.copy,
    "deep-copied": copy.deepcopy,
}
every_trip = pytest.mark.parametrize("trip", TRIPS.values(), ids=TRIPS)
every_kind = pytest.mark.parametrize("kind", functions.KINDS)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[functions.Elsewhere]:
    """Another process."""
    process = functions.Elsewhere(tmp_path_factory.mktemp("elsewhere"))
    yield process
    process.close()


# --- Transparent ------------------------------------------------------------------------


@every_kind
@settings(max_examples=examples(12))
@given(data=st.data())
def test_behaves_as_undecorated(kind, data):
    """Value, exception, items and what is sent pass through by identity; the run ends truly."""
    script = data.draw(functions.scripts())
    trip = data.draw(st.sampled_from(list(TRIPS.values())))
    function = trip(functions.KINDS[kind](decorate))
    assert functions.observe(function, script) == functions.expected(kind, script)


@settings(max_examples=examples(40))
@given(data=st.data())
def test_stops_and_interrupts_pass_through(data):
    """By hand, `sys.exit(0)` and Ctrl-C are no failure, `sys.exit(3)` is one; all pass through."""
    kind = data.draw(st.sampled_from(list(functions.KINDS)))
    script = data.draw(functions.scripts(functions.stops | functions.interrupts))
    trip = data.draw(st.sampled_from(list(TRIPS.values())))
    function = trip(functions.KINDS[kind](decorate))
    assert functions.observe(function, script) == functions.expected(kind, script)


@settings(max_examples=examples(60))
@given(data=st.data())
def test_behaves_as_undecorated_in_another_process(elsewhere, data):
    """The same on a worker, where nothing is left of the process that decorated it."""
    kind = data.draw(st.sampled_from(list(functions.KINDS)))
    script = data.draw(functions.scripts())
    function = functions.KINDS[kind](decorate)
    assert elsewhere(functions.observe, function, script) == functions.expected(kind, script)


@every_kind
def test_looks_as_undecorated(kind, elsewhere):
    """Name, docstring, module, generator-ness: the function's. Signature: less the run."""
    plain = functions.KINDS[kind](original)
    visible = inspect.signature(plain)
    kept = [p for name, p in visible.parameters.items() if name != "run"]
    expected = functions.describe(plain) | {"signature": str(visible.replace(parameters=kept))}
    if isinstance(plain, functools.partial):  # a partial has no name; a better one is no harm
        for name in ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__"):
            del expected[name]
    function = functions.KINDS[kind](decorate)
    seen = [functions.describe(trip(function)) for trip in TRIPS.values()]
    seen.append(elsewhere(functions.describe, function))
    assert [one | expected for one in seen] == seen


@settings(max_examples=examples(150))
@given(drawn=functions.drawn_functions(), trip=st.sampled_from(list(TRIPS.values())))
@hypothesis.example(  # `run` is injected by name, so what stands behind it moves up
    functions.Drawn(
        "def train(run, config): return [config]", "def train(config): return [config]", (1,), {}
    ),
    pickled,
)
def test_every_signature(drawn, trip):
    """Wherever ``run`` stands, the function is called as its twin without that parameter is."""
    function, twin = drawn.functions()
    decorated = trip(decorate(function))
    assert inspect.signature(decorated) == inspect.signature(twin)
    try:
        expected = twin(*drawn.args, **drawn.kwargs)
    except TypeError:
        with pytest.raises(TypeError):
            decorated(*drawn.args, **drawn.kwargs)
    else:
        assert decorated(*drawn.args, **drawn.kwargs) == expected


@every_kind
@every_trip
def test_tune_accepts_the_signature(kind, trip):
    """Tune refuses a function unless its signature binds one config."""
    function = trip(functions.KINDS[kind](decorate))
    assert inspect.signature(function).bind({}).args == ({},)


# --- The run ----------------------------------------------------------------------------


@every_trip
def test_a_run_of_the_callers_is_used(trip):
    """`run=` takes the place of the run that would be opened, and is left open."""

    def train(config, run):
        return run, wandb.run

    def steps(config, run):
        yield run, wandb.run

    mine = object()
    for one in (decorate(train), decorate(functools.partial(train))):
        assert trip(one)({}, run=mine) == (mine, None)
    assert list(trip(decorate(steps))({}, run=mine)) == [(mine, None)]


@every_trip
def test_run_arg(trip):
    """The run is injected under the name that was asked for, and under no other."""

    @wandb_trial(project="docs", mode="disabled", run_arg="tracker")
    def train(config, tracker, run="mine"):
        return tracker is wandb.run, run

    function = trip(train)
    assert function({}) == (True, "mine")
    assert str(inspect.signature(function)) == "(config, run='mine')"
    assert function({}, tracker="given") == (False, "mine")


@every_trip
def test_declaration(trip):
    """What is declared, and the call's config, are the run's; ``config["wandb"]`` is neither."""

    @wandb_trial(project="declared", mode="disabled", tags=["a"], excludes=["secret"])
    def train(config, run):
        return run.project, run.tags, dict(run.config), config

    config = {"lr": 0.1, "secret": 1, "wandb": {"group": "g", "tags": ["b"]}}
    untouched = copy.deepcopy(config)
    for call in (lambda: trip(train)(config), lambda: trip(train)(config=config)):
        project, tags, of_run, given = call()
        assert (project, tags, of_run) == ("declared", ("a",), {"lr": 0.1})
        assert given is config and config == untouched


@every_trip
@pytest.mark.parametrize("kind", sorted(functions.GENERATORS))
def test_a_generator_that_is_closed_early(kind, trip):
    """The run opens at the first item, and is closed as stopped when the generator is."""
    function = trip(functions.KINDS[kind](decorate))
    generator = function({"items": [1, 2], "end": None, "seen": [], "sent": []})
    assert wandb.run is None
    assert next(generator) == 1
    run = wandb.run
    assert run is not None
    generator.close()
    assert wandb.run is None
    assert run.summary["wbtune/outcome"] == "stopped"


# --- Tune's own wrappers ----------------------------------------------------------------

RESOURCES = {"cpu": 3}


def with_both(function: Any) -> Any:
    return tune.with_resources(tune.with_parameters(function, data="data"), RESOURCES)


def with_both_reversed(function: Any) -> Any:
    return tune.with_parameters(tune.with_resources(function, RESOURCES), data="data")


class Trainer:
    def train(self, config, run, data=None):
        return data, run is wandb.run

    def __call__(self, config, run, data=None):
        return data, run is wandb.run


def train(config, run, data=None):
    return data, run is wandb.run


TAKING_DATA = {
    "function": train,
    "method": Trainer().train,
    "object": Trainer(),
    "partial": functools.partial(train),
}


def call(function: Any) -> Any:
    """Called in another process."""
    return function({}), wandb.run


@pytest.mark.usefixtures("no_cluster")
@pytest.mark.parametrize("wrap", [with_both, with_both_reversed])
@pytest.mark.parametrize("kind", TAKING_DATA)
def test_tunes_wrappers_keep_it(kind, wrap, elsewhere):
    """`tune.with_parameters` and `tune.with_resources` keep mixin, resources and run."""
    function = wrap(decorate(TAKING_DATA[kind]))
    for one in (function, pickled(function)):
        assert one.__mixins__ == (ownership.OwnsRun,)
        request = wrap_function(one).default_resource_request({})
        assert request.required_resources == {"CPU": 3.0}
        assert issubclass(wrap_function(one), ownership.OwnsRun)
        assert call(one) == (("data", True), None)
    assert elsewhere(call, function) == (("data", True), None)


def test_resources_survive(elsewhere):
    """`tune.with_resources` is kept by every trip, and by another declaration."""

    def required(function):
        return wrap_function(function).default_resource_request({}).required_resources

    for kind in functions.KINDS.values():
        function = tune.with_resources(kind(decorate), RESOURCES)
        redeclared = function.declaring(function.declared)
        for one in (redeclared, *(trip(function) for trip in TRIPS.values())):
            assert required(one) == {"CPU": 3.0}
        assert elsewhere(required, function) == {"CPU": 3.0}


def bases(cls: type) -> tuple[bool, ...]:
    """Asked in another process."""
    return tuple(issubclass(cls, base) for base in (ownership.OwnsRun, FunctionTrainable))


@every_kind
def test_the_trainable_that_tune_makes(kind, elsewhere):
    """Its class owns its run, by which the callback knows; also where it is unpickled."""
    trainable = wrap_function(functions.KINDS[kind](decorate))
    assert bases(trainable) == (True, True)
    assert elsewhere(bases, trainable) == (True, True)


# --- From another program ---------------------------------------------------------------

PROGRAM = '''
import functools, sys
from ray import cloudpickle
from ray.tune.trainable import wrap_function
from wbtune import wandb_trial

decorate = wandb_trial(project="docs", mode="disabled")

@decorate
def train(config, run):
    """Train."""
    return helper(config), type(run).__name__

def helper(config):
    return config["lr"] * 2

@wandb_trial
def steps(config, run):
    yield from train.__wrapped__(config, run)

class Trainer:
    factor = 2

    def __call__(self, config, run):
        return self.factor * config["lr"], type(run).__name__

    @decorate
    def train(self, config, run):
        return self(config, run)

def local():
    factor = 2

    @decorate
    def train(config, run):
        return factor * config["lr"], type(run).__name__

    return train

everything = {
    "function": train,
    "lambda": decorate(lambda config, run: (config["lr"] * 2, type(run).__name__)),
    "method": Trainer().train,
    "object": decorate(Trainer()),
    "partial": decorate(functools.partial(lambda factor, config, run:
        (factor * config["lr"], type(run).__name__), 2)),
    "local": local(),
    "generator": steps,
}
trainables = {name: wrap_function(function) for name, function in everything.items()}

if __name__ == "__main__":
    open(sys.argv[1], "wb").write(cloudpickle.dumps((use, (everything, trainables))))
'''

USE = """
def use(everything, trainables):
    import inspect, wandb
    from wbtune._run.ownership import OwnsRun
    from wbtune._trial.trial_function import WandbTrial
    results = {}
    for name, function in everything.items():
        config = {"lr": 4, "wandb": {"mode": "disabled"}}
        came = function(config)
        came = tuple(came) if inspect.isgenerator(came) else came
        results[name] = [
            came,
            wandb.run is None,
            type(function) is WandbTrial,
            str(inspect.signature(function)),
            issubclass(trainables[name], OwnsRun),
        ]
    return results
"""


@pytest.mark.parametrize("place", ["__main__", "a module"])
def test_defined_in(place, tmp_path, elsewhere):
    """In a program's ``__main__`` or in a module: another process gets it decorated, whole."""
    if place == "__main__":
        (tmp_path / "script.py").write_text(USE + PROGRAM)
    else:
        (tmp_path / "defined_here.py").write_text(USE + PROGRAM)
        (tmp_path / "script.py").write_text(
            "import sys; from ray import cloudpickle; import defined_here as d\n"
            "open(sys.argv[1], 'wb').write("
            "cloudpickle.dumps((d.use, (d.everything, d.trainables))))\n"
        )
    env = functions.clean_env(tmp_path, tmp_path)
    functions.program(env, tmp_path, "script.py", "everything.pkl")
    elsewhere.can_import_from(tmp_path)
    results = elsewhere.pickled((tmp_path / "everything.pkl").read_bytes())
    assert len(results) == 7
    for name, one in results.items():
        assert (name, one) == (name, [(8, "NoopRun"), True, True, "(config)", True])


def test_without_wrapts_extension(tmp_path):
    """The same holds with wrapt's pure Python wrapper, whose rules differ a little."""
    env = functions.clean_env(tmp_path, Path(__file__).parent) | {
        "WRAPT_DISABLE_EXTENSIONS": "true",
        "COVERAGE_PROCESS_CONFIG": "",  # it is measured with the extension
    }
    core = (
        "wrapt_is_as_asked or looks_as or behaves_as or stops_and or every_signature"
        " or callers or run_arg or closed_early or wrappers_keep or resources_survive"
        " or that_tune_makes"
    )
    output = functions.program(
        env,
        tmp_path,
        *("-m", "pytest", "-q", "--show-capture=no", "-p", "no:cacheprovider"),
        *(__file__, "-k", core),
    )
    assert " passed" in output and "skipped" not in output


def test_wrapt_is_as_asked():
    """`test_without_wrapts_extension` runs without it indeed, and the others with it."""
    disabled = os.environ.get("WRAPT_DISABLE_EXTENSIONS") == "true"
    in_python = inspect.isfunction(wrapt.ObjectProxy.__init__)
    assert in_python is disabled


# --- Bad input --------------------------------------------------------------------------


async def coroutine(config):
    pass


async def async_generator(config):
    yield


class AsyncTrainer:
    async def __call__(self, config):
        pass

    async def train(self, config):
        pass


@pytest.mark.parametrize(
    ("trainable", "got", "cure"),
    [
        (coroutine, "coroutine", "def train(config)"),
        (async_generator, "async_generator", "def train(config)"),
        (functools.partial(coroutine), "coroutine", "def train(config)"),
        (functools.partial(functools.partial(async_generator)), "async", "def train(config)"),
        (AsyncTrainer(), "AsyncTrainer", "def train(config)"),
        (AsyncTrainer().train, "AsyncTrainer.train", "def train(config)"),
        (Trainer, "Trainer", "class Train(WandbMixin, tune.Trainable)"),
        (tune.Trainable, "Trainable", "class Train(WandbMixin, tune.Trainable)"),
        (decorate(train), "train", "Merge the two declarations"),
        (pickled(decorate(train)), "train", "Merge the two declarations"),
        (functools.partial(decorate(train), data=1), "train", "Merge the two declarations"),
        (decorate(Trainer().train), "train", "Merge the two declarations"),
        ("train", "'train'", "@wandb_trial(project=...)"),
        (3, "3", "@wandb_trial(project=...)"),
    ],
)
@pytest.mark.parametrize("form", [wandb_trial, wandb_trial(project="docs")], ids=["bare", "called"])
def test_not_a_function(trainable, got, cure, form):
    """The error says who refuses, what was got, and what to write instead."""
    with pytest.raises(InvalidTrainableError) as raised:
        form(trainable)
    message = str(raised.value)
    assert message.startswith("wandb_trial: expected a plain or generator function, got ")
    assert got in message and cure in message
    assert isinstance(raised.value, TypeError)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"api_key": "k" * 40}, ConfigurationError, ("api_key=", "wandb login", "api_key_file=")),
        ({"id": "one"}, ConfigurationError, ("id= names one run", "Leave it out")),
        ({"settings": {"api_key": "k" * 40}}, ConfigurationError, ("api_key=", "WANDB_API_KEY")),
        ({"projct": "docs"}, UnknownOptionError, ("projct=", "Did you mean project=?")),
        ({"tag": ["a"]}, UnknownOptionError, ("tag=", "Did you mean tags=?")),
        ({"exclude": ["a"]}, UnknownOptionError, ("exclude=", "Did you mean excludes=?")),
        ({"xyzzy": 1}, UnknownOptionError, ("xyzzy=", "documentation")),
        ({"reinit": True}, ConfigurationError, ("reinit=", "Leave it out")),
        ({"excludes": "loss"}, ConfigurationError, ("'loss'", "['loss']")),
        ({"mode": "of-line"}, ConfigurationError, ("'of-line'", "offline")),
    ],
)
def test_bad_options(options, error, says):
    """Refused where it is written, with the name or value that works; never with a secret."""
    with pytest.raises(error) as raised:
        wandb_trial(**options)
    message = str(raised.value)
    assert message.startswith("wandb_trial: ")
    assert all(part in message for part in says)
    assert "k" * 40 not in message


# --- the parameter for the run ---


def test_a_call_by_hand_may_give_none_for_the_run(tmp_path):
    """By place or by name, None is no run: the function gets its own; a run is passed on."""
    declare = wandb_trial(mode="disabled")
    train = declare(lambda config, run: run)
    several = declare(lambda config, run, data=3: (run, data))
    for run in (train({}), train({}, None), train({}, run=None), several({}, None, 5)[0]):
        assert run is not None
    mine = train({})
    assert train({}, mine) is train({}, run=mine) is mine
    assert several({}, mine, 5) == (mine, 5)
    assert several({}, 5)[1] == 5  # what is behind the run moves up


def annotated(config, x: wandb.Run):
    pass


@pytest.mark.parametrize(
    ("trainable", "name"),
    [
        (lambda config, wandb_run: None, "wandb_run"),
        (lambda config, wb: None, "wb"),
        (lambda config, wandb_logger: None, "wandb_logger"),
        (annotated, "x"),
    ],
)
def test_a_parameter_meant_for_the_run_is_recognised(trainable, name):
    """When it is decorated, not in the trial; with a default, or as data, it is the user's."""
    with pytest.raises(InvalidTrainableError, match=rf"name it 'run', or .*run_arg='{name}'"):
        wandb_trial(trainable)
    wandb_trial(run_arg=name)(trainable)
    wandb_trial(lambda config, wandb_run=None: None)
    wandb_trial(lambda config, data, runs: None)
    with pytest.raises(ConfigurationError, match="run_arg='other' is no parameter of"):
        wandb_trial(run_arg="other")(trainable)


def test_the_tuner_refuses_what_tune_could_not_call():
    """A decorated function that takes more than the config, with the cures."""
    declared = wandb_trial(lambda config, data: None)
    with pytest.raises(InvalidTrainableError, match=r"'data'.*tune\.with_parameters\("):
        wandb_tuner(declared, project="p")


def test_tune_takes_a_decorated_function_for_a_function(caplog):
    """Of others' callables it still says that they are unknown."""

    class Other:
        def __call__(self, config):
            pass

    with caplog.at_level("INFO", "ray.tune.registry"):
        tune.register_trainable("decorated", wandb_trial(lambda config: None))
        assert "unknown callable" not in caplog.text
        tune.register_trainable("other", Other())
    assert caplog.text.count("unknown callable") == 1


def test_wandb_init_in_a_trial_says_which_run_it_gives(tmp_path, capsys):
    """Where it asks for another; wandb's own arguments are dropped by wandb without a word."""

    @wandb_trial(project="docs", name="trial", settings={"root_dir": str(tmp_path)})
    def train(config, run):
        assert wandb.init() is wandb.init(project="docs") is run
        assert "gives the run" not in capsys.readouterr().out
        assert wandb.init(project="q", name="n") is run
        output = capsys.readouterr().out
        assert output.count("wandb.init(project='q', name='n') gives the run") == 1
        assert "trial in project docs" in output

    train({})
