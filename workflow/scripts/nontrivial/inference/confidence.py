"""Confidence intervals that can be inverted: from a margin to the level that excludes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

CONFIDENCE = 0.95  # of every interval


class Interval(Protocol):
    """A two-sided 95% interval, and the one-sided tests that agree with it.

    An interval is above a margin exactly if :meth:`p_above` is below 0.025.
    """

    @property
    def low(self) -> float:
        """Lower limit."""

    @property
    def high(self) -> float:
        """Upper limit."""

    def p_above(self, margin: float) -> float:
        """Return the p-value of "at most the margin".

        It is the smallest alpha at which the lower one-sided limit with confidence 1 - alpha is
        above the margin.
        """

    def p_below(self, margin: float) -> float:
        """Return the p-value of "at least the margin", by the upper limit."""


@dataclass(frozen=True)
class Hull:
    """The smallest interval that contains others. Its p-values are the largest of theirs."""

    parts: Sequence[Interval]

    @property
    def low(self) -> float:
        """Lower limit."""
        return min(part.low for part in self.parts)

    @property
    def high(self) -> float:
        """Upper limit."""
        return max(part.high for part in self.parts)

    def p_above(self, margin: float) -> float:
        """Return the p-value of "at most the margin"."""
        return max(part.p_above(margin) for part in self.parts)

    def p_below(self, margin: float) -> float:
        """Return the p-value of "at least the margin"."""
        return max(part.p_below(margin) for part in self.parts)


def p_two_sided(interval: Interval, value: float = 0.0) -> float:
    """Return the p-value that the quantity is ``value``: twice the smaller one-sided one."""
    return min(1.0, 2 * min(interval.p_above(value), interval.p_below(value)))
