"""Make the pictures of the documentation: ``python tests/pictures.py demo-results docs/pictures``.

- `overview.png`: the overview that `make demo` leaves, in a browser.
- `group.png`: the demo's group of runs, in wandb's terminal UI.
- `lines.png`: what a driver prints, in a terminal; the server is the tests', shown as W&B's.
- `tour.png`: the notebook's last cells, with their outputs.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import browser
import terminal
from PIL import Image
from wandb_server import TEST_KEY, WandbServer

TESTS: Final = Path(__file__).parent
#: What a picture may have, in bytes.
LIMIT: Final = 150_000
#: Shown instead of the folder that a picture was made in.
HOME: Final = "/home/user/mnist"
PROGRAM: Final = """\
from ray import tune
from wbtune import wandb_tuner


def train(config):
    loss = 1.0
    for _ in range(20):
        loss = loss * config["decay"] + config["floor"]
        tune.report({"loss": loss})


wandb_tuner(
    train,
    {"decay": tune.grid_search([0.2, 0.5, 0.8]), "floor": 0.01},
    project="mnist",
    tune_config=tune.TuneConfig(metric="loss", mode="min"),
    run_config=tune.RunConfig(name="decay", verbose=0),
    sweep=True,
).fit()
"""


def save(png: bytes, path: Path) -> None:
    """Write a picture with as many colours as its limit allows."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    for colours in (256, 128, 64, 32, 16):
        few = picture.quantize(colours, dither=Image.Dither.NONE)
        few.save(path, optimize=True)
        if path.stat().st_size <= LIMIT:
            break
    print(f"{path}: {path.stat().st_size:,} bytes, {picture.width} x {picture.height}")


def picture_of_text(driver: Any, page: str, path: Path) -> None:
    """Write a picture of a terminal's screen."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "screen.html")
        file.write_text(page, encoding="utf-8")
        driver.get(file.as_uri())
        script = (
            "const all = document.querySelector('pre'); return [all.offsetWidth, all.offsetHeight]"
        )
        width, height = driver.execute_script(script)
        save(browser.screenshot(driver, width=width, height=height), path)


def overview(driver: Any, demo: Path, path: Path) -> None:
    """The overview, from its top to the importance of the parameters."""
    browser.open_page(driver, demo / "callback" / "overview.html")
    save(browser.screenshot(driver, height=1760), path)


def group(driver: Any, demo: Path, path: Path) -> None:
    """The runs of the demo's first program in `wandb leet`, with one chart for all of them."""
    with tempfile.TemporaryDirectory() as folder:
        runs = shutil.copytree(demo / "callback" / "wandb", Path(folder, "callback", "wandb"))
        # A run may have a further log, without rows: the best one was opened again for its tag.
        logs = {log.name.split("-")[-1]: log.name for log in sorted(runs.glob("*"), reverse=True)}
        trials = sorted(log for key, log in logs.items() if key[-6:-1] == "_0000")
        # What leet itself keeps of how it was left.
        _write(runs / ".wandb-leet.json", metrics_filter={"query": "^loss$"}, selected_runs=trials)
        _write(Path(folder, "wandb-leet.json"), workspace_metrics_grid={"rows": 1, "cols": 1})
        ui = terminal.Terminal(
            [str(Path(sys.executable).with_name("wandb")), "leet", "callback/wandb"],
            (140, 30),
            Path(folder),
            {**os.environ, "WANDB_CONFIG_DIR": folder},
        )
        try:
            ui.wait(lambda: len(ui.colours_of(terminal.is_braille)) == len(trials))
            border = ui.text.splitlines()[0].index("│") + 1
            ui.drag(border, 46, row=10)
            *panes, _ = ui.text.splitlines()
            ui.wait(lambda: {line.find("│") for line in ui.text.splitlines()[: len(panes)]} == {45})
            ui.wait(lambda: len(ui.colours_of(terminal.is_braille)) == len(trials))
            shown = HOME.ljust(len(folder))  # as wide, or the line would be another
            picture_of_text(driver, ui.page.replace(folder, shown), path)
        finally:
            ui.close()


def _write(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(values), encoding="utf-8")


def lines(driver: Any, path: Path) -> None:
    """A program that logs online: the pages when it starts, and the last lines."""
    with tempfile.TemporaryDirectory() as folder, WandbServer(keys={TEST_KEY}) as server:
        home = Path(folder).resolve()
        (home / "tune_it.py").write_text(PROGRAM, encoding="utf-8")
        env = without_settings()
        env |= server.env(home, TEST_KEY) | {"HOME": str(home), "RAY_ADDRESS": "local"}
        del env["WANDB_MODE"]
        ui = terminal.Terminal([sys.executable, "tune_it.py"], (200, 200), home, env)
        try:
            printed = ui.rest().splitlines()
        finally:
            ui.close()
        ours = [line for line in printed if line.startswith(b"wbtune: ")]
        text = b"\r\n".join([b"\x1b[1m$ python tune_it.py\x1b[m", *ours, b""])
        text = text.replace(server.url.encode(), b"https://wandb.ai")
        picture_of_text(driver, terminal.shown(text.replace(folder.encode(), b"~"), 112), path)


def tour(driver: Any, path: Path) -> None:
    """The notebook's last cells, run from the top."""
    notebook = TESTS.parent / "examples" / "tour.ipynb"
    with tempfile.TemporaryDirectory() as folder:
        done = Path(folder, "done.ipynb")
        command = [sys.executable, TESTS / "tour_program.py", notebook, done]
        subprocess.run(command, env=without_settings() | {"HOME": folder}, check=True)
        picture_of_notebook(driver, done, path)


def picture_of_notebook(driver: Any, done: Path, path: Path) -> None:
    """Write a picture of a notebook's page, from the sweep to the end."""
    from nbconvert import HTMLExporter

    page, _ = HTMLExporter(require_js_url="", mathjax_url="").from_filename(str(done))
    file = done.with_suffix(".html").resolve()
    file.write_text(page.replace(str(file.parent), "/home/user"), encoding="utf-8")
    driver.get(file.as_uri())
    inner = "document.querySelector('iframe').contentDocument?.documentElement.dataset.drawn"
    browser.wait_until(driver, f"{inner} === 'all'")
    heading = "[...document.querySelectorAll('h2')].find((one) => one.textContent.startsWith('5'))"
    top = driver.execute_script(f"return {heading}.getBoundingClientRect().top")
    save(browser.screenshot(driver, top=int(top) - 20), path)


def without_settings() -> dict[str, str]:
    """The environment, without settings of whoever makes the pictures."""
    names = ("WANDB_", "RAY_", "TUNE_")
    return {name: text for name, text in os.environ.items() if not name.startswith(names)}


def main() -> None:
    """Make all of them, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path, help="the results of make demo")
    parser.add_argument("pictures", type=Path, help="where the pictures are written")
    parser.add_argument("names", nargs="*", help="overview, group, lines, tour; by default all")
    given = parser.parse_args()
    demo = given.demo.resolve()
    with browser.browser() as driver:
        makers: dict[str, Callable[[Path], None]] = {
            "overview": lambda path: overview(driver, demo, path),
            "group": lambda path: group(driver, demo, path),
            "lines": lambda path: lines(driver, path),
            "tour": lambda path: tour(driver, path),
        }
        for name in given.names or makers:
            makers[name](given.pictures / f"{name}.png")


if __name__ == "__main__":
    main()
