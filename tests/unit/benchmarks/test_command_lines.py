"""Every benchmark starts and describes its options."""

import runpy
import sys
from pathlib import Path

import pytest

PROGRAMS = sorted((Path(__file__).parents[3] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_help(program, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(program), "--help"])
    monkeypatch.setattr(sys, "path", [str(program.parent), *sys.path])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(program), run_name="__main__")
    assert not stopped.value.code
    assert "--help" in capsys.readouterr().out


def test_torch_is_imported_with_the_policy_of_the_workflow():
    for program in PROGRAMS:
        before, has_torch, _ = program.read_text().partition("\nimport torch\n")
        if has_torch:  # busy.py sets it for each of its processes
            assert 'os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")' in before, program.name
