"""Compute W&B's step of a row from Tune's iteration."""

from __future__ import annotations

from typing import Final

#: A number above this is not used as a step: W&B's web page can't distinguish it from the next one,
#: and the protocol's numbers end soon after.
_LAST_STEP: Final = 2**53 - 2**32


class Steps:
    """W&B's step, which must only grow, from Tune's iteration, which need not.

    >>> steps = Steps()
    >>> [steps.next(i) for i in (1, 2, 5, 3, 4, 7)]
    [1, 2, 5, 6, 7, 8]
    """

    __slots__ = ("_free",)

    def __init__(self, free: int = 0) -> None:
        self._free = free

    def next(self, iteration: object, at_least: int = 0) -> int:
        """The step of the next row: its iteration, or the next free one above."""
        wanted = iteration if type(iteration) is int and iteration < _LAST_STEP else 0
        step = max(wanted, self._free, at_least)
        self._free = step + 1
        return step
