"""The conda environments and the lock file agree."""

import ast
import re
import sys
from pathlib import Path

import pytest
import yaml

from nontrivial.planning.fingerprint import module_file

ROOT = Path(__file__).parents[3]
LOCK = (ROOT / "requirements.lock").read_text()


def locked():
    pins = {}
    for name, version, marker in re.findall(
        r"^([a-z0-9-]+)==([^ ;\\]+)(?: ; (.*?))? \\$", LOCK, re.MULTILINE
    ):
        if "python_full_version >= '3.12'" not in marker:
            pins[name] = version
    return pins


@pytest.mark.parametrize("path", sorted((ROOT / "envs").glob("*.yaml")), ids=lambda p: p.stem)
def test_environments_pin_what_the_lock_file_pins(path):
    environment = yaml.safe_load(path.read_text())
    assert "python=3.11" in environment["dependencies"]
    (packages,) = [part["pip"] for part in environment["dependencies"] if isinstance(part, dict)]
    pins = locked()
    for package in packages:
        name, _, version = package.partition("==")
        assert pins[name] == version


def test_rules_name_environments_that_exist():
    named = set()
    for path in (ROOT / "rules").glob("*.smk"):
        named |= set(re.findall(r'"\.\./envs/(\w+\.yaml)"', path.read_text()))
    assert named == {path.name for path in (ROOT / "envs").glob("*.yaml")}


PACKAGE_OF = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "segmentation_models_pytorch": "segmentation-models-pytorch",
}


def imported(program):
    """Return the libraries that a program imports, directly or through the library."""
    pending, seen, libraries = [program], set(), set()
    while pending:
        path = pending.pop()
        if path in seen:
            continue
        seen.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                if name.split(".")[0] == "nontrivial":
                    found = module_file(name, [ROOT / "workflow" / "scripts"])
                    pending += [found] if found else []
                elif name.split(".")[0] not in sys.stdlib_module_names:
                    libraries.add(name.split(".")[0])
    return {PACKAGE_OF.get(name, name) for name in libraries}


def rules():
    for path in sorted((ROOT / "rules").glob("*.smk")):
        for block in re.split(r"^rule ", path.read_text(), flags=re.MULTILINE)[1:]:
            program = re.search(r'code\("(\w+\.py)"', block)
            if program:
                yield program[1], re.search(r'"\.\./envs/(\w+)\.yaml"', block)[1]


@pytest.mark.parametrize(("program", "environment"), list(rules()))
def test_environments_have_what_their_programs_import(program, environment):
    text = (ROOT / "envs" / f"{environment}.yaml").read_text()
    held = set(re.findall(r"- ([a-z0-9-]+)==", text))
    assert imported(ROOT / "workflow" / "scripts" / program) <= held


def test_every_locked_file_has_a_hash_and_no_address():
    assert "://" not in LOCK
    assert "index-url" not in LOCK
    for block in re.split(r"\n(?=[a-z])", LOCK.strip()):
        if not block.startswith("#"):
            assert "--hash=sha256:" in block, block.splitlines()[0]
