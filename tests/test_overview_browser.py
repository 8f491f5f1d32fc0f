"""The overview in a real browser: its panels, its console, and what is done with the mouse."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import browser
import pytest
from overview_samples import experiment

from wbtune._overview import page
from wbtune._overview.record import ExperimentRecord

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (browser.CHROMIUM and browser.DRIVER) and not os.environ.get("CI"),
        reason="needs a browser: apt-get install chromium chromium-driver",
    ),
]
PANELS = ["best-so-far", "parallel-coordinates", "curves", "importance", "slices"]
#: What a page would do that took a text for markup.
EVIL = '</script><script>document.title="hacked"</script><img src=x onerror="document.title=1"><b>'


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser for all tests."""
    with browser.browser() as driver:
        yield driver


@pytest.fixture
def show(chromium: Any, tmp_path: Path) -> Any:
    """Write the page of an experiment and open it; in the end, nothing was wrong with it."""

    def write_and_open(record: ExperimentRecord) -> Any:
        page.write(record, tmp_path / "overview.html")
        chromium.get_log("browser")
        chromium.get_log("performance")
        browser.open_page(chromium, tmp_path / "overview.html")
        return chromium

    yield write_and_open
    messages = [entry["message"] for entry in chromium.get_log("browser")]
    # WebGL without a graphics card is slow, it says.
    assert [message for message in messages if "GL Driver Message" not in message] == []
    requested = [
        message["params"]["request"]["url"]
        for entry in chromium.get_log("performance")
        if (message := json.loads(entry["message"])["message"])["method"]
        == "Network.requestWillBeSent"
    ]
    others = [url for url in requested if not url.startswith(("data:", "blob:", "chrome:"))]
    assert others == [(tmp_path / "overview.html").as_uri()]


def without_parameters(record: ExperimentRecord) -> ExperimentRecord:
    """An experiment whose page opens faster: nothing of it is drawn by WebGL."""
    return replace(record, trials=[replace(trial, params={}) for trial in record.trials])


def drawn(driver: Any, key: str) -> int:
    """How many elements of SVG or canvas a panel has."""
    script = "return document.querySelectorAll(`#${arguments[0]} :is(path, canvas)`).length"
    return driver.execute_script(script, key)


def visible_rows(driver: Any) -> int:
    """How many trials the table shows."""
    return driver.execute_script(
        "return document.querySelectorAll('#trials tbody tr:not([hidden])').length"
    )


@pytest.mark.parametrize("trials", [5, 100, 1000])
def test_the_panels_are_there(show: Any, trials: int) -> None:
    """All are drawn, and a row of the table for each trial; brushing selects among both."""
    driver = show(experiment(trials, 100, population=trials == 5))
    for key in [*PANELS, *(["lineage"] if trials == 5 else [])]:
        assert drawn(driver, key) > 5, key
    assert visible_rows(driver) == trials
    brush(driver, "dropout")
    selected = visible_rows(driver)
    assert 0 < selected < trials
    (low, high), values = driver.execute_script(
        """
        const { dimensions, ids } = document.getElementById("parallel-coordinates").data[0];
        const { values, constraintrange } = dimensions.find(({ label }) => label === "dropout");
        return [constraintrange, values];
        """
    )
    assert sum(low <= value <= high for value in values) == selected
    assert f"{selected} of {trials} trials" in driver.find_element("id", "selected").text


def brush(driver: Any, name: str) -> None:
    """Drag the mouse along the upper half of a parameter's axis."""
    from selenium.webdriver.common.action_chains import ActionChains

    axes = driver.find_elements("css selector", "#parallel-coordinates .axis-brush .background")
    names = [
        one.text
        for one in driver.find_elements("css selector", "#parallel-coordinates .axis-title")
    ]
    axis = axes[names.index(name)]
    height = axis.rect["height"]
    driver.execute_script("arguments[0].scrollIntoView({ block: 'center' })", axis)
    actions = ActionChains(driver, duration=50).move_to_element_with_offset(axis, 0, -height * 0.49)
    actions.click_and_hold().move_by_offset(0, height * 0.2).move_by_offset(0, height * 0.3)
    actions.release().perform()
    browser.wait_until(driver, "document.getElementById('selected').textContent", 30)


def test_the_table_is_sorted_by_a_click(show: Any) -> None:
    """By numbers up and down; trials without the value come last."""
    driver = show(without_parameters(experiment(100, 3)))

    def column() -> list[float]:
        cells = driver.execute_script(
            "return [...document.querySelectorAll('#trials tbody tr')].map("
            "(row) => row.cells[2].dataset.value ?? null)"
        )
        return [math.nan if cell is None else float(cell) for cell in cells]

    for descending in (False, True):
        driver.execute_script("document.querySelectorAll('#trials thead th')[2].click()")
        values = column()
        known = [value for value in values if not math.isnan(value)]
        assert known == sorted(known, reverse=descending)
        assert all(math.isnan(value) for value in values[len(known) :])
        assert 0 < len(known) <= 100


def test_no_text_is_run(show: Any) -> None:
    """Names, parameters, metrics and errors that look like HTML are shown as they are."""
    record = experiment(5, 6, population=True)
    trials = [
        replace(
            trial,
            name=f"{EVIL}{at}",
            reason=EVIL,
            params={EVIL: at, "x": f"{EVIL}{at}", **trial.params},
            perturbations=[
                {**step, "new": {EVIL: EVIL}, "old": {}} for step in trial.perturbations
            ],
        )
        for at, trial in enumerate(record.trials)
    ]
    driver = show(replace(record, name=EVIL, metric=EVIL, trials=trials, note=EVIL))
    assert driver.title.startswith("</script>")
    assert driver.find_elements("css selector", "img, #trials b, svg a") == []
    assert EVIL in driver.find_element("css selector", "td.reason").text
    assert drawn(driver, "slices") > 5


@pytest.mark.parametrize("metric", [None, "loss"])
def test_a_page_without_values(show: Any, metric: str | None) -> None:
    """Each panel says why it is empty, and the table is there."""
    record = experiment(5, 3)
    trials = [
        replace(trial, last=None, best=None, curve=type(trial.curve)()) for trial in record.trials
    ]
    driver = show(replace(record, trials=trials, metric=metric))
    assert [drawn(driver, key) for key in PANELS] == [0] * len(PANELS)
    notes = [one.text for one in driver.find_elements("css selector", "section .note")]
    assert len([note for note in notes if note]) == len(PANELS)
    assert visible_rows(driver) == 5


def test_sixty_parameters(show: Any) -> None:
    """So many axes and plots are still drawn, without an error."""
    record = experiment(60, 3)
    trials = [
        replace(trial, params={f"a_long_parameter_name_{i}": (i + 7) * at % 11 for i in range(60)})
        for at, trial in enumerate(record.trials)
    ]
    driver = show(replace(record, trials=trials, space={}))
    assert all(drawn(driver, key) > 5 for key in PANELS)


def test_both_themes_and_the_log_scale(show: Any) -> None:
    """The charts take the colours of the page, also when they change; a button sets a log axis."""
    driver = show(without_parameters(experiment(5, 3)))
    colours = set()
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        driver.execute_async_script("setTimeout(arguments[0], 500)")
        colours.add(
            driver.execute_script(
                "return document.getElementById('curves')._fullLayout.paper_bgcolor"
            )
        )
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert len(colours) == 2
    driver.execute_script("document.querySelector('[data-log=curves]').click()")
    browser.wait_until(driver, "document.getElementById('curves')._fullLayout.yaxis.type === 'log'")
