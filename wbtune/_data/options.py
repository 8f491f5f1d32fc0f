"""`RunOptions`: the options of a declaration, as frozen plain data.

Every way takes the same options under the same names and turns them into `RunOptions`. Merging
two of them (``base | over``) is how a class inherits options, how `wandb_tuner` adds to those of a
decorated function, and how ``config["wandb"]`` is applied. An option that was not given is
None, so that merging is associative and ``RunOptions()`` is its identity.

They do not contain an API key: options are pickled, and keys are not
(:mod:`wbtune._place.credentials`).
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from wbtune._data import checks, ignored_options, option_table, unknown
from wbtune._data.sanitize import plain
from wbtune._data.signals import is_of_a_signal
from wbtune.errors import ConfigurationError, UnknownOptionError, WbtuneError


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options that all ways share; None means "not given".

    Attributes:
        project: name of the W&B project.
        group: name of the W&B group; by default the experiment's name.
        api_key_file: path of a file whose first line is the API key.
        excludes: metrics and config keys to leave out (:mod:`wbtune._data.filtering`).
        log_config: also log the config that is part of each result.
        upload_checkpoints: upload model checkpoints as artifacts: ``"all"`` (or True),
            ``"best"``, ``"last"``.
        upload_timeout: seconds to wait for uploads when the experiment ends.
        video_kwargs: for ``wandb.Video``, for arrays of 5 dimensions.
        image_kwargs: for ``wandb.Image``, for arrays of 3 or 4 dimensions.
        checkpoint_references: upload references to checkpoints in a remote storage, not copies.
        log_results: in a trial that has its own run, also log Tune's results to it.
        unmask: config keys that look like secrets but are not (:mod:`wbtune._data.filtering`).
        rank_zero_only: in distributed training, give a run to the worker of rank 0 only.
        system_metrics: record for the driver's runs what a trial's own run records by itself.
        sweep: make the experiment one thing at W&B: a sweep, its best run, a run for the whole.
        init_kwargs: all other arguments, for ``wandb.init``.
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
    system_metrics: bool | None = None
    sweep: bool | None = None
    init_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in OPTION_NAMES}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        # By name: a release with other options may have begun the experiment that is restored.
        for name, default in ((name, getattr(_NONE_GIVEN, name)) for name in OPTION_NAMES):
            object.__setattr__(self, name, state.get(name, default))

    def __or__(self, over: RunOptions) -> RunOptions:
        """These options, overridden by those of ``over``.

        Tuples (``excludes``, ``unmask``) are joined, and mappings are merged key by key.
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
_NONE_GIVEN: Final = RunOptions()

#: What a caller may write; `init_kwargs` holds the other arguments, and is not one itself.
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


def parse(
    public_name: str,
    given: Mapping[str, Any],
    init_names: frozenset[str],
    refused: Mapping[str, str] | None = None,
) -> RunOptions:
    """Check the names and values of the options that a caller gave.

    Args:
        public_name: what the user called, for messages.
        given: keyword arguments, wbtune's and ``wandb.init``'s together.
        init_names: the parameters that the installed ``wandb.init`` has.
        refused: options that can't be given here, and why (`option_table.refused_at`).

    Raises:
        UnknownOptionError: for a name that neither has; suggests the nearest one.
        ConfigurationError: for a value that W&B or wbtune can't use, or an option that
            would have no effect.
    """
    for name in given:
        if type(name) is not str:
            # Cure: Correct the key in `config["wandb"]`.
            msg = f"{public_name}: an option's name is text, got {plain(name)!r}."
            raise ConfigurationError(msg)
        if name in option_table.DECIDED:
            why = option_table.DECIDED[name]
            msg = f"{public_name}: {name}= can't be given: {why}. Leave it out."
            raise ConfigurationError(msg)
        if name not in _OURS and name not in init_names:
            raise UnknownOptionError(unknown.option(public_name, name, init_names | _OURS))
    checked = {
        name: _checked(public_name, name, value)
        for name, value in given.items()
        if value is not None
    }
    for name, why in (refused or {}).items():
        if name in checked:
            msg = f"{public_name}: {name}= {why}"
            raise ConfigurationError(msg)
    ours = {name: value for name, value in checked.items() if name in _OURS}
    rest = {name: value for name, value in checked.items() if name not in _OURS}
    return RunOptions(**ours, init_kwargs=rest)


def _checked(public_name: str, name: str, value: Any) -> Any:
    check = option_table.check_of(name)
    try:
        value = checks.plain_text(value)
        return value if check is None else check(public_name, name, value)
    except WbtuneError:
        raise
    except BaseException as error:
        if is_of_a_signal(error):
            raise
        what = f"it raised {type(error).__name__} when it was asked"
        msg = f"{public_name}: {name}= can't be read: {what}. Give plain data."
        raise ConfigurationError(msg) from error


def check_travels(public_name: str, options: RunOptions) -> None:
    """Refuse options that can't be sent from the driver to the process that opens its runs.

    Raises:
        ConfigurationError: names the option.
    """
    given = {name: getattr(options, name) for name in ("video_kwargs", "image_kwargs")}
    given |= {name: value for name, value in options.init_kwargs.items() if name != "config"}
    for name, values in given.items():
        inner = values if isinstance(values, Mapping) else {"": values}
        for key, value in inner.items():
            try:
                check_travels_alone(value)
            except Exception as error:  # a value's own __reduce__ may raise anything
                what = f"{name}[{key!r}]" if key else f"{name}="
                msg = (
                    f"{public_name}: {what} can't be sent to the process that opens the runs: "
                    f"{error}. Give plain data, or what an importable module defines."
                )
                raise ConfigurationError(msg) from error


def check_travels_alone(value: Any) -> None:
    """Refuse a value that can't be sent to another process.

    Raises:
        Exception: the reason; a value's own ``__reduce__`` may raise anything.
    """
    _PicklerForOthers(io.BytesIO()).dump(value)


class _PicklerForOthers(pickle.Pickler):
    """A pickler for another process, which does not have the user's main program."""

    def reducer_override(self, value: Any) -> Any:
        defined = value if hasattr(value, "__qualname__") else type(value)
        if getattr(defined, "__module__", None) == "__main__":
            msg = f"{defined.__qualname__} is defined in the main program"
            raise pickle.PicklingError(msg)
        return NotImplemented


def one_id(public_name: str) -> str:
    """The message for ``id=`` in a declaration that every trial opens its run with."""
    # Message: none by itself.
    return f"{public_name}: id= {option_table.INIT_OPTIONS['id'].refusal}"


def take_from_config(
    public_name: str, config: Mapping[str, Any] | None, init_names: frozenset[str]
) -> tuple[RunOptions, dict[str, Any], str | None]:
    """Split off ``config["wandb"]``, which may contain arguments for W&B.

    Source: https://docs.ray.io/en/latest/tune/examples/tune-wandb.html

    Returns:
        ``(options, rest, api_key)``: its options, the config without it, and its API key,
        if it has one.
    """
    rest = dict(config or {})
    inner = rest.get("wandb")
    if isinstance(inner, (str, list, tuple)):  # True, say, is a hyperparameter with that name
        msg = f'{public_name}: config["wandb"] holds options: expected a dict, got {inner!r}.'
        raise ConfigurationError(f'{msg} Write config["wandb"] = {{"project": ...}}.')
    if not isinstance(inner, Mapping):
        return RunOptions(), rest, None
    del rest["wandb"]
    given = dict(inner)
    if public_name in ignored_options.ACCEPTED_BY:
        given, taken = ignored_options.set_aside(given)
        ignored_options.warn_without_effect(f'{public_name}: config["wandb"]', taken)
    api_key = given.pop("api_key", None)
    refused = option_table.refused_in_config(public_name)
    return parse(f'{public_name}: config["wandb"]', given, init_names, refused), rest, api_key
