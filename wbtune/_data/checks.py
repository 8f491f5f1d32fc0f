"""Check the values of options, so that W&B and wbtune can use them.

:mod:`wbtune._data.option_table` assigns a check to each option. A check returns the value
in the form in which it is kept, or refuses it before any trial. The error says what was expected,
what was given, and how to write it.
"""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Mapping
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


def plain_text(given: Any) -> Any:
    """Turn instances of subclasses of `str` (a ``StrEnum``, say) into plain text, at any depth.

    Such a class may be defined in the user's main program, which no other process has.
    """
    if isinstance(given, str):
        return str.__str__(given)
    if type(given) in {list, tuple, set, frozenset}:
        return type(given)(plain_text(item) for item in given)
    if type(given) is dict:
        return {key: plain_text(item) for key, item in given.items()}
    return given


def _refused(
    public_name: str, name: str, expected: str, got: Any, cure: str = ""
) -> ConfigurationError:
    problem = f"{public_name}: expected {name}= to be {expected}, got {reprlib.repr(got)}."
    return ConfigurationError(f"{problem} {cure}".rstrip())


def as_note(public_name: str, name: str, given: Any) -> str:
    """Text, which may be empty."""
    if not isinstance(given, str):
        scalar = isinstance(given, Real) and not isinstance(given, bool)
        cure = f"Write {name}={str(given)!r}." if scalar else ""
        raise _refused(public_name, name, "text", given, cure)
    return given


def as_text(public_name: str, name: str, given: Any) -> str:
    """Text that names something."""
    text = as_note(public_name, name, given)
    if not text.strip():
        raise _refused(public_name, name, "a name", given, "Leave it out, or write a name.")
    return text


def as_path(public_name: str, name: str, given: Any) -> str:
    """A path, as text."""
    return as_text(public_name, name, os.fspath(given) if isinstance(given, os.PathLike) else given)


#: W&B's API keys, of which the older ones have 40 characters.
_KEY: Final = re.compile(r"[\w-]{40,}")


def as_key_file(public_name: str, name: str, given: Any) -> str:
    """The path of a file with an API key. It is shown in errors, so a key is refused here."""
    path = as_path(public_name, name, given)
    if _KEY.fullmatch(path):
        # Cure: Give the key as api_key=, or write it into a file, and give the file's path.
        msg = f"{public_name}: {name}= is a file's path; what it was given looks like an API key."
        raise ConfigurationError(f"{msg} Give it as api_key=.")
    return path


def _identifier(public_name: str, name: str, given: Any, forbidden: str) -> str:
    text = as_text(public_name, name, given)
    if len(text) > _MAX_NAME or any(char in forbidden for char in text):
        # Cure: Write another name.
        raise ConfigurationError(
            f"{public_name}: W&B does not accept {name}={text!r}: at most {_MAX_NAME} characters, "
            f"and none of {forbidden}"
        )
    return text


def as_project(public_name: str, name: str, given: Any) -> str:
    """The name of a project, without its entity."""
    text = as_text(public_name, name, given)
    entity, slash, project = text.strip("/").partition("/")
    if slash and entity and project and "/" not in project:
        raise ConfigurationError(
            f"{public_name}: W&B does not accept {name}={text!r}: a project's name has no '/'. "
            f"Write entity={entity!r}, project={project!r}."
        )
    return _identifier(public_name, name, text, _PROJECT_FORBIDS)


def as_id(public_name: str, name: str, given: Any) -> str:
    """The id of a run."""
    text = _identifier(public_name, name, given, _ID_FORBIDS)
    if text != text.strip():
        raise ConfigurationError(
            f"{public_name}: W&B does not accept {name}={text!r}: no space at its beginning or "
            f"end. Write {name}={text.strip()!r}."
        )
    return text


def as_flag(public_name: str, name: str, given: Any) -> bool:
    """True or False, Python's or NumPy's."""
    is_flag = isinstance(given, int) or type(given).__name__ in {"bool", "bool_"}
    if not is_flag or given not in {0, 1}:
        raise _refused(public_name, name, "True or False", given)
    return bool(given)


def as_sweep(public_name: str, name: str, given: Any) -> bool:
    """Whether the experiment is a sweep; a sweep's config is read before, by `wandb_tuner`."""
    if isinstance(given, (str, os.PathLike, Mapping)):
        cure = (
            "To run a sweep's config, give it to wandb_tuner itself: wandb_tuner(train, sweep=...)."
        )
        raise _refused(public_name, name, "True or False here", given, cure)
    return as_flag(public_name, name, given)


def _listed(public_name: str, name: str, given: Any) -> Any:
    if isinstance(given, (str, bytes, Mapping)) or not hasattr(given, "__iter__"):
        cure = f"Make it [{given!r}]." if isinstance(given, str) and given.strip() else ""
        raise _refused(public_name, name, "a list of text", given, cure)
    return given


def as_names(public_name: str, name: str, given: Any) -> list[str]:
    """A list of text."""
    names = list(_listed(public_name, name, given))
    for one in names:
        if not isinstance(one, str) or not one.strip("/"):
            raise ConfigurationError(f"{public_name}: expected text in {name}=, got {one!r}.")
    return names


def as_patterns(public_name: str, name: str, given: Any) -> tuple[str, ...]:
    """Patterns of keys, without a slash at the end."""
    return tuple(pattern.rstrip("/") for pattern in as_names(public_name, name, given))


def as_tags(public_name: str, name: str, given: Any) -> Any:
    """A collection of tags."""
    tags = _listed(public_name, name, given)
    tags = tags if isinstance(tags, (list, tuple, set, frozenset)) else list(tags)
    for tag in tags:
        if not isinstance(tag, str) or not 1 <= len(tag) <= _MAX_TAG:
            msg = f"{public_name}: a tag has 1 to {_MAX_TAG} characters, got {tag!r}."
            raise ConfigurationError(f"{msg} Correct it, or leave it out.")
    return tags


def as_dict(public_name: str, name: str, given: Any) -> Any:
    """Arguments by their names."""
    if not isinstance(given, Mapping):
        cure = f"Write {name}=vars(...)." if hasattr(given, "__dict__") else ""
        raise _refused(public_name, name, "a dict", given, cure)
    return given


def _one_of(public_name: str, name: str, given: Any, known: tuple[str, ...], more: str = "") -> Any:
    if not isinstance(given, str) or given not in known:
        meant = near(given, known) if isinstance(given, str) else None
        cure = f"Did you mean {meant!r}?" if meant else ""
        raise _refused(public_name, name, f"{more}one of {', '.join(known)}", given, cure)
    return given


def as_mode(public_name: str, name: str, given: Any) -> Any:
    """W&B's mode."""
    return _one_of(public_name, name, given, _MODES)


def as_checkpoints(public_name: str, name: str, given: Any) -> Any:
    """Which checkpoints to upload."""
    if isinstance(given, bool) or type(given).__name__ == "bool_":
        return bool(given)
    return _one_of(public_name, name, given, _CHECKPOINTS, "True, False or ")


def as_seconds(public_name: str, name: str, given: Any) -> Any:
    """How long to wait, in seconds."""
    is_number = isinstance(given, Real)
    if not is_number or not 0 <= given < _LONGEST_S:
        raise _refused(public_name, name, "seconds, 0 or more", given)
    return given


def as_settings(public_name: str, name: str, given: Any) -> dict[str, Any]:
    """The ``settings=`` that were set, as a dict: one Settings object can't serve two runs."""
    if hasattr(given, "model_fields_set"):
        given = {field: getattr(given, field) for field in given.model_fields_set}
    if not isinstance(given, Mapping):
        got = type(given).__name__
        msg = f"{public_name}: expected {name}= to be a wandb.Settings or a dict, got {got}."
        raise ConfigurationError(msg)
    if given.get("api_key"):
        raise ConfigurationError(key_in_code(public_name, "settings=wandb.Settings(api_key=...)"))
    settings = without_login({key: plain_text(item) for key, item in given.items()})
    if settings.get("mode") is not None:
        as_mode(public_name, "mode", settings["mode"])
    _ask_wandb(public_name, settings)
    return settings


def _ask_wandb(public_name: str, settings: Mapping[str, Any]) -> None:
    """Refuse settings that wandb refuses: with them, no run could be opened."""
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    known = wandb.Settings.model_fields
    for key in settings:
        if key not in known:
            meant = near(key, known)
            hint = f" Did you mean {meant!r}?" if meant else " See wandb.Settings."
            raise ConfigurationError(f"{public_name}: W&B has no setting {key!r}.{hint}")
    try:
        wandb.Settings(**settings)
    except (ValueError, TypeError, wandb.Error) as error:
        # In parts, because the whole text repeats the value, which may be a secret.
        parts = error.errors() if hasattr(error, "errors") else []
        why = "; ".join(f"{'.'.join(map(str, p['loc']))!r}: {p['msg']}" for p in parts)
        msg = f"{public_name}: W&B does not accept these settings: {why or type(error).__name__}."
        raise ConfigurationError(f"{msg} Correct them, or leave them out.") from None


def key_in_code(public_name: str, what: str) -> str:
    """The message for an API key in a place from which it would be pickled into the storage."""
    return (
        f"{public_name}: {what} would write the key into the experiment's storage. Use one of: "
        "`wandb login`, the environment variable WANDB_API_KEY, or api_key_file=."
    )
