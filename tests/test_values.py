"""Values that people and fuzzers make up: ten thousand of them, and each costs itself alone.

Not by hypothesis: it takes a hundred times as long for each, and what is wanted is many.
"""

# Over 250 lines: the objects that are made up, and those that hold a secret, one by one.

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import itertools
import json
import logging
import optparse
import os
import random
import signal
import sys
import threading
import types
from collections import OrderedDict, UserDict, UserString, deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import numpy as np
import pydantic
import pytest
import strategies

from wbtune._data import outcomes
from wbtune._data.filtering import Excludes
from wbtune._data.masking import MASK, looks_secret, mask_given, mask_text, mask_urls
from wbtune._data.options import parse
from wbtune._data.outcomes import Outcome
from wbtune._data.routing import Router
from wbtune._data.sanitize import MAX_VALUES, plain, plain_metric
from wbtune._data.text import MAX_TEXT
from wbtune._driver.writer import Writer
from wbtune._run import run_log, run_spec
from wbtune.errors import WbtuneError

RAISED = (SystemExit, KeyboardInterrupt, GeneratorExit, RuntimeError, MemoryError, RecursionError)

ASKED = (
    *("__str__", "__repr__", "__getattr__", "__eq__", "__len__", "__iter__", "__bool__"),
    *("__reduce__", "__array__", "__float__", "__int__", "__index__", "__getitem__", "__call__"),
    *("__fspath__", "__getattribute__", "__contains__", "__format__", "__hash__", "__lt__"),
    *("item", "keys", "items", "values", "tolist", "isoformat", "get_secret_value", "dtype"),
)

BASES: tuple[type, ...] = (
    *(object, dict, list, set, frozenset, tuple, int, float, str, bytes, Exception),
    *(UserDict, deque, types.SimpleNamespace, argparse.Namespace, strategies.Point),
)


def raiser(error: type[BaseException]) -> Callable[..., Any]:
    def raises(*_: Any, **__: Any) -> Any:
        raise error

    return raises


def adversary(random_: random.Random) -> Any:
    """An object that raises when it is asked for one thing, for some, or for everything."""
    error = random_.choice(RAISED)
    asked = random_.sample(ASKED, random_.choice((1, 1, 2, 5, len(ASKED))))
    body: dict[str, Any] = {name: raiser(error) for name in asked}
    if random_.random() < 0.3:
        body["__class__"] = property(raiser(error))
    if random_.random() < 0.3:
        body["dtype"] = property(raiser(error))
    meta: type = type
    if random_.random() < 0.1:
        odd = {name: raiser(error) for name in ("__hash__", "__eq__", "__getattribute__")}
        meta = type("Meta", (type,), odd)
    base = random_.choice(BASES)
    try:
        kind = meta("Odd", (base,), body)
        return kind() if random_.random() < 0.95 else kind
    except BaseException:  # noqa: BLE001 - it is what it raises
        return types.SimpleNamespace(a=raiser(error))


def endless() -> Any:
    class Endless(Mapping[str, Any]):
        def __getitem__(self, key: str) -> Any:
            return key

        def __iter__(self) -> Iterator[str]:
            return map(str, itertools.count())

        def __len__(self) -> int:
            return sys.maxsize

    class Long(list[int]):
        def __iter__(self) -> Iterator[int]:
            return itertools.count()

    return random.choice((Endless(), Long([1]), range(10**15), itertools.count()))


def objects(values: list[Any]) -> Any:
    array = np.empty(len(values), dtype=object)
    for at, one in enumerate(values):
        array[at] = one
    return array


LEAVES: tuple[Callable[[random.Random], Any], ...] = (
    adversary,
    lambda r: r.choice((1, -1.5, True, None, 10**5000, float("nan"), float("inf"), 1j)),
    lambda r: r.choice(("x", "", "\ud800", "é", "http://a:b@c", "=" * 9, "@//:@", b"\xff")),
    lambda r: np.zeros(r.choice([(), (3,), (40,), (2, 2, 3), (0,), (1, 2, 3, 2, 2)])),
    lambda r: objects([adversary(r), 1]),
    lambda r: r.choice((strategies.Rude(), strategies.RudeArray(), strategies.RudePath())),
    lambda r: r.choice((len, Path("a"), UserString("x"), object(), NotImplemented, type)),
)


def value(random_: random.Random, depth: int = 0) -> Any:  # noqa: PLR0911 - one of each
    """Anything, some of it nested."""
    if depth > 3 or random_.random() < 0.5:
        return random_.choice(LEAVES)(random_)
    inner = [value(random_, depth + 1) for _ in range(random_.randrange(4))]
    match random_.randrange(7):
        case 0:
            return inner
        case 1:
            return tuple(inner)
        case 2:
            return {key(random_): one for one in inner}
        case 3:
            return OrderedDict((str(i), one) for i, one in enumerate(inner))
        case 4:
            return strategies.Point(*inner[:2])
        case 5:
            return types.SimpleNamespace(**{f"f{i}": one for i, one in enumerate(inner)})
        case _:
            inner.append(inner)
            return inner


def key(random_: random.Random) -> Any:
    """Of a mapping."""
    odd = random_.choice(LEAVES)(random_)
    try:
        hash(odd)
    except BaseException:  # noqa: BLE001 - it is what it raises
        return random_.choice(("a", 1, None, (1, "x"), "api_key", "wandb", "config"))
    return odd


def strict(data: Any) -> None:
    """Is this what JSON and protobuf take?"""
    json.dumps(data, allow_nan=False, ensure_ascii=False, default=np.shape).encode()


def test_five_thousand_values() -> None:
    """Sanitised, routed and excluded: plain data, the number beside it there, the same again."""
    random_ = random.Random(19)
    for _ in range(2500):
        odd = value(random_)
        told = plain({"odd": odd, "beside": 1})
        strict(told)
        assert told["beside"] == 1
        assert plain(told) == told
        strict(Excludes(("a", "*/x")).config({"odd": odd}))
    for _ in range(2500):
        odd = value(random_)
        result = {"odd": odd, "loss": 1.5, "config": {"o": odd}, key(random_): odd}
        for router in (Router(), Router(Excludes(("x",)), log_config=True)):
            row, config = router.route(router.snapshot(result, lambda media: media))
            assert row["loss"] == 1.5
            strict([row, config])


OPTIONS = (
    *("project", "group", "excludes", "unmask", "log_config", "upload_checkpoints", "settings"),
    *("upload_timeout", "video_kwargs", "image_kwargs", "name", "tags", "notes", "mode", "id"),
    *("config", "api_key_file", "rank_zero_only", "save_code", "dir", "no_such_option"),
)


def test_five_thousand_options() -> None:
    """Taken, or refused in words; never another error, whatever the value does when asked."""
    random_ = random.Random(20)
    init = frozenset({"name", "tags", "notes", "mode", "id", "config", "settings", "save_code"})
    taken, refused = 0, set[str]()
    for _ in range(5000):
        names = random_.sample(OPTIONS, random_.randrange(1, 4))
        given = {name: value(random_, depth=2) for name in names}
        try:
            parse("way", given, init)
        except WbtuneError as error:
            refused.add(str(error).partition(":")[0])
        else:
            taken += 1
    assert taken > 20
    assert refused == {"way"}


# --- what raises, and what does not end -----------------------------------------------------


class Exits:
    def __str__(self) -> str:
        return str(sys.exit("do not print me"))


class Interrupts:
    def __getattr__(self, name: str) -> Any:
        raise KeyboardInterrupt


def test_what_exits_when_it_is_asked_costs_its_own_key(tmp_path: Path, caplog: Any) -> None:
    """The rows of all trials are there, and the driver's thread goes on to the end."""
    writer = Writer()
    writer.launch(tmp_path / "wandb" / "wbtune.log")
    for name in "ab":
        init = {"project": "p", "id": name, "dir": str(tmp_path), "mode": "offline"}
        writer.start(name, run_spec.RunSpec(init), Router(), None)
    for i in range(20):
        writer.log("a", {"i": i, "odd": [Exits(), Interrupts()][i % 2], "training_iteration": i})
        writer.log("b", {"i": i, "training_iteration": 10**30 if i == 3 else i})
    for name in "ab":
        writer.end(name, outcomes.FINISHED)
    assert writer.close(60)
    logs = run_log.read_runs(tmp_path)
    assert [row["i"] for row in logs["a"].rows] == list(range(20))
    assert [row["i"] for row in logs["b"].rows] == list(range(20))
    assert {log.exit_code for log in logs.values()} == {0}
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


class Presses:
    """Ctrl-C comes while this is asked."""

    def __str__(self) -> str:
        os.kill(os.getpid(), signal.SIGINT)
        return "".join(str(i) for i in range(10**7))


def test_a_real_ctrl_c_is_heard() -> None:
    """In the main thread, where Python raises it; a value that raises the same is not it."""
    assert threading.current_thread() is threading.main_thread()

    def handler(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    try:
        for one in (signal.default_int_handler, handler, functools.partial(handler)):
            signal.signal(signal.SIGINT, one)
            with pytest.raises(KeyboardInterrupt):
                plain([Presses()])
    finally:
        signal.signal(signal.SIGINT, before)
    assert plain([Exits(), 1]) == ["<test_values.Exits>", 1]


def test_what_does_not_end_is_cut() -> None:
    """Endless iterators, huge ranges and texts: bounded, and the same when it is done again."""
    for endless_ in (endless() for _ in range(8)):
        told = plain({"x": endless_, "y": 1})
        assert plain(told) == told
        assert len(json.dumps(told)) < 20 * MAX_VALUES
    assert len(plain("é" * 2 * MAX_TEXT)) == MAX_TEXT


def test_an_error_that_raises_is_an_outcome() -> None:
    """The trial's own exception may do anything when it is asked for its text."""

    class Odd(Exception):  # noqa: N818 - a user's
        def __str__(self) -> str:
            raise SystemExit

    outcome = Outcome.failed(Odd())
    assert (outcome.error_type, outcome.exit_code) == ("Odd", 1)
    assert "SystemExit" in outcome.error_message


# --- secrets --------------------------------------------------------------------------------

LEAK = "LEAK-9f8e7d"


class Own:
    def __init__(self) -> None:
        self.password = LEAK
        self.lr = 0.1

    def __repr__(self) -> str:
        return f"Own(password={self.password!r})"


class Outer:
    def __init__(self) -> None:
        self.inner = [{"a": Own()}]

    def __repr__(self) -> str:
        return f"Outer({LEAK})"


class Slotted:
    __slots__ = ("api_key",)

    def __init__(self) -> None:
        self.api_key = LEAK

    def __repr__(self) -> str:
        return f"Slotted {self.api_key}"


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    api_key: str = LEAK
    hidden: pydantic.SecretStr = pydantic.SecretStr(LEAK)
    lr: float = 0.1


@attrs.define
class Attrs:
    passwd: str = LEAK
    lr: float = 0.1


@dataclasses.dataclass
class Data:
    credentials: Any = LEAK
    lr: float = 0.1


class Tuple(NamedTuple):
    aws_secret_access_key: str = LEAK
    lr: float = 0.1


def parsed() -> Any:
    parser = optparse.OptionParser()
    parser.add_option("--api-key", default=LEAK)
    return parser.parse_args([])[0]


SECRET_HOLDERS: tuple[Any, ...] = (
    *(argparse.Namespace(api_key=LEAK, lr=0.1), types.SimpleNamespace(pwd=LEAK, lr=0.1)),
    *(Own(), Outer(), Slotted(), Model(), Model(token=LEAK), Attrs(), Data(), Tuple(), parsed()),
    *(Data(credentials=Own()), Data(credentials={"user": LEAK}), UserDict(api_key=LEAK)),
    *([("api_key", LEAK)], (("api_key", LEAK),), ("password", LEAK), {("api_key", LEAK)}),
    *(["--api-key", LEAK, "--lr", "1"], [f"--api-key={LEAK}"], f"https://h/x?token={LEAK}"),
    *([{"name": "API_KEY", "value": LEAK}], {"key": "API_KEY", "value": LEAK}),
    *(json.dumps({"api_key": LEAK}), {"k": 1}.items()),
    *({"api_key": LEAK}.items(), {"api_key": [LEAK]}, deque([("pwd", LEAK)])),
    *(f"postgres://me:{LEAK}@db/x", f"redis://:{LEAK}@h", [f"see https://a:{LEAK}@h/x."]),
    *(ValueError(f"password={LEAK}"), {f"http://a:{LEAK}@h": 1}, f"a:{LEAK}@tcp(h)/db"),
    *(f"curl -H 'Authorization: Bearer {LEAK}' h",),
    *({"api.key": LEAK}, {"API KEY": LEAK}, {"apiKey": LEAK}, {"x-api-key": LEAK}),
    *({"http_auth": LEAK}, {"dbPwd": LEAK}, {"privateKey": LEAK}, {"Authorization": LEAK}),
)


@pytest.mark.parametrize("holder", SECRET_HOLDERS, ids=lambda holder: type(holder).__name__)
def test_no_secret_of_an_object_is_sent(holder: Any) -> None:
    """Masked, or shown as a type, wherever it stands; by `excludes`, gone like a dict's key."""
    for config in ({"x": holder}, {"deep": [{"x": holder}]}):
        told = Excludes().config(config)
        assert LEAK not in json.dumps(told)
        strict(told)
        excludes = Excludes(("lr", "api_key", "passwd", "credentials"))
        assert LEAK not in json.dumps(excludes.config(config))
        _, sent = Router(log_config=True).route({"config": config})
        assert LEAK not in json.dumps(sent)
    if hasattr(holder, "lr") and not isinstance(holder, Own):
        assert Excludes().config({"x": holder})["x"]["lr"] == 0.1
        assert "lr" not in Excludes(("lr",)).config({"x": holder})["x"]
        row, _ = Router().route({"x": holder})
        assert row["x/lr"] == 0.1
        assert LEAK not in json.dumps(row)


def test_what_pydantic_allows_besides_its_fields_is_kept() -> None:
    """``extra="allow"``: what was given and not declared."""
    assert plain(Model.model_validate({"layers": 2}))["layers"] == 2


def test_omegaconf_is_a_mapping() -> None:
    """And its lists are lists; what is missing costs its own key."""
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.create(
        {"api_key": LEAK, "gone": "???", "list": [{"password": LEAK}, 1], "lr": 0.1}
    )
    told = Excludes().config({"c": config})["c"]
    assert LEAK not in json.dumps(told)
    assert (told["lr"], told["list"][1]) == (0.1, 1)
    assert told["gone"] == "<MissingMandatoryValue>"


def test_the_passwords_of_urls_are_in_no_row() -> None:
    """In text of results, at any depth; user and host stay."""
    result = {"url": f"see http://me:{LEAK}@h/x", "l": [f"redis://:{LEAK}@h"], "loss": 1}
    row, _ = Router().route(result)
    assert row == {"url": "see http://me:****@h/x", "l": ["redis://:****@h"], "loss": 1}
    plain_text = "http://host:8080/a@b, git@github.com:a/b, ssh://git@host/a, user@host: 12:30"
    assert mask_urls(plain_text) == plain_text


SECRETS = (
    *("client_secret", "passphrase", "passcode", "pwd", "credential", "api_key", "access_key"),
    *("private_key", "signing_key", "encryption_key", "ssh_key", "my_authkey", "account_key"),
    *("shared_key", "master_key", "service_key", "storage_key", "license_key", "wandb_key"),
    *("openai_key", "authorization", "bearer", "connection_string", "token", "max_tokens"),
    *("dbpass", "auth", "creds", "cred", "cookie", "cookies", "jwt", "pswd", "psw", "pass"),
)
WITH_A_PASS = (
    *("db", "user", "http", "ftp", "smtp", "mail", "root", "admin", "sudo", "my", "mysql", "pg"),
    *("postgres", "redis", "proxy", "basic"),
)
VOCABULARY = ("pad", "eos", "bos", "unk", "sep", "cls", "mask", "image", "audio")


@pytest.mark.parametrize(
    ("name", "expected"),
    [(name, True) for name in ("passwd", "db_pass", "AWS_SECRET_ACCESS_KEY", *SECRETS)]
    + [(f"{of}_pass", True) for of in (*WITH_A_PASS, "my_own_db")]
    + [(f"{kind}_token", False) for kind in VOCABULARY]
    + [(name, False) for name in ("author", "tokenizer", "forward_pass", "sort_key", "monkey")]
    + [(name, False) for name in ("tokenised", "user", "pad_tokens", "passes", "key")],
)
def test_a_secrets_name(name: str, expected: bool) -> None:
    """By its words, however it is spelled."""
    spelled = {name, name.upper(), name.title(), name.replace("_", "."), name.replace("_", " ")}
    assert {looks_secret(one) for one in spelled} == {expected}


def test_what_a_trial_raised_has_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its message nor its traceback: URLs, what is given to a secret's name, keys."""
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    text = f"http://a:{LEAK}@h refused; password={LEAK}; key was {'k' * 40}"
    with pytest.raises(ValueError, match="refused") as raised:
        raise ValueError(text)
    summary = Outcome.failed(raised.value).summary()
    said = json.dumps(summary)
    assert LEAK not in said
    assert "k" * 40 not in said
    assert "refused" in summary["wbtune/error_message"]
    no_secret = "AuthError: max_tokens=5, unexpected token: x, api_key: null, password=None"
    assert mask_text(no_secret) == no_secret


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ('{"api_key": "a\\"b c", "lr": 1}', '{"api_key": "****", "lr": 1}'),
        ("{'pwd': 'a\\'b c', 'lr': 1}", "{'pwd': '****', 'lr': 1}"),
        ("(x-api-key=a, lr=1)", "(x-api-key=****, lr=1)"),
        ("api_key = a b", "api_key = **** b"),
        ('a.password="b c" d', 'a.password="****" d'),
        ("token=abc", "token=****"),
        ("token=123456", "token=123456"),
        ('H: bearer  abcdefgh"', 'H: bearer  ****"'),
        ("the bearer of news", "the bearer of news"),
        (
            "tcp: me:x@tcp(h) a.b-c:x@unix(/s) d:x@udp(h)",
            "tcp: me:****@tcp(h) a.b-c:****@unix(/s) d:****@udp(h)",
        ),
        (f"a://{'u' * 20}@h b://{'u' * 19}@h", f"a://****@h b://{'u' * 19}@h"),
        ("a://key:@h b://:@h", "a://****:****@h b://:****@h"),
        ("a://u:p@q@h/x a://h:123456@h a://h:8080", "a://u:****@h/x a://h:****@h a://h:8080"),
        ("a://h:80/x@y a://h:80?x@y a://h:80#x@y", "a://h:80/x@y a://h:80?x@y a://h:80#x@y"),
    ],
)
def test_what_of_a_text_is_masked(text: str, masked: str) -> None:
    """The value of a secret's name, to its end; what logs in to an address; nothing else."""
    assert mask_text(text) == mask_given(mask_urls(text)) == masked


@pytest.mark.parametrize("text", ["password: hunter2", "token: abcdefghijkl", "- api_key:  x"])
def test_what_a_message_says_of_a_secret_is_masked(text: str) -> None:
    """As YAML and people write it. In a config's text that is left alone."""
    before, _, _ = text.rpartition(" ")
    assert mask_text(text) == f"{before} {MASK}"
    assert mask_given(text) == text


def test_a_result_is_what_it_was_in_the_hook() -> None:
    """At every depth, arrays too; numbers and text are not even looked at."""
    weights, image = np.arange(50.0), np.zeros((4, 4, 3), np.uint8)
    point = strategies.Point([1], {"a": 1})
    result = {"l": [[1], {"a": [2]}], "p": point, "w": weights, "i": image, "loss": 1.0}
    router = Router()
    kept = router.snapshot(result, lambda media: media)
    expected, _ = Router().route(copy.deepcopy(result))
    result["l"][1]["a"].append("late")
    point.y["a"] = point.x[0] = "late"
    weights[:], image[:] = -1, 255
    row, _ = router.route(kept)
    assert np.array_equal(row.pop("i"), expected.pop("i"))
    assert row == expected
    assert plain_metric(row) == row


def test_a_results_config_is_kept_where_it_is_logged() -> None:
    """As it was in the hook; elsewhere nothing is copied."""
    result = {"config": {"lr": [1]}}
    logs = Router(log_config=True)
    kept = logs.snapshot(result, lambda media: media)
    result["config"]["lr"].append(2)
    assert logs.route(kept) == ({"config/lr": [1]}, {"lr": [1]})
    assert Router().snapshot(result, lambda media: media) == {}


def test_the_working_directory_is_no_secret(monkeypatch):
    """A shell has it in a variable that is called like a password; tracebacks name it."""
    monkeypatch.setenv("PWD", "/home/somebody/project")
    monkeypatch.setenv("OLDPWD", "/home/somebody/elsewhere")
    monkeypatch.setenv("DB_PWD", "hidden-hidden-hidden")
    text = (
        'File "/home/somebody/project/train.py", /home/somebody/elsewhere/x, hidden-hidden-hidden'
    )
    assert mask_text(text) == text.replace("hidden-hidden-hidden", "****")
