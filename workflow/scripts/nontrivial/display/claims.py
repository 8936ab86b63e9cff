"""Decide the paper's claims from the verdicts of an experiment's targets.

A rule looks only at verdicts, which come from intervals against the configured margin: over
seeds where there are several. Targets whose outcome is fixed by construction (``cut``,
``no_effect``) never count. A rule that no target matches leaves its claim untested.
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
NAMED_AT_MOST = 4  # targets whose numbers all stand in the evidence; a block has no more


@dataclass(frozen=True)
class Judgement:
    """Whether a claim holds in one experiment, and the numbers that say so."""

    verdict: str
    evidence: str


def judge(claim: Claim, outcomes: ExperimentOutcomes) -> Judgement:
    """Decide one claim by its rule.

    Raises:
        UserError: the table of claims names an unknown rule or parameter.
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
            f"claims: {claim.id}: parameters do not fit rule {claim.rule!r} ({error})"
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
    """Decide "all of these targets are so".

    Holds if every matching target has the verdict, does not hold if one has the opposite
    verdict, else undecided.

    Args:
        outcomes: of one experiment.
        kinds: of targets.
        verdict: ``trivial`` or ``non-trivial``.
        roles: of single kernels; None for any.
        reading: of "adjacent", for blocks; None for any.
        block: ``last`` for the targets of the last block only; None for any.
        networks: glob that the network's name must match; None for any.
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
    """Decide "there are such targets".

    Holds if at least one target of these kinds has the verdict, does not hold if every one has
    the opposite verdict, else undecided.

    Args:
        outcomes: of one experiment.
        kinds: of targets.
        verdict: ``trivial`` or ``non-trivial``.
        without_roles: roles of single kernels that are left out.
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
    """Leave a claim open that needs another kind of experiment."""
    return Judgement(UNTESTED, f"Needs {missing}.")


RULES: dict[str, Callable[..., Judgement]] = {"every": every, "some": some, "untested": untested}


def spell(outcome: Outcome, metric: str) -> str:
    """Return a target with its metric, drop and interval, for a sentence."""
    text = f"{outcome.target}: {METRIC_NAMES[metric]} {outcome.value:.3f}, drop {outcome.drop:.3f}"
    if outcome.drop_low is not None and outcome.drop_high is not None:
        text += f" [{outcome.drop_low:.3f}, {outcome.drop_high:.3f}]"
    if len(outcome.kernels) > 1:
        text += f", {len(outcome.kernels)} kernels zeroed"
    return text


def _distinct(targets: list[Outcome]) -> list[Outcome]:
    """Return the first target of each kernel set: an alias is no second piece of evidence."""
    first: dict[tuple[str, ...], Outcome] = {}
    for outcome in targets:
        first.setdefault(outcome.kernels, outcome)
    return list(first.values())


def _countable(targets: list[Outcome]) -> list[Outcome]:
    return [outcome for outcome in targets if outcome.status == "ok"]


def _nothing(matching: list[Outcome]) -> Judgement:
    if matching:
        return Judgement(
            UNTESTED, f"All {len(matching)} targets have their outcome fixed by construction."
        )
    return Judgement(UNTESTED, "No such target in this experiment.")


def _evidence(
    outcomes: ExperimentOutcomes,
    matching: list[Outcome],
    counted: list[Outcome],
    verdict: str,
    examples: list[Outcome],
) -> str:
    """Return the tally and the numbers: of all targets if few, else of the first example."""
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
        sentence += f" Weights that ever see a pixel: {', '.join(padded)}."
    if outcomes.demonstration:
        sentence = f"Demonstration, nothing can be inferred. {sentence}"
    return sentence
