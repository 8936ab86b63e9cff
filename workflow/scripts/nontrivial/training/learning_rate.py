"""Learning-rate schedules."""

import math

SCHEDULES = ("one-cycle", "cosine")


def learning_rate(step: int, steps: int, peak: float, warmup: float, schedule: str) -> float:
    """Return the learning rate of one step.

    Both schedules rise linearly to ``peak`` during the warm-up. Then ``one-cycle`` falls linearly
    and ``cosine`` along half a cosine. Both would reach zero one step after the last, so that every
    step has an effect.

    Args:
        step: number of the step, from 0 to ``steps - 1``.
        steps: number of steps in the whole training.
        peak: the highest learning rate.
        warmup: fraction of the steps in which the rate rises, from 0, below 1.
        schedule: one of :data:`SCHEDULES`.

    Raises:
        ValueError: the schedule is unknown or the step is outside the training.
    """
    if not 0 <= step < steps:
        raise ValueError(f"step {step} is outside a training of {steps} steps")
    rising = min(round(warmup * steps), steps - 1)
    if step < rising:
        return peak * (step + 1) / (rising + 1)
    done = (step - rising) / (steps - rising)
    if schedule == "one-cycle":
        return peak * (1 - done)
    if schedule == "cosine":
        return peak * (1 + math.cos(math.pi * done)) / 2
    raise ValueError(f"unknown schedule {schedule!r}")
