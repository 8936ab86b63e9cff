"""Measurements from scores: which interval and test is taken, with one seed and with several."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nontrivial.inference.bootstrap import bootstrap_intervals
from nontrivial.inference.classification_metrics import classification_scores
from nontrivial.inference.comparison import compare, margins_beside
from nontrivial.inference.confidence import Hull, p_two_sided
from nontrivial.inference.paired_tests import mcnemar_exact
from nontrivial.inference.proportions import (
    NewcombeInterval,
    PairedCounts,
    n_for_trivial,
    newcombe,
    wilson,
)
from nontrivial.inference.scores import Scores
from nontrivial.inference.variance_components import seeds_and_units

MARGIN = 0.01


def randomness(purpose):
    return np.random.default_rng(len(purpose))


def measured(row):
    (measurement,) = compare([row], MARGIN, randomness)
    return measurement


def classified(value, baseline, **options):
    value, baseline = (np.atleast_2d(np.asarray(one, dtype=float)) for one in (value, baseline))
    return Scores("accuracy", "sample", value, baseline, **options)


def subjects(value, baseline, metric="dice", **options):
    value, baseline = (np.atleast_2d(np.asarray(one, dtype=float)) for one in (value, baseline))
    return Scores(metric, "subject", value, baseline, **options)


def lost_images(seeds, images, lost):
    """Scores of a baseline that is right in all but the first image, and what each seed loses."""
    baseline = np.ones((seeds, images))
    baseline[:, 0] = 0
    value = baseline.copy()
    for seed, image in lost:
        value[seed, image] = 0
    return classified(value, baseline)


def random_subjects(seeds, units, seed=0):
    generator = np.random.default_rng(seed)
    baseline = np.clip(0.8 + generator.normal(0, 0.05, (seeds, units)), 0, 1)
    drop = 0.05 + generator.normal(0, 0.02, (seeds, 1)) + generator.normal(0, 0.04, (1, units))
    return subjects(np.clip(baseline - drop, 0, 1), baseline)


class TestOneSeed:
    def test_samples_have_wilson_newcombe_and_mcnemar(self):
        generator = np.random.default_rng(0)
        value, baseline = (generator.random((1, 400)) < share for share in (0.5, 0.8))
        one = measured(classified(value, baseline))
        lost, gained = int((baseline & ~value).sum()), int((value & ~baseline).sum())
        cells = PairedCounts(
            int((value & baseline).sum()), lost, gained, int((~value & ~baseline).sum())
        )
        assert (one.n, one.b, one.c) == (400, lost, gained)
        assert (one.value_low, one.value_high) == wilson(int(value.sum()), 400)
        assert (one.drop_low, one.drop_high) == newcombe(cells)
        assert one.p_value == mcnemar_exact(lost, gained)
        assert (one.df, one.seeds, one.covers) == (None, 1, "test sampling only")
        for at in one.at_margins:
            assert at.p_nontrivial == NewcombeInterval(cells).p_above(at.margin)
            assert at.p_trivial == NewcombeInterval(cells).p_below(at.margin)
        assert [at.margin for at in one.at_margins] == [0.01, 0.02, 0.05]

    @pytest.mark.parametrize("metric", ["dice", "accuracy"])
    def test_subjects_have_the_widened_bootstrap_and_the_sign_flip(self, metric):
        row = random_subjects(1, 12)
        one = measured(subjects(row.value, row.baseline, metric))
        columns = np.stack([row.value[0], row.drop[0]], axis=1)
        of_value, of_drop = bootstrap_intervals(columns, randomness("bootstrap"))
        assert (one.value_low, one.value_high) == (of_value.low, of_value.high)
        assert (one.drop_low, one.drop_high) == (of_drop.low, of_drop.high)

        def p(values, side):
            return stats.permutation_test(
                (values,),
                lambda x, axis=-1: np.mean(x, axis=axis),
                permutation_type="samples",
                n_resamples=np.inf,
                alternative=side,
            ).pvalue

        assert one.p_value == pytest.approx(p(row.drop[0], "two-sided"))
        for at in one.at_margins:
            assert at.p_nontrivial == pytest.approx(p(row.drop[0] - at.margin, "greater"))
            assert at.p_trivial == pytest.approx(p(row.drop[0] - at.margin, "less"))

    def test_log_probability_has_a_paired_t_interval(self):
        generator = np.random.default_rng(1)
        before = -generator.random((1, 30))
        value = before - generator.random((1, 30))
        one = measured(Scores("log_prob", "sample", value, before))
        test = stats.ttest_rel(before[0], value[0])
        interval = test.confidence_interval(0.95)
        assert (one.drop_low, one.drop_high) == pytest.approx((interval.low, interval.high))
        assert one.p_value == pytest.approx(test.pvalue, rel=1e-6)
        assert (one.df, one.at_margins) == (29, ())
        expected = stats.t.interval(0.95, 29, value.mean(), stats.sem(value[0]))
        assert (one.value_low, one.value_high) == pytest.approx(expected)

    @pytest.mark.parametrize("unit", ["slice", "pooled"])
    def test_slices_have_means_only(self, unit):
        row = random_subjects(1, 12)
        one = measured(Scores(f"dice_{unit}", unit, row.value, row.baseline))
        assert one.drop == pytest.approx(row.drop.mean())
        assert one.value_low is one.drop_low is one.p_value is None

    def test_columns_of_a_call_share_resamples(self):
        row = random_subjects(1, 12)
        both = compare([row, subjects(row.value, row.baseline, class_name="a")], MARGIN, randomness)
        assert both[0].drop_low == both[1].drop_low
        assert both[0].drop_low == measured(row).drop_low
        assert both[1].at_margins == ()


class TestFewSubjects:
    @pytest.mark.parametrize("seeds", [1, 2, 3])
    @pytest.mark.parametrize("metric", ["dice", "accuracy", "log_prob"])
    def test_five_subjects_have_no_inference_and_six_have(self, seeds, metric):
        for units, inference in ((5, False), (6, True)):
            row = random_subjects(seeds, units)
            one = measured(subjects(row.value, row.baseline, metric))
            fields = (one.value_low, one.value_high, one.drop_low, one.drop_high)
            assert [field is not None for field in fields] == [inference] * 4
            assert (one.p_value is not None) == (inference and seeds != 2)
            assert bool(one.at_margins) == (inference and seeds != 2 and metric != "log_prob")
            if metric != "log_prob" and seeds != 2:
                assert one.n_for_trivial == (None if inference else 6)

    @pytest.mark.parametrize("seeds", [1, 3])
    def test_no_difference_in_any_subject_has_no_interval_of_the_drop(self, seeds):
        baseline = np.random.default_rng(0).random((seeds, 20))
        one = measured(subjects(baseline, baseline))
        assert one.drop == 0
        assert one.drop_low is one.drop_high is one.p_value is None
        assert one.at_margins == ()
        assert one.value_low < one.value < one.value_high


NO_DROP = ("drop_low", "drop_high", "p_value", "df")


def assert_drop_without_inference(one, drop):
    assert one.drop == pytest.approx(drop)
    assert [getattr(one, name) for name in NO_DROP] == [None] * 4
    assert one.at_margins == ()


class TestUnitsThatAgree:
    """Equal scores do not show how much units differ, so there is no interval of zero width."""

    @pytest.mark.parametrize("seeds", [1, 3])
    @pytest.mark.parametrize("class_name", [None, "cat"])
    def test_subjects_that_all_lose_one_image_of_five(self, seeds, class_name):
        labels = np.zeros(60, dtype=int)
        right = np.ones((seeds, 60))
        after = right.copy()
        after[:, ::5] = 0
        names = np.repeat([f"s{i:02d}" for i in range(12)], 5)
        rows = classification_scores(labels, after, right, ["cat"], names)
        (row,) = [row for row in rows if row.class_name == class_name]
        one = measured(row)
        assert_drop_without_inference(one, 0.2)  # was 0.2 [0.2, 0.2]
        assert (one.n, one.value_low, one.value_high) == (12, None, None)
        same = measured(subjects(row.baseline, row.baseline, "accuracy"))
        assert (same.value, same.value_low, same.value_high) == (1, None, None)  # was [1, 1]

    def test_drops_that_cancel_over_seeds(self):
        # This was 0 [0, 0], trivial, with a p of 0.001.
        changes = 0.1 * np.array([[1, -1, 0] * 2, [-1, 0, 1] * 2, [0, 1, -1] * 2])
        baseline = np.tile(np.linspace(0.5, 0.9, 6), (3, 1))
        one = measured(subjects(baseline - changes, baseline))
        assert_drop_without_inference(one, 0)
        assert one.value_low < one.value < one.value_high

    @pytest.mark.parametrize("seeds", [1, 3])
    @pytest.mark.parametrize("unit", ["sample", "subject"])
    def test_equal_drops_of_the_log_probability(self, seeds, unit):
        # Their deviation is 2e-17 for 0, which gave a p of 0.
        before = np.tile(-np.random.default_rng(0).random(50), (seeds, 1))
        one = measured(Scores("log_prob", unit, before - 0.3, before))
        assert_drop_without_inference(one, 0.3)
        assert one.value_low < one.value < one.value_high
        one = measured(Scores("log_prob", unit, np.full((seeds, 50), -0.7), before))
        assert (one.value_low, one.value_high) == (None, None)
        assert one.drop_low < one.drop < one.drop_high

    def test_drops_equal_up_to_rounding(self):
        baseline = np.random.default_rng(0).random((1, 20))
        assert_drop_without_inference(measured(subjects(baseline - 0.1, baseline)), 0.1)
        off = baseline + 1e-16 * np.arange(20)
        assert_drop_without_inference(measured(subjects(off, baseline)), 0)

    def test_a_single_sample_has_no_interval_of_its_log_probability(self):
        value = np.array([[-1.0], [-2.0], [-4.0]])
        one = measured(Scores("log_prob", "sample", value, value / 2))
        assert one.value_low is None
        assert_drop_without_inference(one, value.mean() / -2)

    def test_seeds_that_differ_leave_the_t_interval_over_seeds(self):
        drop = np.array([[0.1], [0.2], [0.25]]) + np.zeros(8)
        one = measured(subjects(0.9 - drop, np.full((3, 8), 0.9)))
        expected = stats.t.interval(0.95, 2, drop.mean(), stats.sem(drop[:, 0]))
        assert (one.drop_low, one.drop_high) == pytest.approx(expected)
        assert one.df == pytest.approx(2)
        value = stats.t.interval(0.95, 2, 0.9 - drop.mean(), stats.sem(drop[:, 0]))
        assert (one.value_low, one.value_high) == pytest.approx(value)
        test = stats.ttest_1samp(drop[:, 0], 0)
        assert one.p_value == pytest.approx(test.pvalue)
        assert [at.verdict for at in one.at_margins] == ["undecided"] * 3

    def test_images_have_intervals_where_nothing_changes(self):
        one = measured(lost_images(1, 50, []))
        assert one.drop_low < 0 < one.drop_high
        assert one.value_low < one.value < one.value_high


class TestSeveralSeeds:
    def test_the_interval_is_the_hull_of_both(self):
        row = random_subjects(3, 20)
        one = measured(row)
        over_seeds = seeds_and_units(row.drop, row.rounding)
        units = np.stack([row.value.mean(axis=0), row.drop.mean(axis=0)], axis=1)
        of_value, of_drop = bootstrap_intervals(units, randomness("bootstrap"))
        hull = Hull([of_drop, over_seeds])
        assert (one.drop_low, one.drop_high) == pytest.approx((hull.low, hull.high))
        value = Hull([of_value, seeds_and_units(row.value, row.rounding)])
        assert (one.value_low, one.value_high) == pytest.approx((value.low, min(1, value.high)))
        assert one.df == over_seeds.df
        assert one.p_value == p_two_sided(hull)
        for at in one.at_margins:
            assert at.p_nontrivial == hull.p_above(at.margin)
            assert at.p_trivial == hull.p_below(at.margin)

    def test_means_and_standard_deviations_are_over_seeds(self):
        row = random_subjects(3, 20)
        one = measured(row)
        assert (one.n, one.seeds, one.b, one.c) == (20, 3, None, None)
        assert one.covers == "training seeds and test sampling, not the choice of training data"
        assert one.value == pytest.approx(row.value.mean())
        assert one.drop == pytest.approx(row.drop.mean())
        assert one.value_sd == pytest.approx(row.value.mean(axis=1).std(ddof=1))
        assert one.drop_sd == pytest.approx(row.drop.mean(axis=1).std(ddof=1))

    @pytest.mark.parametrize("unit", ["slice", "pooled"])
    def test_slices_have_a_spread_and_no_interval(self, unit):
        row = random_subjects(3, 12)
        one = measured(Scores(f"dice_{unit}", unit, row.value, row.baseline))
        assert one.drop_low is one.value_low is one.p_value is None
        assert one.drop_sd == pytest.approx(row.drop.mean(axis=1).std(ddof=1))

    def test_fifty_images_without_a_changed_prediction_and_two_seeds(self):
        # A t interval over the two seeds was 0 [0, 0], and the verdict trivial.
        one = measured(lost_images(2, 50, []))
        cells = PairedCounts(both=49, lost=0, gained=0, neither=1)
        assert (one.drop_low, one.drop_high) == newcombe(cells)
        assert -0.09 < one.drop_low < -0.07
        assert 0.07 < one.drop_high < 0.09
        assert (one.p_value, one.at_margins, one.df) == (None, (), None)

    def test_three_seeds_that_each_lose_another_image(self):
        # A t interval over seeds was 0.02 [0.02, 0.02], and the verdict non-trivial.
        one = measured(lost_images(3, 50, [(0, 4), (1, 20), (2, 33)]))
        assert (one.drop_low, one.drop_high) == newcombe(PairedCounts(48, 1, 0, 1))
        assert one.drop_low < 0 < one.drop_high
        assert one.at_margins[0].verdict == "undecided"
        assert one.df is None

    def test_two_seeds_have_an_interval_but_no_verdict(self):
        one = measured(random_subjects(2, 30))
        assert one.drop_low < one.drop < one.drop_high
        assert one.df is not None
        assert (one.p_value, one.at_margins, one.n_for_trivial) == (None, (), None)

    def test_limits_stay_within_what_is_possible(self):
        generator = np.random.default_rng(0)
        baseline = np.ones((3, 30))
        value = np.array([[0.02], [0.0], [0.3]]) * generator.random((3, 30))
        one = measured(subjects(value, baseline))
        over_seeds = seeds_and_units(value, 1e-12)
        assert over_seeds.low < 0
        assert one.value_low == 0
        assert one.drop_high == 1
        logs = measured(Scores("log_prob", "subject", value, baseline))
        assert logs.value_low == pytest.approx(over_seeds.low)

    def test_a_seed_without_a_value_leaves_none_over_seeds(self):
        row = random_subjects(3, 12)
        value = row.value.copy()
        value[1] = np.nan
        one = measured(subjects(value, row.baseline, chance=0.0))
        assert one.value is one.drop is one.drop_share is one.value_low is one.drop_sd is None
        assert one.baseline == pytest.approx(row.baseline.mean())
        assert one.at_margins == ()

    def test_counts_and_volumes_of_empty_subjects(self):
        row = random_subjects(3, 12)
        volumes = np.array([0.1, 0.2, 0.6])
        one = measured(subjects(row.value, row.baseline, empty=4, false_positive_ml=volumes))
        assert (one.empty, one.false_positive_ml) == (4, pytest.approx(0.3))

    def test_the_volume_of_a_seed_is_known_where_that_of_another_is_not(self):
        row = random_subjects(2, 12)
        volumes = np.array([0.1, np.nan])
        both = subjects(row.value, row.baseline, empty=4, false_positive_ml=volumes)
        rows = (both.of_seed(0), both.of_seed(1), both)
        assert [measured(one).false_positive_ml for one in rows] == [0.1, None, None]


CELLS = st.tuples(st.integers(0, 60), st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))


@given(st.lists(CELLS, min_size=3, max_size=3), st.integers(0, 1_000))
def test_p_values_and_verdicts_of_several_seeds_agree(cells, seed):
    generator = np.random.default_rng(seed)
    n = max(10, *(sum(one) for one in cells))
    value, baseline = np.zeros((3, n)), np.zeros((3, n))
    for s, (both, lost, gained, _) in enumerate(cells):
        baseline[s, : both + lost] = 1
        value[s, :both] = 1
        value[s, both + lost : both + lost + gained] = 1
        order = generator.permutation(n)
        value[s], baseline[s] = value[s, order], baseline[s, order]
    one = measured(classified(value, baseline))
    for at in one.at_margins:
        assert (at.p_nontrivial < 0.025) == (at.verdict == "non-trivial")
        assert (at.p_trivial < 0.025) == (at.verdict in ("trivial", "harmful"))
        assert 0 <= at.p_nontrivial <= 1
        assert at.p_nontrivial + at.p_trivial >= 1 - 1e-9
    assert -1 <= one.drop_low <= one.drop + 1e-12
    assert one.drop - 1e-12 <= one.drop_high <= 1


@pytest.mark.parametrize("seed", range(40))
def test_p_values_and_verdicts_of_subjects_agree(seed):
    generator = np.random.default_rng(seed)
    units = int(generator.integers(6, 40))
    drop = generator.choice([-0.03, 0.0, 0.01, 0.03]) + (
        generator.normal(0, 0.01, (3, 1)) + generator.normal(0, 0.02, (1, units))
    )
    one = measured(subjects(0.5 - drop, np.full((3, units), 0.5)))
    for at in one.at_margins:
        assert (at.p_nontrivial < 0.025) == (at.verdict == "non-trivial")
        assert (at.p_trivial < 0.025) == (at.verdict in ("trivial", "harmful"))


def test_the_drop_as_a_share_of_what_is_above_chance():
    baseline = np.ones((1, 100))
    value = baseline.copy()
    value[0, :45] = 0
    assert measured(classified(value, baseline, chance=0.1)).drop_share == pytest.approx(0.5)
    assert measured(classified(value, baseline)).drop_share is None
    assert measured(classified(value, baseline, chance=1.0)).drop_share is None


def test_the_number_of_images_that_a_trivial_target_needs():
    row = lost_images(1, 50, [])
    assert measured(row).n_for_trivial == n_for_trivial(0.98, 50, MARGIN)
    assert measured(lost_images(1, 5_000, [])).n_for_trivial is None


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_target_that_is_trivial_with_few_images_needs_no_more(seeds):
    # It gains predictions: the whole interval is below the margin.
    baseline = np.ones((seeds, 50))
    baseline[:, :6] = 0
    one = measured(classified(np.ones((seeds, 50)), baseline))
    assert one.at_margins[0].verdict == "harmful"
    assert one.n_for_trivial is None
    baseline[:, :6] = [0, 0, 0, 1, 1, 1]
    one = measured(classified(np.ones((seeds, 50)), baseline))
    assert one.at_margins[0].verdict == "undecided"
    assert one.n_for_trivial > 50


def test_margins_are_listed_once_and_in_order():
    assert margins_beside(0.02) == (0.01, 0.02, 0.05)
    assert margins_beside(0.03) == (0.01, 0.02, 0.03, 0.05)


def test_a_harmful_kernel():
    baseline = np.zeros((1, 1_000))
    value = baseline.copy()
    value[0, :300] = 1
    assert measured(classified(value, baseline)).at_margins[0].verdict == "harmful"
