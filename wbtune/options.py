"""`RunOptions`: what a declaration says of its runs, as frozen plain data.

Every door takes the same options under the same names and turns them into one of these;
merging two (``base | over``) is how a class inherits, how `wandb_tuner` adds to a
decorated function, and how ``config["wandb"]`` comes in. An option that nobody gave is
None, so that merging is associative and ``RunOptions()`` is its identity.

There is no API key in here: options are pickled, and keys are not
(:mod:`wbtune.credentials`).
"""

# Over 250 lines: every option's check and message, in one place.

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from wbtune.errors import ConfigurationError, UnknownOptionError

#: Seconds; the default of the guide's callback, half an hour.
UPLOAD_TIMEOUT_S: Final = 1800

_CHECKPOINTS: Final = ("all", "best", "last")
_LONGEST_S: Final = 10**9  # threads can't wait much longer
_MODES: Final = ("online", "offline", "disabled", "shared")
_ID_FORBIDS: Final = ":;,#?/'"
_PROJECT_FORBIDS: Final = "/\\#?%:"
_MAX_PROJECT: Final = 128
_MAX_TAG: Final = 64

#: What wbtune itself decides about a run, because several would break it.
_TAKEN: Final = {
    "dir": "wbtune keeps an experiment's runs in <storage_path>/<experiment>/wandb",
    "reinit": "wbtune opens one run per trial and closes it",
    "resume": "wbtune resumes a trial's run by itself",
}


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options that all doors share; None is "nobody said".

    Attributes:
        project: name of the W&B project.
        group: name of the W&B group; the experiment's name, unless given.
        api_key_file: path of a file whose first line is the API key.
        excludes: metrics and config keys to leave out (:mod:`wbtune.filtering`).
        log_config: also log the config that comes along in each result.
        upload_checkpoints: upload model checkpoints as artifacts: ``"all"`` (or True),
            ``"best"``, ``"last"``.
        upload_timeout: seconds to wait for uploads when the experiment ends.
        video_kwargs: for ``wandb.Video``, of arrays of 5 dimensions.
        image_kwargs: for ``wandb.Image``, of arrays of 3 or 4 dimensions.
        checkpoint_references: of checkpoints in a remote storage, upload references.
        log_results: in a trial that has its own run, log Tune's results to it as well.
        unmask: config keys that look like secrets and are none (:mod:`wbtune.filtering`).
        rank_zero_only: in distributed training, a run for the worker of rank 0 only.
        init_kwargs: the rest, for ``wandb.init``.
    """

    project: str | None = None
    group: str | None = None
    api_key_file: str | None = None
    excludes: tuple[str, ...] | None = None
    log_config: bool | None = None
    upload_checkpoints: bool | str | None = None
    upload_timeout: float | None = None
    video_kwargs: Mapping[str, Any] | None = None
    image_kwargs: Mapping[str, Any] | None = None
    checkpoint_references: bool | None = None
    log_results: bool | None = None
    unmask: tuple[str, ...] | None = None
    rank_zero_only: bool | None = None
    init_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __or__(self, over: RunOptions) -> RunOptions:
        """These options, with what ``over`` says laid on top.

        ``excludes`` add up, and the mappings merge key by key; of everything else the
        one that was said last holds.
        """
        merged = {name: _merge(getattr(self, name), getattr(over, name)) for name in OPTION_NAMES}
        return RunOptions(**merged)

    @property
    def checkpoints(self) -> str | None:
        """Which checkpoints to upload: ``"all"``, ``"best"``, ``"last"``, or none."""
        given = self.upload_checkpoints
        return given if isinstance(given, str) else "all" if given else None

    @property
    def mode(self) -> str | None:
        """W&B's ``mode``, where it was given (directly or in ``settings``)."""
        settings = self.init_kwargs.get("settings")
        inner = settings.get("mode") if isinstance(settings, Mapping) else None
        mode = self.init_kwargs.get("mode") or inner
        return str(mode) if mode else None


OPTION_NAMES: Final = tuple(f.name for f in fields(RunOptions))

#: What a caller may write; `init_kwargs` is where the rest is kept, not an argument.
_OURS: Final = frozenset(OPTION_NAMES) - {"init_kwargs"}


def _merge(under: Any, over: Any) -> Any:
    if over is None:
        return under
    if under is None:
        return over
    if isinstance(under, tuple):
        return under + tuple(item for item in over if item not in under)
    if isinstance(under, Mapping):
        return {**under, **over}
    return over


def parse(who: str, given: Mapping[str, Any], init_names: frozenset[str]) -> RunOptions:
    """Check what a caller gave, by name and by value.

    Args:
        who: the door, for the messages.
        given: keyword arguments; ours and ``wandb.init``'s together.
        init_names: the parameters that the installed ``wandb.init`` has.

    Raises:
        UnknownOptionError: for a name that neither has; suggests the nearest.
        ConfigurationError: for a value that W&B or wbtune can't use.
    """
    ours = {name: value for name, value in given.items() if name in _OURS}
    rest = {name: value for name, value in given.items() if name not in _OURS}
    for name in rest:
        if name in _TAKEN:
            msg = f"{who}: {name}= can't be given: {_TAKEN[name]}. Leave it out."
            raise ConfigurationError(msg)
        if name not in init_names:
            raise UnknownOptionError(_unknown(who, name, init_names | _OURS))
    ours, rest = _plain_text(ours), _plain_text(rest)
    for name in ("excludes", "unmask"):
        if ours.get(name) is not None:
            ours[name] = _patterns(who, name, ours[name])
    if "settings" in rest:
        rest["settings"] = _plain_text(_settings(who, rest["settings"]))
    options = RunOptions(**ours, init_kwargs={k: v for k, v in rest.items() if v is not None})
    check(who, options)
    return options


def _plain_text(value: Any) -> Any:
    """Text of a kind of its own (a ``StrEnum``, say) as plain text, also inside of others.

    Its class may be one of the user's main program, which no other process has.
    """
    if isinstance(value, str):
        return str.__str__(value)
    if type(value) in {list, tuple, set, frozenset}:
        return type(value)(_plain_text(item) for item in value)
    if type(value) is dict:
        return {key: _plain_text(item) for key, item in value.items()}
    return value


def check_travels(who: str, options: RunOptions) -> None:
    """Refuse what can't be sent from the driver to the process that opens its runs.

    Raises:
        ConfigurationError: names the option.
    """
    given = {name: getattr(options, name) for name in ("video_kwargs", "image_kwargs")}
    given |= {name: value for name, value in options.init_kwargs.items() if name != "config"}
    for name, values in given.items():
        inner = values if isinstance(values, Mapping) else {"": values}
        for key, value in inner.items():
            try:
                _Traveller(io.BytesIO()).dump(value)
            except Exception as error:  # whatever a foreign __reduce__ raises
                what = f"{name}[{key!r}]" if key else f"{name}="
                msg = (
                    f"{who}: {what} can't be sent to the process that opens the runs: {error}. "
                    "Give plain data, or what an importable module defines."
                )
                raise ConfigurationError(msg) from error


class _Traveller(pickle.Pickler):
    """A pickler for another process, which has not the user's main program."""

    def reducer_override(self, value: Any) -> Any:
        defined = value if hasattr(value, "__qualname__") else type(value)
        if getattr(defined, "__module__", None) == "__main__":
            msg = f"{defined.__qualname__} is defined in the main program"
            raise pickle.PicklingError(msg)
        return NotImplemented


def check(who: str, options: RunOptions) -> None:
    """Refuse the values that W&B is known to refuse.

    Raises:
        ConfigurationError: says which, and what is allowed.
    """
    given = options.init_kwargs
    _name(who, "project", options.project, _PROJECT_FORBIDS, _MAX_PROJECT)
    _name(who, "id", given.get("id"), _ID_FORBIDS, _MAX_PROJECT)
    run_id = given.get("id")
    if isinstance(run_id, str) and run_id != run_id.strip():
        msg = f"{who}: W&B does not accept id={run_id!r}: no space at its beginning or end."
        raise ConfigurationError(msg)
    _text(who, "group", options.group)
    _text(who, "api_key_file", options.api_key_file)
    tags = given.get("tags") or ()
    if not isinstance(tags, (list, tuple, set, frozenset)):
        msg = f"{who}: expected tags= to be a list of text, got {tags!r}. Make it [{tags!r}]."
        raise ConfigurationError(msg)
    for tag in tags:
        if not isinstance(tag, str) or not 1 <= len(tag) <= _MAX_TAG:
            msg = f"{who}: a tag has 1 to {_MAX_TAG} characters, got {tag!r}."
            raise ConfigurationError(msg)
    if options.mode not in (None, *_MODES):
        msg = f"{who}: expected mode= to be one of {', '.join(_MODES)}, got {options.mode!r}."
        raise ConfigurationError(msg)
    if not isinstance(options.upload_checkpoints, (bool, type(None))) and (
        options.upload_checkpoints not in _CHECKPOINTS
    ):
        msg = (
            f"{who}: expected upload_checkpoints= to be True, False or one of "
            f"{', '.join(_CHECKPOINTS)}, got {options.upload_checkpoints!r}."
        )
        raise ConfigurationError(msg)
    timeout = options.upload_timeout
    if timeout is not None and not (
        isinstance(timeout, (int, float)) and 0 <= timeout < _LONGEST_S
    ):
        msg = f"{who}: expected upload_timeout= in seconds, 0 or more, got {timeout!r}."
        raise ConfigurationError(msg)
    for name in ("video_kwargs", "image_kwargs"):
        if not isinstance(getattr(options, name), (Mapping, type(None))):
            msg = f"{who}: expected {name}= to be a dict, got {getattr(options, name)!r}."
            raise ConfigurationError(msg)


def _text(who: str, name: str, value: object) -> None:
    if value is not None and (not isinstance(value, str) or not value):
        msg = f"{who}: expected {name}= to be text that is not empty, got {value!r}."
        raise ConfigurationError(msg)


def _name(who: str, name: str, value: object, forbidden: str, longest: int) -> None:
    _text(who, name, value)
    if not isinstance(value, str):
        return
    bad = sorted({char for char in value if char in forbidden})
    if bad or len(value) > longest:
        msg = (
            f"{who}: W&B does not accept {name}={value!r}: at most {longest} characters, "
            f"and none of {forbidden}"
        )
        raise ConfigurationError(msg)


def _patterns(who: str, name: str, given: Any) -> tuple[str, ...]:
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        cure = f"Make it [{given!r}]."
        msg = f"{who}: expected {name}= to be a list of text, got {given!r}. {cure}"
        raise ConfigurationError(msg)
    patterns = tuple(given)
    for pattern in patterns:
        if not isinstance(pattern, str) or not pattern.strip("/"):
            msg = f"{who}: expected text in {name}=, got {pattern!r}."
            raise ConfigurationError(msg)
    return tuple(pattern.rstrip("/") for pattern in patterns)


def _settings(who: str, settings: Any) -> dict[str, Any] | None:
    """``settings=`` as a dict of what was set: one Settings object can't serve two runs."""
    if settings is None:
        return None
    if hasattr(settings, "model_fields_set"):
        settings = {name: getattr(settings, name) for name in settings.model_fields_set}
    if not isinstance(settings, Mapping):
        got = type(settings).__name__
        msg = f"{who}: expected settings= to be a wandb.Settings or a dict, got {got}."
        raise ConfigurationError(msg)
    if settings.get("api_key"):
        raise ConfigurationError(key_in_code(who, "settings=wandb.Settings(api_key=...)"))
    return dict(settings)


def key_in_code(who: str, what: str) -> str:
    """The message for an API key where it would be pickled into the storage."""
    return (
        f"{who}: {what} would write the key into the experiment's storage. Use one of: "
        "`wandb login`, the environment variable WANDB_API_KEY, or api_key_file=."
    )


def one_id(who: str) -> str:
    """The message for ``id=`` where each trial opens its run by the same declaration."""
    return (
        f"{who}: id= names one run, and all trials of the declaration would write into it. "
        "Leave it out: a trial's id is its run's; name=, tags= and notes= are free."
    )


def _unknown(who: str, name: str, known: frozenset[str] | set[str]) -> str:
    import difflib  # noqa: PLC0415 - only for who mistypes

    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    hint = f" Did you mean {near[0]}=?" if near else " See the README for the options."
    return f"{who}: unknown option {name}=.{hint}"


def take_from_config(
    who: str, config: Mapping[str, Any] | None, init_names: frozenset[str]
) -> tuple[RunOptions, dict[str, Any], str | None]:
    """Split off ``config["wandb"]``, which the guide lets carry arguments for W&B.

    Returns:
        ``(options, rest, api_key)``: what it says, the config without it, and the key,
        if it has one.
    """
    rest = dict(config or {})
    inner = rest.get("wandb")
    if not isinstance(inner, Mapping):
        return RunOptions(), rest, None
    del rest["wandb"]
    given = dict(inner)
    api_key = given.pop("api_key", None)
    return parse(f'{who}: config["wandb"]', given, init_names), rest, api_key
