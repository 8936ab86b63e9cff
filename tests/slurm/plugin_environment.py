"""Make an environment like that of `make slurm` from the packages of the present one."""

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

    It uses the packages of the present one (tests/unit/repository/test_profiles.py checks that both
    lock files pin the same releases) and installs only the rest of requirements-slurm.lock.

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
