"""`TrialFiles`: what Tune left of one trial, in its folder and in the experiment's state."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from wbtune._tune_files.folder import Folder
from wbtune._tune_files.state_file import ENDED

RESULTS: Final = "result.json"
PARAMETERS: Final = "params.json"
ERROR: Final = "error.txt"
_FAILURE: Final = re.compile(r"^Failure # \d+ \(occurred at .*\)\n", re.MULTILINE)
_CHECKPOINT: Final = re.compile(r"checkpoint_\d+")


@dataclass(slots=True)
class Reading:
    """What was met while results were read.

    Attributes:
        results: how many were read.
        size: how many bytes these lines have.
        broken: how many lines could not be read.
        last: the last result.
    """

    results: int = 0
    size: int = 0
    broken: int = 0
    last: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrialFiles:
    """One trial, as Tune left it.

    Attributes:
        trial_id: its id, unique in its experiment.
        name: Tune's name for it.
        folder: its folder; None if it has none, as it never started.
        files: the names in that folder.
        status: Tune's status when the state was written; empty if no state tells.
        sampled: the parameters that were sampled, flat, nested names joined by "/"; empty if
            that is not known.
        stop: the bounds of ``stop={...}``.
        failures: how often it has failed, as far as it is known.
        changed: when its results were last written, in seconds since the epoch; 0.0 if not known.
        size: how many bytes its results have.
        stated_config: its parameters by the state.
        stated_result: its last result by the state.
    """

    trial_id: str
    name: str
    folder: Folder | None
    files: frozenset[str] = frozenset()
    status: str = ""
    sampled: Mapping[str, Any] = field(default_factory=dict)
    stop: Mapping[str, Any] = field(default_factory=dict)
    failures: int = 0
    changed: float = 0.0
    size: int = 0
    stated_config: Mapping[str, Any] = field(default_factory=dict)
    stated_result: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_ended(self) -> bool:
        """Has it ended, by Tune's own word?"""
        return self.status in ENDED

    @property
    def has_results(self) -> bool:
        """Is there a file of results?"""
        return RESULTS in self.files

    def config(self) -> tuple[dict[str, Any], str]:
        """Its parameters.

        Returns:
            ``(config, problem)``: from ``params.json``, or else from its first result, or else from
            the state; and what was wrong with ``params.json`` of a trial that has started.
        """
        problem = f"{self.name} has no {PARAMETERS}" if self.folder is not None else ""
        if self.folder is not None and PARAMETERS in self.files:
            try:
                found = json.loads(self.folder.read(PARAMETERS))
                if isinstance(found, dict):
                    return found, ""
                problem = f"{PARAMETERS} of {self.name} is no mapping"
            except (OSError, ValueError, RecursionError) as error:
                problem = f"{PARAMETERS} of {self.name} can't be read ({error})"
        first = self.first_result().get("config")
        return dict(first if isinstance(first, dict) else self.stated_config), problem

    def lines(self) -> Iterator[bytes]:
        """The lines of its results, as Tune wrote them; none without the file.

        Raises:
            OSError: if it can't be read.
        """
        if self.folder is not None and self.has_results:
            yield from self.folder.lines(RESULTS)

    def results(self, reading: Reading | None = None) -> Iterator[dict[str, Any]]:
        """Its results in order, one after the other; lines that can't be read are left out.

        Args:
            reading: is told what is met.

        Raises:
            OSError: if the file can't be read.
        """
        reading = reading or Reading()
        for line in self.lines():
            reading.size += len(line) + 1
            if not line.strip():
                continue
            try:
                result = json.loads(line)
            except (ValueError, RecursionError):
                result = None
            if isinstance(result, dict):
                reading.results += 1
                reading.last = result
                yield result
            else:
                reading.broken += 1

    def first_result(self) -> dict[str, Any]:
        """Its first result; empty if there is none, or it can't be read."""
        try:
            return next(self.results(), {})
        except OSError:
            return {}

    def error_text(self) -> str:
        """The text of its last error, with the traceback; empty if it has none."""
        if self.folder is None or ERROR not in self.files:
            return ""
        try:
            text = self.folder.read(ERROR).decode("utf-8", "replace")
        except OSError:
            return ""
        return _FAILURE.split(text)[-1].strip()

    def checkpoints(self) -> list[str]:
        """The names of its checkpoints' folders that are still there, the oldest first."""
        return sorted(filter(_CHECKPOINT.fullmatch, self.files))
