"""The examples in docstrings run, and the names that users call have one."""

import doctest
import importlib
import pkgutil

import pytest

import nontrivial

# What a notebook or a script of a user calls.
PUBLIC = (
    "nontrivial.data.channel_statistics.ChannelStatistics",
    "nontrivial.data.example_slices.choose",
    "nontrivial.data.splits.counts",
    "nontrivial.data.volumes.label_map.LabelMap",
    "nontrivial.display.text_tables.to_csv",
    "nontrivial.inference.proportions.wilson",
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
