import pytest

from nontrivial.formats.summary import VERDICTS
from nontrivial.inference import verdict as module
from nontrivial.inference.verdict import verdict


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.02, 0.05, "non-trivial"),
        (-0.02, 0.005, "trivial"),
        (-0.5, -0.1, "harmful"),
        (-0.5, -0.01, "trivial"),
        (0.005, 0.02, "undecided"),
        (0.01, 0.02, "undecided"),
        (0.0, 0.01, "undecided"),
    ],
)
def test_verdict_by_margin(low, high, expected):
    assert verdict(low, high, 0.01) == expected


def test_the_results_know_every_verdict():
    names = (module.NON_TRIVIAL, module.TRIVIAL, module.HARMFUL, module.UNDECIDED)
    assert names == VERDICTS
