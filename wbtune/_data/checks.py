"""Is the value of an option one that W&B and wbtune can use? By its name, before any trial.

One table says of what kind each option is, wandb's own included, so that every option is
checked alike wherever it is given. What is refused says what was expected, what was got,
and how to write it.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, Final

from wbtune._data.masking import without_login
from wbtune._data.unknown import near
from wbtune.errors import ConfigurationError

_CHECKPOINTS: Final = ("all", "best", "last")
_MODES: Final = ("online", "offline", "disabled", "shared")
_LONGEST_S: Final = 10**9  # threads can't wait much longer
_ID_FORBIDS: Final = ":;,#?/'"
_PROJECT_FORBIDS: Final = "/\\#?%:"
_MAX_NAME: Final = 128
_MAX_TAG: Final = 64

_TEXT: Final = ("entity", "name", "job_type", "group")
_FLAGS: Final = (
    *("log_config", "checkpoint_references", "log_results", "rank_zero_only", "system_metrics"),
    *("allow_val_change", "force", "save_code", "tensorboard", "sync_tensorboard", "monitor_gym"),
)
_NAMES: Final = ("excludes", "unmask", "config_exclude_keys", "config_include_keys")
_DICTS: Final = ("video_kwargs", "image_kwargs", "config")


def value(who: str, name: str, given: Any) -> Any:
    """The value of one option, checked, in the form in which it is kept.

    Args:
        who: what was called, for the messages.
        name: the option; one that is in no table is left as it is.
        given: what the caller wrote; not None.

    Raises:
        ConfigurationError: says what was expected, what was got, and the cure.
    """
    given = plain_text(given)
    check = _KINDS.get(name)
    return given if check is None else check(who, name, given)


def plain_text(given: Any) -> Any:
    """Text of a kind of its own (a ``StrEnum``, say) as plain text, also inside of others.

    Its class may be one of the user's main program, which no other process has.
    """
    if isinstance(given, str):
        return str.__str__(given)
    if type(given) in {list, tuple, set, frozenset}:
        return type(given)(plain_text(item) for item in given)
    if type(given) is dict:
        return {key: plain_text(item) for key, item in given.items()}
    return given


def _refused(who: str, name: str, expected: str, got: Any, cure: str = "") -> ConfigurationError:
    said = f"{who}: expected {name}= to be {expected}, got {reprlib.repr(got)}."
    return ConfigurationError(f"{said} {cure}".rstrip())


def _note(who: str, name: str, given: Any) -> str:
    if not isinstance(given, str):
        scalar = isinstance(given, Real) and not isinstance(given, bool)
        cure = f"Write {name}={str(given)!r}." if scalar else ""
        raise _refused(who, name, "text", given, cure)
    return given


def _text(who: str, name: str, given: Any) -> str:
    text = _note(who, name, given)
    if not text.strip():
        raise _refused(who, name, "a name", given, "Leave it out, or write a name.")
    return text


def _path(who: str, name: str, given: Any) -> str:
    return _text(who, name, os.fspath(given) if isinstance(given, os.PathLike) else given)


def _identifier(who: str, name: str, given: Any, forbidden: str) -> str:
    text = _text(who, name, given)
    if len(text) > _MAX_NAME or any(char in forbidden for char in text):
        raise ConfigurationError(
            f"{who}: W&B does not accept {name}={text!r}: at most {_MAX_NAME} characters, "
            f"and none of {forbidden}"
        )
    return text


def _project(who: str, name: str, given: Any) -> str:
    text = _text(who, name, given)
    entity, slash, project = text.strip("/").partition("/")
    if slash and entity and project and "/" not in project:
        raise ConfigurationError(
            f"{who}: W&B does not accept {name}={text!r}: a project's name has no '/'. "
            f"Write entity={entity!r}, project={project!r}."
        )
    return _identifier(who, name, text, _PROJECT_FORBIDS)


def _run_id(who: str, name: str, given: Any) -> str:
    text = _identifier(who, name, given, _ID_FORBIDS)
    if text != text.strip():
        raise ConfigurationError(
            f"{who}: W&B does not accept {name}={text!r}: no space at its beginning or end. "
            f"Write {name}={text.strip()!r}."
        )
    return text


def _flag(who: str, name: str, given: Any) -> bool:
    is_flag = isinstance(given, int) or type(given).__name__ in {"bool", "bool_"}  # and NumPy's
    if not is_flag or given not in {0, 1}:
        raise _refused(who, name, "True or False", given)
    return bool(given)


def _listed(who: str, name: str, given: Any) -> Any:
    if isinstance(given, (str, bytes, Mapping)) or not hasattr(given, "__iter__"):
        cure = f"Make it [{given!r}]." if isinstance(given, str) and given.strip() else ""
        raise _refused(who, name, "a list of text", given, cure)
    return given


def _names(who: str, name: str, given: Any) -> list[str]:
    names = list(_listed(who, name, given))
    for one in names:
        if not isinstance(one, str) or not one.strip("/"):
            raise ConfigurationError(f"{who}: expected text in {name}=, got {one!r}.")
    return names


def _patterns(who: str, name: str, given: Any) -> tuple[str, ...]:
    return tuple(pattern.rstrip("/") for pattern in _names(who, name, given))


def _tags(who: str, name: str, given: Any) -> Any:
    tags = _listed(who, name, given)
    tags = tags if isinstance(tags, (list, tuple, set, frozenset)) else list(tags)
    for tag in tags:
        if not isinstance(tag, str) or not 1 <= len(tag) <= _MAX_TAG:
            msg = f"{who}: a tag has 1 to {_MAX_TAG} characters, got {tag!r}."
            raise ConfigurationError(msg)
    return tags


def _dict(who: str, name: str, given: Any) -> Any:
    if not isinstance(given, Mapping):
        cure = f"Write {name}=vars(...)." if hasattr(given, "__dict__") else ""
        raise _refused(who, name, "a dict", given, cure)
    return given


def _one_of(who: str, name: str, given: Any, known: tuple[str, ...], more: str = "") -> Any:
    if not isinstance(given, str) or given not in known:
        meant = near(given, known) if isinstance(given, str) else None
        cure = f"Did you mean {meant!r}?" if meant else ""
        raise _refused(who, name, f"{more}one of {', '.join(known)}", given, cure)
    return given


def _mode(who: str, name: str, given: Any) -> Any:
    return _one_of(who, name, given, _MODES)


def _checkpoints(who: str, name: str, given: Any) -> Any:
    if isinstance(given, bool) or type(given).__name__ == "bool_":
        return bool(given)
    return _one_of(who, name, given, _CHECKPOINTS, "True, False or ")


def _seconds(who: str, name: str, given: Any) -> Any:
    is_number = isinstance(given, Real)
    if not is_number or not 0 <= given < _LONGEST_S:
        raise _refused(who, name, "seconds, 0 or more", given)
    return given


def _settings(who: str, name: str, given: Any) -> dict[str, Any]:
    """``settings=`` as a dict of what was set: one Settings object can't serve two runs."""
    if hasattr(given, "model_fields_set"):
        given = {field: getattr(given, field) for field in given.model_fields_set}
    if not isinstance(given, Mapping):
        got = type(given).__name__
        msg = f"{who}: expected {name}= to be a wandb.Settings or a dict, got {got}."
        raise ConfigurationError(msg)
    if given.get("api_key"):
        raise ConfigurationError(key_in_code(who, "settings=wandb.Settings(api_key=...)"))
    settings = without_login({key: plain_text(item) for key, item in given.items()})
    if settings.get("mode") is not None:
        _mode(who, "mode", settings["mode"])
    _ask_wandb(who, settings)
    return settings


def _ask_wandb(who: str, settings: Mapping[str, Any]) -> None:
    """Settings that wandb refuses cost a run, and of a driver's runs each one."""
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    known = wandb.Settings.model_fields
    for key in settings:
        if key not in known:
            meant = near(key, known)
            hint = f" Did you mean {meant!r}?" if meant else " See wandb.Settings."
            raise ConfigurationError(f"{who}: W&B has no setting {key!r}.{hint}")
    try:
        wandb.Settings(**settings)
    except (ValueError, TypeError, wandb.Error) as error:
        # By its parts: the whole text repeats the value, which may be a secret.
        parts = error.errors(include_input=False) if hasattr(error, "errors") else []
        said = "; ".join(f"{'.'.join(map(str, p['loc']))!r}: {p['msg']}" for p in parts)
        msg = f"{who}: W&B does not accept these settings: {said or type(error).__name__}."
        raise ConfigurationError(msg) from None


def key_in_code(who: str, what: str) -> str:
    """The message for an API key where it would be pickled into the storage."""
    return (
        f"{who}: {what} would write the key into the experiment's storage. Use one of: "
        "`wandb login`, the environment variable WANDB_API_KEY, or api_key_file=."
    )


_KINDS: Final[dict[str, Callable[[str, str, Any], Any]]] = {
    **dict.fromkeys(_TEXT, _text),
    **dict.fromkeys(_FLAGS, _flag),
    **dict.fromkeys(_NAMES, _names),
    **dict.fromkeys(_DICTS, _dict),
    **dict.fromkeys(("excludes", "unmask"), _patterns),
    "tags": _tags,
    "notes": _note,
    "project": _project,
    "id": _run_id,
    "api_key_file": _path,
    "mode": _mode,
    "upload_checkpoints": _checkpoints,
    "upload_timeout": _seconds,
    "settings": _settings,
}
