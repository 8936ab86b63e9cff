"""What every fuzz test shares: how deep it goes, and what counts as a clear answer."""

import os
from collections.abc import Callable

from hypothesis import HealthCheck, settings

from nontrivial.errors import UserError

FACTOR = int(os.environ.get("FUZZ_FACTOR", "1"))


def examples(number: int) -> settings:
    """Return settings for ``number`` examples, the same in every run.

    With ``FUZZ_FACTOR=n`` in the environment n times as many, and new ones in every run.
    """
    return settings(
        max_examples=number * FACTOR,
        deadline=None,
        derandomize=FACTOR == 1,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def answer(function: Callable[[], object]) -> tuple[object, str | None]:
    """Return (result, None) or (None, the error's one line); another exception is a failure."""
    try:
        return function(), None
    except UserError as error:
        said = str(error)
    assert "\n" not in said, said
    return None, said
