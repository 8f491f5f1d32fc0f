"""How a trial ended, as data, and the one table of how W&B shows it.

========== ========= ============ ==============================================
kind       exit code W&B's state  when
========== ========= ============ ==============================================
finished   0         finished     the function returned, or a result had `done`
stopped    0         finished     Tune ended it: scheduler, ``stop=``, time budget
failed     1         failed       it raised, or its actor could not be built
interrupted 130      failed       Ctrl-C, SIGTERM or an error ended the experiment
lost       254       crashed      its process was killed, or it is not known
========== ========= ============ ==============================================
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final, NamedTuple

from wbtune._data.masking import mask_text

TRACEBACK_LINES: Final = 20

#: Escape sequences that colour text in a terminal, as in Ray's tracebacks and many messages.
_COLOURS: Final = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])?"
)


class Kind(Enum):
    """The ways a trial can end; the values are those in the summary."""

    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    LOST = "lost"


EXIT_CODES: Final = {
    Kind.FINISHED: 0,
    Kind.STOPPED: 0,
    Kind.FAILED: 1,
    Kind.INTERRUPTED: 130,  # a shell's exit code for a process that SIGINT ended
    Kind.LOST: 254,  # the exit code that W&B shows as "crashed"
}


OUTCOME_TAGS: Final = frozenset(kind.value for kind in Kind)
#: The keys that `Outcome.summary` may have, in the order of its attributes.
OUTCOME_KEYS: Final[tuple[str, ...]] = (
    *("wbtune/outcome", "wbtune/reason"),
    *("wbtune/error", "wbtune/error_message", "wbtune/traceback"),
)


class Outcome(NamedTuple):
    """How one trial ended.

    Attributes:
        kind: a row of the table.
        reason: who stopped it and why, for people to read; may be empty.
        error_type: the exception's class name, for a failure.
        error_message: the exception's text, for a failure.
        error_traceback: the last 20 lines of its traceback, for a failure.
    """

    kind: Kind
    reason: str = ""
    error_type: str = ""
    error_message: str = ""
    error_traceback: str = ""

    @classmethod
    def failed(cls, error: BaseException, text: str | None = None) -> Outcome:
        """The outcome of a trial that raised ``error``.

        Args:
            error: what was raised.
            text: its traceback as text, when the exception came without one (from
                another process).
        """
        if text is None:
            text = _text_of(lambda: "".join(traceback.format_exception(error)))
        return cls(
            Kind.FAILED,
            error_type=type(error).__name__,
            # Masked here, because this process knows the keys that may be in it.
            error_message=mask_text(_text_of(lambda: str(error))),
            error_traceback=mask_text("\n".join(text.rstrip().splitlines()[-TRACEBACK_LINES:])),
        )

    @classmethod
    def of_summary(cls, summary: Mapping[str, Any]) -> Outcome:
        """The outcome in a run's summary.

        Raises:
            ValueError: if there is none.
        """
        kind, *more = (str(summary.get(key, "")) for key in OUTCOME_KEYS)
        return cls(Kind(kind), *more)

    @property
    def exit_code(self) -> int:
        """The exit code for ``run.finish``."""
        return EXIT_CODES[self.kind]

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags to add to the run's, so that W&B's run table can be filtered by them."""
        return () if self.kind is Kind.FINISHED else (self.kind.value,)

    @property
    def why(self) -> str:
        """The error, or else the reason, masked, in one line; empty if neither is known."""
        entries = self.summary()
        found = (entries.get(key) for key in ("wbtune/error", "wbtune/error_message"))
        return ": ".join(filter(None, found)) or entries.get("wbtune/reason", "")

    def summary(self) -> dict[str, str]:
        """The entries of the run's summary for this outcome, without empty ones."""
        entries = {
            "wbtune/outcome": self.kind.value,
            "wbtune/reason": self.reason,
            "wbtune/error": self.error_type,
            "wbtune/error_message": self.error_message,
            "wbtune/traceback": self.error_traceback,
        }
        return {key: mask_text(text) for key, one in entries.items() if (text := plain(one))}


FINISHED: Final = Outcome(Kind.FINISHED)
#: "Stop run" is in the run's menu at W&B.
STOPPED_AT_WANDB: Final = Outcome(Kind.STOPPED, reason='"Stop run" was pressed at W&B')


def plain(text: str) -> str:
    """Text as a web page can show it: without a terminal's colours, and valid UTF-8."""
    return _COLOURS.sub("", text).encode(errors="backslashreplace").decode()


def _text_of(make_text: Callable[[], str]) -> str:
    """An exception's text. Its ``__str__`` may itself raise, or even exit."""
    try:
        return make_text()
    except BaseException as broken:  # noqa: BLE001 - a user's __str__ may raise anything
        return f"<no message: its __str__ raised {type(broken).__name__}>"
