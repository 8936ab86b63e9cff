"""What the Makefile runs."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def commands(*arguments: str) -> list[list[str]]:
    """Return the commands that make would run, as words."""
    variables = [f"BIN={Path(sys.executable).parent}"]
    make = ["make", "-n", "-o", ".venv/.installed", *variables, *arguments]
    # These tests run under make themselves, which hands its own options down.
    own = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}
    environment = {name: value for name, value in os.environ.items() if name not in own}
    done = subprocess.run(
        make, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return [shlex.split(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("text", "results"),
    [
        ("", "results"),
        ("results_dir: results/a # comment", "results/a"),
        ("results_dir: 'which layers'", "which layers"),
        ('results_dir: "a: b"', "a: b"),
    ],
)
def test_the_report_is_written_where_the_configuration_says(tmp_path, text, results):
    config = tmp_path / "my config.yaml"
    config.write_text(f"margin: 0.01\n{text}\n")
    snakemake, _ = commands("report", f"CONFIG={config}", "ARGS=--config data_dir=raw")
    assert snakemake[1:] == [
        *("--configfile", str(config)),
        *("--config", "data_dir=raw"),
        *("--quiet", "host", "reason", "rules"),
        *("--report", f"{results}/report.html"),
    ]


def test_lint_checks_style_of_python_and_rules_and_types():
    run = [Path(words[0]).name for words in commands("lint")]
    assert run == ["ruff", "ruff", "snakefmt", "mypy"]
