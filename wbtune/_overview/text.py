"""Text for the page: escaped, shortened, and numbers as people write them."""

from __future__ import annotations

import html
import json
import math
import re
from typing import Any, Final

#: The longest text of a tooltip; a label or a cell of the table shows less of it.
LONG: Final = 1000
#: What stands where there is no value.
NOTHING: Final = "\N{EN DASH}"

#: Characters that HTML does not allow, as references or otherwise.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")
#: Python writes "1e-05" and "1e+06".
_EXPONENT: Final = re.compile(r"e\+?(-?)0*")


def clean(text: object) -> str:
    """Text that UTF-8 can encode and HTML may contain."""
    encoded = str(text).encode("utf-8", "backslashreplace").decode("utf-8")
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", encoded)


def short(text: object, length: int) -> str:
    """Text of one line, cut in its middle if it is longer: names often differ at their ends."""
    line = " ".join(clean(text).split())
    if len(line) <= length:
        return line
    end = length // 3
    return f"{line[: length - end - 1]}…{line[-end:]}"


def escape(text: object, length: int | None = None) -> str:
    """Text for HTML, and for Plotly's labels, which read tags and entities too."""
    return html.escape(clean(text) if length is None else short(text, length))


def number(value: float | None) -> str:
    """A number with up to five digits, or a dash."""
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == int(value) and abs(value) < 1e6:  # noqa: PLR2004 - above, powers are shorter
        return f"{int(value):,}"
    return _EXPONENT.sub(r"e\1", f"{value:.5g}")


def count(amount: int, word: str) -> str:
    """``1 trial``, ``1,000 trials``."""
    return f"{amount:,} {word}{'' if amount == 1 else 's'}"


def duration(seconds: float | None) -> str:
    """Seconds as ``41 s``, ``3 min 20 s`` or ``5 h 07 min``."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:  # noqa: PLR2004 - an hour
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60:,} h {minutes % 60:02} min"


def value(parameter: Any) -> str:
    """A parameter's value."""
    if isinstance(parameter, str):
        return parameter
    if isinstance(parameter, float):
        return number(parameter)
    return as_json(parameter)


def as_json(data: Any) -> str:
    """Plain data as JSON, for people: with NaN, and of anything else its text."""
    return json.dumps(data, ensure_ascii=False, default=str, skipkeys=True)


def in_script(data: Any) -> str:
    """Plain data as strict JSON that may stand in a ``<script>``; NaN and infinities are null."""
    text = json.dumps(_finite(data), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _finite(data: Any) -> Any:
    """Plain data in which every number is finite; arrays become lists."""
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {key: _finite(inner) for key, inner in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(inner) for inner in data]
    return data
