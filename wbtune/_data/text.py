"""Text as W&B's protobuf takes it: no lone surrogates, of limited length, without passwords."""

from __future__ import annotations

import re
from typing import Any, Final

from wbtune._data import fields
from wbtune._data.masking import mask_text, mask_urls

MAX_TEXT: Final = 1_000_000
CUT: Final = "..."

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def is_clean(text: str) -> bool:
    """Is this text as `clean` would leave it? At a glance: it may be when this says no."""
    return text.isascii() and "@" not in text and len(text) <= MAX_TEXT


def clean(text: str) -> str:
    """Text that protobuf takes (no lone surrogates), of some length, without passwords."""
    if is_clean(text):
        return text
    text = mask_urls(text.encode("utf-8", "backslashreplace").decode("utf-8"))
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - len(CUT)] + CUT


def described(value: Any) -> str:
    """What a value's ``str`` says, without the address in it and with its secrets masked."""
    said = str.__str__(str(value))
    return clean(mask_text(_ADDRESS.sub("", said[: MAX_TEXT + 1])))


def class_name(value: Any) -> str:
    """The name of a value's class, as Python itself would say it."""
    return next(fields.class_names(value))[1]


def nameplate(value: Any) -> str:
    """``<module.Class>``: all that is shown of a value that can't be shown."""
    module, name = next(fields.class_names(value))
    return clean(f"<{module}.{name}>" if module else f"<{name}>")
