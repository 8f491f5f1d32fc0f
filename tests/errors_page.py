"""The messages in docs/when-something-goes-wrong.md: written from the code, and held against it.

Run as a program, it writes them anew: `python tests/errors_page.py`. The messages are found by
:mod:`messages`. The first sentence that says what to do begins the cure; what stands before it is
the message's first column, word for word, so that a search finds it.
"""

from __future__ import annotations

import html
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from messages import ROOT, Message, messages

PAGE = ROOT / "docs" / "when-something-goes-wrong.md"
BLOCK = re.compile(r"(<!-- messages -->\n).*(<!-- /messages -->)", re.DOTALL)

#: A sentence, or what stands behind a semicolon, that begins with one of these is a cure.
_CURES = (
    "Add|Another key|Ask|Call|Check|Close|Correct|Copy|Decorate|Did you mean|Fix|For|Free|Give|Import into|"
    "Instead|It is a (?:run|trial)'s folder|It is a setting|Its results never|Leave|Make|Merge|Move|Name|"
    "Pass|Put|Raise|Remove|Rename|Run|run (?:it|this) again|See|Send|send it|Set|Take|There are|There is one|"
    "These folders|These also|To |Unset|Update|Upgrade|Use|Wait|wait until|Wrap|Write|Add|upload (?:it|them)|"
    "is the disk full|copy that folder|use upload_checkpoints|pip install|change one|a greater|"
    "give it|give the|Name"
)
_CURE = re.compile(rf"(?<=[.?!;:,)])\s+(?=(?:{_CURES})\b)")


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        subject: the heading that it is under.
        said: the message's forms, without the cure.
        where: the error's class, and who prints it.
        cause: what the message leaves out.
        cures: what to do.
    """

    subject: str
    said: tuple[str, ...]
    where: str
    cause: str
    cures: tuple[str, ...]


#: A subject, and what its messages are known by: the module with the text, as "module: text".
_SUBJECTS = (
    ("Lines that report no trouble", r"line\|"),
    ("Findings of `wbtune doctor`", r"finding\|"),
    ("Login and API keys", r".*(API key|login|credentials|identity token|the key into)"),
    ("The command line", r"\w+\|(_cli|_tune_files)/"),
    ("A sweep's config", r"\w+\|(_data/sweep|_driver/sweep_plan)"),
    ("The server", r"\w+\|_place/(server|transport|handover)"),
    ("Sweeps and the experiment as a whole", r".*(_driver/(sweep|conclusion|experiment_end)|_overview|requests\.py)"),
    ("Checkpoints and uploads", r".*(_driver/(artifacts|checkpoint_copies)|uploaded|checkpoint)"),
    ("Storage and disk", r".*(_place/storage|_run/live_copies|storage_path|not on disk|open files)"),
    ("Releases of Ray and wandb", r"\w+\|(_upstream/|_trial/train_hooks)"),
    ("Trainables", r".*(InvalidTrainable|run_parameter|ProgramFailed|identity)"),
    ("Options", r"\w+\|(_data/|callback|tuner|restore|decorator|mixin|_run/ownership|_run/run_spec|_trial/run_plan|_place/driver_options|_driver/experiment_start|_driver/trials|_place/outer_job)"),
    ("Runs and rows", ""),
)
_ORDER = (
    "Options", "Login and API keys", "The server", "Trainables", "Runs and rows", "Storage and disk",
    "Checkpoints and uploads", "Sweeps and the experiment as a whole", "A sweep's config",
    "Releases of Ray and wandb", "The command line", "Findings of `wbtune doctor`",
    "Lines that report no trouble",
)
#: Who prints or raises, by the beginning of the module's path.
_PLACES = (
    ("_cli/importing", "`wbtune import`"), ("_cli/syncing", "`wbtune sync`"), ("_cli/running", "`wbtune run`"),
    ("_cli/overview", "`wbtune overview`"), ("_cli/doctor", "`wbtune doctor`"), ("_cli", "any command"),
    ("_tune_files", "commands with a folder"),
    ("_trial/(trial_function|run_parameter|tuner_options)|decorator|mixin", "driver"),
    ("_trial|setup", "trial"), ("_driver|_helper|callback|tuner|restore|_overview", "driver"),
    ("", "driver or trial"),
)


def split(text: str) -> tuple[str, str]:
    """A message as what it says was wrong, and what it says to do."""
    found = _CURE.search(text)
    return (text, "") if found is None else (text[: found.start()].rstrip(), text[found.end():])


def rows() -> list[Row]:
    """All messages, those of one statement together."""
    made = []
    for _, group in itertools.groupby(messages(), key=lambda one: (one.module, one.line)):
        made += _rows(list(group))
    return made


def _rows(group: list[Message]) -> Iterator[Row]:
    parts = [(split(one.text) if not one.cure else (one.text, one.cure)) for one in group]
    first = group[0]
    said = tuple(dict.fromkeys(part[0] for part in parts))
    cures = tuple(dict.fromkeys(part[1] for part in parts if part[1]))
    notes = {key: text for one in group for key, text in one.notes.items()}
    if "Cure" in notes:
        cures = (*cures, notes["Cure"])
    known = f"{first.kind}|{first.module}: {' '.join(one.text for one in group)}"
    subject = next(name for name, pattern in _SUBJECTS if re.match(pattern, known))
    place = next(name for begin, name in _PLACES if re.match(begin, first.module))
    where = place if first.kind in {"finding", "line"} else f"{first.kind}, {place}"
    yield Row(subject, said, where, notes.get("Cause", ""), cures)


if __name__ == "__main__":
    for one in rows():
        if not one.cures and one.subject!="Lines that report no trouble":
            print("NOCURE", one.subject, "|", one.said, "|", one.where, one.cause)
    import sys
    if len(sys.argv)>1:
      for one in rows():
        print(one.subject, "|", one.said, "|", one.where, "|", one.cause, "|", one.cures)
