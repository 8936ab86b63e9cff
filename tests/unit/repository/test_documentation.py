"""What the documents say of files, commands and configuration exists."""

import re
from pathlib import Path

import pytest
import yaml

from nontrivial.planning.configuration import complete, read_schema

ROOT = Path(__file__).parents[3]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("config/*.md")])
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(path):
    for link in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        if "://" not in link:
            assert (path.parent / link).exists(), link


def test_the_example_configuration_is_valid():
    (example,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    schema = read_schema(ROOT / "config" / "schema.yaml")
    filled = complete(yaml.safe_load(example), schema)
    assert filled["trainings"]["mine"]["seeds"] == [0, 1, 2]


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    documents = README + (ROOT / "docs" / "performance.md").read_text()
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", documents, re.MULTILINE))
    assert named
    assert named <= targets


def test_results_shown_are_those_of_the_published_configuration():
    published = yaml.safe_load((ROOT / "docs" / "results" / "config.yaml").read_text())
    complete(published, read_schema(ROOT / "config" / "schema.yaml"))
    tables = (ROOT / "docs" / "results" / "tables" / "paper.md").read_text()
    shown = re.findall(r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]", README)
    assert len(shown) >= 16
    for cell in shown:
        assert cell in tables
