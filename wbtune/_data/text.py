"""Make text fit for W&B's protobuf: no lone surrogates, limited length, no passwords."""

from __future__ import annotations

import re
from typing import Any, Final

from wbtune._data import fields
from wbtune._data.masking import mask_text, mask_urls

MAX_TEXT: Final = 1_000_000
CUT: Final = "..."

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def is_clean(text: str) -> bool:
    """Is it certain, from a quick check, that `clean` would not change this text?"""
    return text.isascii() and "@" not in text and len(text) <= MAX_TEXT


def clean(text: str) -> str:
    """Text that protobuf accepts (no lone surrogates), of limited length, without passwords."""
    if is_clean(text):
        return text
    text = mask_urls(text.encode("utf-8", "backslashreplace").decode("utf-8"))
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - len(CUT)] + CUT


def described(value: Any) -> str:
    """A value's ``str``, without addresses and with its secrets masked."""
    text = str.__str__(str(value))
    return clean(mask_text(_ADDRESS.sub("", text[: MAX_TEXT + 1])))


def class_name(value: Any) -> str:
    """The qualified name of a value's class."""
    return next(fields.class_names(value))[1]


def nameplate(value: Any) -> str:
    """``<module.Class>``, in place of a value that can't be shown."""
    module, name = next(fields.class_names(value))
    return clean(f"<{module}.{name}>" if module else f"<{name}>")
