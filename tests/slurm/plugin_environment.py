"""An environment like that of `make slurm`, without installing again what this one has."""

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _packages(lock: str) -> dict[str, str]:
    """Return each package's part of a lock file by the package's name."""
    text = (ROOT / lock).read_text().strip()
    return {part.partition("==")[0]: part for part in re.split(r"\n(?=[a-z])", text)}


def make(folder: Path) -> Path:
    """Make the environment and return its Python.

    It sees this one's packages, which tests/unit/test_profiles.py holds to the same releases, and
    has the rest of requirements-slurm.lock in itself, so that this one stays without it.

    Args:
        folder: where to make it; does not exist.

    Raises:
        CalledProcessError: the missing packages could not be installed.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (library,) = folder.glob("lib/python*/site-packages")
    (library / "installed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    installed, all_of_it = _packages("requirements.lock"), _packages("requirements-slurm.lock")
    missing = [part for name, part in all_of_it.items() if name not in installed]
    (folder / "requirements.lock").write_text("\n".join([*missing, ""]))
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps"]
    options = ["--quiet", "--disable-pip-version-check", "--require-hashes"]
    install = [*pip, *options, "-r", folder / "requirements.lock"]
    subprocess.run(install, check=True, capture_output=True, text=True)
    return python
