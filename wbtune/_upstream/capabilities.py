"""What wbtune gets by private names of Ray and wandb, and what is lost where one is gone.

Both are released every few weeks, and a private name may go with any release. So each thing that
needs one is a `Capability`, next to the code that uses it: what a user loses without it, the names
that it needs, and (`uses`) what is done instead. Rows are never among what is lost: they go on by
the public ``wandb.init``, ``run.log`` and ``run.finish``.
"""

from __future__ import annotations

import dis
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from importlib import metadata
from types import CodeType
from typing import Any, Final, ParamSpec, TypeVar

from wbtune._data import notice
from wbtune._data.masking import mask_text

P = ParamSpec("P")
R = TypeVar("R")

#: What is raised by a name that is gone or takes other arguments, besides `ImportError`.
MOVED: Final = (AttributeError, ImportError, KeyError, NameError, TypeError)


class Capability:
    """Something that wbtune can do only where this Ray or this wandb has certain private names.

    Args:
        name: what it is, in a few words.
        without: what is lost where it is missing: a clause that a user understands.
        since: the oldest release that was seen to have it: ``"wandb 0.31"``.
        needs: the names, as ``"module:Class.attribute"``, ``"module:function.local"``;
            ``"one | other"`` where releases differ, and either will do.
    """

    def __init__(self, name: str, *, without: str, since: str, needs: tuple[str, ...]) -> None:
        self.name = name
        self.without = without
        self.since = since
        self.needs = needs
        self._trouble = ""

    def __repr__(self) -> str:
        return f"<{'has' if self.is_here else 'lacks'}: {self.name}>"

    @property
    def package(self) -> str:
        """``"ray"`` or ``"wandb"``."""
        return self.since.partition(" ")[0]

    @functools.cached_property
    def missing(self) -> tuple[str, ...]:
        """The names that this release does not have. They are looked for when first asked."""
        return tuple(name for name in self.needs if not any(map(is_there, name.split(" | "))))

    @property
    def is_here(self) -> bool:
        """Whether the names are there, and using them has not failed in this process."""
        return not self._trouble and not self.missing

    @property
    def reason(self) -> str:
        """Why it is lost; empty if it is not."""
        has_no = f"no {', '.join(self.missing)}" if self.missing else ""
        return self._trouble or has_no

    def fail(self, error: BaseException) -> None:
        """Note that using it has failed, though the names are there; the first time, warn."""
        if not self._trouble:
            self._trouble = mask_text(f"{type(error).__name__}: {error}")
            # Cause: The installed release has changed.
            # Cure: Nothing to do: every row is logged. Please report it.
            notice.warn_once(f"wbtune: {self.without} ({version(self.package)}: {self._trouble})")


def uses(capability: Capability, otherwise: Callable[P, R]) -> Callable[..., Callable[P, R]]:
    """Decorate a function that needs a capability.

    Args:
        capability: without it, or when using it fails, `otherwise` is called.
        otherwise: gets the same arguments, and needs no private name.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def used(*args: P.args, **kwargs: P.kwargs) -> R:
            if capability.is_here:
                try:
                    return function(*args, **kwargs)
                except MOVED as error:
                    capability.fail(error)
            return otherwise(*args, **kwargs)

        return used

    return decorate


def every() -> list[Capability]:
    """Return all capabilities, in the order of the modules that declare them."""
    package = importlib.import_module("wbtune._upstream")
    modules = [
        importlib.import_module(f"{package.__name__}.{module.name}")
        for module in pkgutil.iter_modules(package.__path__)
    ]
    found = [one for module in modules for one in vars(module).values()]
    return list(dict.fromkeys(one for one in found if isinstance(one, Capability)))


@functools.cache
def warn_of_lost() -> None:
    """Warn, once in a process, of what is lost with this Ray and this wandb; on the driver."""
    lost = [capability for capability in every() if not capability.is_here]
    for package in sorted({capability.package for capability in lost}):
        of_package = [one for one in lost if one.package == package]
        losses = [
            f"{one.without} ({one.since} {'has' if is_newer(one.since) else 'had'} it)"
            for one in of_package
        ]
        # Cause: The installed release lacks something that wbtune uses if it is there.
        # Cure: Nothing to do, or install the release that the line names.
        notice.warn_once(
            f"wbtune: every row is logged with {version(package)}, too, but "
            f"{'; '.join(dict.fromkeys(losses))}. wbtune.capabilities() lists the reasons."
        )


def is_newer(since: str) -> bool:
    """Return whether a release (``"wandb 0.31"``) is newer than the installed one."""
    package, _, oldest = since.partition(" ")
    installed = version(package).partition(" ")[2]
    return _numbers(installed) < _numbers(oldest)


def _numbers(release: str) -> list[int]:
    return [int(part) for part in release.split(".")[:2] if part.isdigit()]


@functools.cache
def version(package: str) -> str:
    """Return an installed package and its release: ``"wandb 0.31.0"``."""
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:  # a nightly Ray may have another name
        return package


def is_there(name: str) -> bool:
    """Return whether a name can be found: see `Capability`.

    >>> is_there("wbtune._upstream.capabilities:Capability._trouble")
    True
    >>> is_there("wbtune._upstream.capabilities:every.modules")
    True
    >>> is_there("wbtune._upstream.capabilities:every.modes")
    False
    """
    path, _, parts = name.partition(":")
    try:
        found: Any = importlib.import_module(path)
        for part in filter(None, parts.split(".")):
            if not _has(found, part):
                return False
            found = getattr(found, part, None)
    except Exception:  # noqa: BLE001 - to look for a name is never what raises
        return False
    return True


def _has(owner: Any, name: str) -> bool:
    if hasattr(owner, name) or name in getattr(owner, "model_fields", {}):
        return True
    if hasattr(owner, "model_fields"):
        return False
    if inspect.isclass(owner):
        return any(
            name in inspect.get_annotations(base)
            or any(_sets(code, name) for one in vars(base).values() for code in _codes(one))
            for base in owner.__mro__
        )
    return any(name in (*code.co_varnames, *code.co_cellvars) for code in _codes(owner))


def _sets(code: CodeType, name: str) -> bool:
    """Return whether a method sets an attribute of this name."""
    return name in code.co_names and any(
        step.opname == "STORE_ATTR" and step.argval == name for step in dis.get_instructions(code)
    )


def _codes(function: Any) -> Iterator[CodeType]:
    """Yield the code of a function, and of those that are defined in it."""
    function = inspect.unwrap(getattr(function, "fget", None) or function)
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    left = [code] if isinstance(code, CodeType) else []
    while left:
        yield (code := left.pop())
        left += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
