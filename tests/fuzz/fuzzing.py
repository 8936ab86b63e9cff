"""What the fuzz tests share: how many examples they draw, and what a clear answer is."""

import os
from collections.abc import Callable

from hypothesis import HealthCheck, settings

from nontrivial.errors import UserError

FACTOR = int(os.environ.get("FUZZ_FACTOR", "1"))


def examples(number: int) -> settings:
    """Return settings for ``number`` examples, times ``FUZZ_FACTOR`` if the environment has it."""
    return settings(
        max_examples=number * FACTOR,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def answer(function: Callable[[], object]) -> tuple[object, str | None]:
    """Return (result, None) or (None, the message of a UserError, which is one line)."""
    try:
        return function(), None
    except UserError as error:
        message = str(error)
    assert "\n" not in message, message
    return None, message
