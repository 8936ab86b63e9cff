"""Decide the paper's claims from the results of an experiment's targets.

A claim that one target decides ("some layer is ...", and that not every layer is) looks for the
clearest of many targets, so it uses p-values with Holm's correction over the experiment. A claim
about every target uses the verdicts of single targets, without correction. Targets whose outcome
is fixed by construction (``cut``, ``no_effect``) do not count. A claim that no target can decide
is untested.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from nontrivial.display.outcomes import (
    METRIC_NAMES,
    ExperimentOutcomes,
    MarginOutcome,
    Outcome,
    count,
)
from nontrivial.display.paper import Claim
from nontrivial.errors import UserError
from nontrivial.formats.summary import ROUNDING
from nontrivial.inference.comparison import MARGINS
from nontrivial.inference.student import t_quantile

HOLDS = "holds"
FAILS = "does not hold"
UNDECIDED = "undecided"
UNTESTED = "not tested"
BY_PADDING = ", by padding"
NO_NUMBERS = "-"
OPPOSITE = {"trivial": "non-trivial", "non-trivial": "trivial"}
LEVEL = 0.025  # of a one-sided test, as the 95% interval has it
LEAST_LIVE = 0.9  # with a smaller share of live weights, a target may be trivial by padding
BELOW_PAPER = 0.02  # how far the baseline may be below the paper's
FEWEST_SEEDS = 3  # for an interval over seeds
NAMED_AT_MOST = 4  # up to so many targets, the evidence shows all numbers; there are four blocks


@dataclass(frozen=True)
class Judgement:
    """Whether a claim holds in one experiment, and the evidence."""

    verdict: str
    evidence: str


def judge(
    claim: Claim,
    outcomes: ExperimentOutcomes,
    paper: ExperimentOutcomes | None = None,
    margin: float | None = None,
) -> Judgement:
    """Decide one claim by its rule.

    Args:
        claim: the claim.
        outcomes: of the experiment.
        paper: the paper's numbers, if the experiment is compared with them. The claim is then not
            tested if the baseline is too far below the paper's.
        margin: the largest drop that does not matter; None for that of the experiment.

    Raises:
        UserError: the rule or a parameter of the claim is unknown.
    """
    if claim.task not in ("any", outcomes.task):
        return Judgement(UNTESTED, f"A claim about {claim.task}; this is {outcomes.task}.")
    if claim.rule not in RULES:
        raise UserError(
            f"claims: {claim.id}: unknown rule {claim.rule!r}; use one of {', '.join(RULES)}"
        )
    try:
        judgement = RULES[claim.rule](
            outcomes, outcomes.margin if margin is None else margin, **claim.parameters
        )
    except TypeError as error:
        raise UserError(
            f"claims: {claim.id}: parameters do not match rule {claim.rule!r} ({error})"
        ) from error
    if judgement.verdict != UNTESTED and paper is not None:
        return too_far_below(outcomes, paper) or judgement
    return judgement


def too_far_below(outcomes: ExperimentOutcomes, paper: ExperimentOutcomes) -> Judgement | None:
    """Return why an experiment tests no claim of the paper: its network is not as good.

    The upper limit of the baseline's interval, or the baseline without one, may be
    :data:`BELOW_PAPER` below the paper's.
    """
    baseline, theirs = outcomes.baseline, paper.baseline.value
    upper = baseline.value if baseline.high is None else baseline.high
    if outcomes.metric != paper.metric or theirs - upper <= BELOW_PAPER + ROUNDING:
        return None
    metric = METRIC_NAMES[outcomes.metric]
    return Judgement(
        UNTESTED,
        f"The baseline's {metric} is {_interval(baseline.value, baseline.low, baseline.high)}, the"
        f" paper's {theirs:.2f}. A network this much worse does not test the paper's claims:"
        f" {'the upper limit' if baseline.high is not None else 'the baseline'} must be at least"
        f" {theirs - BELOW_PAPER:.2f}.",
    )


def judge_paper(claim: Claim, paper: ExperimentOutcomes) -> dict[float, str]:
    """Return what the paper's own numbers say of a claim, by margin.

    They are point values, without intervals. Where the paper's tables lack the targets that the
    rule needs, it is :data:`NO_NUMBERS`.
    """
    kinds = set(claim.parameters.get("kinds", []))
    available = {outcome.kind for outcome in paper.targets}
    if not kinds & available or claim.task not in ("any", paper.task):
        return dict.fromkeys(MARGINS, NO_NUMBERS)
    verdicts = {margin: judge(claim, paper, margin=margin).verdict for margin in MARGINS}
    if kinds <= available:
        return verdicts
    decided_by_one = {"some": HOLDS, "every": FAILS}[claim.rule]
    return {m: v if v == decided_by_one else NO_NUMBERS for m, v in verdicts.items()}


def every(
    outcomes: ExperimentOutcomes,
    margin: float,
    kinds: list[str],
    verdict: str,
    roles: list[str] | None = None,
    reading: str | None = None,
    block: str | None = None,
    networks: str | None = None,
) -> Judgement:
    """Decide whether all matching targets have a verdict.

    The claim holds if they all have it, does not hold if one has the opposite verdict after
    correction, and is undecided otherwise.

    Args:
        outcomes: of one experiment.
        margin: the largest drop that does not matter.
        kinds: kinds of targets.
        verdict: ``trivial`` or ``non-trivial``.
        roles: roles of single kernels; None for all.
        reading: reading of "adjacent", for blocks; None for all. The paper's blocks have none.
        block: ``last`` for targets of the last block; None for all.
        networks: glob pattern that the network's name must match; None for all.
    """
    if networks is not None and not fnmatchcase(outcomes.network, networks):
        return Judgement(UNTESTED, f"The network is {outcomes.network}, not {networks}.")
    matching = _distinct(
        [
            outcome
            for outcome in outcomes.of_kind(*kinds)
            if (roles is None or outcome.role in roles)
            and (reading is None or outcome.reading in (reading, None))
        ]
    )
    if block == "last":
        last = max((outcome.block or 0 for outcome in outcomes.targets), default=0)
        matching = [outcome for outcome in matching if outcome.block == last]
    tests = _Tests(outcomes, margin, matching)
    if not tests.counted:
        return _nothing(matching)
    opposite = OPPOSITE[verdict]
    against = sorted(
        tests.proven(opposite),
        key=lambda outcome: outcome.drop if verdict == "non-trivial" else -outcome.drop,
    )  # the clearest counterexample first
    decision = UNDECIDED
    if len(tests.having(verdict)) == len(tests.counted):
        decision = HOLDS
        if verdict == "trivial" and any(_is_padded(outcome) for outcome in tests.counted):
            decision += BY_PADDING
    elif against:
        decision = FAILS
        if opposite == "trivial" and all(_is_padded(outcome) for outcome in against):
            decision += BY_PADDING
    return Judgement(decision, tests.evidence(verdict, sought=opposite, examples=against))


def some(
    outcomes: ExperimentOutcomes,
    margin: float,
    kinds: list[str],
    verdict: str,
    without_roles: list[str],
) -> Judgement:
    """Decide whether some matching target has a verdict.

    The claim holds if at least one has it after correction, does not hold if all have the opposite
    verdict, and is undecided otherwise.

    Args:
        outcomes: of one experiment.
        margin: the largest drop that does not matter.
        kinds: kinds of targets.
        verdict: ``trivial`` or ``non-trivial``.
        without_roles: roles of single kernels to leave out.
    """
    matching = _distinct(
        [target for target in outcomes.of_kind(*kinds) if target.role not in without_roles]
    )
    tests = _Tests(outcomes, margin, matching)
    if not tests.counted:
        return _nothing(matching)
    proven = sorted(
        tests.proven(verdict), key=lambda outcome: (_is_padded(outcome), -len(outcome.kernels))
    )
    decision = UNDECIDED
    if proven:
        is_padding = verdict == "trivial" and _is_padded(proven[0])
        decision = HOLDS + BY_PADDING if is_padding else HOLDS
    elif len(tests.having(OPPOSITE[verdict])) == len(tests.counted):
        decision = FAILS
    return Judgement(decision, tests.evidence(verdict, sought=verdict, examples=proven))


def contrast(outcomes: ExperimentOutcomes, margin: float, without_roles: list[str]) -> Judgement:
    """Decide whether the drops are concentrated on the decomposition kernels.

    In each block, the contrast is the drop of its decomposition kernel minus the mean drop of the
    other kernels, each zeroed alone. The claim is about the mean over blocks: it holds if the
    95% t interval over seeds is above the margin, does not hold if it is below, and is undecided
    otherwise, with fewer than :data:`FEWEST_SEEDS` seeds too.

    Args:
        outcomes: of one experiment.
        margin: the largest drop that does not matter.
        without_roles: roles of kernels to leave out.
    """
    layers = [one for one in outcomes.of_kind("layer") if one.role not in without_roles]
    by_block: dict[int, list[float]] = {}  # the contrast of each seed
    for block in sorted({layer.block for layer in layers if layer.block is not None}):
        counted = _countable([layer for layer in layers if layer.block == block])
        changing = [layer for layer in counted if layer.role == "decomposition"]
        rest = [layer for layer in counted if layer.role != "decomposition"]
        if changing and rest:
            by_block[block] = [
                here - there
                for here, there in zip(_mean_drops(changing), _mean_drops(rest), strict=True)
            ]
    if not by_block:
        return Judgement(
            UNTESTED,
            "No block has both a decomposition kernel and another kernel whose outcome is not"
            " fixed by construction.",
        )
    of_seeds = [statistics.fmean(values) for values in zip(*by_block.values(), strict=True)]
    mean = statistics.fmean(of_seeds)
    blocks = ", ".join(
        f"{_three(statistics.fmean(values))} in block {block}" for block, values in by_block.items()
    )
    evidence = (
        "Drop of the decomposition kernel minus the mean drop of the other kernels in its block:"
        f" {blocks}; mean {_three(mean)}"
    )
    if len(of_seeds) < FEWEST_SEEDS:
        seeds = f"{_are(len(of_seeds))} {count(len(of_seeds), 'seed')}"
        evidence += f". A verdict needs three seeds; there {seeds}."
        return Judgement(UNDECIDED, _marked(outcomes, evidence))
    quantile = t_quantile(1 - LEVEL, len(of_seeds) - 1)
    half = quantile * statistics.stdev(of_seeds) / math.sqrt(len(of_seeds))
    evidence += (
        f" [{_three(mean - half)}, {_three(mean + half)}], a 95% interval over"
        f" {len(of_seeds)} seeds only, not over test sampling."
    )
    decision = UNDECIDED
    if outcomes.baseline.low is None:
        evidence += f" {_why_no_verdict(outcomes)}"
    elif mean - half > margin:
        decision = HOLDS
    elif mean + half < margin:
        decision = FAILS
    return Judgement(decision, _marked(outcomes, evidence))


def untested(outcomes: ExperimentOutcomes, margin: float, missing: str) -> Judgement:
    """Leave a claim untested that requires another kind of experiment."""
    return Judgement(UNTESTED, f"Requires {missing}.")


RULES: dict[str, Callable[..., Judgement]] = {
    "every": every,
    "some": some,
    "contrast": contrast,
    "untested": untested,
}


def spell(outcome: Outcome, metric: str) -> str:
    """Return a target's name, metric, drop and interval as part of a sentence."""
    text = outcome.target
    if len(outcome.kernels) > 1:
        text += f" ({len(outcome.kernels)} kernels zeroed)"
    drop = _interval(outcome.drop, outcome.drop_low, outcome.drop_high)
    return f"{text}: {METRIC_NAMES[metric]} {outcome.value:.3f}, drop {drop}"


class _Tests:
    """The targets that a claim is about, at one margin."""

    def __init__(self, outcomes: ExperimentOutcomes, margin: float, matching: Sequence[Outcome]):
        self.outcomes = outcomes
        self.margin = margin
        self.matching = matching
        self.counted = _countable(matching)

    def having(self, verdict: str) -> list[Outcome]:
        """Return the targets with a verdict, each judged by itself; the clearest first."""
        having = [outcome for outcome in self.counted if self._verdict(outcome) == verdict]
        return sorted(having, key=lambda outcome: self._corrected(outcome, verdict))

    def proven(self, verdict: str) -> list[Outcome]:
        """Return the targets with a verdict after correction for all targets.

        A claim about one target needs no correction.
        """
        having = self.having(verdict)
        if len(self.counted) == 1:
            return having
        return [outcome for outcome in having if self._corrected(outcome, verdict) <= LEVEL]

    def evidence(self, verdict: str, sought: str, examples: list[Outcome]) -> str:
        """Return how many targets have which verdict, and the numbers behind it.

        Args:
            verdict: the verdict that the claim states.
            sought: the verdict that decides the claim if one target has it.
            examples: the targets that have it after correction, the clearest first.
        """
        sentences = [self._tally(verdict)]
        left_out = len(self.matching) - len(self.counted)
        if left_out:
            sentences.append(
                f"{count(left_out, 'more target')} {_are(left_out)} left out, because"
                f" construction fixes {'its outcome' if left_out == 1 else 'their outcomes'}."
            )
        sentences += self._without_value()
        having = self.having(sought)
        if having and len(self.counted) > 1:
            sentences.append(self._correction(sought, having, examples))
        shown = self.counted if len(self.counted) <= NAMED_AT_MOST else (examples or having)[:1]
        if shown:
            numbers = "; ".join(spell(outcome, self.outcomes.metric) for outcome in shown)
            sentences.append(f"{'For example, ' if shown != self.counted else ''}{numbers}.")
        sentences.append(f"Baseline {self.outcomes.baseline.value:.3f}.")
        sentences += [
            f"Only {_live_share(outcome):.0%} of the weights of {outcome.target} ever meet image"
            " data; the others see padding."
            for outcome in shown
            if _is_padded(outcome)
        ]
        padded = sum(map(_is_padded, self.counted))
        if padded and len(shown) < len(self.counted):
            sentences.append(
                f"{padded} of the {len(self.counted)} targets"
                f" {'has' if padded == 1 else 'have'} less than {LEAST_LIVE:.0%} live weights."
            )
        if not any(self._verdict(outcome) for outcome in self.counted):
            sentences.append(_why_no_verdict(self.outcomes))
        return _marked(self.outcomes, " ".join(sentences))

    def _tally(self, verdict: str) -> str:
        number = {name: len(self.having(name)) for name in (verdict, OPPOSITE[verdict])}
        number["undecided"] = len(self.counted) - sum(number.values())
        total = len(self.counted)
        if total in number.values():
            (only,) = [name for name, n in number.items() if n == total]
            text = f"{'The one target is' if total == 1 else f'All {total} targets are'} {only}"
        else:
            (name, n), *others = number.items()
            text = f"{n} of {total} targets {_are(n)} {name}"
            text += "".join(f", {n} {name}" for name, n in others)
        harmful = sum(self._at(outcome).verdict == "harmful" for outcome in self.counted)
        if harmful:
            text += f" ({harmful} of the trivial improve the metric by more than the margin)"
        return f"{text}."

    def _without_value(self) -> list[str]:
        """Return a sentence about the targets of these kinds that have no value, if any."""
        kinds = {outcome.kind for outcome in self.matching}
        names = [n for n in self.outcomes.without_value if n.partition("-")[0] in kinds]
        if not names:
            return []
        more = len(names) - NAMED_AT_MOST
        listed = ", ".join(names[:NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
        return [f"Without a value, so not judged: {listed}."]

    def _correction(self, sought: str, having: list[Outcome], proven: list[Outcome]) -> str:
        if proven:
            return (
                f"Corrected for all targets of the experiment, {len(proven)} {_are(len(proven))}"
                f" {sought} (Holm, p <= {LEVEL:g})."
            )
        return (
            f"Corrected for all targets of the experiment, none is {sought} (Holm: the smallest p"
            f" is {self._corrected(having[0], sought):.2g}, not <= {LEVEL:g})."
        )

    def _at(self, outcome: Outcome) -> MarginOutcome:
        return outcome.margins[self.margin]

    def _verdict(self, outcome: Outcome) -> str | None:
        verdict = self._at(outcome).verdict
        return "trivial" if verdict == "harmful" else verdict

    def _corrected(self, outcome: Outcome, verdict: str) -> float:
        at = self._at(outcome)
        p_value = at.p_trivial_holm if verdict == "trivial" else at.p_nontrivial_holm
        return 1.0 if p_value is None else p_value


def _distinct(targets: Sequence[Outcome]) -> list[Outcome]:
    """Return the first target of each set of kernels; an alias is not further evidence."""
    first: dict[tuple[str, ...], Outcome] = {}
    for outcome in targets:
        first.setdefault(outcome.kernels, outcome)
    return list(first.values())


def _countable(targets: Sequence[Outcome]) -> list[Outcome]:
    return [outcome for outcome in targets if outcome.status == "ok"]


def _mean_drops(layers: Sequence[Outcome]) -> list[float]:
    """Return the mean drop of some layers in each seed."""
    return [
        statistics.fmean(seed.drop for seed in seeds)
        for seeds in zip(*(layer.seeds for layer in layers), strict=True)
    ]


def _live_share(outcome: Outcome) -> float:
    if outcome.live_weights is None or not outcome.total_weights:
        return 1.0
    return outcome.live_weights / outcome.total_weights


def _is_padded(outcome: Outcome) -> bool:
    return _live_share(outcome) < LEAST_LIVE


def _nothing(matching: Sequence[Outcome]) -> Judgement:
    if matching:
        return Judgement(
            UNTESTED, f"The outcome of all {len(matching)} targets is fixed by construction."
        )
    return Judgement(UNTESTED, "No such target in this experiment.")


def _why_no_verdict(outcomes: ExperimentOutcomes) -> str:
    if outcomes.demonstration:
        return "No verdict: the data are a demonstration."
    if outcomes.baseline.low is None:
        return "No verdict: there are too few test units for an interval."
    if outcomes.seed_count == FEWEST_SEEDS - 1:
        return "No verdict: two seeds do not show how much trainings differ. Train a third seed."
    return "No target has a verdict."


def _marked(outcomes: ExperimentOutcomes, evidence: str) -> str:
    if outcomes.demonstration:
        return f"Demonstration, supports no inference. {evidence}"
    return evidence


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _interval(value: float, low: float | None, high: float | None) -> str:
    text = _three(value)
    return text if low is None or high is None else f"{text} [{_three(low)}, {_three(high)}]"


def _three(value: float) -> str:
    """Return three decimals, and no minus before a zero."""
    return f"{round(value, 3) + 0.0:.3f}"
