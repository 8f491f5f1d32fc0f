"""Read a W&B sweep's config from a file or a mapping, and remember where each key stands.

What is read is plain JSON data. A file is YAML as W&B reads it (``yaml.safe_load``: YAML 1.1), with
two differences: ``1e-5`` is a number, as in YAML 1.2, where YAML 1.1 would have ``1.0e-5``; and a
key that is there twice is an error, where YAML would keep the last one without a word.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wbtune._data.checks import plain_text
from wbtune._data.unknown import near
from wbtune.errors import ConfigurationError

if TYPE_CHECKING:
    import yaml

#: Where something stands: ``("parameters", "lr", "min")``. The items of a list have their index.
KeyPath = tuple[str | int, ...]

_SCALARS: Final = frozenset({str, int, float, bool, NoneType})
_FLOAT: Final = "tag:yaml.org,2002:float"
_EXPONENT: Final = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)[eE][-+]?\d+\Z")
_MERGE: Final = "<<"


class Source(NamedTuple):
    """A sweep's config, and where it is from.

    Attributes:
        config: plain data.
        public_name: what the user called, for messages.
        name: the file's name; ``sweep=`` for a mapping.
        lines: the line of each key in the file, counted from 1; empty for a mapping.
    """

    config: dict[str, Any]
    public_name: str
    name: str
    lines: Mapping[KeyPath, int] = {}

    def error(self, path: KeyPath, problem: str) -> ConfigurationError:
        """The error for something that is wrong at a key.

        >>> source = Source({}, "wandb_tuner", "sweep.yaml", {("method",): 3})
        >>> print(source.error(("method",), "expected grid, got 'gird'."))
        wandb_tuner: sweep.yaml, line 3: method: expected grid, got 'gird'.
        """
        above = [path[:end] for end in range(len(path), 0, -1)]
        line = next((f", line {self.lines[one]}" for one in above if one in self.lines), "")
        key = f" {dotted(path)}:" if path else ""
        return ConfigurationError(f"{self.public_name}: {self.name}{line}:{key} {problem}")

    def unknown(self, path: KeyPath, known: Mapping[str, Any] | tuple[str, ...]) -> Exception:
        """The error for a key that W&B's format does not have there."""
        meant = near(str(path[-1]), known)
        cure = f"Did you mean {meant}?" if meant else f"There are {', '.join(known)}."
        return self.error(path, f"W&B's sweeps have no such key. {cure}")


def dotted(path: KeyPath) -> str:
    """A path as text.

    >>> dotted(("parameters", "lr", "values", 0))
    'parameters.lr.values[0]'
    """
    return "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in path).lstrip(".")


def read(public_name: str, given: Any) -> Source:
    """Read a sweep's config.

    Args:
        public_name: what the user called, for messages.
        given: the path of a YAML file, or a mapping.

    Raises:
        ConfigurationError: if there is no such file, or if it is no mapping of plain data.
    """
    if isinstance(given, Mapping):
        source = Source({}, public_name, "sweep=")
        return source._replace(config=_plain(given, (), source))
    path = Path(os.fspath(given))
    source = Source({}, public_name, path.name)
    try:
        text = path.expanduser().read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # a directory, no UTF-8, a NUL in its name
        why = getattr(error, "strerror", None) or "it is not text in UTF-8"
        msg = f"{public_name}: can't read sweep={str(path)!r}: {why}. Check the path."
        raise ConfigurationError(msg) from error
    value, lines = _loaded(text, source)
    source = source._replace(lines=lines)
    if not isinstance(value, dict):
        raise source.error((), "expected a sweep's config (method, parameters, ...).")
    return source._replace(config=_plain(value, (), source))


def _loaded(text: str, source: Source) -> tuple[Any, dict[KeyPath, int]]:
    import yaml  # noqa: PLC0415 - it comes with Ray and wandb, and is needed once

    class Loader(yaml.SafeLoader):
        """Reads ``1e-5`` as a number, and says where a value is not what it looks like."""

        def construct_object(self, node: Any, deep: bool = False) -> Any:
            try:
                return super().construct_object(node, deep=deep)
            except yaml.YAMLError:
                raise
            except (ValueError, KeyError, AttributeError) as error:  # `2024-02-30`, `!!bool x`
                kind = node.tag.rpartition(":")[2]
                problem = f"{node.value!r} is no {kind}. If it is text, write it in quotes"
                raise yaml.MarkedYAMLError(None, None, problem, node.start_mark) from error

    Loader.add_implicit_resolver(_FLOAT, _EXPONENT, list("-+.0123456789"))
    loader, lines = Loader(text), {}
    try:
        node = loader.get_single_node()
        if node is not None:
            lines = _Lines(source).of(node)
        return (None if node is None else loader.construct_document(node)), lines
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "it can't be read"
        line = "" if mark is None else f", line {mark.line + 1}"
        msg = f"{source.public_name}: {source.name}{line}: this is not YAML: {problem}. Correct it."
        raise ConfigurationError(msg) from error
    except RecursionError:
        # Cure: Write less nested values.
        raise source.error((), "its values are nested too deeply.") from None
    finally:
        loader.dispose()


class _Lines:
    """One walk over a document, which also finds the keys that are there twice."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._found: dict[KeyPath, int] = {}
        self._inside: set[int] = set()

    def of(self, root: yaml.Node) -> dict[KeyPath, int]:
        self._walk(root, ())
        return self._found

    def _walk(self, node: Any, path: KeyPath) -> None:
        if id(node) in self._inside:
            # Cure: Remove the alias.
            raise self._source._replace(lines=self._found).error(path, "it contains itself.")
        self._inside.add(id(node))
        if node.id == "mapping":
            for key, value in node.value:
                self._enter(key, value, path)
        elif node.id == "sequence":
            for at, item in enumerate(node.value):
                self._found[(*path, at)] = item.start_mark.line + 1
                self._walk(item, (*path, at))
        self._inside.discard(id(node))

    def _enter(self, key: Any, value: Any, path: KeyPath) -> None:
        inner = (*path, str(key.value)) if key.id == "scalar" else path
        line = key.start_mark.line + 1
        if inner in self._found and inner != path and key.value != _MERGE:
            before = self._found[inner]
            here = self._source._replace(lines={inner: line})
            raise here.error(inner, f"it is also in line {before}. Remove one of them.")
        if inner != path:
            self._found[inner] = line
        self._walk(value, inner)


def _plain(value: Any, path: KeyPath, source: Source) -> Any:
    """The value as JSON data."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise source.error(path, f"a key is text, got {key!r}. Put it in quotes.")
        return {str(key): _plain(inner, (*path, str(key)), source) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, (*path, at), source) for at, item in enumerate(value)]
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return _plain(value.tolist(), path, source)
    if type(value) in _SCALARS:
        return value
    if isinstance(value, str):
        return plain_text(value)
    cure = " Put it in quotes." if isinstance(value, date) else ""
    got = type(value).__name__
    raise source.error(path, f"expected text, a number, a list or a mapping, got {got}.{cure}")
