"""The messages in docs/when-something-goes-wrong.md: written from the code, and held against it.

Run as a program, it writes them anew: `python tests/errors_page.py`. :mod:`messages` finds them. A
message's first sentence that says what to do begins the cure; what stands before it is shown word
for word, so that a search finds it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from messages import Message, messages
from source_modules import ROOT

PAGE = ROOT / "docs" / "when-something-goes-wrong.md"
BLOCK = re.compile(r"(?<=<!-- messages -->\n).*(?=<!-- /messages -->)", re.DOTALL)

#: A sentence that begins with one of these says what to do; behind a semicolon, a smaller word.
_CURES = (
    "Add Call Check Copy Correct Decorate Did Fix For Give If Import Install Instead: Leave Make "
    "Merge Move Name Pass Put Raise Remove Rename Run See Send Set Take There These To Unset "
    "Upgrade Use Wait Wrap Write add call change copy correct give pip send set upgrade upload use "
    "wait write"
)
_VERBS = "|".join(_CURES.split())
_CURE = re.compile(
    rf"(?<=[.?!;:,)>])\s+(?=(?:{_VERBS})(?!\w)|run (?:it|this|the)\b)|\s+(?=Another key:)"
)
#: What an option or a key should have been.
_EXPECTED = re.compile(r"\bexpected (?:<name>= to be |(?=text in ))?(.+?)(?:, got .*|)\.$")

#: The headings, in the order of the page. A message is under the first whose pattern is at the
#: beginning of "kind module: text".
LINES = "Lines that report no trouble"
DOCTOR = "Findings of `wbtune doctor`"
SWEEP = "A sweep's config"
_OF_OPTIONS = (
    *("_data/", "callback", "tuner", "restore", "decorator", "mixin", "_run/(ownership|run_spec)"),
    *("_trial/run_plan", "_place/(driver_options|outer_job)", "_driver/(experiment_start|trials)"),
)
_PLACED = (
    (LINES, r"line "),
    (DOCTOR, r"finding "),
    ("Login and API keys", r".*(API key|login|credentials|identity token|the key into)"),
    ("The command line", r"\w+ (_cli|_tune_files)/"),
    (SWEEP, r"\w+ (_data/sweep|_driver/sweep_plan)"),
    ("The server", r"\w+ _place/(server|transport|handover)"),
    (
        "Sweeps and the overview",
        r"\w+ (_driver/(sweep|conclusion|experiment_end)|_overview|_helper/requests)",
    ),
    ("Checkpoints and uploads", r".*(_driver/(artifacts|checkpoint_copies)|uploaded|checkpoint)"),
    ("Storage and disk", r".*(_place/storage|_run/live_copies|storage_path|on disk|open files)"),
    ("Releases of Ray and wandb", r"\w+ (_upstream/|_trial/train_hooks)"),
    ("Trainables", r".*(Trainable|run_parameter|ProgramFailed|identity)"),
    ("Options", rf"\w+ ({'|'.join(_OF_OPTIONS)})"),
    ("Runs and rows", ""),
)
SUBJECTS = (
    "Options",
    "Login and API keys",
    "The server",
    "Trainables",
    "Runs and rows",
    "Storage and disk",
    "Checkpoints and uploads",
    "Sweeps and the overview",
    SWEEP,
    "Releases of Ray and wandb",
    "The command line",
    DOCTOR,
    LINES,
)
#: What stands before the messages of some subjects.
_INTRODUCED = {
    SWEEP: "Each begins with the way, the file and the key: `wandb_tuner: sweep.yaml, line 3: "
    "parameters.lr.min:`.",
    "The command line": "Each begins with `wbtune:`. The errors end the command with the exit code "
    "2, and with 1 if only the server was away.",
    LINES: "They say where the runs are.",
}
#: Who raises or prints it, by the beginning of the module's path.
_PLACES = (
    ("_cli/importing", "`wbtune import`"),
    ("_cli/syncing", "`wbtune sync`"),
    ("_cli/running", "`wbtune run`"),
    ("_cli/overview", "`wbtune overview`"),
    ("_cli/doctor", "`wbtune doctor`"),
    ("_cli", "any command"),
    ("_tune_files", "commands with a folder"),
    ("_trial/program", "`wbtune run`"),
    ("_trial/(trial_function|run_parameter|tuner_options)|decorator|mixin", "driver"),
    ("_trial|setup", "trial"),
    ("_driver|_helper|callback|tuner|restore|_overview", "driver"),
    ("", "driver or trial"),
)


class Row(NamedTuple):
    """A line of a table.

    Attributes:
        subject: the heading that it is under.
        said: the message's forms, without the cure.
        where: each an error's class, or `warning`, and who raises or prints it.
        cause: what the message leaves out.
        cures: what to do.
    """

    subject: str
    said: tuple[str, ...]
    where: tuple[str, ...]
    cause: str
    cures: tuple[str, ...]


def split(text: str) -> tuple[str, str]:
    """A message as what it says was wrong, and what it says to do.

    >>> split("wandb_trial: no project. Give project=.")
    ('wandb_trial: no project.', 'Give project=.')
    """
    found = _CURE.search(text)
    return (text, "") if found is None else (text[: found.start()], text[found.end() :])


def rows() -> list[Row]:
    """All messages: those of one statement, and those with the same text, together."""
    groups = itertools.groupby(messages(), key=lambda one: (one.module, one.line, one.kind))
    merged: dict[tuple[str, tuple[str, ...]], Row] = {}
    for row in (_row(list(group)) for _, group in groups):
        same = merged.get((row.subject, row.said), row)
        merged[row.subject, row.said] = row._replace(
            where=tuple(dict.fromkeys((*same.where, *row.where))),
            cause=row.cause or same.cause,
            cures=_longest((*same.cures, *row.cures)),
        )
    return list(merged.values())


def _longest(cures: Iterable[str]) -> tuple[str, ...]:
    """The cures without those that another one begins with."""
    every = list(dict.fromkeys(cures))
    return tuple(
        one for one in every if not any(one != more and more.startswith(one) for more in every)
    )


def _row(group: list[Message]) -> Row:
    first = group[0]
    parts = [(one.text, one.cure) if one.cure else split(one.text) for one in group]
    known = f"{first.kind} {first.module}: {' '.join(one.text for one in group)}"
    subject = next(name for name, pattern in _PLACED if re.match(pattern, known))
    notes = {key: text for one in group for key, text in one.notes.items()}
    cures = [cure for _, cure in parts if re.sub("<[^<>]*>|\\W", "", cure)]
    if "Cure" in notes:
        cures.append(notes["Cure"])
    elif not cures:
        cures = [f"Give {found[1]}." for said, _ in parts if (found := _EXPECTED.search(said))]
    place = next(name for begin, name in _PLACES if re.match(begin, first.module))
    where = place if first.kind in {"finding", "line"} else f"{first.kind}: {place}"
    said = dict.fromkeys(_shortened(said, subject) for said, _ in parts)
    return Row(
        subject,
        tuple(said),
        (where,),
        notes.get("Cause", ""),
        tuple(dict.fromkeys(cures)),
    )


def _shortened(said: str, subject: str) -> str:
    """Without the beginning that all messages of the subject have."""
    return re.sub(r"^<way>: <name>, line <lines>:<key> ", "… ", said) if subject == SWEEP else said


def entries() -> str:
    """The page's list: a heading for each message, so that a search leads to it."""
    found = rows()
    shown = [_legend()]
    for subject in SUBJECTS:
        shown.append(f"## {subject}")
        if subject in _INTRODUCED:
            shown.append(_INTRODUCED[subject])
        shown += dict.fromkeys(_entry(row) for row in found if row.subject == subject)
    return "\n\n".join(shown) + "\n\n"


def _legend() -> str:
    subjects = " · ".join(f"[{one}](#{_anchor(one)})" for one in SUBJECTS)
    return (
        "What is only known at run time is in angle brackets: `<way>` is `wandb_tuner`,\n"
        "`WandbLoggerCallback`, `wandb_trial`, `WandbMixin` or `setup_wandb`.\n\n" + subjects
    )


def _anchor(subject: str) -> str:
    """As Python-Markdown makes it of a heading."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", subject).strip().lower())


def _entry(row: Row) -> str:
    said, *more = map(_code, row.said)
    also = f"Or: {', '.join(more)}\n\n" if more else ""
    told = " ".join(_prose(one) for one in (row.cause, *row.cures) if one)
    where = ", ".join(row.where)
    return f"#### {said}\n\n{also}*{where}*{'<br>' if told else ''}{told}"


def _code(text: str) -> str:
    """A message, to be found by its words."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


#: A word that is code.
_WORD = re.compile(r"""(?<![^\s(])(?=\S*(?:[_=<{]|\w\(|\[")|--)[^\s(]\S*[^\s.,:;?]""")
_COMMAND = re.compile(r"(chmod|pip|ulimit|wandb|wbtune) \S.*|[A-Z_]+=\S+")


def _prose(text: str) -> str:
    """A text: what is code in it is in backticks."""
    text = re.sub(r"\.<\w+>", ".", text)  # a sentence may follow, or none
    text = text.removesuffix(".") if _COMMAND.fullmatch(text) else text
    if _COMMAND.fullmatch(text):
        return _code(text)
    parts = text.split("`")
    parts[::2] = (_WORD.sub(r"`\g<0>`", part).replace("`, `", ", ") for part in parts[::2])
    for at in range(1, len(parts), 2):
        parts[at] = f"`{parts[at]}`"
    shown = "".join(parts)
    shown = shown if shown.startswith("wandb-core") else shown[:1].upper() + shown[1:]
    return shown if shown[-1] in ".?" else f"{shown}."


def written(page: str) -> str:
    """Return the page with its list made anew."""
    return BLOCK.sub(lambda _: f"\n{entries()}", page)


def without_cure() -> Iterator[Row]:
    """Messages that do not say what to do, and have no comment that does."""
    return (row for row in rows() if not row.cures and row.subject != LINES)


def main() -> None:
    """Write the list into the page."""
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
