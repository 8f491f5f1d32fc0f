"""The table of checks; all run at once, within one limit of time."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from wbtune._cli.doctor import environment, login, releases, storage
from wbtune._cli.doctor.findings import Check, Context, Finding, note, problem
from wbtune._data import timeouts
from wbtune._data.masking import MASK, mask_text

#: What is looked at, by subject, in the order in which it is shown.
CHECKS: Final[Mapping[str, tuple[Check, ...]]] = {
    "releases": (releases.versions, releases.capability),
    "login": (login.login,),
    "environment": (
        environment.mode,
        environment.one_run,
        environment.service,
        environment.refused,
        environment.settings_files,
        environment.base_url,
        environment.folders,
        environment.named,
        environment.open_files,
    ),
    "storage": (storage.temporary, storage.folder, storage.unsent),
}

#: These import wandb, pyarrow or Ray, which must not be done by two threads at once: the modules of
#: one may be half imported when another uses them. In this order, what imports the most is last.
_ONE_BY_ONE: Final[tuple[Check, ...]] = (
    *(login.login, environment.refused, environment.settings_files),
    *(storage.folder, storage.unsent, releases.capability),
)

#: As many characters of a key, or more, are never shown.
_PART: Final = 8


class Examined(NamedTuple):
    """A finding, and what it is about."""

    subject: str
    finding: Finding


def examine(
    context: Context,
    checks: Mapping[str, Iterable[Check]] = CHECKS,
    seconds: float = timeouts.DOCTOR_S,
) -> Iterator[Examined]:
    """Make all checks, each in a thread of its own; one that fails or hangs is said.

    Args:
        context: what they look at.
        checks: the checks, by subject.
        seconds: how long they may take together.
    """
    until = time.monotonic() + seconds
    begun = [
        (subject, _Examination(check, context)) for subject in checks for check in checks[subject]
    ]
    by_check = {one.check: one for _, one in begun}
    queue = [by_check[check] for check in _ONE_BY_ONE if check in by_check]
    others = [one for _, one in begun if one not in queue]
    # wandb and Ray print what is found here, too; with parts of the files, which may be a key's.
    with contextlib.redirect_stderr(io.StringIO()):
        for together in (queue, *([one] for one in others)):
            _Thread(together).start()
        for _, examination in begun:
            examination.done.wait(max(0.0, until - time.monotonic()))
    for subject, examination in begun:
        for finding in examination.findings(seconds):
            what, cure = (_without(context.keys, text) for text in finding[1:])
            yield Examined(subject, Finding(finding.level, what, cure))


class _Thread(threading.Thread):
    """Makes checks one after the other; it may hang: a file system, an import or a name may."""

    def __init__(self, examinations: Iterable[_Examination]) -> None:
        super().__init__(name="wbtune-doctor", daemon=True)
        self._examinations = examinations

    def run(self) -> None:
        for one in self._examinations:
            one.make()


class _Examination:
    """One check, and what it has found so far."""

    def __init__(self, check: Check, context: Context) -> None:
        self.check, self._context = check, context
        self.done = threading.Event()
        self._found: list[Finding] = []

    def make(self) -> None:
        """Make the check; that it fails is a finding."""
        try:
            self._found.extend(self.check(self._context))
        except BaseException as error:  # noqa: BLE001 - nothing may end the others
            what = f"{self._about}: this could not be looked at: {type(error).__name__}: {error}"
            self._found.append(problem(what, "look at that by hand, and please report it"))
        self.done.set()

    @property
    def _about(self) -> str:
        return (self.check.__doc__ or self.check.__name__).partition("\n")[0].rstrip(".?")

    def findings(self, seconds: float) -> list[Finding]:
        """What it has found; and if it is not done, that it was not within these seconds."""
        if self.done.is_set():
            return self._found
        what = f"{self._about}: this was not done within {seconds:g} s"
        return [*self._found, note(what, "give it longer: --timeout 60")]


def _without(keys: Iterable[str], text: str) -> str:
    """A text in one line, without keys, or parts of them, and without passwords."""
    text = " ".join(mask_text(text).split())
    for key in keys:
        parts = {key[at : at + _PART] for at in range(len(key) - _PART + 1)}
        hidden = {
            place
            for at in range(len(text) - _PART + 1)
            if text[at : at + _PART] in parts
            for place in range(at, at + _PART)
        }
        text = "".join(
            (MASK if at - 1 not in hidden else "") if at in hidden else character
            for at, character in enumerate(text)
        )
    return text
