"""Figures that were measured several times, and the bounds that they are compared with."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure from several measurements.

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
        """The ratios of pairs that ran side by side."""
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
    """A line of the table: a figure and its limit.

    Attributes:
        name: what is measured.
        figure: the result.
        limit: the limit.
        unit: the unit of both.
        at_least: the limit is a minimum, not a maximum.
        peer: the figure of Ray's own callback, if it was measured.
    """

    name: str
    figure: Figure
    limit: float
    unit: str = ""
    at_least: bool = False
    peer: Figure | None = None

    @property
    def is_met(self) -> bool:
        """Is the median within the limit?"""
        if self.at_least:
            return self.figure.median >= self.limit
        return self.figure.median <= self.limit
