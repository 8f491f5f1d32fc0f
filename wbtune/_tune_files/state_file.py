"""Read Tune's ``experiment_state-*.json``: which trials there are, and how far each is.

Values that JSON can't hold are pickles in it, which are never loaded [Ray 2.7 to 2.60,
``tune/execution/tune_controller.py``, ``tune/utils/serialization.py``].
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from wbtune._tune_files.folder import Folder

_NAME: Final = re.compile(r"experiment_state-.*\.json")
#: What stands in the place of a value that is a pickle in the file.
PICKLED: Final = "<pickled by Ray>"
#: The statuses of trials that have ended.
ENDED: Final = frozenset({"TERMINATED", "ERROR"})


class StateOfTrial(NamedTuple):
    """What the file says of one trial.

    Attributes:
        trial_id: its id.
        name: Tune's name for it.
        number: 1 for the first of its experiment, and so on; 0 if that is not known.
        folder: the name of its folder; empty if it has none yet.
        status: "PENDING", "RUNNING", "PAUSED", "TERMINATED" or "ERROR".
        config: its parameters.
        sampled: those of them that were sampled, flat, nested names joined by "/".
        stop: the bounds of ``stop={...}``.
        failures: how often it has failed.
        last_result: its last result when the file was written.
    """

    trial_id: str
    name: str
    number: int
    folder: str
    status: str
    config: Mapping[str, Any]
    sampled: Mapping[str, Any]
    stop: Mapping[str, Any]
    failures: int
    last_result: Mapping[str, Any]


class State(NamedTuple):
    """What the newest readable file of an experiment says.

    Attributes:
        file: its name; empty if there is none.
        metric: what the experiment optimises, if that was given.
        trials: its trials.
        problems: what could not be read, in words.
    """

    file: str = ""
    metric: str | None = None
    trials: tuple[StateOfTrial, ...] = ()
    problems: tuple[str, ...] = ()


def read(folder: Folder, names: Iterable[str]) -> State:
    """Read the newest state that can be read; each restore begins another file.

    Args:
        folder: the experiment's folder.
        names: the names of the files in it.
    """
    problems: list[str] = []
    for name in sorted(filter(_NAME.fullmatch, names), reverse=True):
        try:
            content = json.loads(folder.read(name))
            trials = tuple(_trials(content["trial_data"]))
        except (
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            RecursionError,
        ) as error:
            # Cause: Tune was killed while it wrote the file, or a newer Ray wrote it.
            # Cure: Nothing to do: what the trials' own files have is taken.
            problems.append(f"{name} can't be read ({type(error).__name__}: {error})")
            continue
        runner = content.get("runner_data")
        metric = runner.get("_metric") if isinstance(runner, dict) else None
        return State(name, metric if isinstance(metric, str) else None, trials, tuple(problems))
    return State(problems=tuple(problems))


def _trials(written: Iterable[Any]) -> Iterable[StateOfTrial]:
    for state, more in written:  # each is JSON within the JSON
        yield _trial(json.loads(state), json.loads(more))


def _trial(state: Mapping[str, Any], more: Mapping[str, Any]) -> StateOfTrial:
    config = _mapping(state.get("config"))
    trial_id, tag = str(state["trial_id"]), str(state.get("experiment_tag") or "")
    index = re.match(r"\d+", tag)
    return StateOfTrial(
        trial_id,
        str(state.get("custom_trial_name") or _name(state, config, trial_id)),
        int(index[0]) if index else 0,
        str(state.get("relative_logdir") or ""),
        str(state.get("status") or ""),
        config,
        _mapping(state.get("evaluated_params")),
        _mapping(state.get("stopping_criterion")),
        _number(more.get("num_failures")),
        _mapping(more.get("last_result")),
    )


def _name(state: Mapping[str, Any], config: Mapping[str, Any], trial_id: str) -> str:
    """The name that Tune makes [Ray 2.60, ``Trial._trainable_name``]."""
    parts = [str(state.get("trainable_name") or "")]
    env = config.get("env")
    if isinstance(env, str) and env != PICKLED:
        parts.append(env)
    return "_".join([*filter(None, parts), trial_id]).replace("/", "_")


def _mapping(value: Any) -> dict[str, Any]:
    found = _without_pickles(value)
    return found if isinstance(found, dict) else {}


def _without_pickles(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get("_type") == "CLOUDPICKLE_FALLBACK":
            return PICKLED
        return {key: _without_pickles(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_pickles(inner) for inner in value]
    return value


def _number(value: Any) -> int:
    return value if type(value) is int else 0
