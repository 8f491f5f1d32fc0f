"""Take a picture of an overview, for the README.

Run: ``python tests/overview_picture.py overview.html docs/pictures/overview.png``
"""

from __future__ import annotations

import argparse
from pathlib import Path

import browser


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path, help="an overview.html")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    parser.add_argument("--width", type=int, default=1200, help="in pixels")
    parser.add_argument("--height", type=int, default=1760, help="from the top; 0: all of it")
    arguments = parser.parse_args()
    with browser.browser(width=arguments.width) as driver:
        browser.open_page(driver, arguments.page)
        browser.screenshot(driver, arguments.picture, arguments.height or None)


if __name__ == "__main__":
    main()
