import made_results
import pyarrow as pa
import pytest

from nontrivial.errors import UserError
from nontrivial.formats import target_files
from nontrivial.formats.summary import write_target

SEEDS = (0, 1)


def rows_by_target():
    rows = made_results.rows("e", "resnet18", seeds=SEEDS)
    targets = {}
    for row in [*rows, *made_results.rows_over_seeds(rows)]:
        targets.setdefault(row["target"], []).append(row)
    return targets


def write(folder, targets):
    files = []
    for number, rows in enumerate(targets.values()):
        files.append(folder / f"{number}.parquet")
        write_target(files[-1], rows)
    return files


@pytest.fixture
def targets():
    """Return the rows of three targets with two seeds, by target."""
    return dict(list(rows_by_target().items())[:3])


def test_rows_are_in_the_order_of_the_files(tmp_path, targets):
    files = write(tmp_path, targets)
    table = target_files.read_targets(files)
    expected = [(name, row["seed"]) for name, rows in targets.items() for row in rows]
    pairs = zip(table["target"].to_pylist(), table["seed"].to_pylist(), strict=True)
    assert list(pairs) == expected
    backwards = target_files.read_targets(files[::-1])
    assert backwards["target"].to_pylist()[0] == list(targets)[-1]


@pytest.mark.parametrize("processes", [1, 2])
def test_parts_do_not_change_the_table(tmp_path, targets, monkeypatch, processes):
    files = write(tmp_path, targets)
    whole = target_files.read_targets(files)
    monkeypatch.setattr(target_files, "FILES_AT_A_TIME", 2)
    assert target_files.read_targets(files, processes).equals(whole)


@pytest.mark.parametrize(
    ("column", "value"), [("target", "other"), ("kernels", ["other"]), ("experiment", "other")]
)
def test_a_file_with_two_targets_is_refused(tmp_path, targets, column, value):
    *_, last = targets.values()
    last[1][column] = value
    files = write(tmp_path, targets)
    with pytest.raises(UserError, match=rf"2\.parquet: its rows have more than one {column}"):
        target_files.read_targets(files)


def test_an_impossible_row_is_refused_with_its_file(tmp_path, targets):
    list(targets.values())[1][0]["value"] = 1.5
    files = write(tmp_path, targets)
    with pytest.raises(UserError, match=r"1\.parquet: "):
        target_files.read_targets(files)


def test_two_files_of_one_target_are_both_named(tmp_path, targets):
    files = write(tmp_path, targets)
    with pytest.raises(UserError, match=r"0\.parquet: contains the same target as .*0\.parquet"):
        target_files.read_targets([*files, files[0]])


@pytest.mark.parametrize("seed", [*SEEDS, None])
def test_a_file_without_one_of_its_seeds_is_refused(tmp_path, targets, seed):
    first = next(iter(targets))
    targets[first] = [row for row in targets[first] if row["seed"] != seed]
    files = write(tmp_path, targets)
    with pytest.raises(UserError, match=r"0\.parquet: does not have accuracy or Dice"):
        target_files.read_targets(files)


def test_columns_have_one_chunk_each(tmp_path, targets):
    table = target_files.read_targets(write(tmp_path, targets))
    assert isinstance(table, pa.Table)
    assert {column.num_chunks for column in table.columns} == {1}
