"""Verdicts: whether a drop matters, by its interval and a margin fixed in advance."""

from dataclasses import dataclass

NON_TRIVIAL = "non-trivial"
TRIVIAL = "trivial"
HARMFUL = "harmful"
UNDECIDED = "undecided"


@dataclass(frozen=True)
class AtMargin:
    """The one-sided tests and the verdict at one margin.

    Attributes:
        margin: the largest drop that does not matter.
        p_nontrivial: p-value of the test that the drop is at most the margin.
        p_trivial: p-value of the test that the drop is at least the margin.
        verdict: by the 95% interval of the drop.
    """

    margin: float
    p_nontrivial: float
    p_trivial: float
    verdict: str


def verdict(drop_low: float, drop_high: float, margin: float) -> str:
    """Return the verdict on a drop with the given interval.

    A drop is ``non-trivial`` if its whole interval is above the margin, and ``trivial`` if it is
    below. It is ``harmful`` if the interval is below minus the margin: zeroing improves
    the metric. Otherwise it is ``undecided``: a drop that is not significant need not be trivial.
    """
    if drop_low > margin:
        return NON_TRIVIAL
    if drop_high < -margin:
        return HARMFUL
    return TRIVIAL if drop_high < margin else UNDECIDED
