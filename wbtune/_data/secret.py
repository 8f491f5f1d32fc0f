"""`Secret`: an API key in memory, which is never printed or pickled."""

from __future__ import annotations

from typing import NoReturn

from wbtune._data.masking import remember


class Secret:
    """An API key that can be passed on, but neither printed nor pickled.

    >>> Secret("s3cr3t")
    Secret(****)
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        remember(value)  # the text of an error may contain it

    def reveal(self) -> str:
        """The key itself, for the one call that logs in."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(****)"

    def __reduce__(self) -> NoReturn:
        msg = "an API key is never pickled"
        raise TypeError(msg)
