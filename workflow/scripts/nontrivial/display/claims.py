"""Decide the paper's claims from the results of an experiment's targets.

A claim that one target decides ("some layer is ...", and that not every layer is) looks for the
clearest of many targets, so it uses p-values with Holm's correction over the experiment. A claim
about every target uses the verdicts of single targets, without correction. Targets whose outcome
is fixed by construction (``cut``, ``no_effect``) do not count. A target that could not be judged
counts, and leaves a claim about every target undecided. A claim that no target can decide is
untested.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeVar

from nontrivial.display.outcomes import (
    METRIC_NAMES,
    ExperimentOutcomes,
    MarginOutcome,
    Outcome,
    WithoutValue,
    count,
)
from nontrivial.display.paper import Claim
from nontrivial.errors import UserError
from nontrivial.formats.summary import ROUNDING
from nontrivial.inference.comparison import FEWEST_SUBJECTS, MARGINS, SEEDS_WITHOUT_VERDICT
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
FIXED = ("cut", "no_effect")  # statuses of targets whose outcome construction fixes
REASONS = {
    "not_finite": "the output is not finite for some sample",
    "undefined": "the intervention is impossible for these kernels",
    None: "the status differs between seeds",
}
NAMED_AT_MOST = 4  # up to so many targets, the evidence shows all numbers; there are four blocks

AnyTarget = Outcome | WithoutValue
OneKind = TypeVar("OneKind", Outcome, WithoutValue)


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
    correction, and is undecided otherwise, as where a target could not be judged.

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
    everything: list[AnyTarget] = [*outcomes.targets, *outcomes.without_value]
    last = max((target.block or 0 for target in everything), default=0)

    def matches(target: AnyTarget) -> bool:
        return (
            target.kind in kinds
            and (roles is None or target.role in roles)
            and (reading is None or target.reading in (reading, None))
            and (block != "last" or target.block == last)
        )

    tests = _Tests(outcomes, margin, matches)
    if not tests.total:
        return _nothing(tests.fixed)
    opposite = OPPOSITE[verdict]
    against = sorted(
        tests.proven(opposite),
        key=lambda outcome: outcome.drop if verdict == "non-trivial" else -outcome.drop,
    )  # the clearest counterexample first
    decision = UNDECIDED
    if len(tests.having(verdict)) == tests.total:
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
    tests = _Tests(
        outcomes,
        margin,
        lambda target: target.kind in kinds and target.role not in without_roles,
    )
    if not tests.total:
        return _nothing(tests.fixed)
    proven = sorted(
        tests.proven(verdict), key=lambda outcome: (_is_padded(outcome), -len(outcome.kernels))
    )
    decision = UNDECIDED
    if proven:
        is_padding = verdict == "trivial" and _is_padded(proven[0])
        decision = HOLDS + BY_PADDING if is_padding else HOLDS
    elif len(tests.having(OPPOSITE[verdict])) == tests.total:
        decision = FAILS
    return Judgement(decision, tests.evidence(verdict, sought=verdict, examples=proven))


def contrast(outcomes: ExperimentOutcomes, margin: float, without_roles: list[str]) -> Judgement:
    """Decide whether the drops are concentrated on the decomposition kernels.

    In each block, the contrast is the drop of its decomposition kernel minus the mean drop of the
    other kernels, each zeroed alone. The claim is about the mean over blocks: it holds if the
    95% t interval over seeds is above the margin, does not hold if it is below, and is undecided
    otherwise, with fewer than :data:`FEWEST_SEEDS` seeds too, and where a kernel of such a block
    could not be judged. Padding decides it if it would not be decided so without the blocks whose
    other kernels (decomposition kernels, if it does not hold) have too few live weights.

    Args:
        outcomes: of one experiment.
        margin: the largest drop that does not matter.
        without_roles: roles of kernels to leave out.
    """
    contrasts, not_judged = _contrasts(outcomes, without_roles)
    if not contrasts and not not_judged:
        return Judgement(
            UNTESTED,
            "No block has both a decomposition kernel and another kernel whose outcome is not"
            " fixed by construction.",
        )
    sentences = []
    if contrasts:
        by_block = ", ".join(f"{_three(one.mean)} in block {one.block}" for one in contrasts)
        sentences.append(
            "Drop of the decomposition kernel minus the mean drop of the other kernels in its"
            f" block: {by_block}; mean {_spell_mean(contrasts, is_explained=True)}."
        )
    decision = UNDECIDED
    if not_judged:
        sentences += _reasons(not_judged, "Undecided", outcomes.unit)
    elif outcomes.seed_count < FEWEST_SEEDS:
        seeds = f"{_are(outcomes.seed_count)} {count(outcomes.seed_count, 'seed')}"
        sentences.append(f"A verdict needs three seeds; there {seeds}.")
    elif why := _why_no_verdict(outcomes):
        sentences.append(f"No verdict: {why}.")
    else:
        decision = _decide(contrasts, margin)
    side = "decomposition kernel" if decision == FAILS else "other kernels"
    live = {
        one.block: _live_share(*(one.changing if decision == FAILS else one.rest))
        for one in contrasts
    }
    padded = [block for block, share in live.items() if share < LEAST_LIVE]
    if padded:
        shares = ", ".join(f"{live[block]:.0%} in block {block}" for block in padded)
        sentences.append(f"Live weights of the {side}: only {shares}.")
        rest = [one for one in contrasts if one.block not in padded]
        if rest:
            without = f"block{'' if len(padded) == 1 else 's'} {', '.join(map(str, padded))}"
            sentences.append(f"Without {without}, the mean is {_spell_mean(rest)}.")
        if decision != UNDECIDED and (not rest or _decide(rest, margin) != decision):
            decision += BY_PADDING
    return Judgement(decision, _marked(outcomes, " ".join(sentences)))


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


@dataclass(frozen=True)
class _Contrast:
    """The decomposition kernels of a block, and its other kernels."""

    block: int
    changing: list[Outcome]
    rest: list[Outcome]

    def of_seeds(self) -> list[float]:
        """Return the difference of their mean drops in each seed."""
        pairs = zip(_mean_drops(self.changing), _mean_drops(self.rest), strict=True)
        return [here - there for here, there in pairs]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.of_seeds())


def _contrasts(
    outcomes: ExperimentOutcomes, without_roles: Sequence[str]
) -> tuple[list[_Contrast], list[AnyTarget]]:
    """Return the contrast of each block, and the targets for lack of which a block has none."""
    _, counted, missing = _select(
        outcomes, lambda target: target.kind == "layer" and target.role not in without_roles
    )
    candidates: list[AnyTarget] = [*counted, *missing]
    contrasts: list[_Contrast] = []
    not_judged: list[AnyTarget] = []
    for block in sorted({target.block for target in candidates if target.block is not None}):
        inside = [target for target in candidates if target.block == block]
        if len({target.role == "decomposition" for target in inside}) < 2:
            continue
        judged = [one for one in counted if one.block == block and one.status == "ok"]
        if len(judged) < len(inside):
            not_judged += [target for target in inside if target not in judged]
            continue
        changing = [one for one in judged if one.role == "decomposition"]
        rest = [one for one in judged if one.role != "decomposition"]
        contrasts.append(_Contrast(block, changing, rest))
    return contrasts, not_judged


def _over_seeds(contrasts: Sequence[_Contrast]) -> list[float]:
    """Return the mean over blocks in each seed."""
    values = zip(*(one.of_seeds() for one in contrasts), strict=True)
    return [statistics.fmean(blocks) for blocks in values]


def _half_width(of_seeds: Sequence[float]) -> float:
    quantile = t_quantile(1 - LEVEL, len(of_seeds) - 1)
    return quantile * statistics.stdev(of_seeds) / math.sqrt(len(of_seeds))


def _decide(contrasts: Sequence[_Contrast], margin: float) -> str:
    of_seeds = _over_seeds(contrasts)
    mean, half = statistics.fmean(of_seeds), _half_width(of_seeds)
    if mean - half > margin:
        return HOLDS
    return FAILS if mean + half < margin else UNDECIDED


def _spell_mean(contrasts: Sequence[_Contrast], is_explained: bool = False) -> str:
    of_seeds = _over_seeds(contrasts)
    mean = statistics.fmean(of_seeds)
    if len(of_seeds) < FEWEST_SEEDS:
        return _three(mean)
    half = _half_width(of_seeds)
    text = _interval(mean, mean - half, mean + half)
    if is_explained:
        text += f", a 95% interval over {len(of_seeds)} seeds only, not over test sampling"
    return text


class _Tests:
    """The targets that a claim is about, at one margin.

    Attributes:
        fixed: those whose outcome construction fixes.
        counted: the others that have a value.
        missing: those without a value.
        total: number of targets that the claim is about: counted and missing.
    """

    def __init__(
        self, outcomes: ExperimentOutcomes, margin: float, matches: Callable[[AnyTarget], bool]
    ):
        self.outcomes = outcomes
        self.margin = margin
        self.fixed, self.counted, self.missing = _select(outcomes, matches)
        self.total = len(self.counted) + len(self.missing)

    def having(self, verdict: str) -> list[Outcome]:
        """Return the targets with a verdict, each judged by itself; the clearest first."""
        having = [outcome for outcome in self.counted if self._verdict(outcome) == verdict]
        return sorted(having, key=lambda outcome: self._corrected(outcome, verdict))

    def proven(self, verdict: str) -> list[Outcome]:
        """Return the targets with a verdict after correction for all targets.

        A claim about one target needs no correction.
        """
        having = self.having(verdict)
        if self.total == 1:
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
        left_out = len(self.fixed)
        if left_out:
            sentences.append(
                f"{count(left_out, 'more target')} {_are(left_out)} left out, because"
                f" construction fixes {'its outcome' if left_out == 1 else 'their outcomes'}."
            )
        sentences += self._reasons()
        having = self.having(sought)
        if having and self.total > 1:
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
                f"{padded} of the {self.total} targets"
                f" {'has' if padded == 1 else 'have'} less than {LEAST_LIVE:.0%} live weights."
            )
        return _marked(self.outcomes, " ".join(sentences))

    def _tally(self, verdict: str) -> str:
        none = sum(self._verdict(outcome) is None for outcome in self.counted) + len(self.missing)
        why = _why_no_verdict(self.outcomes)
        if none == self.total and why:
            one = "The one target has no" if none == 1 else f"None of the {none} targets has a"
            return f"{one} verdict: {why}."
        number = {
            name: len(self.having(name)) for name in (verdict, OPPOSITE[verdict], "undecided")
        }
        if none:
            number["without a verdict"] = none
        if self.total in number.values():
            (only,) = [name for name, n in number.items() if n == self.total]
            are_all = "The one target is" if self.total == 1 else f"All {self.total} targets are"
            text = f"{are_all} {only}"
        else:
            (name, n), *others = number.items()
            text = f"{n} of {self.total} targets {_are(n)} {name}"
            text += "".join(f", {n} {name}" for name, n in others)
        harmful = sum(self._at(outcome).verdict == "harmful" for outcome in self.counted)
        if harmful:
            text += f" ({harmful} of the trivial improve the metric by more than the margin)"
        return f"{text}."

    def _reasons(self) -> list[str]:
        """Return why single targets have no verdict."""
        targets: list[AnyTarget] = [*self.missing]
        if _why_no_verdict(self.outcomes) is None:
            targets += [one for one in self.counted if self._verdict(one) is None]
        return _reasons(targets, "Without a verdict", self.outcomes.unit)

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


def _select(
    outcomes: ExperimentOutcomes, matches: Callable[[AnyTarget], bool]
) -> tuple[list[Outcome], list[Outcome], list[WithoutValue]]:
    """Return the matching targets: those that construction fixes, with a value, without one.

    Of targets with equal kernels only the first is there; an alias is not further evidence.
    """
    matching = _distinct([target for target in outcomes.targets if matches(target)])
    fixed = [target for target in matching if target.status in FIXED]
    counted = [target for target in matching if target.status not in FIXED]
    missing = _distinct([target for target in outcomes.without_value if matches(target)])
    return fixed, counted, missing


def _distinct(targets: Sequence[OneKind]) -> list[OneKind]:
    first: dict[tuple[str, ...], OneKind] = {}
    for target in targets:
        first.setdefault(target.kernels, target)
    return list(first.values())


def _mean_drops(layers: Sequence[Outcome]) -> list[float]:
    """Return the mean drop of some layers in each seed."""
    return [
        statistics.fmean(seed.drop for seed in seeds)
        for seeds in zip(*(layer.seeds for layer in layers), strict=True)
    ]


def _live_share(*targets: Outcome) -> float:
    """Return the live share of all weights that some targets zero."""
    total = sum(target.total_weights or 0 for target in targets)
    if not total or any(target.live_weights is None for target in targets):
        return 1.0
    return sum(target.live_weights or 0 for target in targets) / total


def _is_padded(outcome: Outcome) -> bool:
    return _live_share(outcome) < LEAST_LIVE


def _nothing(fixed: Sequence[Outcome]) -> Judgement:
    if fixed:
        return Judgement(
            UNTESTED, f"The outcome of all {len(fixed)} targets is fixed by construction."
        )
    return Judgement(UNTESTED, "No such target in this experiment.")


def _why_no_verdict(outcomes: ExperimentOutcomes) -> str | None:
    """Return why no target of the experiment has a verdict; None if they can have one."""
    if outcomes.demonstration:
        return "the data are a demonstration"
    if outcomes.unit == "subject" and (outcomes.units or 0) < FEWEST_SUBJECTS:
        return f"intervals need at least {FEWEST_SUBJECTS} {outcomes.split} subjects"
    if outcomes.seed_count == SEEDS_WITHOUT_VERDICT:
        return "two seeds do not show how much trainings differ. Train a third seed"
    return None


def _reasons(targets: Sequence[AnyTarget], what: str, unit: str) -> list[str]:
    """Return a sentence for each reason why targets were not judged, with their names."""
    names: dict[str, list[str]] = {}
    for target in targets:
        names.setdefault(_reason(target, unit), []).append(target.target)
    return [f"{what}, because {reason}: {_some(listed)}." for reason, listed in names.items()]


def _reason(target: AnyTarget, unit: str) -> str:
    if target.status != "ok" or isinstance(target, WithoutValue):
        return REASONS[target.status]
    if all(abs(seed.drop) <= ROUNDING for seed in target.seeds):
        return "zeroing changes no score"
    return f"all {unit}s have the same drop, which gives no interval"


def _some(names: Sequence[str]) -> str:
    more = len(names) - NAMED_AT_MOST
    return ", ".join(names[:NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")


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
