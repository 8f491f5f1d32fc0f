"""Strategies for what people put into configs, results, excludes and options.

Maintained like a module of the library: a new kind of value, or one that once broke
something, is added here, so that every property sees it.
"""

# Over 250 lines: the strategies of one vocabulary, which build on each other.

from __future__ import annotations

import functools
import importlib.util
import threading
import types
from array import array
from collections import OrderedDict, UserDict, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum, Flag, IntEnum
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wbtune._data.options import RunOptions
from wbtune._overview.record import Curve, ExperimentRecord, TrialRecord


def examples(number: int) -> int:
    """How many examples a test gets that wants its own number; fewer in `make quick`."""
    return max(1, number * settings.default.max_examples // 100)


# --- text and plain values -----------------------------------------------------------------

#: Any text; the second branch has lone surrogates, as file names on Linux may.
text = st.text(max_size=8) | st.text(
    st.characters(categories=["Cs", "L", "N"], max_codepoint=0xFFFF), max_size=4
)

#: Few names, so that excludes and keys meet.
names = st.sampled_from(["loss", "lr", "debug", "db", "password", "token", "x", "y"])

numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
json_scalars = st.none() | st.booleans() | numbers | st.text(max_size=8)


# --- values that a sanitiser meets once in a year ------------------------------------------


class Colour(Enum):
    RED = 1
    BLUE = {"not": "text"}  # noqa: RUF012 - the value of a member, not a default


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Rights(Flag):
    READ = 1
    WRITE = 2


@dataclass
class Point:
    x: Any = 0
    y: Any = 0


class Pair(NamedTuple):
    left: Any = 0
    right: Any = 0


class Shout(str):  # noqa: SLOT000 - a user's class
    def __str__(self) -> str:
        return "42"


class Count(int):
    pass


class Silent:
    """An object with no text of its own: its `repr` has an address."""


class Rude:
    """Raises, whatever it is asked."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__
    __len__ = __iter__ = __bool__ = __float__ = __index__ = __call__ = __str__  # type: ignore[assignment]


class RudePath:
    def __fspath__(self) -> str:
        raise OSError


class RudeMapping(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        raise LookupError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1

    __hash__ = object.__hash__


class RudeArray:
    @property
    def dtype(self) -> Any:
        raise ValueError

    def __array__(self) -> Any:
        raise ValueError


class Homeless:
    __module__ = None  # type: ignore[assignment]


class Impostor:
    """Says it is a dict."""

    @property
    def __class__(self) -> Any:
        return dict

    @__class__.setter
    def __class__(self, value: type) -> None:
        raise TypeError


class NoFields:
    """Says it has NumPy's shape."""

    ndim = 3
    __module__ = "numpy"


class Tensor:
    """What is asked of a torch tensor, with torch's refusals; torch itself is optional."""

    def __init__(self, values: Any, *, bfloat16: bool = False, where: str = "gpu, graph") -> None:
        self._values = np.asarray(values)
        self._bfloat16 = bfloat16
        self._where = where

    @property
    def dtype(self) -> str:
        return "torch.bfloat16" if self._bfloat16 else f"torch.{self._values.dtype}"

    def detach(self) -> Tensor:
        return Tensor(self._values, bfloat16=self._bfloat16, where="gpu")

    def cpu(self) -> Tensor:
        where = self._where.replace("gpu", "")
        return Tensor(self._values, bfloat16=self._bfloat16, where=where)

    def is_floating_point(self) -> bool:
        return self._values.dtype.kind == "f"

    def float(self) -> Tensor:
        return Tensor(self._values.astype("f4"), where=self._where)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        if self._where or self._bfloat16:
            raise TypeError(self._where)
        return self._values


def _generator() -> Iterator[int]:
    yield 1


def nested(kind: str, depth: int, inside: Any = None) -> Any:
    """`depth` containers in one another."""
    value = inside
    for _ in range(depth):
        match kind:
            case "list":
                value = [value]
            case "tuple":
                value = (value,)
            case "dict":
                value = {"k": value}
            case _:
                value = Point(value)
    return value


def cycle(kind: str, beside: Any = None) -> Any:
    """A container that is inside of itself."""
    match kind:
        case "list":
            box: Any = [beside]
            box.append(box)
        case "dict":
            box = {"beside": beside}
            box["self"] = [box]
        case "array":
            box = np.empty(2, dtype=object)
            box[0] = beside
            box[1] = box
        case _:
            box = Point(beside)
            box.y = {"self": box}
    return box


def objects(values: list[Any]) -> Any:
    """A NumPy array of Python objects."""
    array = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):
        array[index] = value
    return array


_DTYPES = st.sampled_from(
    ["?", "i1", "i8", "u8", "f2", "f4", "f8", "c8", "c16", "M8[s]", "m8[s]", "U3", "S3"]
)
arrays = hnp.arrays(_DTYPES, hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=3)) | (
    hnp.arrays(_DTYPES, st.integers(30, 40))
)
long_doubles = st.floats().map(np.longdouble)

#: Arrays that the guide's callback takes for images and videos.
media_arrays = hnp.arrays(
    st.sampled_from(["u1", "f4"]), hnp.array_shapes(min_dims=3, max_dims=5, min_side=1, max_side=3)
)

_rude: list[Callable[[], Any]] = [
    Silent,
    Rude,
    RudePath,
    RudeMapping,
    RudeArray,
    Homeless,
    Impostor,
    NoFields,
    object,
    threading.Lock,
    _generator,
]

hashable = st.one_of(
    json_scalars,
    text,
    st.floats(),
    st.builds(pow, st.just(10), st.just(5000)),  # Python refuses to print it
    st.complex_numbers(),
    st.binary(max_size=4),
    st.sampled_from([*Colour, *Level, Rights.READ, Rights.READ | Rights.WRITE, Rights(0)]),
    st.builds(Shout, text),
    st.builds(Count, st.integers()),
    st.builds(PurePosixPath, st.text("ab/", max_size=4)),
    st.datetimes() | st.dates() | st.times() | st.timedeltas(),
    st.decimals(allow_nan=False) | st.fractions() | st.uuids(),
    st.sampled_from([len, dict, Path, abs.__call__, _generator, functools.partial(len)]),
    st.builds(np.float64, st.floats()) | st.builds(np.int64, st.integers(-9, 9)),
    st.builds(np.float32, st.floats(width=32)) | st.builds(np.bool_, st.booleans()),
    long_doubles,
    long_doubles.map(np.clongdouble),
    st.builds(Tensor, st.lists(st.floats(width=32), max_size=40), bfloat16=st.booleans()),
    st.frozensets(st.text(max_size=3) | st.integers(), max_size=4),
    st.tuples(text, st.floats()),
    *[st.builds(kind) for kind in _rude],
)


def _torch() -> list[st.SearchStrategy[Any]]:
    if importlib.util.find_spec("torch") is None:
        return []
    import torch

    return [
        st.builds(torch.tensor, st.floats(width=32)),
        st.integers(0, 40).map(lambda n: torch.ones(n, dtype=torch.bfloat16, requires_grad=True)),
        st.integers(0, 40).map(torch.arange),
    ]


leaves = st.one_of(
    hashable,
    arrays,
    media_arrays,
    st.decimals(),  # a signalling NaN has no hash
    st.builds(bytearray, st.binary(max_size=4)),
    st.builds(memoryview, st.binary(max_size=4)),
    st.builds(range, st.integers(0, 5)),
    st.builds(nested, st.sampled_from(["list", "tuple", "dict", "point"]), st.integers(30, 99)),
    *_torch(),
)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keyed = st.dictionaries(text | hashable, inner, max_size=4)
    return st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        keyed,
        keyed.map(OrderedDict),
        keyed.map(UserDict),
        keyed.map(types.MappingProxyType),
        st.sets(hashable, max_size=4),
        st.builds(Point, inner, inner),
        st.builds(Pair, inner, inner),
        st.builds(objects, st.lists(inner, max_size=3)),
        st.builds(cycle, st.sampled_from(["list", "dict", "array", "point"]), inner),
    )


#: Any value at all.
nasty = st.recursive(leaves, _containers, max_leaves=8)


def corpus() -> list[Any]:
    """Fixed values whose text depends on the process, unless somebody takes care."""
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta"]
    return [
        set(words),
        frozenset(words),
        {frozenset(words): 1, frozenset(words[:4]): {"inner": set(words)}},
        {1, 2.5, "1", b"1", None, (1, "a"), frozenset(words)},
        {Colour.RED, Colour.BLUE, *words},
        Point(set(words), Silent()),
        Pair(object(), {object(): set(words)}),
        [Silent(), Rude(), threading.Lock(), _generator(), lambda: None, functools.partial(len)],
        {"nested": [{"deep": [{(1, frozenset(words)): set(words)}]}]},
        objects([set(words), Silent()]),
        defaultdict(list, {word: [word] for word in words}),
        [Path("a/b"), UUID(int=7), Decimal("0.10"), Fraction(1, 3), complex(1, 2), b"\xff"],
        [datetime(2024, 1, 2, tzinfo=UTC), timedelta(seconds=90), Level.HIGH, Rights(3)],
    ]


# --- configs and results -------------------------------------------------------------------


class Leaf(NamedTuple):
    """A leaf of a generated tree: where it stands, and the text that only it has."""

    names: tuple[str, ...]
    value: str
    key: str  # its flattened key: its path, up to the first list


@dataclass
class Database:
    """A dataclass in a config, with a secret."""

    password: Any
    token: Any
    x: Any


def _trees(keys: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return st.recursive(
        st.none(),
        lambda inner: st.one_of(
            st.dictionaries(keys, inner, min_size=1, max_size=4),
            st.lists(inner, min_size=1, max_size=3),
            st.builds(Database, inner, inner, inner),
        ),
        max_leaves=10,
    )


def label(tree: Any) -> tuple[Any, list[Leaf]]:
    """The tree with a text of its own in each leaf, and the list of its leaves."""
    found: list[Leaf] = []

    def walk(node: Any, path: tuple[str, ...], key: str | None) -> Any:
        if isinstance(node, dict):
            return {name: walk(inner, (*path, name), key) for name, inner in node.items()}
        if isinstance(node, Database):
            return Database(**walk(vars(node), path, key))
        if isinstance(node, list):
            key = "/".join(path) if key is None else key
            return [walk(inner, path, key) for inner in node]
        leaf = Leaf(path, f"value-{len(found)}", "/".join(path) if key is None else key)
        found.append(leaf)
        return leaf.value

    return walk(tree, (), None), found


#: ``(config, leaves)``: nested mappings, lists and dataclasses.
configs = st.dictionaries(names, _trees(names), max_size=4).map(label)

_TOP = names | st.sampled_from(
    ["train/loss", "pid", "date", "hostname", "done", "_step", "_timestamp", "trial_id"]
)

#: ``(result, leaves)``: what Tune delivers, with a config in it, most of the time.
results = st.builds(
    lambda metrics, config: label({**metrics, **config}),
    st.dictionaries(_TOP, _trees(names), max_size=4),
    st.just({}) | st.dictionaries(names, _trees(names), max_size=4).map(lambda c: {"config": c}),
)

paths = st.lists(names, min_size=1, max_size=3).map("/".join)
patterns = st.one_of(
    paths,
    paths.map(lambda path: f"config/{path}"),
    st.sampled_from(["pid", "config", "train", "train/loss", "date"]),
    paths.map(lambda path: f"{path}/*"),
    paths.map(lambda path: f"*/{path}"),
    paths.map(lambda path: f"*{path[1:]}"),
    paths.map(lambda path: f"{path[:2]}*"),
    paths.map(lambda path: f"?{path[1:]}"),
    paths.map(lambda path: f"[{path[0]}z]{path[1:]}"),
    paths.map(lambda path: f"[!{path[0]}]*"),
)
excludes = st.lists(patterns, max_size=3).map(tuple)


# --- options -------------------------------------------------------------------------------

_kwargs = st.dictionaries(names, json_scalars, max_size=3)
_word = st.text("abcdefghij-_0123456789", min_size=1, max_size=20)

init_kwargs = st.fixed_dictionaries(
    {},
    optional={
        "id": _word,
        "name": st.text(min_size=1, max_size=20).filter(str.strip),
        "notes": st.text(max_size=20),
        "job_type": _word,
        "tags": st.lists(st.text(min_size=1, max_size=64), max_size=3),
        "config": _kwargs,
        "mode": st.sampled_from(["online", "offline", "disabled"]),
        "settings": st.fixed_dictionaries({}, optional={"silent": st.booleans()}),
    },
)

#: What a user may write, all of it valid.
given_options = st.fixed_dictionaries(
    {},
    optional={
        "project": _word,
        "group": st.text(min_size=1, max_size=20).filter(str.strip),
        "api_key_file": _word,
        "excludes": st.lists(patterns | paths.map(lambda path: f"{path}/"), max_size=3),
        "log_config": st.booleans(),
        "upload_checkpoints": st.booleans() | st.sampled_from(["all", "best", "last"]),
        "upload_timeout": st.integers(0, 9999) | st.floats(0, 10**9, exclude_max=True),
        "video_kwargs": _kwargs,
        "image_kwargs": _kwargs,
        "checkpoint_references": st.booleans(),
        "log_results": st.booleans(),
        "rank_zero_only": st.booleans(),
    },
)

run_options = st.builds(
    lambda ours, rest: RunOptions(
        **{name: tuple(v) if isinstance(v, list) else v for name, v in ours.items()},
        init_kwargs=rest,
    ),
    given_options,
    init_kwargs,
)


# --- search spaces -------------------------------------------------------------------------

#: What a choice is between, without what Tune can't copy.
_options = json_scalars | st.sampled_from(
    [np.float64(0.5), np.int64(3), (1, "a"), Colour.RED, Path("a/b"), Point(1, {2}), float("nan")]
)


def domains() -> st.SearchStrategy[Any]:
    """One of Tune's domains of numbers, of a function, or a grid or choice of constants."""
    from ray import tune  # not before it is needed: most tests do without

    def with_q(ends: st.SearchStrategy[int]) -> st.SearchStrategy[tuple[float, float, float]]:
        q = st.floats(1e-3, 10) | st.sampled_from([0.1, 0.3, 1.0, 1])
        return st.builds(lambda both, q: (both[0] * q, both[1] * q, q), _ordered(ends), q)

    narrow = st.integers(10**12, 10**12 + 9)
    whole = _ordered(st.integers(1, 99), unique=True) | _ordered(narrow, unique=True)
    signed = st.builds(
        lambda both, sign: (sign * both[0], both[1]), whole, st.sampled_from([1, -1])
    )
    mean, sd = st.floats(-9, 9), st.floats(0.1, 9)
    # Far enough apart for a multiple of `q`.
    apart = st.builds(lambda both, q: (both[0], both[1] + q, q), whole, st.integers(1, 7))
    return st.one_of(
        _ordered(st.floats(-1e6, 1e6)).map(lambda both: tune.uniform(*both)),
        with_q(st.integers(-50, 50)).map(lambda three: tune.quniform(*three)),
        _ordered(st.floats(1e-9, 1e9) | st.just(0.1)).map(lambda both: tune.loguniform(*both)),
        with_q(st.integers(1, 50)).map(lambda three: tune.qloguniform(*three)),
        st.builds(tune.randn, mean, sd),
        st.builds(tune.qrandn, mean, sd, st.floats(0.1, 9) | st.just(1)),
        signed.map(lambda both: tune.randint(*both)),
        whole.map(lambda both: tune.lograndint(*both)),
        apart.map(lambda three: tune.qrandint(*three)),
        apart.map(lambda three: tune.qlograndint(*three)),
        st.just(tune.sample_from(lambda: 1)),
        st.lists(_options, min_size=1, max_size=3).map(tune.grid_search),
        st.lists(_options, min_size=1, max_size=5).map(tune.choice),
    )


def _ordered(ends: st.SearchStrategy[Any], *, unique: bool = False) -> st.SearchStrategy[Any]:
    return st.lists(ends, min_size=2, max_size=2, unique=unique).map(sorted)


def spaces(*, conditional: bool) -> st.SearchStrategy[dict[str, Any]]:
    """A ``param_space``; with choices between spaces, if it is conditional."""
    from ray import tune

    keys = names | st.sampled_from(["a.b", "learning rate", "value", "name", "min"])

    def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        plain = st.dictionaries(keys, inner, max_size=4) | st.lists(inner, max_size=3)
        if not conditional:
            return plain
        several = st.lists(inner, min_size=1, max_size=3)
        return plain | several.map(tune.choice) | several.map(tune.grid_search)

    return st.dictionaries(
        keys, st.recursive(domains() | _options, containers, max_leaves=8), max_size=5
    )


param_spaces = st.deferred(lambda: spaces(conditional=True))


# --- experiments, as the overview gets them ------------------------------------------------

#: What HTML, JSON and Plotly would read as more than text.
markup = st.sampled_from(
    [
        *("</script>", "<!--", "<script>alert(1)</script>", "]]>", "<b>", "&lt;b&gt;", "&amp;"),
        *('"><img src=x onerror=alert(1)>', "' onclick='alert(1)", "%{x}", "$x$", "a\nb", "\ud800"),
        *("<br>", '<a href="javascript:alert(1)">', "\0", "\ufffe", "名前", "x" * 500, ""),
    ]
)
_wild = st.lists(markup | text, max_size=3).map("".join)
_reals = st.none() | st.floats() | st.integers(-9, 9).map(float)
_sampled = st.recursive(
    st.none() | st.booleans() | numbers | _reals | _wild,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_wild, inner, max_size=2),
    max_leaves=3,
)
_params = st.dictionaries(names | _wild, _sampled, max_size=4)
_curves = st.lists(st.tuples(st.floats(), st.floats(), st.floats()), max_size=4).map(
    lambda rows: Curve(*(array("d", column) for column in zip(*rows, strict=True)))
)
_perturbations = st.fixed_dictionaries(
    {"iteration": st.integers(0, 99), "from_trial": _wild | st.sampled_from(["0_lr=1", "t_00001"])},
    optional={"old": _params, "new": _params},
)
_trial_records = st.builds(
    TrialRecord,
    trial_id=_wild | st.integers(0, 9).map("t_{:05}".format),
    name=_wild,
    outcome=st.sampled_from(["finished", "stopped", "failed", "lost", ""]) | _wild,
    reason=_wild,
    iterations=st.integers(0, 99),
    seconds=_reals,
    params=_params,
    last=_reals,
    best=_reals,
    curve=_curves,
    perturbations=st.lists(_perturbations, max_size=2),
)
experiment_records = st.builds(
    ExperimentRecord,
    name=_wild,
    trials=st.lists(_trial_records, max_size=6),
    metric=st.none() | _wild,
    mode=st.sampled_from([None, "min", "max"]),
    space=st.dictionaries(
        names,
        st.sampled_from(
            [
                {"distribution": "log_uniform_values", "min": 1e-5, "max": 1},
                {"distribution": "int_uniform", "min": 0, "max": 9},
                {"distribution": "categorical", "values": [2, 1, "a", None, True]},
                {"values": [2, 1]},
                {"value": 3},
                {"min": "?", "max": None},
            ]
        ),
        max_size=3,
    ),
    links=st.dictionaries(_wild, _wild | st.just("javascript:alert(1)"), max_size=2),
    note=_wild,
)
