"""The rules that decide the paper's claims, and their evidence."""

import csv
import json
import random
import statistics
from dataclasses import replace
from pathlib import Path

import made_results
import pytest
import scipy.stats

from judge_claims import judge_claims
from nontrivial.display.claims import LEVEL, judge, judge_paper
from nontrivial.display.outcomes import (
    MarginOutcome,
    SeedOutcome,
    WithoutValue,
    read_results,
    select_outcomes,
)
from nontrivial.display.paper import as_outcomes, read_claims, read_paper_values
from nontrivial.errors import UserError
from nontrivial.inference.comparison import MARGINS
from nontrivial.inference.holm import holm
from nontrivial.inference.verdict import verdict as verdict_of

PAPER = Path(__file__).parents[3] / "resources" / "paper"
CLAIMS = {claim.id: claim for claim in read_claims(PAPER / "claims.csv")}
VALUES = read_paper_values(PAPER / "results.csv")
CIFAR, T1 = (as_outcomes(VALUES, task, MARGINS) for task in ("cifar10", "t1"))
BLOCK_4 = "block-4-first-unit"


def outcomes_with(tmp_path, values, network="resnet18", **options):
    files = made_results.write(tmp_path, made_results.rows("e", network, values, **options))
    return select_outcomes(*read_results(*files), "e")


def drops(rule):
    """Return values by target, a drop below a baseline of 0.9."""
    return lambda target, seed: 0.9 if target.kind == "baseline" else 0.9 - rule(target)


def verdict(tmp_path, claim, rule, **options):
    return judge(CLAIMS[claim], outcomes_with(tmp_path, drops(rule), **options)).verdict


@pytest.fixture(scope="module")
def clear(tmp_path_factory):
    """Results in which every layer matters, for tests that change some of them."""
    return outcomes_with(tmp_path_factory.mktemp("clear"), drops(lambda t: 0.5))


def changed(outcomes, change):
    """Return outcomes with each target changed: ``change`` gives new attributes, or None."""
    targets = tuple(replace(target, **(change(target) or {})) for target in outcomes.targets)
    return replace(outcomes, targets=targets)


def p_values(trivial, nontrivial, verdict):
    """Return the tests of a target at margin 0.01 whose corrected p-values are these."""
    return {"margins": {0.01: MarginOutcome(0.0, nontrivial, 0.0, trivial, verdict)}}


@pytest.mark.parametrize(
    ("claim", "drop", "expected"),
    [
        ("similar-performance", lambda t: 0.0 if t.kind == "layer" else 0.5, "holds"),
        ("similar-performance", lambda t: 0.5, "does not hold"),
        ("similar-performance", lambda t: 0.01, "undecided"),
        ("decomposition", lambda t: 0.5, "holds"),
        ("decomposition", lambda t: 0.0 if t.name == "layer-layer3.0.conv1" else 0.5,
         "does not hold"),
        ("decomposition", lambda t: 0.01 if t.name == "layer-layer3.0.conv1" else 0.5,
         "undecided"),
        ("rest-trivial", lambda t: 0.0, "holds, by padding"),  # block 4 sees little but padding
        ("rest-trivial", lambda t: 0.5 if t.role == "residual" else 0.0, "does not hold"),
        ("shortcuts", lambda t: 0.5, "holds"),
        ("shortcuts", lambda t: 0.0, "does not hold"),
        ("shortcuts", lambda t: 0.0 if t.block == 4 else 0.5, "does not hold, by padding"),
        ("back-classification", lambda t: 0.0 if t.name == BLOCK_4 else 0.5, "holds, by padding"),
        ("back-classification", lambda t: 0.5 if t.name == BLOCK_4 else 0.0, "does not hold"),
        ("back-classification", lambda t: 0.01, "undecided"),
        ("plain", lambda t: 0.5, "not tested"),
        ("identity", lambda t: 0.5, "not tested"),
        ("shorter", lambda t: 0.5, "not tested"),
    ],
)  # fmt: skip
def test_claims_are_decided_by_verdicts(tmp_path, claim, drop, expected):
    assert verdict(tmp_path, claim, drop) == expected


def test_the_segmentation_claim_requires_the_last_block_to_matter(tmp_path):
    options = {"network": "pspnet_resnet34", "metric": "dice"}
    assert verdict(tmp_path, "back-segmentation", lambda t: 0.5, **options) == "holds"
    trivial = verdict(tmp_path, "back-segmentation", lambda t: 0.0, **options)
    assert trivial == "does not hold, by padding"
    assert verdict(tmp_path, "back-classification", lambda t: 0.0, **options) == "not tested"


def test_cut_targets_never_decide_a_claim(tmp_path):
    names = tuple(target.name for target in made_results.targets_of("resnet18"))
    shortcuts = tuple(name for name in names if name.startswith("shortcut"))
    assert verdict(tmp_path, "shortcuts", lambda t: 0.5, cut=shortcuts) == "not tested"
    assert verdict(tmp_path, "shortcuts", lambda t: 0.5, cut=shortcuts[:1]) == "holds"


def test_a_demonstration_decides_no_claim(tmp_path):
    for claim in ("similar-performance", "decomposition", "rest-trivial", "shortcuts"):
        assert verdict(tmp_path, claim, lambda t: 0.5, demonstration=True) == "undecided"
    three = {"demonstration": True, "seeds": (0, 1, 2)}
    assert verdict(tmp_path, "concentration", lambda t: 0.5, **three) == "undecided"


def test_equal_kernel_sets_count_once(tmp_path):
    both = outcomes_with(tmp_path, drops(lambda t: 0.5), readings=("first-unit", "next"))
    blocks = both.of_kind("block")
    distinct = {outcome.kernels for outcome in [*blocks, *both.of_kind("layer")]}
    assert len(blocks) > len({outcome.kernels for outcome in blocks})
    evidence = judge(CLAIMS["similar-performance"], both).evidence
    assert f"All {len(distinct) - 1} targets are non-trivial." in evidence  # the stem is cut
    assert "1 more target is left out, because construction fixes its outcome." in evidence


def test_the_evidence_has_the_numbers(tmp_path):
    outcomes = outcomes_with(tmp_path, drops(lambda t: 0.0123 if t.name == BLOCK_4 else 0.5))
    evidence = judge(CLAIMS["back-classification"], outcomes).evidence
    assert evidence == (
        "The one target is undecided."
        " block-4-first-unit (2 kernels zeroed): accuracy 0.888, drop 0.012 [0.006, 0.018]."
        " Baseline 0.900. Only 11% of the weights of block-4-first-unit ever meet image data; the"
        " others see padding."
    )


def test_the_evidence_counts_padded_targets_that_it_does_not_name(clear):
    trivial = changed(clear, lambda t: p_values(0.001, 1.0, "trivial"))
    evidence = judge(CLAIMS["rest-trivial"], trivial).evidence
    assert "All 8 targets are trivial." in evidence
    assert "2 of the 8 targets have less than 90% live weights." in evidence


def test_a_zero_has_no_minus(clear):
    near = changed(clear, lambda t: {"drop": -0.0001, "drop_low": -0.0002, "drop_high": 0.0001})
    assert "drop 0.000 [0.000, 0.000]" in judge(CLAIMS["shortcuts"], near).evidence


# Correction for many targets


@pytest.mark.parametrize("p_value", [0.025, 0.026])
def test_one_of_many_targets_decides_only_after_correction(clear, p_value):
    def trivial(target):
        return (
            p_values(p_value, 1.0, "trivial") if target.target == "layer-layer1.0.conv1" else None
        )

    some = judge(CLAIMS["similar-performance"], changed(clear, trivial))
    decides = p_value <= LEVEL
    assert some.verdict == ("holds" if decides else "undecided")
    assert ("1 is trivial (Holm, p <= 0.025)" if decides else "the smallest p is 0.026") in (
        some.evidence
    )

    def not_needed(target):
        return p_values(p_value, 1.0, "trivial") if target.target == "shortcut-3" else None

    every = judge(CLAIMS["shortcuts"], changed(clear, not_needed))
    assert every.verdict == ("does not hold" if decides else "undecided")


def test_every_target_needs_no_correction(clear):
    uncorrected = changed(clear, lambda t: p_values(1.0, 0.9, "non-trivial"))
    assert judge(CLAIMS["decomposition"], uncorrected).verdict == "holds"
    assert judge(CLAIMS["similar-performance"], uncorrected).verdict == "does not hold"


@pytest.mark.parametrize(
    ("claim", "expected"),
    [("back-classification", "holds, by padding"), ("decomposition", "undecided")],
)
def test_a_claim_about_one_target_needs_no_correction(clear, claim, expected):
    uncorrected = changed(clear, lambda t: p_values(0.9, 1.0, "trivial"))
    assert judge(CLAIMS[claim], uncorrected).verdict == expected


def worlds(outcomes, number, true_drop, corrected):
    """Yield outcomes of worlds in which all drops have one true value, 0.01 or more."""
    generator = random.Random(12)
    normal = statistics.NormalDist()
    error = 0.004
    counted = [t for t in outcomes.targets if t.status == "ok" and t.kind in ("layer", "block")]
    kernels = list(dict.fromkeys(target.kernels for target in counted))
    for _ in range(number):
        found = {key: generator.gauss(true_drop, error) for key in kernels}
        p_trivial = {key: normal.cdf((drop - 0.01) / error) for key, drop in found.items()}
        if corrected:
            adjusted = dict(zip(kernels, holm(list(p_trivial.values())), strict=True))
        else:
            adjusted = p_trivial
        half = 1.96 * error
        yield changed(
            outcomes,
            lambda t, found=found, adjusted=adjusted, half=half: (
                p_values(
                    adjusted[t.kernels],
                    1.0,
                    verdict_of(found[t.kernels] - half, found[t.kernels] + half, 0.01),
                )
                if t.kernels in found
                else None
            ),
        )


def share_that_holds(outcomes, **options):
    number = 400
    held = sum(
        judge(CLAIMS["similar-performance"], world).verdict.startswith("holds")
        for world in worlds(outcomes, number, **options)
    )
    return held / number


def test_worlds_without_a_trivial_layer_rarely_prove_one(tmp_path):
    """Every true drop equals the margin, the least favourable case without a trivial layer.

    Exactly: 1 - 0.975^m worlds have a p of at most 0.025 among m targets, and Holm's correction
    leaves 1 - (1 - 0.025/m)^m < 0.025.
    """
    outcomes = outcomes_with(tmp_path, drops(lambda t: 0.5), "resnet34")
    targets = len({t.kernels for t in outcomes.of_kind("layer", "block") if t.status == "ok"})
    naive = share_that_holds(outcomes, true_drop=0.01, corrected=False)
    assert abs(naive - (1 - 0.975**targets)) < 0.08
    assert naive > 0.6
    limit = scipy.stats.binom.ppf(0.999, 400, LEVEL) / 400  # of the simulation's own error
    assert share_that_holds(outcomes, true_drop=0.01, corrected=True) <= limit
    assert share_that_holds(outcomes, true_drop=0.03, corrected=True) == 0


# Verdicts that count otherwise, or are missing


def test_harmful_targets_count_as_trivial(clear):
    harmful = changed(clear, lambda t: p_values(0.001, 1.0, "harmful"))
    judgement = judge(CLAIMS["similar-performance"], harmful)
    assert judgement.verdict == "holds"
    assert "improve the metric by more than the margin" in judgement.evidence
    assert judge(CLAIMS["shortcuts"], harmful).verdict == "does not hold"


@pytest.mark.parametrize("claim", ["similar-performance", "decomposition", "shortcuts"])
def test_two_seeds_decide_no_claim(tmp_path, claim):
    outcomes = outcomes_with(tmp_path, drops(lambda t: 0.5), seeds=(0, 1))
    judgement = judge(CLAIMS[claim], outcomes)
    assert judgement.verdict == "undecided"
    assert "two seeds do not show how much trainings differ. Train a third" in judgement.evidence


def test_trivial_layers_with_live_weights_prove_a_claim_without_padding(clear):
    def trivial(*names):
        return changed(
            clear, lambda t: p_values(0.001, 1.0, "trivial") if t.target in names else None
        )

    padded = judge(CLAIMS["similar-performance"], trivial("layer-layer4.1.conv1"))
    assert padded.verdict == "holds, by padding"
    assert "Only 11% of the weights of layer-layer4.1.conv1" in padded.evidence
    both = judge(
        CLAIMS["similar-performance"], trivial("layer-layer1.1.conv1", "layer-layer4.1.conv1")
    )
    assert both.verdict == "holds"
    assert "For example, layer-layer1.1.conv1" in both.evidence


@pytest.mark.parametrize(("live", "expected"), [(89, "holds, by padding"), (90, "holds")])
def test_nine_tenths_of_live_weights_are_enough(clear, live, expected):
    trivial = changed(
        clear,
        lambda t: {**p_values(0.001, 1.0, "trivial"), "live_weights": live, "total_weights": 100},
    )
    assert judge(CLAIMS["rest-trivial"], trivial).verdict == expected


def test_layers_that_matter_do_not_matter_by_padding(clear):
    assert judge(CLAIMS["decomposition"], clear).verdict == "holds"
    kernels = {outcome.target: outcome for outcome in clear.targets}
    assert kernels["layer-layer4.0.conv1"].live_weights < 576 * 512


# Targets that could not be judged

TRIVIAL = p_values(0.001, 1.0, "trivial")
NOTHING = p_values(None, None, None)
ONE = "layer-layer2.1.conv1"  # with the role residual


def without_value(outcomes, *names, status="not_finite"):
    """Return outcomes in which some targets have no value."""
    lost = [target for target in outcomes.targets if target.target in names]
    keys = ("target", "kind", "reading", "kernels", "role", "block")
    missing = [WithoutValue(**{k: getattr(t, k) for k in keys}, status=status) for t in lost]
    kept = [target for target in outcomes.targets if target not in lost]
    return replace(outcomes, targets=tuple(kept), without_value=tuple(missing))


NOT_JUDGED = {
    "the output is not finite for some sample": lambda o: without_value(o, ONE),
    "the intervention is impossible for these kernels": lambda o: without_value(
        o, ONE, status="undefined"
    ),
    "the status differs between seeds": lambda o: changed(
        o, lambda t: {**NOTHING, "status": None} if t.target == ONE else None
    ),
    "zeroing changes no score": lambda o: changed(
        o, lambda t: {**NOTHING, "seeds": (SEED,)} if t.target == ONE else None
    ),
    "all samples have the same drop, which gives no interval": lambda o: changed(
        o, lambda t: NOTHING if t.target == ONE else None
    ),
}
SEED = SeedOutcome(seed=0, n=10, value=0.9, low=None, high=None, drop=1e-17)


@pytest.mark.parametrize("reason", NOT_JUDGED)
def test_one_target_without_a_verdict_leaves_a_claim_about_every_target_undecided(clear, reason):
    trivial = changed(clear, lambda t: TRIVIAL)
    assert judge(CLAIMS["rest-trivial"], trivial).verdict == "holds, by padding"
    judgement = judge(CLAIMS["rest-trivial"], NOT_JUDGED[reason](trivial))
    assert judgement.verdict == "undecided"
    assert judgement.evidence.startswith(
        "7 of 8 targets are trivial, 0 non-trivial, 0 undecided, 1 without a verdict."
        f" Without a verdict, because {reason}: {ONE}."
    )
    assert judge(CLAIMS["similar-performance"], NOT_JUDGED[reason](clear)).verdict == "undecided"
    assert judge(CLAIMS["similar-performance"], clear).verdict == "does not hold"
    against = NOT_JUDGED[reason](changed(clear, lambda t: p_values(1.0, 0.001, "non-trivial")))
    assert judge(CLAIMS["rest-trivial"], against).verdict == "does not hold"


def test_a_target_that_a_claim_is_not_about_does_not_matter_to_it(clear):
    for name in ("layer-layer2.0.conv1", "block-2-none", "shortcut-2"):
        lost = without_value(changed(clear, lambda t: TRIVIAL), name)
        judgement = judge(CLAIMS["rest-trivial"], lost)
        assert judgement.verdict == "holds, by padding"
        assert "Without a verdict" not in judgement.evidence
    lost = without_value(clear, "block-3-first-unit")
    assert judge(CLAIMS["back-classification"], lost).verdict == "does not hold"


def test_the_last_block_is_the_last_even_if_it_has_no_value(clear):
    names = [target.target for target in clear.targets if target.block == 4]
    judgement = judge(CLAIMS["back-classification"], without_value(clear, *names))
    assert judgement.verdict == "undecided"
    assert "because the output is not finite for some sample: block-4-first-unit." in (
        judgement.evidence
    )


def test_aliases_without_a_value_count_once(tmp_path):
    both = outcomes_with(tmp_path, drops(lambda t: 0.5), readings=("first-unit", "next"))
    lost = without_value(both, "block-2-first-unit", "block-2-next")
    total = len({t.kernels for t in both.of_kind("layer", "block") if t.status == "ok"})
    evidence = judge(CLAIMS["similar-performance"], lost).evidence
    assert f"of {total} targets" in evidence


def test_a_long_list_of_targets_without_a_verdict_is_cut(clear):
    names = [target.target for target in clear.targets if target.role == "residual"]
    lost = without_value(clear, *names)
    judgement = judge(CLAIMS["rest-trivial"], lost)
    assert judgement.verdict == "undecided"
    assert judgement.evidence.startswith("All 8 targets are without a verdict.")
    assert f": {', '.join(names[:4])} and 4 more." in judgement.evidence


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"seeds": (0, 1)}, "two seeds do not show how much trainings differ. Train a third seed"),
        ({"demonstration": True}, "the data are a demonstration"),
    ],
)
def test_why_no_target_has_a_verdict_is_said_once(tmp_path, options, why):
    outcomes = outcomes_with(tmp_path, drops(lambda t: 0.5), **options)
    evidence = judge(CLAIMS["shortcuts"], outcomes).evidence
    assert f"None of the 3 targets has a verdict: {why}. shortcut-2" in evidence
    evidence = judge(CLAIMS["back-classification"], outcomes).evidence
    assert f"The one target has no verdict: {why}. block-4-first-unit" in evidence


def test_too_few_subjects_give_no_verdict(clear):
    few = changed(replace(clear, unit="subject", units=5), lambda t: NOTHING)
    assert judge(CLAIMS["shortcuts"], few).evidence.startswith(
        "None of the 3 targets has a verdict: intervals need at least 6 test subjects."
    )


# Concentration on the decomposition layers

SEEDS = (3, 4, 7)
DROPS = {"decomposition": 0.3, "adjacent": 0.12, "residual": 0.05, "shortcut": 0.7, "stem": 0.7}


def concentrated(target, seed):
    """Return a drop by role, which depends on block and seed too."""
    if target.kind != "layer":
        return 0.9 if target.kind == "baseline" else 0.5
    return 0.9 - DROPS[target.role] * (1 + 0.1 * (seed == 4)) - 0.01 * (target.block or 0)


def contrasts():
    """Return the contrast of each seed, by hand, in blocks of four kernels."""
    rest = (0.12 + 0.05 + 0.05) / 3
    return [(0.3 - rest) * (1 + 0.1 * (seed == 4)) for seed in SEEDS]


def test_concentration_is_the_contrast_within_blocks_over_seeds(tmp_path):
    outcomes = outcomes_with(tmp_path, concentrated, seeds=SEEDS)
    by_hand = contrasts()
    low, high = scipy.stats.t.interval(
        0.95, len(SEEDS) - 1, statistics.fmean(by_hand), scipy.stats.sem(by_hand)
    )
    mean = statistics.fmean(by_hand)
    judgement = judge(CLAIMS["concentration"], outcomes)
    assert judgement.verdict == "holds"
    assert judgement.evidence == (
        "Drop of the decomposition kernel minus the mean drop of the other kernels in its block:"
        f" {mean:.3f} in block 2, {mean:.3f} in block 3, {mean:.3f} in block 4;"
        f" mean {mean:.3f} [{low:.3f}, {high:.3f}], a 95% interval over 3 seeds only, not over"
        " test sampling. Live weights of the other kernels: only 11% in block 4. Without block 4,"
        f" the mean is {mean:.3f} [{low:.3f}, {high:.3f}]."
    )
    for margin, expected in [
        (low - 0.001, "holds"),
        (low + 0.001, "undecided"),
        (high - 0.001, "undecided"),
        (high + 0.001, "does not hold"),
    ]:
        assert judge(CLAIMS["concentration"], outcomes, margin=margin).verdict == expected


def test_concentration_leaves_out_shortcuts_and_what_construction_fixes(tmp_path):
    cut = ("layer-layer2.0.conv1", "layer-layer3.1.conv2")
    outcomes = outcomes_with(tmp_path, concentrated, seeds=SEEDS, cut=cut)
    evidence = judge(CLAIMS["concentration"], outcomes).evidence
    assert "block 2" not in evidence
    in_block_3 = (0.3 - (0.12 + 0.05) / 2) * (1 + 0.1 / 3)
    assert f"{in_block_3:.3f} in block 3" in evidence
    everything = tuple(target.name for target in made_results.targets_of("resnet18"))
    none = outcomes_with(tmp_path, concentrated, seeds=SEEDS, cut=everything)
    assert judge(CLAIMS["concentration"], none).verdict == "not tested"


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_concentration_needs_three_seeds(tmp_path, seeds):
    judgement = judge(CLAIMS["concentration"], outcomes_with(tmp_path, concentrated, seeds=seeds))
    assert judgement.verdict == "undecided"
    assert "mean 0.227. A verdict needs three seeds; there" in judgement.evidence


def layer_drops(value):
    """Return values by target: a drop of each layer that varies a little between seeds."""

    def rule(target, seed):
        if target.kind != "layer":
            return 0.9 if target.kind == "baseline" else 0.5
        return 0.9 - value(target) - 0.001 * seed * (target.role == "decomposition")

    return rule


def live(outcomes, share):
    """Return outcomes with a share of live weights, out of 1000, by target."""
    return changed(outcomes, lambda t: {"live_weights": share(t), "total_weights": 1000})


def test_concentration_in_padded_blocks_alone_holds_by_padding(tmp_path):
    value = layer_drops(lambda t: 0.0 if t.block == 4 and t.role != "decomposition" else 0.31)
    outcomes = outcomes_with(tmp_path, value, seeds=(0, 1, 2))
    judgement = judge(CLAIMS["concentration"], outcomes)
    assert judgement.verdict == "holds, by padding"
    assert "Live weights of the other kernels: only 11% in block 4." in judgement.evidence
    assert "Without block 4, the mean is 0.001 [-0.001, 0.003]." in judgement.evidence
    at_899 = live(outcomes, lambda t: 899 if t.block == 4 and t.role != "decomposition" else 1000)
    assert judge(CLAIMS["concentration"], at_899).verdict == "holds, by padding"
    for share in (lambda t: 900, lambda t: 1 if t.role == "decomposition" else 1000):
        enough = judge(CLAIMS["concentration"], live(outcomes, share))
        assert enough.verdict == "holds"
        assert "Live weights" not in enough.evidence
    nowhere = judge(CLAIMS["concentration"], live(outcomes, lambda t: 100))
    assert nowhere.verdict == "holds, by padding"
    assert nowhere.evidence.endswith("only 10% in block 2, 10% in block 3, 10% in block 4.")
    two = live(outcomes, lambda t: 1000 if t.block == 4 else 100)
    assert judge(CLAIMS["concentration"], two).verdict == "holds"
    assert "Without blocks 2, 3, the mean" in judge(CLAIMS["concentration"], two).evidence


def test_no_concentration_because_decomposition_kernels_are_padded(tmp_path):
    value = layer_drops(lambda t: 0.1 if t.block == 4 or t.role != "decomposition" else 0.108)
    outcomes = outcomes_with(tmp_path, value, seeds=(0, 1, 2))
    judgement = judge(CLAIMS["concentration"], outcomes)
    assert judgement.verdict == "does not hold, by padding"
    assert "Live weights of the decomposition kernel: only 11% in block 4." in judgement.evidence
    enough = live(outcomes, lambda t: 1000 if t.role == "decomposition" else 100)
    assert judge(CLAIMS["concentration"], enough).verdict == "does not hold"


@pytest.mark.parametrize("name", ["layer-layer3.0.conv1", "layer-layer3.1.conv2"])
def test_concentration_is_undecided_without_a_kernel(tmp_path, name):
    outcomes = outcomes_with(tmp_path, concentrated, seeds=SEEDS)
    mixed = changed(outcomes, lambda t: {"status": None} if t.target == name else None)
    for lost in (without_value(outcomes, name), mixed):
        judgement = judge(CLAIMS["concentration"], lost)
        assert judgement.verdict == "undecided"
        assert "Undecided, because " in judgement.evidence
        assert f": {name}." in judgement.evidence
        assert "in block 3" not in judgement.evidence
    # Block 1 has no decomposition kernel.
    other = without_value(outcomes, "layer-layer1.0.conv1")
    assert judge(CLAIMS["concentration"], other).verdict == "holds"
    every = [target.target for target in outcomes.of_kind("layer")]
    none = judge(CLAIMS["concentration"], without_value(outcomes, *every))
    assert none.verdict == "undecided"
    assert none.evidence.startswith("Undecided, because the output is not finite")


# Beside the paper


@pytest.mark.parametrize(
    ("value", "high", "expected"),
    [
        (0.81, 0.8199, "not tested"),
        (0.81, 0.82, "holds"),
        (0.95, 0.96, "holds"),
        (0.8199, None, "not tested"),
        (0.82, None, "holds"),
    ],
)
def test_a_baseline_far_below_the_papers_tests_nothing(clear, value, high, expected):
    low = None if high is None else value - 0.01
    outcomes = replace(clear, baseline=replace(clear.baseline, value=value, low=low, high=high))
    judgement = judge(CLAIMS["decomposition"], outcomes, CIFAR)
    assert judgement.verdict == expected
    assert judge(CLAIMS["decomposition"], outcomes).verdict == "holds"
    if expected == "not tested":
        assert f"The baseline's accuracy is {value:.3f}" in judgement.evidence
        assert "the paper's 0.84" in judgement.evidence
        assert "must be at least 0.82" in judgement.evidence


@pytest.mark.parametrize(
    ("claim", "paper", "expected"),
    [
        ("similar-performance", CIFAR, ("holds", "holds", "holds")),
        ("similar-performance", T1, ("-", "holds", "holds")),  # its smallest drop is 0.01
        ("shortcuts", CIFAR, ("holds", "holds", "holds")),
        ("shortcuts", T1, ("holds", "holds", "holds")),
        ("back-classification", CIFAR, ("holds", "holds", "holds")),
        ("back-segmentation", T1, ("holds", "holds", "holds")),
        ("back-segmentation", CIFAR, ("-", "-", "-")),
        ("decomposition", CIFAR, ("-", "-", "-")),
        ("concentration", CIFAR, ("-", "-", "-")),
        ("rest-trivial", T1, ("-", "-", "-")),
        ("plain", CIFAR, ("-", "-", "-")),
        ("identity", CIFAR, ("-", "-", "-")),
    ],
)
def test_what_the_papers_own_numbers_say(claim, paper, expected):
    assert judge_paper(CLAIMS[claim], paper) == dict(zip(MARGINS, expected, strict=True))


def test_a_drop_that_equals_the_margin_is_undecided():
    blocks = {outcome.block: outcome for outcome in CIFAR.of_kind("block")}
    assert [blocks[3].margins[margin].verdict for margin in MARGINS] == [None, "trivial", "trivial"]
    blocks = {outcome.block: outcome for outcome in T1.of_kind("block")}
    assert blocks[1].margins[0.05].verdict is None


# The table


def judged(tmp_path, experiments, *rows):
    """Return the rows of the table as CSV, and its Markdown."""
    files = made_results.write(tmp_path, *rows)
    settings = {"experiments": [{"name": n, "paper": p, "source": "x"} for n, p in experiments]}
    outputs = [tmp_path / f"c.{suffix}" for suffix in ("csv", "md", "html")]
    judge_claims(settings, *files, PAPER / "results.csv", PAPER / "claims.csv", *outputs)
    with outputs[0].open(newline="") as file:
        return list(csv.DictReader(file)), outputs[1].read_text()


def test_the_claims_table_has_every_claim(tmp_path):
    rows, _ = judged(tmp_path, [("c", None)], made_results.rows("c", "resnet18"))
    assert {row["claim"] for row in rows} == set(CLAIMS)


def test_the_claims_table_has_the_verdicts_at_three_margins(tmp_path):
    value = drops(lambda t: 0.03 if t.name == BLOCK_4 else 0.5)
    rows, text = judged(tmp_path, [("c", "cifar10")], made_results.rows("c", "resnet18", value))
    (row,) = [row for row in rows if row["claim"] == "back-classification"]
    assert [row[f"verdict_{margin:g}"] for margin in MARGINS] == [
        *("does not hold", "does not hold", "holds, by padding")
    ]
    assert [row[f"paper_{margin:g}"] for margin in MARGINS] == 3 * ["holds"]
    assert "| does not hold / does not hold / holds, by padding | holds |" in text


def test_an_experiment_with_a_low_baseline_has_a_row_that_says_so(tmp_path):
    low = made_results.rows("low", "resnet18", lambda t, s: 0.7 if t.kind == "baseline" else 0.1)
    good = made_results.rows("good", "resnet18", lambda t, s: 0.9 if t.kind == "baseline" else 0.1)
    rows, _ = judged(tmp_path, [("good", "cifar10"), ("low", "cifar10")], good, low)
    by_experiment = {row["experiment"]: row for row in rows if row["claim"] == "shortcuts"}
    assert by_experiment["good"]["verdict"] == "holds"
    assert by_experiment["low"]["verdict"] == by_experiment["low"]["verdict_0.05"] == "not tested"
    assert "0.700 [0.694, 0.706], the paper's 0.84" in by_experiment["low"]["evidence"]
    rows, _ = judged(tmp_path, [("low", None)], low)
    assert {row["verdict"] for row in rows if row["claim"] == "shortcuts"} == {"holds"}


def test_an_unknown_rule_is_refused(tmp_path, clear):
    text = (PAPER / "claims.csv").read_text().replace(",every,", ",most,")
    (tmp_path / "claims.csv").write_text(text)
    with pytest.raises(UserError, match="unknown rule 'most'"):
        judge(read_claims(tmp_path / "claims.csv")[1], clear)


def test_claims_parameters_are_json():
    with (PAPER / "claims.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            json.loads(row["parameters"])
            assert row["decided_by"]
