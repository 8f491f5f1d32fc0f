"""What a W&B sweep may say of a parameter: its distributions, and what is drawn from them.

The formulas are those of W&B's own sampler (https://github.com/wandb/sweeps, ``params.py``):

======================== ==========================================================================
``int_uniform``          an integer from ``min`` to ``max``, both included
``uniform``              evenly from ``min`` to ``max``
``log_uniform_values``   ``exp`` of evenly from ``log(min)`` to ``log(max)``
``log_uniform``          ``exp`` of evenly from ``min`` to ``max``
``inv_log_uniform...``   the same axis seen from its other end: like ``log_uniform_values``, or
                         like ``log_uniform`` from ``-max`` to ``-min``
``normal``               with the mean ``mu`` and the deviation ``sigma``
``log_normal``           ``exp`` of ``normal``
``beta``                 with ``a`` and ``b``
``q_...``                ``round(x / q) * q`` of any of these; integers if ``q`` is one. The result
                         may be beyond a bound by half of ``q``
======================== ==========================================================================
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Protocol

#: The largest exponent of e that is a float.
_LARGEST: Final = math.log(sys.float_info.max)


class Family(Enum):
    """Which curve the numbers lie on, before they are rounded."""

    INTEGERS = "int_uniform"
    UNIFORM = "uniform"
    LOG_UNIFORM = "log_uniform_values"
    NORMAL = "normal"
    LOG_NORMAL = "log_normal"
    BETA = "beta"


class Random(Protocol):
    """What is needed of a source of random numbers; the module ``numpy.random`` is one."""

    def uniform(self, low: float, high: float) -> float:
        """Evenly from `low` to `high`."""

    def normal(self, loc: float, scale: float) -> float:
        """Normally, around `loc`."""

    def beta(self, a: float, b: float) -> float:
        """From 0 to 1."""


@dataclass(frozen=True, slots=True)
class Constant:
    """Always the same value."""

    value: Any


@dataclass(frozen=True, slots=True)
class Categorical:
    """One of some values; each as probable as the others, unless there are `probabilities`."""

    values: tuple[Any, ...]
    probabilities: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """W&B's name of the distribution."""
        return "categorical_w_probabilities" if self.probabilities else "categorical"

    def draw(self, random: Random) -> Any:
        """One of the values."""
        at, left = 0, random.uniform(0.0, 1.0) * math.fsum(self.probabilities)
        possible = [at for at, one in enumerate(self.probabilities) if one > 0]
        for at in possible:
            left -= self.probabilities[at]
            if left < 0:
                break
        return self.values[at]


@dataclass(frozen=True, slots=True)
class Numeric:
    """A distribution of numbers.

    Attributes:
        name: W&B's name of it.
        family: what is drawn.
        first: the lower bound, as a value even where W&B has its logarithm; or ``mu``, or ``a``.
        second: the upper bound; or ``sigma``, or ``b``.
        q: all numbers are multiples of it; None for no such rule.
    """

    name: str
    family: Family
    first: float
    second: float
    q: float | None = None

    def draw(self, random: Random) -> float:
        """One number; an int if `q` is one."""
        match self.family:
            case Family.UNIFORM:
                drawn = random.uniform(self.first, self.second)
            case Family.LOG_UNIFORM:
                drawn = _exp(random.uniform(math.log(self.first), math.log(self.second)))
            case Family.NORMAL:
                drawn = random.normal(self.first, self.second)
            case Family.LOG_NORMAL:
                drawn = _exp(random.normal(self.first, self.second))
            case Family.BETA:
                drawn = random.beta(self.first, self.second)
            case Family.INTEGERS:
                drawn = math.floor(random.uniform(self.first, self.second + 1))
                return int(min(drawn, self.second))
        return float(drawn) if self.q is None else self.rounded(drawn)

    def rounded(self, number: float) -> float:
        """The multiple of `q` next to a number, of two the even one.

        >>> Numeric("q_uniform", Family.UNIFORM, 0, 10, 4).rounded(9.9)
        8
        """
        q = 1 if self.q is None else self.q
        return round(float(number) / q) * q

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest number of a distribution that has both."""
        if self.q is None:
            return self.first, self.second
        return self.rounded(self.first), self.rounded(self.second)


def _exp(exponent: float) -> float:
    return math.exp(min(exponent, _LARGEST))


Leaf = Constant | Categorical | Numeric
#: Parameters by their names; those in a mapping of their own are nested.
Tree = Mapping[str, "Leaf | Tree"]

#: By W&B's name: what it draws, and the keys that it has.
_BOUNDS: Final = ("min", "max")
_MEAN: Final = ("mu", "sigma")
_SHAPE: Final = ("a", "b")
NUMERIC: Final[Mapping[str, tuple[Family, tuple[str, str]]]] = {
    "int_uniform": (Family.INTEGERS, _BOUNDS),
    "uniform": (Family.UNIFORM, _BOUNDS),
    "q_uniform": (Family.UNIFORM, _BOUNDS),
    "log_uniform": (Family.LOG_UNIFORM, _BOUNDS),
    "log_uniform_values": (Family.LOG_UNIFORM, _BOUNDS),
    "q_log_uniform": (Family.LOG_UNIFORM, _BOUNDS),
    "q_log_uniform_values": (Family.LOG_UNIFORM, _BOUNDS),
    "inv_log_uniform": (Family.LOG_UNIFORM, _BOUNDS),
    "inv_log_uniform_values": (Family.LOG_UNIFORM, _BOUNDS),
    "normal": (Family.NORMAL, _MEAN),
    "q_normal": (Family.NORMAL, _MEAN),
    "log_normal": (Family.LOG_NORMAL, _MEAN),
    "q_log_normal": (Family.LOG_NORMAL, _MEAN),
    "beta": (Family.BETA, _SHAPE),
    "q_beta": (Family.BETA, _SHAPE),
}
#: The defaults of W&B's schema; bounds have none. Its ``q`` is a float, so its multiples are.
DEFAULTS: Final[Mapping[str, float]] = {"mu": 0.0, "sigma": 1.0, "a": 1, "b": 1, "q": 1.0}
#: The bounds of these are exponents of e.
OF_EXPONENTS: Final = frozenset({"log_uniform", "q_log_uniform", "inv_log_uniform"})
#: The keys of the distributions that are not of numbers.
LISTED: Final[Mapping[str, tuple[str, ...]]] = {
    "constant": ("value",),
    "categorical": ("values",),
    "categorical_w_probabilities": ("values", "probabilities"),
}
