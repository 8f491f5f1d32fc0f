"""A headless Chromium, as Debian has it (packages `chromium` and `chromium-driver`)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-default-apps", "--disable-extensions", "--hide-scrollbars"),
    # Without a graphics card, for the parallel coordinates, which are drawn by WebGL.
    *("--disable-gpu", "--enable-unsafe-swiftshader"),
)


@contextmanager
def browser(width: int = 1200, height: int = 900) -> Iterator[Any]:
    """Start a browser; its console and its requests are recorded.

    Yields:
        Selenium's driver of it.
    """
    from selenium import webdriver

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.ChromeService(executable_path=DRIVER)
        driver = webdriver.Chrome(options=options, service=service)
        try:
            yield driver
        finally:
            driver.quit()


def open_page(driver: Any, path: Path) -> None:
    """Open a page and wait until all of it is drawn."""
    driver.get(path.resolve().as_uri())
    wait_until(driver, "document.documentElement.dataset.drawn === 'all'")


def wait_until(driver: Any, condition: str, seconds: float = 120) -> None:
    """Wait until an expression of JavaScript is true."""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, seconds).until(lambda one: one.execute_script(f"return {condition}"))


def screenshot(
    driver: Any, *, top: int = 0, height: int | None = None, width: int | None = None
) -> bytes:
    """Take a picture of the page, from a height to another, as PNG."""
    import base64

    whole = driver.execute_script("return document.documentElement.scrollHeight")
    width = width or driver.execute_script("return document.documentElement.clientWidth")
    clip = {"x": 0, "y": top, "width": width, "height": height or whole - top, "scale": 1}
    picture = driver.execute_cdp_cmd(
        "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}
    )
    return base64.b64decode(picture["data"])
