"""The documentation names files, commands, rules and configuration keys that exist."""

import re
from pathlib import Path

import pytest
import yaml

from nontrivial.planning.configuration import complete, read_schema

ROOT = Path(__file__).parents[3]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("config/*.md")])
README = (ROOT / "README.md").read_text()
LIBRARY = ROOT / "workflow" / "scripts" / "nontrivial"
# Where a path in the text may start: pages name programs and modules in short.
BASES = (ROOT, LIBRARY.parent, LIBRARY, ROOT / "benchmarks")
FOLDERS = "benchmarks|config|docs|envs|profiles|resources|rules|tests|workflow"
LIBRARY_FOLDERS = "|".join(sorted(path.parent.name for path in LIBRARY.glob("*/__init__.py")))
PATH = re.compile(
    rf"(?<![\w./<>-])(?:(?:{FOLDERS}|{LIBRARY_FOLDERS})/[\w./-]*|[\w./-]+\.(?:py|smk))"
)
MODULE = re.compile(r"\bnontrivial(?:\.[a-z_]\w*)+")


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


def named_paths(text):
    """Return the paths in a page that start at one of the repository's folders or are programs."""
    return {path.rstrip("./") for path in PATH.findall(re.sub(r"\]\([^)]*\)|\w+://\S+", "]", text))}


def test_paths_are_found_in_text():
    text = "`planning/plan.py`, docs/usage.md. [x](a/b.py) https://c.org/docs/d `rules/` mine.py"
    assert named_paths(text) == {"planning/plan.py", "docs/usage.md", "rules", "mine.py"}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_and_modules_exist(path):
    text = path.read_text()
    for name in named_paths(text) - {"mine.py"}:  # the reader's own
        assert any((base / name).exists() for base in BASES), name
    for module in MODULE.findall(text):
        file = LIBRARY.parent.joinpath(*module.split("."))
        assert file.is_dir() or file.with_suffix(".py").exists(), module


def test_architecture_lists_every_package():
    text = (ROOT / "docs" / "architecture.md").read_text()
    listed = re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE)
    assert sorted(listed) == LIBRARY_FOLDERS.split("|")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_snakemake_targets_are_rules_and_come_first(path):
    rules = set()
    for file in [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")]:
        rules |= set(re.findall(r"^rule (\w+):", file.read_text(), re.MULTILINE))
    for command in re.findall(r"(?:^|`|bin/)snakemake ([^`\n#]*)", path.read_text(), re.MULTILINE):
        target = re.match(r"[a-z_]+(?= |$)", command)
        assert target is None or target[0] in rules, command
        assert not re.search(r"--configfile \S+ +(?!-)\S", command), command


def test_readme_and_architecture_stay_short():
    assert len(README.splitlines()) <= 160
    assert len((ROOT / "docs" / "architecture.md").read_text().splitlines()) <= 150
