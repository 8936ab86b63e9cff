"""The conda environments and the lock file agree."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
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


def test_every_locked_file_has_a_hash_and_no_address():
    assert "://" not in LOCK
    assert "--index-url" not in LOCK
    for block in re.split(r"\n(?=[a-z])", LOCK.strip()):
        if not block.startswith("#"):
            assert "--hash=sha256:" in block, block.splitlines()[0]
