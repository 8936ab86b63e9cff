"""Edited kernel tables are read, or refused with a one-line message, whatever they contain."""

from pathlib import Path

import pytest
from fuzzing import answer, examples
from hypothesis import given
from hypothesis import strategies as st

from nontrivial.networks.kernel_table import COLUMNS, Kernel, read_table
from nontrivial.targets.adjacency import READINGS
from nontrivial.targets.enumeration import enumerate_targets

TABLES = Path(__file__).parents[2] / "resources" / "kernels"
ROWS = [line.split("\t") for line in (TABLES / "resnet18.tsv").read_text().splitlines()]
LONGEST = 500

fields = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            "",
            "0",
            "-1",
            "1.5",
            "9" * 20,
            "9" * 5000,
            "NaN",
            "1e3",
            "٣",  # a digit outside ASCII
            "true",
            "stem",
            "residual",
            "3x3",
            "0x3",
            "x",
            "3x" + "9" * 30,
            "conv1",
            "../../conv1",
            "a/b",
            "$(touch harm)",
            "`harm`",
            "{target}",
            "a b",
            "a\nb",
            '"',
            "=1+1",
            "x" * 200_000,
            "ü" * 100,
        ]
    ),
)


@st.composite
def tables(draw) -> str:
    """The table of ResNet18 with some fields and rows changed."""
    rows = [list(row) for row in ROWS]
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(rows) - 1))
        action = draw(st.sampled_from(["field", "field", "field", "drop", "twice", "swap", "cut"]))
        if action == "field":
            rows[place][draw(st.integers(0, len(rows[place]) - 1))] = draw(fields)
        elif action == "drop" and len(rows) > 1:
            del rows[place]
        elif action == "twice":
            rows.insert(place, list(rows[place]))
        elif action == "swap":
            rows[place], rows[-1] = rows[-1], rows[place]
        elif len(rows[place]) > 1:
            rows[place].pop()
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    mark = draw(st.sampled_from(["", "\ufeff"]))
    return mark + end.join("\t".join(row) for row in rows)


def read(folder: Path, content: bytes) -> tuple[list[Kernel] | None, str | None]:
    path = folder / "table.tsv"
    path.write_bytes(content)
    kernels, message = answer(lambda: read_table(path))
    if message:
        assert message.startswith(str(path))
        assert len(message) < len(str(path)) + LONGEST
    return kernels, message


@examples(250)
@given(tables())
def test_edited_tables(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("edited")
    kernels, message = read(folder, text.encode("utf-8", "surrogatepass"))
    if message:
        return
    assert [kernel.order for kernel in kernels] == list(range(len(kernels)))
    assert len({kernel.path for kernel in kernels}) == len(kernels)
    sets = ["layer", "block", "shortcut"]
    targets, message = answer(lambda: enumerate_targets(kernels, sets, list(READINGS), {}, "set"))
    if message:
        return
    for target in targets:  # each name becomes a file name
        assert "/" not in target.name
        assert target.name.isprintable()
        (folder / f"{target.name}.parquet").touch()
    assert len({target.name for target in targets}) == len(targets)


@examples(60)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(tmp_path_factory, content):
    _, message = read(tmp_path_factory.mktemp("bytes"), content)
    assert message


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks_of_spreadsheets_are_read(tmp_path, mark, end):
    text = mark + end.join("\t".join(row) for row in ROWS) + end
    kernels, message = read(tmp_path, text.encode())
    assert message is None
    assert kernels == read_table(TABLES / "resnet18.tsv")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("path", "a/b", "not a module path"),
        ("path", "../../x", "not a module path"),
        ("path", "$(touch harm)", "not a module path"),
        ("path", "{target}", "not a module path"),
        ("path", "x" * 141, "longer than 140 bytes"),
        ("path", "ü" * 71, "longer than 140 bytes"),
        ("path", "x" * 200_000, "not tab-separated values"),
        ("weights", "9" * 30, "larger than 2147483647"),
        ("in_channels", "9" * 5000, "larger than 2147483647"),
        ("kernel_size", "3x" + "9" * 30, "larger than 2147483647"),
    ],
)
def test_invalid_fields_are_refused(tmp_path, column, value, message):
    row = list(ROWS[1])
    row[COLUMNS.index(column)] = value
    _, found = read(tmp_path, "\n".join("\t".join(r) for r in [ROWS[0], row]).encode())
    assert message in found
