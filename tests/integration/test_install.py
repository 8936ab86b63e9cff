"""`pip install .` gives a library that needs neither the repository nor the workflow's packages."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# What the documentation shows to users of the library.
(SNIPPET,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "usage.md").read_text(), re.DOTALL)
# Makes some packages impossible to import.
ONLY_THE_BASE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in REFUSED:
            raise ModuleNotFoundError(f"{name} is not installed", name=name)

REFUSED = {REFUSED!r}
sys.meta_path.insert(0, Refuse())
"""
MODULE_OF = {
    "segmentation-models-pytorch": "segmentation_models_pytorch",
    "scikit-learn": "sklearn",
    "pillow": "PIL",
    "pyyaml": "yaml",
}


def names(requirements: list[str]) -> set[str]:
    return {re.match(r"[a-z0-9-]+", requirement)[0] for requirement in requirements}


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """Return the Python of an environment with the built wheel and the packages of this one."""
    folder = tmp_path_factory.mktemp("install")
    checkout = folder / "checkout"
    for name in ("workflow/scripts", "resources/kernels"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, checkout / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    offline = ["--no-deps", "--no-index"]
    build = [*pip, "wheel", *offline, "--no-build-isolation", "-w", folder, checkout]
    subprocess.run(build, check=True)
    shutil.rmtree(checkout)  # the library must not read anything from there

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "--python", python, "install", *offline, wheel], check=True)
    libraries = [path for path in sys.path if Path(path).name == "site-packages"]
    (own,) = (folder / "venv").glob("lib/python*/site-packages")
    (own / "tested.pth").write_text("\n".join(libraries) + "\n")
    return python


def run(python: Path, code: str, folder: Path) -> str:
    done = subprocess.run(
        [python, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_engine_and_the_kernel_tables_work_from_another_folder(installed, tmp_path):
    printed = run(installed, SNIPPET, tmp_path)
    assert "{'baseline': 'ok', 'first': 'cut'}" in printed
    assert "36 conv1" in printed


def test_the_engine_needs_the_base_dependencies_only(installed, tmp_path):
    extras = PROJECT["optional-dependencies"]
    beyond = names([*extras["sweep"], *extras["workflow"]]) - {"nontrivial"}
    refused = {MODULE_OF.get(name, name) for name in beyond}
    assert {"snakemake", "pandas", "matplotlib", "nibabel", "torchvision"} <= refused
    run(installed, ONLY_THE_BASE.replace("{REFUSED!r}", repr(refused)) + SNIPPET, tmp_path)


def test_the_installed_library_is_typed(installed, tmp_path):
    typed = "(files('nontrivial') / 'py.typed').is_file()"
    run(installed, f"from importlib.resources import files; assert {typed}", tmp_path)
