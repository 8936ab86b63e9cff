"""Kernel tables: written, read, compared, and refused when they are wrong."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nontrivial.errors import UserError
from nontrivial.networks.kernel_table import (
    COLUMNS,
    ROLES,
    Kernel,
    read_table,
    structure_digest,
    write_table,
)

paths = st.text("abcdefgh_.0123456789", min_size=1, max_size=12)
sizes = st.integers(1, 9).map(lambda n: f"{n}x{n}")


@st.composite
def tables(draw):
    kernels = []
    for order, path in enumerate(draw(st.lists(paths, min_size=1, max_size=8, unique=True))):
        role = draw(st.sampled_from(ROLES))
        placed = role not in ("stem", "head")
        kernels.append(
            Kernel(
                order=order,
                path=path,
                in_channels=draw(st.integers(1, 9)),
                out_channels=draw(st.integers(1, 9)),
                kernel_size=draw(sizes),
                stride=draw(sizes),
                dilation=draw(sizes),
                groups=draw(st.integers(1, 9)),
                transposed=draw(st.booleans()),
                weights=draw(st.integers(1, 10**9)),
                block=draw(st.integers(1, 4)) if placed else None,
                unit=draw(st.integers(0, 4)) if placed else None,
                role=role,
            )
        )
    return kernels


@settings(deadline=None)
@given(kernels=tables())
def test_a_table_reads_back_as_written(tmp_path_factory, kernels):
    path = tmp_path_factory.mktemp("tables") / "table.tsv"
    write_table(path, kernels)
    assert read_table(path) == kernels


@settings(deadline=None)
@given(kernels=tables())
def test_relabelling_does_not_change_the_structure(kernels):
    relabelled = [Kernel(**{**vars(k), "role": "head", "block": None}) for k in kernels]
    assert structure_digest(relabelled) == structure_digest(kernels)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("path", "other"),
        ("in_channels", 5),
        ("out_channels", 5),
        ("kernel_size", "5x5"),
        ("stride", "2x2"),
        ("dilation", "2x2"),
        ("groups", 2),
        ("transposed", True),
    ],
)
def test_the_structure_follows_what_weights_depend_on(column, value):
    kernel = Kernel(0, "conv1", 3, 8, "3x3", "1x1", "1x1", 1, False, 216, None, None, "stem")
    changed = Kernel(**{**vars(kernel), column: value})
    assert structure_digest([kernel, kernel, kernel]) != structure_digest([kernel, changed, kernel])


def test_the_structure_leaves_out_the_channels_of_images_and_classes():
    kernel = Kernel(0, "conv1", 3, 8, "3x3", "1x1", "1x1", 1, False, 216, None, None, "stem")
    grey = Kernel(**{**vars(kernel), "in_channels": 1})
    more_classes = Kernel(**{**vars(kernel), "out_channels": 10})
    assert structure_digest([kernel, kernel]) == structure_digest([grey, more_classes])
    assert structure_digest([kernel, kernel]) != structure_digest([more_classes, grey])


HEADER = "\t".join(COLUMNS)
ROW = "0\tconv1\t3\t8\t3x3\t1x1\t1x1\t1\tfalse\t216\t\t\tstem"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns must be"),
        ("a\tb\n", "columns must be"),
        (HEADER + "\n", "no kernel"),
        (f"{HEADER}\n0\tconv1\n", "line 2: 2 fields"),
        (f"{HEADER}\n{ROW.replace('216', '2.5')}\n", "weights '2.5'"),
        (f"{HEADER}\n{ROW.replace('3x3', '3')}x\n", "role 'stemx'"),
        (f"{HEADER}\n{ROW.replace('3x3', '3x0')}\n", "kernel_size '3x0'"),
        (f"{HEADER}\n{ROW.replace('false', 'no')}\n", "transposed 'no'"),
        (f"{HEADER}\n{ROW.replace('conv1', '')}\n", "path '' is empty"),
        (f"{HEADER}\n{ROW}\n{ROW}\n", "order is 0 but its row is number 1"),
        (f"{HEADER}\n{ROW}\n1{ROW[1:]}\n", "conv1 is in the table twice"),
        (f"{HEADER}\n{ROW.replace('stem', 'residual')}\n", "role residual with block None"),
        (
            f"{HEADER}\n{ROW.replace(chr(9) * 3, chr(9) + '1' + chr(9) * 2)}\n",
            "one of block and unit is empty",
        ),
    ],
)
def test_an_invalid_table_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "table.tsv"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_table(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_plain_network_may_have_the_role_residual(tmp_path):
    # Tables that users wrote before there was a role plain.
    path = tmp_path / "table.tsv"
    path.write_text(
        f"{HEADER}\n{ROW}\n1{ROW[1:].replace('conv1', 'b')}\n".replace(
            "b\t3\t8\t3x3\t1x1\t1x1\t1\tfalse\t216\t\t\tstem",
            "b\t3\t8\t3x3\t1x1\t1x1\t1\tfalse\t216\t1\t0\tresidual",
        )
    )
    assert [kernel.role for kernel in read_table(path)] == ["stem", "residual"]


def test_a_missing_or_binary_table_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"cannot be read .*list_kernels.py"):
        read_table(tmp_path / "none.tsv")
    (tmp_path / "binary.tsv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        read_table(tmp_path / "binary.tsv")
