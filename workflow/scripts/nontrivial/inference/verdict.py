"""Whether a drop matters, judged by its interval and a margin fixed beforehand."""

NON_TRIVIAL = "non-trivial"
TRIVIAL = "trivial"
UNDECIDED = "undecided"


def verdict(drop_low: float | None, drop_high: float | None, margin: float) -> str | None:
    """Return the verdict on a drop with the given interval; None without an interval.

    ``non-trivial`` if the whole interval lies above the margin, ``trivial`` if it lies below
    it, else ``undecided``: a drop that is not significant is not thereby trivial.
    """
    if drop_low is None or drop_high is None:
        return None
    if drop_low > margin:
        return NON_TRIVIAL
    if drop_high < margin:
        return TRIVIAL
    return UNDECIDED
