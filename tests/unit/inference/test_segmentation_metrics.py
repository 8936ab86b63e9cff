import numpy as np
import pytest

from nontrivial.inference.segmentation_metrics import (
    Counts,
    pooled_scores,
    slice_scores,
    subject_scores,
)

CLASSES = ["background", "anterior", "posterior"]


def counts(rows):
    """Counts from a list of slices of classes of (tp, fp, fn)."""
    array = np.array(rows)
    return Counts(array[:, :, 0], array[:, :, 1], array[:, :, 2])


BACKGROUND = (9000, 0, 0)
HAND = counts(
    [
        [BACKGROUND, (4, 1, 1), (0, 0, 0)],  # subject a: anterior 2*10/(20+1+3), no posterior
        [BACKGROUND, (6, 0, 2), (0, 2, 0)],
        [BACKGROUND, (0, 0, 0), (3, 0, 2)],  # subject b: no anterior, posterior 6/8
        [BACKGROUND, (0, 0, 0), (0, 0, 0)],
        [BACKGROUND, (0, 4, 0), (0, 0, 0)],  # subject c: no foreground
    ]
)
SUBJECTS = ["a", "a", "b", "b", "c"]
PIXEL_ML = np.array([0.1, 0.1, 0.2, 0.2, 0.3])


def by_class(rows):
    return {row.class_name: row for row in rows}


def subject_rows(value=HAND, baseline=HAND, pixel_ml=PIXEL_ML):
    return by_class(subject_scores(SUBJECTS, [value], [baseline], CLASSES, pixel_ml))


def test_a_class_that_a_subject_lacks_is_left_out():
    rows = subject_rows()
    assert rows[None].value == pytest.approx(np.array([[20 / 24, 6 / 8]]))
    assert rows["anterior"].value == pytest.approx(np.array([[20 / 24]]))
    assert rows["posterior"].value == pytest.approx(np.array([[6 / 8]]))
    assert {(row.metric, row.unit) for row in rows.values()} == {("dice", "subject")}
    assert rows[None].chance == 0


def test_a_mean_over_the_classes_that_a_subject_has():
    both = counts([[BACKGROUND, (4, 1, 1), (3, 0, 2)]])
    (row, *_) = subject_scores(["a"], [both], [both], CLASSES, np.ones(1))
    assert row.value == pytest.approx(np.array([[(8 / 10 + 6 / 8) / 2]]))


def test_what_is_predicted_in_subjects_without_the_class_is_counted_apart():
    rows = subject_rows()
    assert [row.empty for row in rows.values()] == [1, 2, 2]
    volumes = [row.false_positive_ml.tolist() for row in rows.values()]
    # None: 4 pixels in c. anterior: 0 in b, 4 in c. posterior: 2 in a, 0 in c.
    assert volumes == [
        [pytest.approx(4 * 0.3)],
        [pytest.approx(4 * 0.3 / 2)],
        [pytest.approx(2 * 0.1 / 2)],
    ]


def test_the_volume_is_unknown_where_that_of_a_pixel_is():
    unknown = np.array([0.1, 0.1, np.nan, 0.2, 0.3])  # of subject b, which lacks anterior
    rows = subject_rows(pixel_ml=unknown)
    assert np.isnan(rows["anterior"].false_positive_ml).all()
    assert np.isfinite(rows[None].false_positive_ml).all()


def test_nothing_left_out_has_no_volume():
    full = counts([[BACKGROUND, (4, 1, 1), (3, 0, 2)]])
    for row in subject_scores(["a"], [full], [full], CLASSES, np.ones(1)):
        assert (row.empty, row.false_positive_ml) == (0, None)


def test_the_background_does_not_count():
    ruined = Counts(HAND.tp.copy(), HAND.fp.copy(), HAND.fn.copy())
    ruined.fp[:, 0] += 5000
    for name, row in subject_rows(ruined).items():
        assert row.value.tolist() == subject_rows()[name].value.tolist()


def test_slices_with_the_class_in_truth_count_and_no_others():
    rows = by_class(slice_scores([HAND], [HAND], CLASSES))
    assert rows["anterior"].value == pytest.approx(np.array([[8 / 10, 12 / 14]]))
    assert rows["posterior"].value == pytest.approx(np.array([[6 / 8]]))
    assert rows[None].value == pytest.approx(np.array([[8 / 10, 12 / 14, 6 / 8]]))


def test_baseline_and_target_are_over_the_same_slices():
    nothing = Counts(np.zeros_like(HAND.tp), np.zeros_like(HAND.fp), HAND.tp + HAND.fn)
    rows = by_class(slice_scores([nothing], [HAND], CLASSES))
    for row in rows.values():
        assert row.value.shape == row.baseline.shape
        assert not row.value.any()


def test_pooled_counts_are_summed_over_everything():
    rows = by_class(pooled_scores([HAND], [HAND], CLASSES))
    anterior, posterior = 20 / (20 + 5 + 3), 6 / (6 + 2 + 2)
    assert rows["anterior"].value == pytest.approx(np.array([[anterior]]))
    assert rows["posterior"].value == pytest.approx(np.array([[posterior]]))
    assert rows[None].value == pytest.approx(np.array([[(anterior + posterior) / 2]]))
    assert (rows[None].units, rows[None].unit) == (1, "pooled")


@pytest.mark.parametrize("make", [slice_scores, pooled_scores])
def test_a_class_without_truth_has_no_score(make):
    empty = counts([[BACKGROUND, (5, 0, 0), (0, 3, 0)]])
    rows = by_class(make([empty], [empty], CLASSES))
    assert rows["posterior"].units == 0
    assert rows[None].value.tolist() == [[1.0]]


def test_predicting_nothing_is_not_rewarded_by_empty_subjects():
    # Ten subjects, five without foreground. The network finds 0.64 of what is there, and three
    # false pixels in every subject; zeroing it predicts nothing.
    tp, fn = np.zeros((10, 2), int), np.zeros((10, 2), int)
    tp[:5, 1], fn[:5, 1] = 32, 15
    fp = np.full((10, 2), 3)
    network = Counts(tp, fp, fn)
    nothing = Counts(np.zeros_like(tp), np.zeros_like(fp), tp + fn)
    subjects = [f"s{i}" for i in range(10)]
    (row, _) = subject_scores(
        subjects, [nothing], [network], ["background", "lesion"], np.full(10, 0.001)
    )
    assert row.baseline == pytest.approx(np.full((1, 5), 64 / (64 + 3 + 15)))
    assert row.value.tolist() == [[0] * 5]
    assert (row.empty, row.false_positive_ml.tolist()) == (5, [0])
    (row, _) = subject_scores(
        subjects, [network], [network], ["background", "lesion"], np.full(10, 0.001)
    )
    assert row.false_positive_ml.tolist() == [pytest.approx(0.003)]


def test_a_seed_without_predictions_has_no_value():
    for make in (subject_scores, slice_scores, pooled_scores):
        subjects = (SUBJECTS,) if make is subject_scores else ()
        more = (PIXEL_ML,) if make is subject_scores else ()
        rows = make(*subjects, [HAND, None], [HAND, HAND], CLASSES, *more)
        for row in rows:
            assert np.isfinite(row.value[0]).all()
            assert np.isnan(row.value[1]).all()
            assert np.isfinite(row.baseline).all()
            assert row.of_seed(0).seeds == 1
            if make is subject_scores:
                alone = make(SUBJECTS, [HAND], [HAND], CLASSES, PIXEL_ML)
                expected = next(one for one in alone if one.class_name == row.class_name)
                assert row.of_seed(0).false_positive_ml == expected.false_positive_ml
                assert np.isnan(row.of_seed(1).false_positive_ml).all()


def test_dice_is_that_of_validation_during_training():
    torch = pytest.importorskip("torch")
    from nontrivial.training import validation

    generator = np.random.default_rng(0)
    truth = generator.integers(0, 3, (8, 5, 5))
    truth[:2][truth[:2] == 1] = 0  # subject a has no anterior
    truth[6:] = 0  # subject d has no foreground
    predicted = generator.integers(0, 3, truth.shape)
    subjects = np.repeat(["a", "b", "c", "d"], 2)

    class Fixed(torch.nn.Module):
        def forward(self, images):
            return torch.nn.functional.one_hot(images[:, 0].long(), 3).movedim(-1, 1).float()

    class Slices:
        device = torch.device("cpu")

        def __len__(self):
            return len(truth)

    images, masks = torch.tensor(predicted)[:, None], torch.tensor(truth)
    original = validation.streamed
    validation.streamed = lambda samples, size: [(images, masks)]
    try:
        expected = validation.mean_dice(Fixed(), Slices(), lambda x: x, subjects, 3)
    finally:
        validation.streamed = original
    classes = np.arange(3)[None, :, None, None]
    said, true = predicted[:, None] == classes, truth[:, None] == classes
    found = Counts(
        *((a & b).sum(axis=(2, 3)) for a, b in ((said, true), (said, ~true), (~said, true)))
    )
    (row, *_) = subject_scores(subjects, [found], [found], CLASSES, np.ones(8))
    assert row.value.mean() == pytest.approx(expected, rel=1e-12)
    assert row.units == 3
