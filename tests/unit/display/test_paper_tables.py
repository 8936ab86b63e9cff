import csv
from pathlib import Path

import made_results
import pytest

from judge_claims import judge_claims
from nontrivial.display.outcomes import describe, read_results, select_outcomes
from nontrivial.display.paper import read_paper_values
from nontrivial.errors import UserError
from tabulate_paper import tabulate_paper
from tabulate_targets import tabulate_targets

PAPER = Path(__file__).parents[3] / "resources" / "paper"


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def outputs(folder, name):
    return folder / f"{name}.csv", folder / f"{name}.md", folder / f"{name}.html"


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
    stored = PAPER / "results.csv", PAPER / "claims.csv"
    judge_claims(settings, *files, *stored, *outputs(tmp_path, "c"))
    tabulate_targets({"experiment": "d"}, *files, *outputs(tmp_path, "t"))
    for suffix in ("md", "html"):
        assert "Demonstration" in (tmp_path / f"{table}.{suffix}").read_text()
    assert any(row["demonstration"] == "true" for row in read_csv(tmp_path / f"{table}.csv"))


def test_an_unknown_experiment_is_refused(tmp_path):
    files = made_results.write(tmp_path, made_results.rows("c", "resnet18"))
    with pytest.raises(UserError, match="no rows for experiment 'x'; it has c;"):
        tabulate_targets({"experiment": "x"}, *files, *outputs(tmp_path, "t"))


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
