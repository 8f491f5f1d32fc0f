"""Every example of README.md and of the pages under docs/ runs as it stands, or says why not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import command_line_page
import page_examples
import pytest
import strategies_functions as functions
from command_line_page import same
from page_examples import PAGES, PYTHON, ROOT, Block, blocks, fenced
from wandb_server import TEST_KEY, WandbServer

README = ROOT / "README.md"
#: Of Python: run offline, against the stand-in server, and by the tests of the recipes.
MARKERS = ("", "online", "recipes")
#: Languages that a block may have. A program in another spelling would not be run.
LANGUAGES = {*PYTHON, "console", "text", "yaml", "toml", "json", "diff", "ini", "dockerfile", ""}
#: What a shell would run, and is only shown: how many blocks of `console` a page has that
#: `command_line_page` does not run.
ONLY_SHOWN = {"docs/experiment/from-wandb-sweeps.md": 1}


def name(path: Path) -> str:
    """A page, from the repository's root."""
    return path.relative_to(ROOT).as_posix()


def with_marker(marker: str) -> list[Path]:
    """The pages that have such a program."""
    return [page for page in PAGES if blocks(page, marker)]


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What became of each program that needs no server; one process, and one Ray."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "home").mkdir()
    return page_examples.run(with_marker(""), folder, functions.clean_env(folder / "home"))


@pytest.fixture(scope="module")
def online(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The same of each that logs online; one server, one process, and one Ray."""
    folder = tmp_path_factory.mktemp("online")
    (folder / "home").mkdir()
    with WandbServer(keys={TEST_KEY}) as server:
        env = functions.clean_env(folder / "home") | server.env(folder / "home", TEST_KEY)
        del env["WANDB_MODE"]
        found = page_examples.run(with_marker("online"), folder, env, "online")
        assert server.refusals == []
        assert server.runs
    return {key: one | {"url": server.url} for key, one in found.items()}


def failures(programs: list[Block], results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What went wrong: the page and the line, and the traceback or the output."""
    found = []
    for block in programs:
        result = results[block.name]
        if result["error"]:
            found.append(f"{block.name}: {result['error']}")
        elif block.output is not None:
            text = result["printed"].replace(result.get("url", "no server"), "https://wandb.ai")
            missing = first_missing(block.output, text)
            if missing:
                found.append(f"{block.name}: {missing!r} was not printed, in this place:\n{text}")
    return found


def first_missing(shown: str, printed: str) -> str | None:
    """The first line of the output that a page shows that was not printed, after those before."""
    left = iter([" ".join(same(line).split()) for line in printed.splitlines()])
    for line in filter(str.strip, shown.splitlines()):
        if " ".join(same(line).split()) not in left:
            return line
    return None


@pytest.mark.timeout(page_examples.TIMEOUT)
@pytest.mark.parametrize("page", with_marker(""), ids=name)
def test_the_examples_of_a_page_run(page, offline):
    """Each is a program of its own, offline, and prints what the page shows."""
    assert failures(blocks(page), offline) == []


@pytest.mark.timeout(page_examples.TIMEOUT)
@pytest.mark.parametrize("page", with_marker("online"), ids=name)
def test_the_online_examples_of_a_page_run(page, online):
    """Each is a program of its own, and W&B's server takes all that it sends."""
    assert failures(blocks(page, "online"), online) == []


def test_the_examples_of_the_readme_write_runs(offline):
    """Each of them writes a run for each trial or worker."""
    (home,) = {offline[block.name]["home"] for block in blocks(README)}
    runs = [*Path(home).glob("ray_results/*/wandb/offline-run-*")]
    assert len(runs) == len({run.name for run in runs}) >= 2 * len(blocks(README)) - 2


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_example_is_skipped_unnoticed(page):
    """Each fence was found; each program has a marker of those that are run, or none."""
    found = fenced(page)
    fences = re.findall(r"^[ \t>]*(?:```+|~~~+)[ \t]*(\w*)", page.read_text("utf-8"), re.MULTILINE)
    outputs = [one for one in found if one.marker == "output"]
    shown = sum(one.output is not None for one in found)
    assert outputs == []
    assert len(fences) == 2 * len(found) + 2 * shown
    assert {one.language for one in found} <= LANGUAGES
    programs = [one for one in found if one.language in PYTHON]
    assert sum(word in PYTHON for word in fences) == len(programs)
    run = [block for marker in MARKERS for block in blocks(page, marker)]
    not_run = [one for one in programs if one.title or re.match(r"not run: \w", one.marker)]
    assert {one.name for one in programs} == {one.name for one in [*run, *not_run]}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_command_is_skipped_unnoticed(page):
    """What a shell would run is run by `command_line_page`, or counted here."""
    found = [one for one in fenced(page) if one.language == "console"]
    run = page in command_line_page.PAGES and [
        one for one in found if one.text.startswith("$ wbtune ")
    ]
    not_run = [one for one in found if re.match(r"not run: \w", one.marker)]
    assert len(found) - len(run or ()) - len(not_run) == ONLY_SHOWN.get(name(page), 0)


# --- How blocks are found ---------------------------------------------------------------

PAGE = """
=== "One"

    <!-- online -->
    ```python
    print(1)
    ```

````markdown
```python
inner
```
````

```yaml title="sweep.yaml"
a: 1
```

```python hl_lines="1"
print("loss 0.25 of 1a2b3c4d")
```

<!-- output -->
```text
loss 0.5 of 5e6f7a8b
```

<!-- not run: it would delete the disk -->
```python
rm()
```
"""


@pytest.fixture
def page(tmp_path, monkeypatch):
    """A page with a block of each kind."""
    path = tmp_path / "page.md"
    path.write_text(PAGE, encoding="utf-8")
    monkeypatch.setattr(page_examples, "ROOT", tmp_path)
    return path


def test_blocks(page):
    """Those in tabs are found, with their line; those inside of others are text."""
    assert [(one.line, one.text) for one in blocks(page, "online")] == [(6, "print(1)\n")]
    (program,) = blocks(page)
    assert program.line == 20
    assert program.output == "loss 0.5 of 5e6f7a8b\n"
    assert [one.title for one in fenced(page) if one.title] == ["sweep.yaml"]
    assert [one.language for one in fenced(page)] == ["python", "markdown", "yaml", *["python"] * 2]


def test_an_output_without_a_program_is_an_error(page):
    """It would be compared with nothing."""
    page.write_text("<!-- output -->\n```text\n1\n```\n", encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"page.md:3: an output, and no program directly before it"
    ):
        fenced(page)


@pytest.mark.parametrize(
    ("shown", "missing"),
    [
        ("loss 0.5 of 5e6f7a8b\n", None),
        ("first\n\nlast\n", None),
        ("last\nfirst\n", "first"),
        ("loss of\n", "loss of"),
    ],
)
def test_outputs_are_compared_line_by_line(shown, missing):
    """In their order; numbers, ids and the width of columns may differ."""
    assert first_missing(shown, "first\nloss  0.25 of 1a2b3c4d\nlast\n") == missing
