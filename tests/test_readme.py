"""README.md: short, and its links lead somewhere; and pages that list what the code has."""

from __future__ import annotations

import re
from pathlib import Path

from wbtune._data import outcomes, routing

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RUN = ROOT / "docs" / "what-a-run-says.md"

#: Links and pictures; a link may be around code or a picture.
LINK = re.compile(r"\]\(([^)\s]+)\)")
#: Of a key of wbtune's in a run's rows, config or summary.
KEY = re.compile(r"wbtune/[a-z_]+")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    found = set()
    for heading in re.findall(r"^#+ +(.*?) *$", text, re.MULTILINE):
        words = re.sub(r"[^\w\s-]", "", re.sub(r"\]\(.*?\)", "", heading)).strip().lower()
        found.add(re.sub(r"\s+", "-", words))
    return found


def test_the_readme_is_short():
    """What does not fit has a page."""
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150


def test_the_links_of_the_readme_lead_somewhere():
    """Each that is no address is a file of the repository; its anchor is a heading of that file."""
    links = LINK.findall(README.read_text(encoding="utf-8"))
    inside = [link for link in links if not link.startswith("https://")]
    assert len(inside) > 30
    for link in inside:
        path, _, anchor = link.partition("#")
        page = ROOT / path if path else README
        assert page.is_file(), link
        assert not anchor or anchor in anchors(page), link


def test_all_keys_of_a_run_are_on_their_page():
    """Each key of wbtune's that the code has, and no other."""
    page = RUN.read_text(encoding="utf-8")
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "wbtune").rglob("*.py"))
    written = {key for one in re.findall(r'"(wbtune/[^"]*)"', code) for key in KEY.findall(one)}
    assert set(KEY.findall(page)) == written


def test_all_outcomes_are_on_their_page():
    """With the exit code of each."""
    page = RUN.read_text(encoding="utf-8")
    for kind, code in outcomes.EXIT_CODES.items():
        assert f"| `{kind.value}` | {code} |" in page


def test_what_becomes_of_tunes_columns_is_on_its_page():
    """The columns that are left out, and those that go to the config."""
    page = RUN.read_text(encoding="utf-8")
    table = page.partition("### Which of Tune's columns are logged")[2].partition("These remain")
    lines = [line for line in table[0].splitlines() if line.startswith("|")]
    rows = [set(re.findall(r"`(\w+)`", line.split("|")[1])) for line in lines]
    for columns in (routing.BOOKKEEPING, routing.AUTO_CONFIG_KEYS, routing.RESERVED):
        assert columns in rows
