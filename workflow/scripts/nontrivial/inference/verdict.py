"""Verdicts: whether a drop matters, by its interval and a margin fixed in advance."""

NON_TRIVIAL = "non-trivial"
TRIVIAL = "trivial"
UNDECIDED = "undecided"


def verdict(drop_low: float | None, drop_high: float | None, margin: float) -> str | None:
    """Return the verdict on a drop with the given interval; None without an interval.

    A drop is ``non-trivial`` if its whole interval is above the margin, ``trivial`` if it is below
    the margin, and otherwise ``undecided``: a drop that is not significant need not be trivial.
    """
    if drop_low is None or drop_high is None:
        return None
    if drop_low > margin:
        return NON_TRIVIAL
    if drop_high < margin:
        return TRIVIAL
    return UNDECIDED
