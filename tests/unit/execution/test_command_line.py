"""Command lines that are built from functions."""

import subprocess
import sys
from pathlib import Path

import pytest

from nontrivial.execution.command_line import parser

SCRIPTS = Path(__file__).parents[3] / "workflow" / "scripts"


def example(
    settings: dict, files: list[Path], seed: int = 0, code: str | None = None, rate: float = 0.5
) -> None:
    """Do nothing with some options."""


def test_each_parameter_is_an_option_of_its_name_and_type():
    arguments = parser(example).parse_args(
        ["--settings", '{"a": 1}', "--files", "x", "y", "--seed", "3"]
    )
    assert vars(arguments) == {
        "settings": {"a": 1},
        "files": [Path("x"), Path("y")],
        "seed": 3,
        "code": None,
        "rate": 0.5,
        "log": None,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--files", "x"], "--settings"),
        (["--settings", "[1]", "--files", "x"], "not a JSON object"),
        (["--settings", "{", "--files", "x"], "not JSON"),
        (["--settings", "{}", "--files", "x", "--seed", "one"], "--seed"),
    ],
)
def test_a_wrong_command_line_is_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        parser(example).parse_args(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def run(tmp_path, body):
    text = (
        "from nontrivial.errors import UserError\n"
        "from nontrivial.execution import command_line\n"
        f"def program(number: int):\n    {body}\n"
        "command_line.run(program)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", text, "--number", "7", "--log", tmp_path / "logs" / "program.log"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(SCRIPTS)},
        check=False,
    )


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ("pass", 0, ""),
        ("raise UserError(f'key: {number} is wrong')", 1, "error: key: 7 is wrong"),
        ("open('/missing/file')", 1, "/missing/file"),
        ("raise KeyError('x')", 2, "Traceback"),
    ],
)
def test_exit_status_and_message_in_the_log(tmp_path, body, status, message):
    done = run(tmp_path, body)
    assert done.returncode == status, done.stderr
    assert message in done.stderr
    assert message in (tmp_path / "logs" / "program.log").read_text()
    assert ("Traceback" in done.stderr) == (status == 2)
