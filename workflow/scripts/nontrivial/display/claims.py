"""Decide the paper's claims from the verdicts of an experiment's targets.

A rule uses verdicts only. They compare intervals with the configured margin, over seeds if there
are several. Targets whose outcome is fixed by construction (``cut``, ``no_effect``) do not count.
A claim that no target can decide is untested.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from nontrivial.display.outcomes import METRIC_NAMES, ExperimentOutcomes, Outcome, count
from nontrivial.display.paper import Claim
from nontrivial.errors import UserError

HOLDS = "holds"
FAILS = "does not hold"
UNDECIDED = "undecided"
UNTESTED = "not tested"
OPPOSITE = {"trivial": "non-trivial", "non-trivial": "trivial"}
NAMED_AT_MOST = 4  # up to so many targets, the evidence shows all numbers; there are four blocks


@dataclass(frozen=True)
class Judgement:
    """Whether a claim holds in one experiment, and the evidence."""

    verdict: str
    evidence: str


def judge(claim: Claim, outcomes: ExperimentOutcomes) -> Judgement:
    """Decide one claim by its rule.

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
        return RULES[claim.rule](outcomes, **claim.parameters)
    except TypeError as error:
        raise UserError(
            f"claims: {claim.id}: parameters do not match rule {claim.rule!r} ({error})"
        ) from error


def every(
    outcomes: ExperimentOutcomes,
    kinds: list[str],
    verdict: str,
    roles: list[str] | None = None,
    reading: str | None = None,
    block: str | None = None,
    networks: str | None = None,
) -> Judgement:
    """Decide whether all matching targets have a verdict.

    The claim holds if they all have it, does not hold if one has the opposite verdict, and is
    undecided otherwise.

    Args:
        outcomes: of one experiment.
        kinds: kinds of targets.
        verdict: ``trivial`` or ``non-trivial``.
        roles: roles of single kernels; None for all.
        reading: reading of "adjacent", for blocks; None for all.
        block: ``last`` for targets of the last block; None for all.
        networks: glob pattern that the network's name must match; None for all.
    """
    if networks is not None and not fnmatchcase(outcomes.network, networks):
        return Judgement(UNTESTED, f"The network is {outcomes.network}, not {networks}.")
    matching = [
        outcome
        for outcome in outcomes.of_kind(*kinds)
        if (roles is None or outcome.role in roles)
        and (reading is None or outcome.reading == reading)
    ]
    matching = _distinct(matching)
    if block == "last":
        last = max((outcome.block or 0 for outcome in outcomes.targets), default=0)
        matching = [outcome for outcome in matching if outcome.block == last]
    counted = _countable(matching)
    if not counted:
        return _nothing(matching)
    agree = [outcome for outcome in counted if outcome.verdict == verdict]
    against = sorted(
        (outcome for outcome in counted if outcome.verdict == OPPOSITE[verdict]),
        key=lambda outcome: outcome.drop if verdict == "non-trivial" else -outcome.drop,
    )  # the clearest counterexample first
    if against:
        decision = FAILS
    elif len(agree) == len(counted):
        decision = HOLDS
    else:
        decision = UNDECIDED
    return Judgement(decision, _evidence(outcomes, matching, counted, verdict, against))


def some(
    outcomes: ExperimentOutcomes, kinds: list[str], verdict: str, without_roles: list[str]
) -> Judgement:
    """Decide whether some matching target has a verdict.

    The claim holds if at least one has it, does not hold if all have the opposite verdict, and
    is undecided otherwise.

    Args:
        outcomes: of one experiment.
        kinds: kinds of targets.
        verdict: ``trivial`` or ``non-trivial``.
        without_roles: roles of single kernels to leave out.
    """
    matching = _distinct(
        [target for target in outcomes.of_kind(*kinds) if target.role not in without_roles]
    )
    counted = _countable(matching)
    if not counted:
        return _nothing(matching)
    agree = [outcome for outcome in counted if outcome.verdict == verdict]
    against = [outcome for outcome in counted if outcome.verdict == OPPOSITE[verdict]]
    if agree:
        decision = HOLDS
    elif len(against) == len(counted):
        decision = FAILS
    else:
        decision = UNDECIDED
    largest = sorted(agree, key=lambda outcome: len(outcome.kernels), reverse=True)
    return Judgement(decision, _evidence(outcomes, matching, counted, verdict, largest))


def untested(outcomes: ExperimentOutcomes, missing: str) -> Judgement:
    """Leave a claim untested that requires another kind of experiment."""
    return Judgement(UNTESTED, f"Requires {missing}.")


RULES: dict[str, Callable[..., Judgement]] = {"every": every, "some": some, "untested": untested}


def spell(outcome: Outcome, metric: str) -> str:
    """Return a target's name, metric, drop and interval as part of a sentence."""
    text = f"{outcome.target}: {METRIC_NAMES[metric]} {outcome.value:.3f}, drop {outcome.drop:.3f}"
    if outcome.drop_low is not None and outcome.drop_high is not None:
        text += f" [{outcome.drop_low:.3f}, {outcome.drop_high:.3f}]"
    if len(outcome.kernels) > 1:
        text += f", {len(outcome.kernels)} kernels zeroed"
    return text


def _distinct(targets: list[Outcome]) -> list[Outcome]:
    """Return the first target of each set of kernels; an alias is not further evidence."""
    first: dict[tuple[str, ...], Outcome] = {}
    for outcome in targets:
        first.setdefault(outcome.kernels, outcome)
    return list(first.values())


def _countable(targets: list[Outcome]) -> list[Outcome]:
    return [outcome for outcome in targets if outcome.status == "ok"]


def _nothing(matching: list[Outcome]) -> Judgement:
    if matching:
        return Judgement(
            UNTESTED, f"The outcome of all {len(matching)} targets is fixed by construction."
        )
    return Judgement(UNTESTED, "No such target in this experiment.")


def _evidence(
    outcomes: ExperimentOutcomes,
    matching: list[Outcome],
    counted: list[Outcome],
    verdict: str,
    examples: list[Outcome],
) -> str:
    """Return the counts of verdicts, and the numbers of all targets if few, else of an example."""
    tally = [
        (name, sum(outcome.verdict == name for outcome in counted))
        for name in (verdict, OPPOSITE[verdict])
    ]
    tally.append(("undecided", len(counted) - sum(number for _, number in tally)))
    sentence = f"Of {count(len(counted), 'target')}, "
    sentence += ", ".join(f"{number} {name}" for name, number in tally)
    fixed = len(matching) - len(counted)
    if fixed:
        sentence += f" ({fixed} fixed by construction left out)"
    shown = counted if len(counted) <= NAMED_AT_MOST else examples[:1]
    sentence += "".join(f"; {spell(outcome, outcomes.metric)}" for outcome in shown)
    sentence += f". Baseline {outcomes.baseline.value:.3f}."
    padded = [
        f"{outcome.live_weights / outcome.total_weights:.0%} in {outcome.target}"
        for outcome in shown
        if outcome.live_weights is not None
        and outcome.total_weights
        and outcome.live_weights < outcome.total_weights
    ]
    if padded:
        sentence += f" Live weights: {', '.join(padded)}."
    if outcomes.demonstration:
        sentence = f"Demonstration, supports no inference. {sentence}"
    return sentence
