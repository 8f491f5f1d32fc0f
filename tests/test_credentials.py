"""Where a key is found, in which order, and that it is never shown on the way."""

# Over 250 lines: where a key is found, and where it must not show, are asked of the same processes.

from __future__ import annotations

import copy
import doctest
import json
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeStore
from ray import cloudpickle

from wbtune._data import secret
from wbtune._data.options import RunOptions
from wbtune._data.secret import Secret
from wbtune._place import credentials, driver_login, handover, trial_login
from wbtune._place.credentials import Login
from wbtune._place.identity import Identity
from wbtune._upstream import ray_launch, ray_store
from wbtune.errors import CredentialsError

ARGUMENT, FILE, ENVIRONMENT, NETRC, HOOK = (letter * 40 for letter in "abcde")
KEYS = (ARGUMENT, FILE, ENVIRONMENT, NETRC, HOOK)
CURES = ("`wandb login`", "WANDB_API_KEY", "api_key_file=", 'mode="offline"')

# wandb reads environment and files once in a process, so each question gets one of its
# own: forked off a process that has imported everything and asked nothing.
PROGRAM = """
import json, os, sys, traceback
import wandb
from wandb.sdk.lib import wbauth
from wandb.sdk import wandb_setup
from wbtune._place import credentials

def hook(): return "e" * 40
def nothing(): return None
def number(): return 5
def raising(): raise RuntimeError("e" * 40)

def answer(asked):
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(os.environ["HOME"])
    try:
        secret = credentials.find("way", **asked["arguments"])
    except Exception as error:
        found = {"error": type(error).__name__, "text": str(error),
                "traceback": "".join(traceback.format_exception(error))}
    else:
        found = {"key": None if secret is None else secret.reveal()}
    found["exported"] = sorted(set(os.environ) - set(asked["env"]))
    return found

for line in sys.stdin:
    pid = os.fork()
    if not pid:
        print(json.dumps(answer(json.loads(line))), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
"""

Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def process(
    measured: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[subprocess.Popen[str]]:
    program = tmp_path_factory.mktemp("program") / "asked.py"
    program.write_text(PROGRAM)
    root = str(Path(credentials.__file__).parents[1])
    measured = {name: os.environ[name] for name in os.environ if name.startswith("COVERAGE_")}
    with subprocess.Popen(
        [sys.executable, str(program)],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(program.parent),
            "PYTHONPATH": root,
            **measured,
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process


@pytest.fixture
def ask(process: subprocess.Popen[str], tmp_path: Path) -> Ask:
    """Ask `find` in a process with this environment, an empty home and nothing of ours."""
    (tmp_path / "key").write_text(f"  {FILE}  \nsecond line\n")

    def ask(
        env: dict[str, str] | None = None,
        *,
        netrc: str | None = None,
        mode: str | None = None,
        **arguments: Any,
    ) -> dict[str, Any]:
        if netrc is not None:
            (tmp_path / "netrc").write_text(
                f"machine api.wandb.ai\n  login user\n  password {netrc}\n"
            )
            (tmp_path / "netrc").chmod(0o600)
        asked = {
            "env": {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc"), **(env or {})},
            "arguments": {"api_key": None, "api_key_file": None, "mode": mode, **arguments},
        }
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        answer: dict[str, Any] = json.loads(process.stdout.readline())
        assert answer.pop("exported") == [], "the environment is nobody's to write"
        for key in KEYS:
            assert key not in answer.get("traceback", "")
        return answer

    return ask


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"argument", "environment", "netrc", "hook"}, ARGUMENT),
        ({"file", "environment", "netrc", "hook"}, FILE),
        ({"environment", "netrc", "hook"}, None),
        ({"environment", "hook"}, None),
        ({"netrc", "hook"}, None),
        ({"hook"}, HOOK),
    ],
    ids=lambda value: "+".join(sorted(value)) if isinstance(value, set) else "",
)
def test_the_first_that_has_a_key_counts(
    ask: Ask, tmp_path: Path, given: set[str], expected: str | None
) -> None:
    """Argument, file, environment, netrc, hook; what wandb finds itself is not touched."""
    env = {"WANDB_API_KEY": ENVIRONMENT} if "environment" in given else {}
    env |= {"WANDB_SETUP_API_KEY_HOOK": "__main__:hook"} if "hook" in given else {}
    answer = ask(
        env,
        netrc=NETRC if "netrc" in given else None,
        mode="online",
        api_key=ARGUMENT if "argument" in given else None,
        api_key_file=str(tmp_path / "key") if "file" in given else None,
    )
    assert answer == {"key": expected}


@pytest.mark.parametrize("mode", ["online", "shared", None])
def test_without_any_key_the_message_names_every_cure(ask: Ask, mode: str | None) -> None:
    """Before the first trial, and W&B's default is to talk to a server."""
    answer = ask(mode=mode)
    assert answer["error"] == "CredentialsError"
    assert answer["text"].startswith("way: no W&B API key found. ")
    assert [cure for cure in CURES if cure.lower() not in answer["text"].lower()] == []


@pytest.mark.parametrize(
    ("env", "mode"),
    [
        ({}, "offline"),
        ({}, "disabled"),
        ({}, "dryrun"),
        ({"WANDB_MODE": "online"}, "offline"),
        ({"WANDB_MODE": "offline"}, None),
        ({"WANDB_MODE": "disabled"}, None),
        ({"WANDB_MODE": "dryrun"}, None),
    ],
)
def test_offline_needs_no_key(ask: Ask, env: dict[str, str], mode: str | None) -> None:
    """Neither is one looked for nor is a hook called."""
    env = env | {"WANDB_SETUP_API_KEY_HOOK": "__main__:raising"}
    assert ask(env, mode=mode) == {"key": None}
    assert ask(env, mode=mode, api_key=ARGUMENT) == {"key": None}


def test_offline_in_the_settings_file_counts(ask: Ask, tmp_path: Path) -> None:
    """``wandb offline`` writes it there; the argument still has the last word."""
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "settings").write_text("[default]\nmode = offline\n")
    assert ask() == {"key": None}
    assert ask(mode="online")["error"] == "CredentialsError"
    assert ask({"WANDB_MODE": "online"})["error"] == "CredentialsError"


def test_a_login_to_another_server_is_none(ask: Ask) -> None:
    """The netrc entry is asked for the server that the runs go to."""
    env = {"WANDB_BASE_URL": "http://wandb.internal:8080"}
    assert ask(env, netrc=NETRC, mode="online")["error"] == "CredentialsError"


def test_two_keys_are_one_too_many(ask: Ask, tmp_path: Path) -> None:
    """Also offline: the contradiction is in the user's code."""
    for mode in ("online", "offline"):
        answer = ask(mode=mode, api_key=ARGUMENT, api_key_file=str(tmp_path / "key"))
        assert answer["error"] == "CredentialsError"
        assert answer["text"] == "way: got both api_key= and api_key_file=. Leave one out."


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("absent", None, "can't read api_key_file="),
        ("~nobody-of-this-name/key", None, "can't read api_key_file="),
        ("nul\0", None, "can't read api_key_file="),
        (".", None, "can't read api_key_file="),
        ("binary", b"\xff\xfe" + b"s" * 40, "can't read api_key_file="),
        ("empty", b"", "is empty. Write the key into its first line."),
        ("blank", b" \n\n", "is empty. Write the key into its first line."),
    ],
)
def test_a_file_without_a_key_is_an_error_of_ours(
    tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    """It names the file; what is in the file stays there."""
    path = name if name.startswith("~") else str(tmp_path / name)
    if content is not None:
        Path(path).write_bytes(content)
    with pytest.raises(CredentialsError) as caught:
        credentials.explicit_key("way", None, path)
    assert str(caught.value).startswith("way: ")
    assert words in str(caught.value)
    assert repr(path) in str(caught.value)
    assert "sss" not in "".join(traceback.format_exception(caught.value))


def test_the_file_may_be_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``~`` is the user's, and spaces or a newline round the key are nobody's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "key").write_text(f"\n {FILE} \n")
    found = credentials.explicit_key("way", None, "~/key")
    assert found is not None
    assert found.reveal() == FILE


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        ("raising", "raised RuntimeError. Fix it, or unset it."),
        ("nothing", "returned no key. Fix it, or unset it."),
        ("number", "returned no key. Fix it, or unset it."),
        ("absent", "raised AttributeError. Fix it, or unset it."),
    ],
)
def test_a_hook_that_fails_is_named_and_not_quoted(ask: Ask, hook: str, words: str) -> None:
    """Its own error may carry the key, so neither message nor traceback repeats it."""
    answer = ask({"WANDB_SETUP_API_KEY_HOOK": f"__main__:{hook}"}, mode="online")
    assert answer["error"] == "CredentialsError"
    assert answer["text"] == f"way: the hook WANDB_SETUP_API_KEY_HOOK=__main__:{hook} {words}"
    assert "RuntimeError:" not in answer["traceback"]


@pytest.mark.parametrize(
    "env",
    [
        {"WANDB_API_KEY": "short-key"},
        {"WANDB_API_KEY": ENVIRONMENT, "WANDB_IDENTITY_TOKEN_FILE": "token"},
    ],
)
def test_what_wandb_finds_and_refuses_is_told_with_the_cures(ask: Ask, env: dict[str, str]) -> None:
    """On the driver, by an error of ours, and still without the key."""
    answer = ask(env, mode="online")
    assert answer["error"] == "CredentialsError"
    assert "the credentials that wandb found are unusable" in answer["text"]
    assert [cure for cure in CURES if cure not in answer["text"]] == []
    assert "short-key" not in answer["traceback"]


@pytest.mark.parametrize("argument", ["api_key", "api_key_file"])
def test_a_given_key_that_wandb_would_refuse_is_refused_before_any_trial(
    ask: Ask, tmp_path: Path, argument: str
) -> None:
    """Otherwise each trial would find out for itself."""
    (tmp_path / "short").write_text("tooshort")
    value = "tooshort" if argument == "api_key" else str(tmp_path / "short")
    answer = ask(mode="online", **{argument: value})
    assert answer.get("error") == "CredentialsError"
    assert "tooshort" not in answer["traceback"]


# --- Secret --------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_is_never_pickled(protocol: int) -> None:
    """Neither alone nor inside of something, by any protocol: pickles end in the storage."""
    for holder in (Secret(ARGUMENT), [Secret(ARGUMENT)], {"key": Secret(ARGUMENT)}):
        with pytest.raises(TypeError, match="an API key is never pickled"):
            pickle.dumps(holder, protocol)


@pytest.mark.parametrize("duplicate", [cloudpickle.dumps, copy.copy, copy.deepcopy])
def test_a_secret_is_never_duplicated(duplicate: Callable[[Any], Any]) -> None:
    """What Ray and Tune do to a callback would otherwise take the key along."""
    with pytest.raises(TypeError, match="an API key is never pickled") as caught:
        duplicate(Secret(ARGUMENT))
    assert ARGUMENT not in "".join(traceback.format_exception(caught.value))


def test_a_secret_shows_nowhere() -> None:
    """Not as text, not in a container, a format, an error or its attributes."""
    secret = Secret(ARGUMENT)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r:>20}", f"{[secret]}"]
    shown += ["%s" % secret, "%r" % {"k": secret}]  # noqa: UP031 - logging does it this way
    shown += ["".join(traceback.format_exception(ValueError(secret)))]
    assert [text for text in shown if ARGUMENT in text or "****" not in text] == []
    with pytest.raises(TypeError):
        vars(secret)
    with pytest.raises(TypeError):
        json.dumps(secret)
    assert secret.reveal() == ARGUMENT


def test_the_docstrings_examples_are_true() -> None:
    """Doctest."""
    failed, attempted = doctest.testmod(secret)
    assert (failed, attempted > 0) == (0, True)


# --- from the driver to the trials ----------------------------------------------------------


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Ray's key-value store, a server that takes every key, and nothing in the environment."""
    store = FakeStore()
    store.stand_in_for(ray_store, monkeypatch)
    monkeypatch.setattr(ray_store, "is_driver", lambda: False)
    monkeypatch.setattr(driver_login.Server, "check", lambda server: None)
    monkeypatch.delenv("WANDB_MODE")
    return store


def shown(login: Login) -> tuple[str | None, dict[str, str]]:
    return None if login.secret is None else login.secret.reveal(), dict(login.settings)


ONLINE = {"mode": "online", "settings": {"base_url": "https://wandb.example.com"}}
SERVER = {"base_url": "https://wandb.example.com", "entity": "team", "mode": "online"}
FIT = handover.new_fit()


def driver(options: RunOptions, key: str | None = None, fit: str = FIT) -> Login:
    login = driver_login.log_in("way", options, key)
    driver_login.hand_over(login, fit)
    return login


def trial(
    key: str | None = None, *, declared: bool = True, fit: str = FIT, **options: Any
) -> tuple[str | None, dict[str, str]]:
    """The login of a trial whose declaration says no more than this, and that is online."""
    init = {"mode": options.pop("mode", "online")}
    login, trouble = trial_login.log_in_or_offline(
        "way",
        RunOptions(**options, init_kwargs={name: text for name, text in init.items() if text}),
        Identity("t", "t", "experiment", fit=fit),
        key,
        declared=declared,
    )
    assert not trouble
    return shown(login)


def test_a_trial_has_the_drivers_login(store: dict[str, str]) -> None:
    """Key, server and entity; a key file of the declaration is the driver's to read."""
    of_driver = driver(RunOptions(init_kwargs={**ONLINE, "entity": "team"}), ARGUMENT)
    assert shown(of_driver) == (ARGUMENT, SERVER)
    for api_key_file in (None, "not/on/this/node"):
        assert trial(api_key_file=api_key_file) == (ARGUMENT, SERVER)
    assert ARGUMENT not in repr(of_driver)
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(of_driver)


def test_a_trials_own_key_comes_first(store: dict[str, str], tmp_path: Path) -> None:
    """What `setup_wandb` is given in the trial is meant for this trial."""
    driver(RunOptions(init_kwargs=ONLINE), ARGUMENT)
    (tmp_path / "key").write_text(FILE)
    assert trial(HOOK, declared=False)[0] == HOOK
    assert trial(api_key_file=str(tmp_path / "key"), declared=False)[0] == FILE


def test_an_identity_token_file_is_named_to_the_trials(
    store: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its path, which every node has to have; there is no key to hand over or to check."""
    token = tmp_path / "token"
    token.write_text("header.payload.signature")
    monkeypatch.setenv("WANDB_IDENTITY_TOKEN_FILE", str(token))
    settings = {**ONLINE["settings"], "identity_token_file": str(token)}  # type: ignore[dict-item]
    options = RunOptions(init_kwargs={**ONLINE, "settings": settings})
    assert shown(driver(options)) == trial() == (None, {**settings, "mode": "online"})


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_a_mode_of_the_drivers_environment_is_the_trials(
    store: dict[str, str], monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """So that one that is set after Ray was started holds for the trials as well."""
    monkeypatch.setenv("WANDB_MODE", mode)
    driver(RunOptions())
    monkeypatch.delenv("WANDB_MODE")
    assert trial(mode=None) == (None, {"mode": mode})


def test_without_a_driver_of_ours_a_trial_looks_for_itself(
    store: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As wandb would: here, in the environment."""
    monkeypatch.setenv("WANDB_API_KEY", ENVIRONMENT)
    assert trial() == (ENVIRONMENT, {"mode": "online"})


def test_who_does_not_know_his_experiment_has_the_login_that_all_have(
    store: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the workers of Ray Train have none; of two accounts, neither: it may be another's."""
    driver(RunOptions(init_kwargs=ONLINE), NETRC, handover.process())
    assert trial(fit="")[0] == NETRC
    first, second, third = (handover.new_fit() for _ in range(3))
    driver(RunOptions(init_kwargs=ONLINE), ARGUMENT, first)
    driver(RunOptions(init_kwargs=ONLINE), ARGUMENT, second)
    assert trial(fit="")[0] == ARGUMENT, "the running experiments come first"
    driver(RunOptions(init_kwargs=ONLINE), FILE, third)
    monkeypatch.setenv("WANDB_API_KEY", ENVIRONMENT)
    assert trial(fit="")[0] == ENVIRONMENT
    assert [trial(fit=fit)[0] for fit in (first, second, third)] == [ARGUMENT, ARGUMENT, FILE]


@pytest.mark.parametrize(
    ("argument", "own", "drivers", "nodes", "expected"),
    [
        ("online", "disabled", "offline", "offline", "online"),
        (None, "disabled", "offline", "online", "disabled"),
        (None, None, "offline", "online", "offline"),
        (None, None, "online", "offline", "online"),
        (None, None, None, "offline", "offline"),
    ],
)
def test_what_was_said_on_purpose_comes_first(
    store: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    argument: str | None,
    own: str | None,
    drivers: str | None,
    nodes: str,
    expected: str,
) -> None:
    """The driver's argument, the trial's own environment, the driver's, the node's."""
    if drivers:
        monkeypatch.setenv("WANDB_MODE", drivers)
    monkeypatch.setenv("WANDB_API_KEY", ENVIRONMENT)
    driver(RunOptions(init_kwargs={"mode": argument} if argument else {}))
    monkeypatch.setenv("WANDB_MODE", own or nodes)
    monkeypatch.setattr(ray_launch, "own_environment", lambda: {"WANDB_MODE": own} if own else {})
    assert trial(mode=None)[1].get("mode", nodes) == expected


def test_a_key_of_the_trials_own_comes_after_an_argument_of_the_drivers(
    store: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ``runtime_env`` names another account on purpose; ``api_key=`` is said last of all."""
    monkeypatch.setenv("WANDB_API_KEY", HOOK)
    driver(RunOptions(init_kwargs=ONLINE))
    monkeypatch.setenv("WANDB_API_KEY", ENVIRONMENT)
    monkeypatch.setattr(ray_launch, "own_environment", lambda: {"WANDB_API_KEY": ENVIRONMENT})
    assert trial()[0] == ENVIRONMENT
    driver(RunOptions(init_kwargs=ONLINE), ARGUMENT)
    assert trial()[0] == ARGUMENT
    monkeypatch.setattr(ray_launch, "own_environment", dict)
    driver(RunOptions(init_kwargs=ONLINE), NETRC)
    assert trial()[0] == NETRC, "what the node has is nobody's purpose"
