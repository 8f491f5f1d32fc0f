"""The pictures of the documentation are small, and those that can be made are all there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PICTURES = sorted((ROOT / "docs" / "pictures").iterdir())
#: In bytes; `pictures.py` keeps to it.
LIMIT = 150_000


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_a_picture_is_small(path: Path) -> None:
    """A page with several of them loads quickly."""
    assert path.stat().st_size <= LIMIT


def test_those_that_are_made_are_there() -> None:
    """Each that `make pictures` writes, and the benchmark's."""
    program = (ROOT / "tests" / "pictures.py").read_text(encoding="utf-8")
    made = re.findall(r"^- `(\w+\.png)`:", program, re.MULTILINE)
    assert {path.name for path in PICTURES} >= {"cost.png", *made}
    assert len(made) == 4
