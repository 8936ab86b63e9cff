import pytest
from hypothesis import given
from hypothesis import strategies as st

from nontrivial.training.learning_rate import SCHEDULES, learning_rate


def rates(steps, warmup, schedule, peak=0.4):
    return [learning_rate(s, steps, peak, warmup, schedule) for s in range(steps)]


def test_one_cycle_rises_and_falls_linearly():
    assert rates(10, 0.4, "one-cycle", peak=1.0) == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    )


def test_cosine_without_warmup_is_half_a_cosine():
    assert rates(4, 0.0, "cosine", peak=2.0) == pytest.approx(
        [2.0, 1 + 0.5**0.5, 1.0, 1 - 0.5**0.5]
    )


@given(
    steps=st.integers(1, 300),
    warmup=st.floats(0, 1, exclude_max=True),
    schedule=st.sampled_from(SCHEDULES),
)
def test_one_peak_and_never_zero(steps, warmup, schedule):
    values = rates(steps, warmup, schedule)
    top = values.index(max(values))
    assert max(values) == pytest.approx(0.4)
    assert values[: top + 1] == sorted(values[: top + 1])
    assert values[top:] == sorted(values[top:], reverse=True)
    assert min(values) > 0


def test_unknown_schedule_and_step_outside():
    with pytest.raises(ValueError, match="unknown schedule"):
        learning_rate(0, 1, 0.1, 0.0, "staircase")
    with pytest.raises(ValueError, match="outside"):
        learning_rate(5, 5, 0.1, 0.0, "cosine")
