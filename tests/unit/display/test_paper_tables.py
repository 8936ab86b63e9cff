import csv
import json
from pathlib import Path

import made_results
import pytest

from judge_claims import judge_claims
from nontrivial.display.claims import judge
from nontrivial.display.outcomes import describe, read_results, select_outcomes
from nontrivial.display.paper import read_claims, read_paper_values
from nontrivial.errors import UserError
from tabulate_paper import tabulate_paper
from tabulate_targets import tabulate_targets

PAPER = Path(__file__).parents[3] / "resources" / "paper"
CLAIMS = {claim.id: claim for claim in read_claims(PAPER / "claims.csv")}


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def outputs(folder, name):
    return folder / f"{name}.csv", folder / f"{name}.md", folder / f"{name}.html"


def outcomes_with(tmp_path, values, network="resnet18", **options):
    files = made_results.write(tmp_path, made_results.rows("e", network, values, **options))
    return select_outcomes(*read_results(*files), "e")


def drops(rule):
    """Return values by target, a drop below a baseline of 0.9."""
    return lambda target, seed: 0.9 if target.kind == "baseline" else 0.9 - rule(target)


def verdict(tmp_path, claim, rule, **options):
    return judge(CLAIMS[claim], outcomes_with(tmp_path, drops(rule), **options)).verdict


def test_the_target_table_has_the_values_of_the_summary(tmp_path):
    rows = made_results.rows("e", "resnet18")
    files = made_results.write(tmp_path, rows)
    tabulate_targets({"experiment": "e"}, *files, *outputs(tmp_path, "t"))
    expected = {row["target"]: row for row in rows if row["class"] is None}
    found = read_csv(tmp_path / "t.csv")
    assert [row["target"] for row in found] == list(expected)
    for row in found:
        for column in ("value", "value_low", "value_high", "drop", "drop_low", "p_holm"):
            want = expected[row["target"]][column]
            assert row[column] == ("" if want is None else repr(want))
        assert row["kernels"].split() == expected[row["target"]]["kernels"]


def test_several_seeds_give_the_mean_and_its_t_interval(tmp_path):
    by_seed = {0: 0.02, 1: 0.03, 2: 0.04}
    rows = made_results.rows(
        "e",
        "resnet18",
        lambda target, seed: 0.9 - (by_seed[seed] if target.kind != "baseline" else 0.0),
        seeds=(0, 1, 2),
    )
    outcomes = select_outcomes(*read_results(*made_results.write(tmp_path, rows)), "e")
    layer = outcomes.of_kind("layer")[1]
    half = 4.302652729911275 * 0.01 / 3**0.5  # t(0.975, 2) times the standard error
    assert layer.drop == pytest.approx(0.03)
    assert layer.drop_low == pytest.approx(0.03 - half)
    assert layer.drop_high == pytest.approx(0.03 + half)
    assert layer.verdict == "undecided"  # though each seed alone says non-trivial
    assert [seed.drop for seed in layer.seeds] == pytest.approx([0.02, 0.03, 0.04])
    assert "3 seeds, 95% intervals cover training seeds and test sampling" in describe(outcomes)


def test_paper_tables_pair_each_value_with_this_run(tmp_path):
    rows = made_results.rows("c", "resnet34")
    t1 = made_results.rows("t", "pspnet_resnet34", metric="dice", dataset="hippocampus")
    files = made_results.write(tmp_path, rows, t1)
    settings = {
        "experiments": [
            {"name": "c", "paper": "cifar10", "source": "cifar10"},
            {"name": "t", "paper": "t1", "source": "hippocampus"},
        ]
    }
    tabulate_paper(settings, *files, PAPER / "results.csv", *outputs(tmp_path, "p"))
    ours = {
        (row["experiment"], row["target"]): row["value"]
        for row in [*rows, *t1]
        if row["class"] is None
    }
    paper = {
        (value.table, value.block): value.value
        for value in read_paper_values(PAPER / "results.csv")
    }
    found = read_csv(tmp_path / "p.csv")
    for row in found:
        assert float(row["value"]) == ours[row["experiment"], row["target"]]
        block = int(row["block"]) if row["block"] else None
        assert float(row["paper"]) == paper[int(row["table"]), block]
    assert {row["table"] for row in found} == {"1", "2", "3", "4"}
    text = (tmp_path / "p.md").read_text()
    for number in range(1, 5):
        assert text.count(f"## Table {number}.") == 1
    assert "captions of the paper's Tables 1 and 2 are swapped" in text
    assert "t uses hippocampus, not the paper's data" in text


def test_paper_tables_without_experiments_show_the_paper_alone(tmp_path):
    files = made_results.write(tmp_path, made_results.rows("c", "resnet18"))
    settings = {"experiments": [{"name": "c", "paper": None, "source": "cifar10"}]}
    tabulate_paper(settings, *files, PAPER / "results.csv", *outputs(tmp_path, "p"))
    assert len(read_csv(tmp_path / "p.csv")) == len(read_paper_values(PAPER / "results.csv"))
    assert (
        "No experiment of this run is compared with this table." in (tmp_path / "p.md").read_text()
    )


@pytest.mark.parametrize("table", ["p", "c", "t"])
def test_every_table_names_a_demonstration(tmp_path, table):
    rows = made_results.rows("d", "pspnet_resnet34", metric="dice", demonstration=True)
    files = made_results.write(tmp_path, rows)
    settings = {"experiments": [{"name": "d", "paper": "t1", "source": "mni152"}]}
    tabulate_paper(settings, *files, PAPER / "results.csv", *outputs(tmp_path, "p"))
    judge_claims({"experiments": ["d"]}, *files, PAPER / "claims.csv", *outputs(tmp_path, "c"))
    tabulate_targets({"experiment": "d"}, *files, *outputs(tmp_path, "t"))
    for suffix in ("md", "html"):
        assert "Demonstration" in (tmp_path / f"{table}.{suffix}").read_text()
    assert any(row["demonstration"] == "true" for row in read_csv(tmp_path / f"{table}.csv"))


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
        ("rest-trivial", lambda t: 0.0, "holds"),
        ("rest-trivial", lambda t: 0.5 if t.role == "residual" else 0.0, "does not hold"),
        ("rest-trivial", lambda t: 0.0 if t.role == "residual" else 0.5, "holds"),
        ("shortcuts", lambda t: 0.5, "holds"),
        ("shortcuts", lambda t: 0.0, "does not hold"),
        ("back-classification", lambda t: 0.0 if t.name == "block-4-first-unit" else 0.5, "holds"),
        ("back-classification", lambda t: 0.5 if t.name == "block-4-first-unit" else 0.0,
         "does not hold"),
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
    assert verdict(tmp_path, "back-segmentation", lambda t: 0.0, **options) == "does not hold"
    assert verdict(tmp_path, "back-classification", lambda t: 0.0, **options) == "not tested"


def test_cut_targets_never_decide_a_claim(tmp_path):
    names = tuple(target.name for target in made_results.targets_of("resnet18"))
    shortcuts = tuple(name for name in names if name.startswith("shortcut"))
    assert verdict(tmp_path, "shortcuts", lambda t: 0.5, cut=shortcuts) == "not tested"
    assert verdict(tmp_path, "shortcuts", lambda t: 0.5, cut=shortcuts[:1]) == "holds"


def test_a_demonstration_decides_no_claim(tmp_path):
    for claim in ("similar-performance", "decomposition", "rest-trivial", "shortcuts"):
        assert verdict(tmp_path, claim, lambda t: 0.5, demonstration=True) == "undecided"


def test_equal_kernel_sets_count_once(tmp_path):
    both = outcomes_with(tmp_path, drops(lambda t: 0.5), readings=("first-unit", "next"))
    blocks = both.of_kind("block")
    distinct = {outcome.kernels for outcome in [*blocks, *both.of_kind("layer")]}
    assert len(blocks) > len({outcome.kernels for outcome in blocks})
    evidence = judge(CLAIMS["similar-performance"], both).evidence
    assert f"Of {len(distinct) - 1} targets" in evidence  # all but the stem, which is cut


def test_the_evidence_has_the_numbers(tmp_path):
    outcomes = outcomes_with(
        tmp_path, drops(lambda t: 0.0123 if t.name == "block-4-first-unit" else 0.5)
    )
    evidence = judge(CLAIMS["back-classification"], outcomes).evidence
    assert "block-4-first-unit: accuracy 0.888, drop 0.012 [0.006, 0.018]" in evidence
    assert "Baseline 0.900" in evidence
    assert "11% in block-4-first-unit" in evidence  # live weights


def test_the_claims_table_has_every_claim(tmp_path):
    files = made_results.write(tmp_path, made_results.rows("c", "resnet18"))
    judge_claims({"experiments": ["c"]}, *files, PAPER / "claims.csv", *outputs(tmp_path, "c"))
    assert {row["claim"] for row in read_csv(tmp_path / "c.csv")} == set(CLAIMS)


def test_an_unknown_experiment_is_refused(tmp_path):
    files = made_results.write(tmp_path, made_results.rows("c", "resnet18"))
    with pytest.raises(UserError, match="no rows for experiment 'x'; it has c;"):
        tabulate_targets({"experiment": "x"}, *files, *outputs(tmp_path, "t"))


def test_an_unknown_rule_is_refused(tmp_path):
    text = (PAPER / "claims.csv").read_text().replace(",every,", ",most,")
    (tmp_path / "claims.csv").write_text(text)
    outcomes = outcomes_with(tmp_path, drops(lambda t: 0.5))
    with pytest.raises(UserError, match="unknown rule 'most'"):
        judge(read_claims(tmp_path / "claims.csv")[1], outcomes)


@pytest.mark.parametrize("content", [b"", b"PAR1 cut short"])
def test_a_truncated_summary_is_refused(tmp_path, content):
    files = made_results.write(tmp_path, made_results.rows("c", "resnet18"))
    files[0].write_bytes(content)
    with pytest.raises(UserError, match=r"summary\.parquet"):
        read_results(*files)


def test_the_stored_values_are_those_of_the_paper():
    values = read_paper_values(PAPER / "results.csv")
    by_table = {
        number: [value.value for value in values if value.table == number] for number in range(1, 5)
    }
    assert by_table == {
        1: [0.51, 0.61, 0.83, 0.84, 0.84],
        2: [0.28, 0.33, 0.16, 0.84],
        3: [0.82, 0.86, 0.82, 0.00, 0.87],
        4: [0.00, 0.00, 0.00, 0.87],
    }


def test_claims_parameters_are_json():
    for row in read_csv(PAPER / "claims.csv"):
        json.loads(row["parameters"])
        assert row["decided_by"]
