from dataclasses import asdict, replace

import made_results
import pyarrow as pa
import pytest
from made_results import tables

from nontrivial.display.outcomes import (
    WithoutValue,
    count,
    describe,
    limits,
    read_results,
    select_outcomes,
)
from nontrivial.errors import UserError


def outcomes_of(**options):
    return select_outcomes(*tables(made_results.rows("e", "resnet18", **options)), "e")


def test_every_target_has_its_value_over_seeds_and_those_of_each_seed():
    rows = made_results.rows("e", "resnet18", seeds=(2, 0, 1))
    found = select_outcomes(*tables(rows), "e")
    assert found.seed_count == 3
    assert found.baseline.kind == "baseline"
    primary = [row for row in rows if row["class"] is None]
    assert len(found.targets) == len({row["target"] for row in primary}) - 1
    for outcome in (found.baseline, *found.targets):
        values = {row["seed"]: row["value"] for row in primary if row["target"] == outcome.target}
        assert [seed.seed for seed in outcome.seeds] == [0, 1, 2]
        assert [seed.value for seed in outcome.seeds] == [values[0], values[1], values[2]]
        assert outcome.value == pytest.approx(sum(values.values()) / 3)


def test_targets_of_a_kind_are_in_canonical_order():
    found = outcomes_of()
    names = [target.name for target in made_results.targets_of("resnet18")]
    kinds = ("block", "shortcut")
    chosen = [outcome.target for outcome in found.of_kind(*kinds)]
    assert chosen == [
        target.name for target in made_results.targets_of("resnet18") if target.kind in kinds
    ]
    assert [outcome.target for outcome in found.targets] == names[1:]


def test_other_experiments_and_interventions_are_left_out():
    rows = made_results.rows("e", "resnet18")
    others = [
        *made_results.rows("other", "resnet18", values=lambda target, seed: 0.5),
        *({**row, "intervention": "noise", "value": 0.5} for row in rows),
    ]
    across = made_results.rows_over_seeds(rows)
    found = select_outcomes(*tables([*others, *rows], [*others, *across]), "e")
    assert found == select_outcomes(*tables(rows, across), "e")


def test_an_experiment_without_rows_is_refused_with_those_that_have_some():
    rows = made_results.rows("e", "resnet18")
    with pytest.raises(UserError, match="no rows for experiment 'f'; it has e;"):
        select_outcomes(*tables(rows), "f")
    with pytest.raises(UserError, match="it has none;"):
        select_outcomes(*tables([], []), "f")


def changed_value(rows, across):
    across[4]["value"] += 0.01
    across[4]["drop"] -= 0.01


def missing_target(rows, across):
    name = across[4]["target"]
    across[:] = [row for row in across if row["target"] != name]


def another_number_of_seeds(rows, across):
    for row in across:
        row["seeds"] = 3


def missing_seed(rows, across):
    last = rows[-1]["target"]
    rows[:] = [row for row in rows if (row["target"], row["seed"]) != (last, 1)]


def fewer_seeds_of_one_target(rows, across):
    missing_seed(rows, across)
    across[:] = made_results.rows_over_seeds(rows)


def missing_baseline(rows, across):
    for part in (rows, across):
        part[:] = [row for row in part if row["target"] != "baseline"]


@pytest.mark.parametrize(
    "damage",
    [
        changed_value,
        missing_target,
        another_number_of_seeds,
        missing_seed,
        fewer_seeds_of_one_target,
        missing_baseline,
    ],
)
def test_tables_that_contradict_each_other_are_refused(damage):
    rows = made_results.rows("e", "resnet18", seeds=(0, 1))
    across = made_results.rows_over_seeds(rows)
    assert across[4]["class"] is None
    damage(rows, across)
    with pytest.raises(UserError, match="do not have the same results of 'e'"):
        select_outcomes(*tables(rows, across), "e")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "n = 10,000 test samples, 1 seed, 95% intervals cover test sampling only"),
        (
            {"seeds": (0, 1, 2)},
            "n = 10,000 test samples, 3 seeds, 95% intervals cover training seeds and test",
        ),
        ({"metric": "dice"}, "n = 26 test subjects, 1 seed, 95% intervals cover test sampling"),
        (
            {"metric": "dice", "demonstration": True},
            "n = 1 test subject, 1 seed, no intervals",
        ),
    ],
)
def test_the_description_names_units_seeds_and_what_intervals_cover(options, text):
    assert describe(outcomes_of(**options)).startswith(text)


def changed(outcomes, **changes):
    """Return the outcomes with other fields, those of the baseline with a leading underscore."""
    of_baseline = {k[1:]: changes.pop(k) for k in list(changes) if k.startswith("_")}
    baseline = replace(outcomes.baseline, **of_baseline)
    return replace(outcomes, baseline=baseline, **changes)


def test_data_that_can_show_everything_have_no_limits():
    assert limits(outcomes_of()) == []
    assert limits(outcomes_of(metric="dice")) == []
    assert limits(outcomes_of(metric="dice", demonstration=True)) == []


@pytest.mark.parametrize(
    ("options", "changes", "said"),
    [
        (
            {},
            {"units": 50, "_n_for_trivial": 415},
            "With 50 test samples, a target that changes no prediction is undecided. With at least"
            " 415, it is trivial.",
        ),
        (
            {"seeds": (0, 1)},
            {},
            "Two seeds give intervals but no tests and no verdicts. Train a third.",
        ),
        (
            {"metric": "dice"},
            {"units": 5, "_n_for_trivial": 6},
            "Intervals, tests and verdicts need at least 6 test subjects; there are 5.",
        ),
        (
            {"metric": "dice"},
            {"units": 8},
            "With 8 test subjects, no p-value survives the correction for 27 tests.",
        ),
        (
            {"metric": "dice"},
            {"empty": 5},
            "Dice leaves out 5 test subjects without foreground. The volume predicted there is in"
            " the column false_positive_ml.",
        ),
        (
            {"metric": "dice"},
            {"unlearned": ("lesion",)},
            "Training did not learn lesion: its Dice is 0 in every test subject, so zeroing cannot"
            " lower it.",
        ),
        (
            {},
            {
                "without_value": (
                    WithoutValue("layer-x", "layer", None, ("x",), None, 4, "not_finite"),
                )
            },
            "layer-x has no value (not finite).",
        ),
    ],
)
def test_what_the_data_cannot_show_is_said(options, changes, said):
    assert limits(changed(outcomes_of(**options), **changes)) == [said]


def test_with_enough_subjects_p_values_can_survive_the_correction():
    assert limits(changed(outcomes_of(metric="dice"), units=10))
    assert not limits(changed(outcomes_of(metric="dice"), units=11))
    assert not limits(changed(outcomes_of(metric="dice", seeds=(0, 1, 2)), units=8))


def test_targets_without_a_verdict_count_in_the_correction():
    found = replace(outcomes_of(metric="dice"), units=8)
    without = tuple(replace(target, verdict=None) for target in found.targets[5:])
    some = replace(found, targets=(*found.targets[:5], *without))
    assert limits(some) == limits(found) != []
    assert limits(replace(found, targets=found.targets[:5])) == []


def test_a_baseline_without_an_interval_does_not_mean_too_few_subjects():
    # It is equal in all subjects, for example 1.000, but the drops of targets are not.
    found = changed(outcomes_of(metric="dice"), _low=None, _high=None)
    assert describe(found).endswith("95% intervals cover test sampling only, not training")
    none = dict.fromkeys(["low", "high", "drop_low", "drop_high"])
    without = tuple(replace(target, **none) for target in found.targets)
    assert describe(replace(found, targets=without)).endswith("1 seed, no intervals")
    few = replace(found, targets=without, units=5)
    assert describe(few).endswith("no intervals: too few subjects")


def test_classes_that_training_did_not_learn_are_found():
    rows = made_results.rows("e", "resnet18")
    for row in rows:
        if row["class"] == "cat":
            row |= {"value": 0.0, "drop": row["baseline"]}
    assert select_outcomes(*tables(rows), "e").unlearned == ("cat",)
    assert outcomes_of().unlearned == ()


def without_value(rows, status="undefined"):
    """Return the rows with a target that has no value in the second seed."""
    empty = dict.fromkeys(["value", "value_low", "value_high", "drop", "drop_low", "drop_high"])
    name = rows[4]["target"]
    across = made_results.rows_over_seeds(rows)
    for row in [*rows, *across]:
        if row["target"] == name and row["seed"] in (1, None):
            row |= empty | {"status": None if row["seed"] is None else status}
    return name, across


def test_a_target_without_a_value_is_named_and_left_out():
    rows = made_results.rows("e", "resnet18", seeds=(0, 1))
    name, across = without_value(rows)
    found = select_outcomes(*tables(rows, across), "e")
    (row, *_) = [row for row in rows if row["target"] == name]
    (left_out,) = found.without_value
    assert asdict(left_out) == {
        "target": name,
        "status": "undefined",
        "kernels": tuple(row["kernels"]),
        **{key: row[key] for key in ("kind", "reading", "role", "block")},
    }
    assert name not in [target.target for target in found.targets]


def test_tests_and_verdicts_by_margin():
    rows = made_results.rows("e", "resnet18")
    found = select_outcomes(*tables(rows), "e")
    for outcome in found.targets:
        (row,) = (r for r in rows if r["target"] == outcome.target and r["class"] is None)
        assert list(outcome.margins) == [0.01, 0.02, 0.05]
        for at in row["margins"]:
            margin = outcome.margins[at["margin"]]
            assert (margin.p_trivial, margin.p_trivial_holm, margin.verdict) == (
                at["p_trivial"],
                at["p_trivial_holm"],
                at["verdict"],
            )
        assert outcome.margins[0.01].verdict == outcome.verdict
        assert outcome.margins[0.01].p_nontrivial_holm == outcome.p_nontrivial_holm


def test_margins_of_other_results_are_refused():
    rows = made_results.rows("e", "resnet18")
    summary, across, margins = tables(rows)
    with pytest.raises(UserError, match="do not have the same results of 'e'"):
        select_outcomes(summary, across, margins.slice(0, 6), "e")
    rows = across.to_pylist()
    rows[0]["margin"] = 0.5
    changed = pa.Table.from_pylist(rows, schema=across.schema)
    with pytest.raises(UserError, match="do not have the same results of 'e'"):
        select_outcomes(summary, changed, margins, "e")


def test_the_task_follows_from_the_metric():
    assert outcomes_of().task == "classification"
    assert outcomes_of(metric="dice").task == "segmentation"


def test_both_files_are_read(tmp_path):
    rows = made_results.rows("e", "resnet18", seeds=(0, 1))
    summary, across, margins = read_results(*made_results.write(tmp_path, rows))
    assert summary["seed"].null_count == 0
    assert across["seed"].null_count == across.num_rows
    assert set(margins["margin"].to_pylist()) == {0.01, 0.02, 0.05}


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 seeds"), (1, "1 seed"), (10_000, "10,000 seeds")]
)
def test_a_number_with_its_noun(number, text):
    assert count(number, "seed") == text
