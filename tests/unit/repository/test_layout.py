"""The library's layout: imports in one direction, names without doubles, tests that mirror it."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPTS = ROOT / "workflow" / "scripts"
LIBRARY = SCRIPTS / "nontrivial"
UNIT_TESTS = ROOT / "tests" / "unit"

# A package may import from the tiers below its own.
TIERS = (
    {"execution", "inference", "formats"},
    {"networks", "data"},
    {"targets", "replay", "training"},
    {"display"},
    {"planning"},
)
TIER_OF = {package: tier for tier, packages in enumerate(TIERS) for package in packages}
# Imports inside one tier, as (importer, imported).
WITHIN_A_TIER = {("formats", "execution")}
VAGUE = {"util", "utils", "helper", "helpers", "misc"}
OTHER_TEST_FOLDERS = {"programs", "benchmarks", "repository"}


@dataclass(frozen=True)
class Module:
    """A module or package of the library."""

    path: Path

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"

    @property
    def parts(self) -> tuple[str, ...]:
        """The names from ``nontrivial`` down."""
        relative = self.path.relative_to(SCRIPTS).with_suffix("").parts
        return relative[:-1] if self.is_package else relative

    @property
    def name(self) -> str:
        return self.parts[-1]

    @property
    def dotted(self) -> str:
        return ".".join(self.parts)

    @property
    def top_package(self) -> str:
        """The package right below ``nontrivial`` that it is in, or its own name."""
        return self.parts[1] if len(self.parts) > 1 else ""

    @property
    def syntax_tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"))

    def imports(self) -> Iterator[str]:
        """Yield the dotted name of each import, those inside functions too."""
        package = self.parts if self.is_package else self.parts[:-1]
        for node in ast.walk(self.syntax_tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + 1] if node.level else ()
                start = ".".join([*base, *([node.module] if node.module else [])])
                yield from (f"{start}.{alias.name}" for alias in node.names)


MODULES = [Module(path) for path in sorted(LIBRARY.rglob("*.py"))]
NAMED = [module for module in MODULES if len(module.parts) > 1]


def may_import(importer: str, imported: str) -> bool:
    """Return whether a top package may import from another one."""
    if imported in (importer, "errors"):
        return True
    if importer == "errors":
        return False
    below = TIER_OF[imported] < TIER_OF[importer]
    return below or (importer, imported) in WITHIN_A_TIER


def plurals(name: str) -> set[str]:
    return {f"{name}s", f"{name}es", f"{name.removesuffix('y')}ies"}


def test_every_package_has_a_tier():
    assert {module.top_package for module in NAMED} == set(TIER_OF) | {"errors"}


def test_imports_go_one_way():
    refused = [
        f"{module.dotted} imports {name}"
        for module in NAMED
        for name in module.imports()
        if name.startswith("nontrivial.") and not may_import(module.top_package, name.split(".")[1])
    ]
    assert not refused, "\n".join(refused)


def test_the_library_imports_no_program():
    programs = {path.stem for path in SCRIPTS.glob("*.py")}
    refused = [
        f"{module.dotted} imports {name}"
        for module in MODULES
        for name in module.imports()
        if name.split(".")[0] in programs
    ]
    assert not refused, "\n".join(refused)


def test_no_name_or_its_plural_is_used_twice():
    doubles = [
        f"{one.dotted} and {other.dotted}"
        for one, other in combinations(NAMED, 2)
        if one.name == other.name
        or one.name in plurals(other.name)
        or other.name in plurals(one.name)
    ]
    assert not doubles, "\n".join(doubles)


def test_names_are_not_those_of_the_standard_library():
    taken = [module.dotted for module in NAMED if module.name in sys.stdlib_module_names]
    assert not taken, "\n".join(taken)


def test_names_say_what_is_inside():
    vague = [module.dotted for module in NAMED if VAGUE & set(module.name.split("_"))]
    assert not vague, "\n".join(vague)


def test_packages_have_docstrings():
    missing = [
        module.dotted
        for module in MODULES
        if module.is_package and not ast.get_docstring(module.syntax_tree)
    ]
    assert not missing, "\n".join(missing)


def test_unit_tests_mirror_the_packages():
    folders = {path.parent.relative_to(UNIT_TESTS).as_posix() for path in UNIT_TESTS.rglob("*.py")}
    assert folders == set(TIER_OF) | OTHER_TEST_FOLDERS


# The rules above must be able to fail.


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("formats", "execution", True),
        ("execution", "formats", False),
        ("inference", "formats", False),
        ("inference", "execution", False),
        ("inference", "errors", True),
        ("errors", "execution", False),
        ("networks", "data", False),
        ("networks", "formats", True),
        ("training", "networks", True),
        ("training", "replay", False),
        ("display", "training", True),
        ("display", "planning", False),
        ("planning", "display", True),
    ],
)
def test_direction_of_imports(importer, imported, allowed):
    assert may_import(importer, imported) == allowed


def test_every_form_of_import_is_seen(tmp_path, monkeypatch):
    path = tmp_path / "nontrivial" / "data" / "sources" / "made.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "import nontrivial.a.b\nfrom nontrivial import c\nfrom nontrivial.d import e as f\n"
        "from . import g\nfrom ..volumes import h\n"
        "def late():\n    from ...i.j import k\n"
    )
    monkeypatch.setattr(f"{__name__}.SCRIPTS", tmp_path)
    assert list(Module(path).imports()) == [
        "nontrivial.a.b",
        "nontrivial.c",
        "nontrivial.d.e",
        "nontrivial.data.sources.g",
        "nontrivial.data.volumes.h",
        "nontrivial.i.j.k",
    ]
