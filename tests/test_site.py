"""The site, as `make docs` builds it, can be read from a folder: links, search, and no network."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import browser
import pytest

pytestmark = pytest.mark.slow  # MkDocs imports all of wbtune, and writes forty pages
ROOT = Path(__file__).parents[1]
#: What a browser loads by itself, and a link's target.
LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "object": "data"}
LOADED_BY_LINK = {"stylesheet", "icon", "preload", "modulepreload", "manifest"}


class Page(NamedTuple):
    """What a page refers to, and what it can be referred to by."""

    loads: list[str]
    links: list[str]
    ids: set[str]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page([], [], set())

    def handle_starttag(self, tag, attrs):
        given = {name: value or "" for name, value in attrs}
        self.page.ids.update({given.get("id", ""), given.get("name", "")} - {""})
        if tag in LOADS and LOADS[tag] in given:
            self.page.loads.append(given[LOADS[tag]])
        elif tag == "link" and {*given.get("rel", "").split()} & LOADED_BY_LINK:
            self.page.loads.append(given["href"])
        elif tag == "a" and "href" in given:
            self.page.links.append(given["href"])


def read(path: Path) -> Page:
    """Read a page of the site."""
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader.page


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it, in a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    build(ROOT / "mkdocs.yml", folder)
    return folder


def build(config: Path, folder: Path) -> None:
    """Build a site; a warning is an error."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "-d", folder],
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    """The pages, read; not the one for an address that there is not."""
    return {path: read(path) for path in site.rglob("*.html") if path.name != "404.html"}


def broken(path: Path, target: str, pages: dict[Path, Page]) -> bool:
    """Say whether a link inside of the site leads nowhere."""
    address = urlsplit(target)
    if address.scheme or address.netloc:
        return False
    there = (path.parent / unquote(address.path)).resolve() if address.path else path
    if there in pages:
        fragment = unquote(address.fragment)
        return bool(fragment) and fragment not in pages[there].ids
    return not there.is_file()


def test_each_page_of_the_documentation_is_in_the_site(pages, site):
    """None is left out."""
    docs = ROOT / "docs"
    expected = {path.relative_to(docs).with_suffix(".html") for path in docs.rglob("*.md")}
    assert {path.relative_to(site) for path in pages} == expected


def test_links_and_pictures_are_there(pages, site):
    """Each link, anchor and picture of each page."""
    found = [
        (path.relative_to(site).as_posix(), target)
        for path, page in pages.items()
        for target in [*page.links, *page.loads]
        if broken(path, target, pages)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("#here", False),
        ("#nowhere", True),
        ("other.html", False),
        ("other.html#there", False),
        ("other.html#here", True),
        ("missing.png", True),
        ("https://docs.ray.io/missing", False),
    ],
)
def test_a_broken_link_is_found(target, expected, tmp_path):
    """A page or file that is not there, and an anchor that the page does not have."""
    one, other = tmp_path / "one.html", tmp_path / "other.html"
    pages = {one: Page([], [], {"here"}), other: Page([], [], {"there"})}
    assert broken(one, target, pages) == expected


def test_nothing_is_loaded_from_a_network(pages, site):
    """No script, style, font or picture: the site works without one, and tells nobody."""
    loaded = {target for page in pages.values() for target in page.loads}
    assert [target for target in loaded if urlsplit(target).netloc] == []
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"""(?:url\(|@import\s+)["']?(?:https?:)?//[^)"';]*""", styles) == []


def test_the_index_of_the_search_has_each_page(pages, site):
    """And so has the copy of it that is used without a server."""
    text = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    found = {entry["location"].partition("#")[0] for entry in json.loads(text)["docs"]}
    assert {path.relative_to(site).as_posix() for path in pages} <= found
    copy = (site / "search" / "search_index.js").read_text(encoding="utf-8")
    assert copy == f"var __index = {text}"


@pytest.mark.skipif(
    not (browser.CHROMIUM and browser.DRIVER) and not os.environ.get("CI"),
    reason="needs a browser: apt-get install chromium chromium-driver",
)
def test_the_search_finds_a_page(site):
    """Typed into its field, in a browser that has no network, on a page read from the folder."""
    with browser.browser() as driver:
        driver.get((site / "index.html").as_uri())
        field = "document.querySelector('.md-search__input')"
        browser.wait_until(driver, f"{field} !== null && {field}.offsetParent !== null")
        driver.execute_script(f"{field}.focus()")
        driver.switch_to.active_element.send_keys("rank_zero_only")
        hits = "[...document.querySelectorAll('.md-search-result__link')].map(one => one.href)"
        browser.wait_until(driver, f"{hits}.length > 0")
        assert any("ways/options.html" in href for href in driver.execute_script(f"return {hits}"))
        errors = [one for one in driver.get_log("browser") if one["level"] == "SEVERE"]
        assert errors == []
