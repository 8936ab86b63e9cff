"""Fingerprints of code: which edits change them and which must not."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nontrivial.errors import UserError
from nontrivial.planning.fingerprint import fingerprint, module_file

PROGRAM = '''"""A program."""
import json
from ours.loop import step


def main():
    """Run."""
    from ours import late
    return step(json.loads("1")) + late.value  # comment
'''
FILES = {
    "run_it.py": PROGRAM,
    "ours/__init__.py": "",
    "ours/loop.py": "from ours.deep.leaf import constant\n\n\ndef step(x):\n    return constant\n",
    "ours/deep/__init__.py": "",
    "ours/deep/leaf.py": "from . import sibling\n\nconstant = 1\n",
    "ours/deep/sibling.py": "here = True\n",
    "ours/late.py": "value = 2\n",
    "ours/unrelated.py": "value = 3\n",
}


@pytest.fixture
def tree(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def of(tree):
    return fingerprint(tree / "run_it.py", [tree])


@pytest.mark.parametrize(
    "name",
    [
        "run_it.py",
        "ours/__init__.py",
        "ours/loop.py",
        "ours/deep/leaf.py",
        "ours/deep/sibling.py",
        "ours/late.py",
    ],
)
def test_an_edit_in_any_imported_module_changes_it(tree, name):
    before = of(tree)
    with (tree / name).open("a") as file:
        file.write("\nnew = 4\n")
    assert of(tree) != before


def test_a_module_that_is_not_imported_changes_nothing(tree):
    before = of(tree)
    (tree / "ours/unrelated.py").write_text("value = 4\n")
    assert of(tree) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Run."""', '"""Run it, and say more."""'),
        ('"""A program."""', '"""Another description."""'),
        ("  # comment", ""),
        ("\n\n\ndef", "\n\n\n\n\ndef"),
    ],
)
def test_comments_docstrings_and_layout_change_nothing(tree, old, new):
    before = of(tree)
    assert old in PROGRAM
    (tree / "run_it.py").write_text(PROGRAM.replace(old, new))
    assert of(tree) == before


def test_a_string_that_is_not_a_docstring_changes_it(tree):
    before = of(tree)
    (tree / "run_it.py").write_text(PROGRAM.replace('loads("1")', 'loads("2")'))
    assert of(tree) != before


def test_touching_and_moving_the_tree_change_nothing(tree, tmp_path_factory):
    before = of(tree)
    os.utime(tree / "ours/loop.py", (1, 1))
    assert of(tree) == before
    moved = tmp_path_factory.mktemp("elsewhere") / "tree"
    tree.rename(moved)
    assert of(moved) == before


def test_circular_imports_terminate(tree):
    (tree / "ours/late.py").write_text("import run_it\nvalue = 2\n")
    assert of(tree)


def test_invalid_python_is_named(tree):
    (tree / "ours/late.py").write_text("value =\n")
    with pytest.raises(UserError, match=r"late\.py: not valid Python"):
        of(tree)


def test_installed_libraries_are_left_out(tree):
    assert module_file("json", [tree]) is None
    assert module_file("ours.deep", [tree]) == (tree / "ours/deep/__init__.py").resolve()


SNIPPET = '''
class A:
    """Text."""

def f(a, /, b: int = 1, *c, d=(1, 2), **e):
    x = f"{a!r:>3} {'q'} {d['k']}" "tail"
    with open(x) as g, h:
        return [i async for i in j] if (k := b"\\x00") else ...
'''


def test_every_version_of_python_gives_the_same_digest(tmp_path):
    (tmp_path / "p.py").write_text(SNIPPET)
    assert fingerprint(tmp_path / "p.py", [tmp_path]).startswith("282c6211c27f48b1")


@given(st.integers(), st.integers())
def test_only_equal_constants_give_equal_digests(tmp_path_factory, first, second):
    folder = tmp_path_factory.mktemp("code")
    digests = []
    for value in (first, second):
        (folder / "p.py").write_text(f"x = {value}\n")
        digests.append(fingerprint(folder / "p.py", [folder]))
    assert (digests[0] == digests[1]) == (first == second)


def test_the_root_package_of_the_library_does_not_count(tmp_path):
    (tmp_path / "nontrivial").mkdir()
    root, module = tmp_path / "nontrivial" / "__init__.py", tmp_path / "nontrivial" / "step.py"
    root.write_text("")
    module.write_text("value = 1\n")
    (tmp_path / "run_it.py").write_text("from nontrivial.step import value\n")
    before = of(tmp_path)
    root.write_text("value = 2\n")
    assert of(tmp_path) == before
    module.write_text("value = 2\n")
    assert of(tmp_path) != before
