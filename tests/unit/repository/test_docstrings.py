"""The examples in docstrings run, and the names that users call have one."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import nontrivial

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
IMPORT = re.compile(r"^(?:>>> )?from (nontrivial[\w.]*) import (.+)$", re.MULTILINE)

# What a notebook or a script of a user calls.
PUBLIC = (
    "nontrivial.data.channel_statistics.ChannelStatistics",
    "nontrivial.data.example_slices.choose",
    "nontrivial.data.splits.counts",
    "nontrivial.data.volumes.label_map.LabelMap",
    "nontrivial.display.text_tables.to_csv",
    "nontrivial.formats.summary.names",
    "nontrivial.formats.summary.primary_rows",
    "nontrivial.inference.holm.holm",
    "nontrivial.inference.proportions.wilson",
    "nontrivial.inference.student.t_quantile",
    "nontrivial.formats.snapshots.read_snapshot",
    "nontrivial.networks.kernel_table.read_table",
    "nontrivial.networks.registry.table_file",
    "nontrivial.replay.engine.Replay",
)


def examples() -> list[doctest.DocTest]:
    """Return every docstring of the library that has an example."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = []
    for module in pkgutil.walk_packages(nontrivial.__path__, "nontrivial."):
        found += finder.find(importlib.import_module(module.name), module.name)
    return [test for test in found if test.examples]


EXAMPLES = {test.name: test for test in examples()}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_prints_what_the_docstring_says(name):
    printed: list[str] = []
    result = doctest.DocTestRunner().run(EXAMPLES[name], out=printed.append)
    assert result.failed == 0, "".join(printed)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_have_an_example(name):
    assert name in EXAMPLES


def documented():
    """Return what the pages import from the library, by name."""
    found = {}
    for page in PAGES:
        for module, names in IMPORT.findall(page.read_text()):
            for name in names.split(", "):
                found[name] = getattr(importlib.import_module(module), name)
    return found


def test_names_on_the_pages_are_found():
    assert {"Replay", "read_table", "table_file"} <= set(documented())


@pytest.mark.parametrize(("name", "found"), documented().items())
def test_an_example_calls_each_name_on_the_pages(name, found):
    calls = re.compile(rf"\b{name}\(")
    assert f"{found.__module__}.{name}" in EXAMPLES or any(
        calls.search(example.source) for test in EXAMPLES.values() for example in test.examples
    )
