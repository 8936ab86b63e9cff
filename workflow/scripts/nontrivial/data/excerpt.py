"""Shorten lists in messages without hiding how long they are."""

from collections.abc import Sequence


def excerpt(items: Sequence[object], most: int = 3) -> str:
    """Return the first items, and how many more there are.

    Example:
        >>> excerpt(["a", "b", "c", "d", "e"])
        'a, b, c (and 2 more)'
    """
    shown = ", ".join(str(item) for item in items[:most])
    return f"{shown} (and {len(items) - most} more)" if len(items) > most else shown
