"""What a wheel and a source distribution contain, and the page that a package index makes of it."""

from __future__ import annotations

import email.parser
import html.parser
import re
import subprocess
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: What every wheel of a project with a command and a licence has, below its ``.dist-info``.
DIST_INFO = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def differences(has: set[str], should: set[str]) -> list[str]:
    """What is too much, and what is missing, one line each."""
    odd = [f"odd: {name}" for name in sorted(has - should)]
    return odd + [f"missing: {name}" for name in sorted(should - has)]


def of_wheel(wheel: Path) -> list[str]:
    """What a wheel has that it should not have, or the other way round."""
    name, version = wheel.name.split("-")[:2]
    info = f"{name}-{version}.dist-info"
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "wbtune").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        return differences({*archive.namelist()}, package | {f"{info}/{one}" for one in DIST_INFO})


def of_sdist(sdist: Path) -> list[str]:
    """The same for a source distribution, which is the repository as it is committed."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    with tarfile.open(sdist) as archive:
        files = {one.name.partition("/")[2] for one in archive.getmembers() if one.isfile()}
    return differences(files, {*listed, "PKG-INFO"})


def description(wheel: Path) -> str:
    """The long description, in Markdown."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        metadata = email.parser.BytesParser().parsebytes(archive.read(name))
    assert metadata["Description-Content-Type"] == "text/markdown"
    text = metadata.get_payload(decode=True)
    assert isinstance(text, bytes)
    return text.decode()


class _Page(html.parser.HTMLParser):
    def __init__(self, page: str) -> None:
        from readme_renderer import markdown

        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        drawn = markdown.render(page)
        assert drawn is not None, "the description can't be drawn"
        self.feed(drawn)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.links += [given[name] for name in ("href", "src") if name in given]
        self.ids |= {given[name] for name in ("id", "name") if name in given}


def links(page: str) -> list[str]:
    """The addresses of a page's links and pictures, as a package index draws it."""
    return [link for link in _Page(page).links if not link.startswith("#")]


def dead(page: str) -> list[str]:
    """Those that lead nowhere from a package index, which has no other file of ours."""
    drawn = _Page(page)
    inner = [link for link in drawn.links if link.startswith("#") and link[1:] not in drawn.ids]
    return inner + [link for link in links(page) if not link.startswith("https://")]
