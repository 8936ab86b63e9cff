"""One measured quantity of one target: a row of the results without the target's own columns."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Measurement:
    """A metric with its interval and its paired comparison; None where not defined.

    The fields are columns of :mod:`nontrivial.formats.summary`, but ``class_name``
    stands for ``class``. ``baseline`` is the metric of the network as trained, and positive
    drops are worse.
    """

    metric: str
    unit: str
    n: int
    value: float | None
    baseline: float | None
    drop: float | None
    class_name: str | None = None
    value_low: float | None = None
    value_high: float | None = None
    drop_low: float | None = None
    drop_high: float | None = None
    p_value: float | None = None
    b: int | None = None
    c: int | None = None
