"""Which releases are installed, and what wbtune can't do with them."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Iterator
from typing import Final

from wbtune._cli.doctor.findings import Context, Finding, note, ok, problem
from wbtune._upstream import capabilities

_REASONS: Final = "wbtune.capabilities() says which names are missing"
_PACKAGES: Final = ("ray", "wandb", "wbtune", "wrapt")


def versions(_: Context) -> Iterator[Finding]:
    """The releases of Python and of the packages that matter."""
    installed = [capabilities.version(package) for package in _PACKAGES]
    yield ok(", ".join([f"Python {platform.python_version()}", *installed]))


def capability(_: Context) -> Iterator[Finding]:
    """Whether Ray and wandb can be imported, and what is lost with these releases."""
    is_whole = True
    for package in ("ray", "wandb"):
        try:
            importlib.import_module(package)
        except Exception as error:  # noqa: BLE001 - a broken package may raise anything
            is_whole = False
            yield problem(
                f"{package} can't be imported: {type(error).__name__}: {error}",
                f"pip install --upgrade --force-reinstall {package}",
            )
    if not is_whole:
        return  # everything would seem to be lost
    every = capabilities.every()
    lost = [one for one in every if not one.is_here]
    for one in lost:
        is_old = capabilities.is_newer(one.since)
        yield note(one.without, f"upgrade to {one.since}" if is_old else _REASONS)
    if not lost:
        yield ok(f"all of wbtune works with these releases ({len(every)} capabilities)")
