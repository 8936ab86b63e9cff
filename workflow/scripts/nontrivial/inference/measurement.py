"""The result for one metric of one target."""

from dataclasses import dataclass

from nontrivial.inference.verdict import AtMargin

SEEDS_AND_TEST_SAMPLING = "training seeds and test sampling, not the choice of training data"
TEST_SAMPLING = "test sampling only"


@dataclass(frozen=True)
class Measurement:
    """A metric with its interval and its paired comparison; None where not defined.

    Attributes:
        metric: name.
        unit: what the metric is averaged over: ``sample``, ``subject``, ``slice`` or ``pooled``.
        n: number of units.
        value: the metric under the intervention; over seeds the mean, like baseline and drop.
        baseline: the metric of the unchanged network.
        drop: baseline - value; positive is worse.
        class_name: the class; None for all classes.
        value_low: lower end of the 95% interval of ``value``.
        value_high: upper end.
        drop_low: lower end of the 95% interval of ``drop``.
        drop_high: upper end.
        drop_share: drop / (baseline - chance); None where the baseline is not above chance.
        df: degrees of freedom of the t interval of ``drop``.
        p_value: of the test that the drop is 0.
        b: samples right at baseline and wrong under the intervention.
        c: samples wrong at baseline and right under the intervention.
        seeds: number of trained networks.
        covers: which randomness the intervals cover.
        value_sd: standard deviation of ``value`` over seeds.
        drop_sd: standard deviation of ``drop`` over seeds.
        empty: subjects without foreground (of the class), which are left out.
        false_positive_ml: predicted foreground in such a subject in ml, mean.
        n_for_trivial: units with which a target that changes no prediction is trivial; None where
            ``n`` is enough, or where the target is trivial or harmful.
        at_margins: one-sided tests and verdict at each margin; empty where nothing is judged.
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
    drop_share: float | None = None
    df: float | None = None
    p_value: float | None = None
    b: int | None = None
    c: int | None = None
    seeds: int = 1
    covers: str = TEST_SAMPLING
    value_sd: float | None = None
    drop_sd: float | None = None
    empty: int | None = None
    false_positive_ml: float | None = None
    n_for_trivial: int | None = None
    at_margins: tuple[AtMargin, ...] = ()
