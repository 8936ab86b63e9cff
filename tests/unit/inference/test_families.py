import pytest

from nontrivial.inference.families import corrected
from nontrivial.inference.holm import holm


def row(target, p_value, **changes):
    values = {
        "experiment": "e",
        "seed": 0,
        "split": "test",
        "intervention": "zero",
        "metric": "accuracy",
        "class": None,
        "kind": "layer",
        "status": "ok",
        "kernels": [target],
        "parameters": "{}",
        "draw": None,
        "p_value": p_value,
    }
    return {**values, **changes}


def test_a_family_is_corrected_by_holm():
    rows = [row("a", 0.01), row("b", 0.04), row("c", 0.03), row("d", 0.005)]
    assert corrected(rows) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_equal_kernel_sets_count_once_and_share_the_result():
    rows = [
        row("x", 0.01, kernels=["k1", "k2"]),
        row("y", 0.03),
        row("z", 0.01, kernels=["k2", "k1"], kind="set"),
    ]
    assert corrected(rows) == pytest.approx([0.02, 0.03, 0.02])


@pytest.mark.parametrize(
    "outside",
    [
        {"kind": "baseline", "kernels": []},
        {"status": "cut"},
        {"status": "no_effect"},
        {"class": "cat"},
        {"metric": "dice_slice"},
        {"p_value": None},
    ],
)
def test_rows_that_test_nothing_stay_out(outside):
    rows = [row("a", 0.02), row("b", 0.03), {**row("outside", 0.001), **outside}]
    assert corrected(rows) == [*holm([0.02, 0.03]), None]


@pytest.mark.parametrize(
    "other",
    [
        {"experiment": "f"},
        {"seed": 1},
        {"split": "val"},
        {"intervention": "shuffle"},
        {"metric": "dice"},
    ],
)
def test_families_are_corrected_apart(other):
    rows = [row("a", 0.02), row("b", 0.03, **other)]
    assert corrected(rows) == [0.02, 0.03]
