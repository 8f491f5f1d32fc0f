"""The commands in the documentation print what it shows."""

from __future__ import annotations

import command_line_page
import pytest
from command_line_page import BLOCK, PAGES, prepare, same, written
from wandb_server import TEST_KEY, WandbServer


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_outputs_are_those_of_the_commands(path, tmp_path):
    """Each block is run, from the top of the page, with the stand-in server."""
    page = path.read_text(encoding="utf-8")
    with WandbServer(keys={TEST_KEY}) as server:
        prepare(tmp_path)
        now = written(page, tmp_path, server)
        assert server.refusals == []
    blocks = [BLOCK.findall(one) for one in (page, now)]
    assert blocks[0]
    assert [same(one) for one in blocks[0]] == [same(one) for one in blocks[1]]


def test_each_command_is_shown():
    """With real output, on the page about the command line."""
    shown = "".join(BLOCK.findall(command_line_page.PAGES[0].read_text(encoding="utf-8")))
    for name in ("import", "sync", "overview", "doctor"):
        assert f"$ wbtune {name} " in shown
