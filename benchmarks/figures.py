"""Numbers that were measured several times, and what of them is compared."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of several measurements.

    >>> print(Figure.of([1.0, 4.0, 2.0]))
    2.00 (1.00 to 4.00)
    """

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        """The median and the range of the values."""
        return cls(statistics.median(values), min(values), max(values))

    @classmethod
    def ratio(cls, over: Sequence[float], under: Sequence[float]) -> Figure:
        """The ratios of the pairs, which ran side by side."""
        return cls.of([a / b for a, b in zip(over, under, strict=True)])

    @classmethod
    def difference(cls, of: Sequence[float], beyond: Sequence[float]) -> Figure:
        """The differences of the pairs."""
        return cls.of([a - b for a, b in zip(of, beyond, strict=True)])

    def __str__(self) -> str:
        if isinstance(self.median, int):  # a count
            return str(self.median)
        texts = [f"{value:.{_digits(self.median)}f}" for value in (self.least, self.most)]
        median = f"{self.median:.{_digits(self.median)}f}"
        return median if self.least == self.most else f"{median} ({texts[0]} to {texts[1]})"


def _digits(value: float) -> int:
    return 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(frozen=True, slots=True)
class Bound:
    """A line of the table: what must not be passed.

    Attributes:
        name: what is measured.
        figure: what was measured.
        limit: as far as it may go.
        unit: of both.
        at_least: the limit is a floor.
        peer: what Ray's own takes, where it was measured.
    """

    name: str
    figure: Figure
    limit: float
    unit: str = ""
    at_least: bool = False
    peer: Figure | None = None

    @property
    def is_met(self) -> bool:
        """Does the median keep to it?"""
        if self.at_least:
            return self.figure.median >= self.limit
        return self.figure.median <= self.limit
