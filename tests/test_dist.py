"""The wheel has what it should, and its page on a package index no dead link."""

from __future__ import annotations

import zipfile
from pathlib import Path

import distributions
import pytest
import strategies_functions as functions

import wbtune

BUILD = "import sys, hatchling.build as backend; backend.build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as pip builds it, but in this environment."""
    folder: Path = tmp_path_factory.mktemp("wheel")
    functions.program(functions.clean_env(folder), distributions.ROOT, "-c", BUILD, str(folder))
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    """The types' marker and the licence included, tests and recorded folders not."""
    assert distributions.of_wheel(wheel) == []
    names = zipfile.ZipFile(wheel).namelist()
    assert "wbtune/py.typed" in names
    assert f"wbtune-{wbtune.__version__}.dist-info/licenses/LICENSE" in names


def test_what_is_odd_in_a_wheel_is_found(wheel: Path, tmp_path: Path) -> None:
    """A file too many, and one too few."""
    other = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as archive, zipfile.ZipFile(other, "w") as copy:
        copy.writestr("tests/conftest.py", "")
        for name in archive.namelist():
            if name != "wbtune/py.typed":
                copy.writestr(name, archive.read(name))
    assert distributions.of_wheel(other) == ["odd: tests/conftest.py", "missing: wbtune/py.typed"]


def test_the_description_has_no_dead_link(wheel: Path) -> None:
    """Relative links are their text, and what stands in code is as it was."""
    page = (distributions.ROOT / "README.md").read_text(encoding="utf-8")
    text = distributions.description(wheel)
    dead = distributions.dead(page)
    assert dead, "the README has relative links, which is what is tested"
    assert distributions.dead(text) == []
    assert distributions.links(text) == [
        link for link in distributions.links(page) if link not in dead
    ]
    assert distributions.CODE.findall(text) == distributions.CODE.findall(page) != []


def test_a_dead_link_is_found() -> None:
    """To a file, to a picture, and to a heading that is not there."""
    page = "# One\n[a](docs/a.md) ![b](b.png) [one](#one) [two](#two) [w](https://example.org/)"
    assert distributions.dead(page) == ["#user-content-two", "docs/a.md", "b.png"]


def test_the_links_of_the_readme_lead_to_files() -> None:
    """The relative ones, to files and folders of the repository."""
    page = (distributions.ROOT / "README.md").read_text(encoding="utf-8")
    files = [link.partition("#")[0] for link in distributions.dead(page)]
    assert [name for name in files if not (distributions.ROOT / name).exists()] == []


def test_the_changelog_has_this_release() -> None:
    """With what a user has to change."""
    text = (distributions.ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    release = text.partition(f"\n## [{wbtune.__version__}] - ")[2].partition("\n## ")[0]
    assert f"→ {wbtune.__version__}: what you have to change" in release
    assert text.index("## [Unreleased]") < text.index(f"## [{wbtune.__version__}]")
