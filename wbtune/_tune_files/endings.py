"""Find out from Tune's files how a trial ended."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from wbtune._data.outcomes import FINISHED, TRACEBACK_LINES, Kind, Outcome, plain
from wbtune._tune_files.trial_files import TrialFiles

#: The reason if the files do not tell it; a guess would be worse.
UNKNOWN: Final = "unknown"
#: How Ray's texts begin when a trial's process was killed, or its node has gone; the actor of a
#: trial whose class raised while it was built died "because of an error".
_DEATH: Final = re.compile(
    r"(The (actor|node|worker|task's local raylet) |Task was killed )(?!died because of an error)"
)
_EXCEPTION: Final = re.compile(r"[A-Za-z_][\w.]*(:|$)")
#: In each result of a function, and in no other.
_OF_FUNCTION: Final = "checkpoint_dir_name"


def outcome_of(trial: TrialFiles, last: Mapping[str, Any]) -> Outcome:
    """The outcome of a trial; that of one that has not ended is `Kind.INTERRUPTED`.

    Args:
        trial: the trial.
        last: its last result; empty if it has none.
    """
    text = plain(trial.error_text())
    if trial.status == "ERROR" or (text and not trial.status):
        return _failed(text)
    if trial.status != "TERMINATED":
        return Outcome(Kind.INTERRUPTED, "it has not ended in Tune's files")
    for metric, bound in trial.stop.items():
        if _reaches(_value(last, metric), bound):
            return Outcome(Kind.STOPPED, f"stop={{{metric!r}: {bound!r}}}")
    if not last.get("done"):
        return FINISHED
    # Tune marks the last result of each trial that it stops; a function does not do so itself.
    if _OF_FUNCTION in last:
        return Outcome(Kind.STOPPED, UNKNOWN)
    return Outcome(Kind.FINISHED, f"{UNKNOWN}: the trial's own word, or Tune's")


def _failed(text: str) -> Outcome:
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return Outcome(Kind.FAILED, "Tune reports an error without an exception")
    if _DEATH.match(lines[0]):
        return Outcome(Kind.LOST, "the trial's process died", error_message=lines[0])
    kind, _, message = _last_error(lines).partition(":")
    return Outcome(
        Kind.FAILED,
        error_type=kind.rpartition(".")[2].strip(),
        error_message=message.strip(),
        error_traceback="\n".join(lines[-TRACEBACK_LINES:]),
    )


def _last_error(lines: list[str]) -> str:
    """The exception's own line, and what follows it.

    That is what comes after the traceback's last frame, or, without one, the last line that could
    be an exception's.
    """
    frames = [at for at, line in enumerate(lines) if line.startswith("  File ")]
    begin = frames[-1] if frames else 0
    found = [at for at in range(begin, len(lines)) if _EXCEPTION.match(lines[at])]
    return "\n".join(lines[found[0 if frames else -1] :]) if found else lines[-1]


def _value(result: Mapping[str, Any], name: str) -> Any:
    value: Any = result
    for part in [name] if name in result else name.split("/"):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _reaches(value: Any, bound: Any) -> bool:
    numbers = isinstance(value, (int, float)) and isinstance(bound, (int, float))
    return numbers and value >= bound
