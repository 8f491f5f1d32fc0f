"""Functions of every kind that Tune takes, what they are told to do, and where they go.

A function here does what its config says: it yields ``config["items"]``, and then returns
or raises ``config["end"]``. So what has to come out of it is known, by identity, in
whichever process it is called. `observe` calls one and describes, in plain data, what came
out; `Elsewhere` is another process to do that in.
"""

# Over 250 lines: every kind of function, and the programs that they are sent to.

from __future__ import annotations

import functools
import inspect
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wandb
from hypothesis import strategies as st
from ray import cloudpickle

Function = Callable[..., Any]
Decorate = Callable[[Function], Function]

PROJECT = "docs"


# --- What a function does ---------------------------------------------------------------


def play(config: dict[str, Any], run: Any = None) -> Any:
    """Do what the config says, and note which run was there."""
    config["seen"].append((run, wandb.run))
    if isinstance(config["end"], BaseException):
        raise config["end"]
    return config["end"]


def play_items(config: dict[str, Any], run: Any = None) -> Any:
    """The same as a generator."""
    for item in config["items"]:
        config["sent"].append((yield item))
    return play(config, run)


class CustomError(Exception):
    """An exception that cannot be built from its ``args``, as many in the wild."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code

    def __reduce__(self) -> Any:
        return functools.partial(CustomError, code=self.code), ()


# --- Kinds of functions, decorated or not -----------------------------------------------


def nested(decorate: Decorate) -> Function:
    @decorate
    def train(config, run):
        """Train."""
        return play(config, run)

    return train


def nested_without_run(decorate: Decorate) -> Function:
    @decorate
    def train(config):
        """Train without."""
        return play(config)

    return train


def nested_generator(decorate: Decorate) -> Function:
    @decorate
    def train(config, run):
        """Train, step by step."""
        return (yield from play_items(config, run))

    return train


def itself(decorate: Decorate) -> Function:
    @decorate
    def train(config, run):
        """It refers to itself: a cycle for the pickler."""
        assert train.__name__ == "train"
        return play(config, run)

    return train


def anonymous(decorate: Decorate) -> Function:
    return decorate(lambda config, run: play(config, run))  # noqa: PLW0108 - is a lambda


def module_level(decorate: Decorate) -> Function:
    return decorate(plainly)


def plainly(config, run):
    """At the top of a module that can be imported."""
    return play(config, run)


class Trainer:
    """Something with methods, and callable itself."""

    def train(self, config, run):
        """Train as a method."""
        return play(config, run)

    def steps(self, config, run):
        """Train as a method, step by step."""
        return (yield from play_items(config, run))

    @classmethod
    def build(cls, config, run):
        """Train as a class method."""
        return play(config, run)

    def __call__(self, config, run):
        """Train as an object."""
        return play(config, run)


def method(decorate: Decorate) -> Function:
    return decorate(Trainer().train)


def generator_method(decorate: Decorate) -> Function:
    return decorate(Trainer().steps)


def class_method(decorate: Decorate) -> Function:
    return decorate(Trainer.build)


def callable_object(decorate: Decorate) -> Function:
    return decorate(Trainer())


def decorated_in_class(decorate: Decorate) -> Function:
    class Local:
        @decorate
        def train(self, config, run):
            """Decorated where it is defined."""
            assert isinstance(self, Local)
            return play(config, run)

    return Local().train


def object_in_class(decorate: Decorate) -> Function:
    class Local:
        train = decorate(Trainer())  # no function: Python does not bind it

    return Local().train


def partial(decorate: Decorate) -> Function:
    def train(data, config, run, *, epochs):
        assert (data, epochs) == ("data", 3)
        return play(config, run)

    return decorate(functools.partial(train, "data", epochs=3))


def generator_partial(decorate: Decorate) -> Function:
    def train(data, config, run):
        assert data == "data"
        return (yield from play_items(config, run))

    return decorate(functools.partial(train, "data"))


KINDS: Mapping[str, Callable[[Decorate], Function]] = {
    kind.__name__: kind
    for kind in (
        nested,
        nested_without_run,
        nested_generator,
        itself,
        anonymous,
        module_level,
        method,
        generator_method,
        class_method,
        callable_object,
        decorated_in_class,
        object_in_class,
        partial,
        generator_partial,
    )
}
GENERATORS = {"nested_generator", "generator_method", "generator_partial"}
WITHOUT_RUN = {"nested_without_run"}


# --- What they are told, and what came out ----------------------------------------------

values = st.one_of(
    st.none(), st.integers(), st.floats(), st.text(), st.binary(), st.lists(st.integers())
)
errors = st.one_of(
    st.builds(ValueError, st.text()),
    st.builds(KeyError, st.integers()),
    st.builds(OSError, st.integers(1, 99), st.text(max_size=5)),
    st.builds(CustomError, code=st.integers()),
    st.just(StopAsyncIteration()),
)
stops = st.sampled_from([SystemExit(0), SystemExit(None)])
interrupts = st.sampled_from([KeyboardInterrupt(), SystemExit(3), SystemExit("text")])


@dataclass(frozen=True)
class Script:
    """What a function shall do: yield items, take what is sent, return or raise the end."""

    items: tuple[Any, ...]
    sends: tuple[Any, ...]
    end: Any


def scripts(end: st.SearchStrategy[Any] | None = None) -> st.SearchStrategy[Script]:
    """Scripts with this kind of end."""

    def with_items(items: list[Any]) -> st.SearchStrategy[Script]:
        sends = st.lists(values, min_size=len(items), max_size=len(items))
        ends = values | errors if end is None else end
        return st.builds(Script, st.just(tuple(items)), st.builds(tuple, sends), ends)

    return st.lists(values, max_size=4).flatmap(with_items)


def observe(function: Function, script: Script) -> dict[str, Any]:
    """Call a function and describe it, its run and what came out, in plain data."""
    config: dict[str, Any] = {"items": script.items, "end": script.end, "seen": [], "sent": []}
    before = dict(config)
    items: list[Any] = []
    try:
        came = function(config)
        if inspect.isgenerator(came):
            came = drain(came, script.sends, items)
        how = "returned"
    except BaseException as error:  # noqa: BLE001 - it is looked at
        how, came = "raised", error
    run, current = config["seen"][0]
    return {
        "how": how,
        "is the end": came is script.end,
        "items": len(items) if same(items, script.items[: len(items)]) else "others",
        "sent": len(config["sent"]) if same(config["sent"], script.sends) else "others",
        "calls": len(config["seen"]),
        "config untouched": config.keys() == before.keys()
        and all(config[key] is before[key] for key in before),
        "injected": run is not None,
        "injected is wandb.run": run is current,
        "open": current is not None,
        "closed": wandb.run is None,
        "outcome": None if current is None else current.summary.get("wbtune/outcome"),
        "error": None if current is None else current.summary.get("wbtune/error"),
        "project": None if current is None else current.project,
    }


def drain(generator: Any, sends: tuple[Any, ...], items: list[Any]) -> Any:
    """Everything that a generator yields; returns what it returns."""
    try:
        for sent in (None, *sends):  # a generator that has not begun takes nothing else
            items.append(generator.send(sent))  # noqa: PERF401 - it keeps what came until then
    except StopIteration as end:
        return end.value
    msg = "the generator went on after its last item"
    raise AssertionError(msg)


def same(got: Sequence[Any], given: Sequence[Any]) -> bool:
    """Are these the very objects, in order, as far as they go?"""
    return all(one is other for one, other in zip(got, given, strict=False))


def expected(kind: str, script: Script) -> dict[str, Any]:
    """What `observe` has to say of a function of this kind, if its decoration works."""
    items = len(script.items) if kind in GENERATORS else 0
    error, outcome = None, "finished"
    match script.end:
        case SystemExit(code=None | 0):
            outcome = "finished"  # called by hand: Tune's own exit comes from its `report`
        case KeyboardInterrupt():
            outcome = "interrupted"
        case BaseException():
            error, outcome = type(script.end).__name__, "failed"
    return {
        "how": "raised" if isinstance(script.end, BaseException) else "returned",
        "is the end": True,
        "items": items,
        "sent": items,
        "calls": 1,
        "config untouched": True,
        "injected": kind not in WITHOUT_RUN,
        "injected is wandb.run": kind not in WITHOUT_RUN,
        "open": True,
        "closed": True,
        "outcome": outcome,
        "error": error,
        "project": PROJECT,
    }


def describe(function: Function) -> dict[str, Any]:
    """What people and tools see of a function without calling it."""
    absent = "absent"
    seen = ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__")
    return {
        **{name: getattr(function, name, absent) for name in seen},
        "callable": callable(function),
        "generator": inspect.isgeneratorfunction(function),
        "signature": str(inspect.signature(function)),
    }


# --- Signatures -------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """A function, the same one without the parameter that is injected, and a call."""

    text: str
    twin_text: str
    args: tuple[int, ...]
    kwargs: Mapping[str, int]

    def functions(self) -> tuple[Function, Function]:
        """The two, compiled. Both return their arguments by name."""
        made = []
        for text in (self.text, self.twin_text):
            space: dict[str, Any] = {"__name__": "drawn"}
            exec(text, space)
            made.append(space["train"])
        return made[0], made[1]


@st.composite
def drawn_functions(draw: st.DrawFn) -> Drawn:
    """Functions with every shape of signature, ``run`` in every place; and calls of them."""
    count = draw(st.integers(0, 4))
    names = ["config", *"abcd"[:count]]
    only_position = draw(st.integers(0, len(names)))
    plain = draw(st.integers(only_position, len(names)))
    star = draw(st.booleans())
    keywords = draw(st.booleans())
    required = draw(st.integers(0, plain))  # of the positional ones
    where = draw(st.integers(0, len(names)))
    if where < only_position:  # behind a default it could be reached by nobody
        where = min(where, required)

    def text(*, with_run: bool) -> str:
        segments: list[list[str]] = [[], [], []]
        for place in range(len(names) + 1):
            segment = 0 if place < only_position else 1 if place < plain else 2
            if with_run and place == where:
                # Python has no parameter without a default after one with.
                default = "=None" if place > required and segment < 2 else ""
                segments[segment].append(f"run{default}")
            if place < len(names):
                default = "=0" if segment < 2 and place >= required else ""
                segments[segment].append(f"{names[place]}{default}")
        parts = [*segments[0], *(["/"] if segments[0] else []), *segments[1]]
        parts += ["*rest"] if star else ["*"] if segments[2] else []
        parts += [*segments[2], *(["**more"] if keywords else [])]
        body = "return {k: v for k, v in locals().items() if k != 'run'}"
        return f"def train({', '.join(parts)}): {body}"

    args = tuple(range(draw(st.integers(0, len(names) + 1))))
    chosen = draw(st.sets(st.sampled_from([*names, "z"])))
    kwargs = {name: 100 + index for index, name in enumerate(sorted(chosen))}
    return Drawn(text(with_run=True), text(with_run=False), args, kwargs)


# --- Another process --------------------------------------------------------------------

_WORKER = """
import os, struct, sys
answers = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)  # what the code prints is not an answer
from ray import cloudpickle
while header := sys.stdin.buffer.read(8):
    function, args = cloudpickle.loads(sys.stdin.buffer.read(*struct.unpack("<q", header)))
    try:
        answer = True, function(*args)
    except BaseException as error:
        answer = False, f"{type(error).__name__}: {error}"
    data = cloudpickle.dumps(answer)
    answers.write(struct.pack("<q", len(data)) + data)
    answers.flush()
"""


class Elsewhere:
    """Another process, as a Ray worker is one: calls arrive there by cloudpickle.

    A class that is pickled and unpickled in one process comes back as the same object,
    however badly it is pickled; so what is said of pickling is tried here.
    """

    def __init__(self, home: Path, *paths: Path) -> None:
        self.env = clean_env(home, Path(__file__).parent, *paths)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WORKER],
            env=self.env,
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __call__(self, function: Function, *args: Any) -> Any:
        """``function(*args)``, there."""
        return self.pickled(cloudpickle.dumps((function, args)))

    def pickled(self, data: bytes) -> Any:
        """The same for a call that is pickled already."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(struct.pack("<q", len(data)) + data)
        self._process.stdin.flush()
        (length,) = struct.unpack("<q", self._process.stdout.read(8))
        worked, answer = cloudpickle.loads(self._process.stdout.read(length))
        assert worked, answer
        return answer

    def can_import_from(self, folder: Path) -> None:
        """Let it import the modules that are there, as a node has those of its driver."""
        self(_append_to_path, str(folder))

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=60)


def _append_to_path(folder: str) -> None:
    sys.path.append(folder)


def clean_env(home: Path, *paths: Path) -> dict[str, str]:
    """An environment with its own home and no settings of W&B; ``paths`` to import from."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    root = Path(__file__).parent.parent
    return inherited | {
        "HOME": str(home),
        "PYTHONPATH": os.pathsep.join(str(path) for path in (root, *paths)),
        "WANDB_ERROR_REPORTING": "false",
    }


def program(env: Mapping[str, str], cwd: Path, *args: str) -> str:
    """Run Python with these arguments, and return what it printed."""
    done = subprocess.run(
        [sys.executable, *args],
        env=dict(env),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
