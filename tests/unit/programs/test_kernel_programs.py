"""The command lines of list_kernels and predict_targets: exit status and one-line errors."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SCRIPTS = ROOT / "workflow" / "scripts"


def call(program, *arguments, cwd):
    return subprocess.run(
        [sys.executable, SCRIPTS / program, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_list_kernels_writes_the_table_of_a_network_in_the_working_directory(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def network(classes, channels, size, width=4):\n"
        "    first, second = nn.Conv2d(channels, width, 3), nn.Conv2d(width, 4, 3)\n"
        "    return nn.Sequential(first, nn.ReLU(), second)\n"
    )
    done = call(
        *("list_kernels.py", "--factory", "mine:network", "--output", "mine.tsv"),
        *("--input-size", 16, 24, "--channels", 1, "--arguments", '{"width": 6}'),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in (tmp_path / "mine.tsv").read_text().splitlines()]
    assert [row[1] for row in rows[1:]] == ["0", "2"]
    assert [row[2] for row in rows[1:]] == ["1", "6"]


def test_list_kernels_reports_an_error_in_one_line(tmp_path):
    done = call("list_kernels.py", "--network", "resnet19", "--output", "x.tsv", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: network 'resnet19' is unknown")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_predict_targets_reports_an_error_in_one_line_and_in_the_log(tmp_path):
    settings = {
        "network": {"name": "resnet18", "factory": "nontrivial.networks.resnets:resnet18"},
        "precision": "fp32",
        "batch_size": 2,
        "split": "test",
    }
    done = call(
        *("predict_targets.py", "--settings", json.dumps(settings), "--data", "none"),
        *("--model", "m.safetensors", "--kernels", "k.tsv", "--targets", "s.json"),
        *("--output", "p.parquet", "--digest", "p.json", "--log", "p.log"),
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: none/dataset.json: cannot be read")
    assert len(done.stderr.splitlines()) == 1
    assert (tmp_path / "p.log").read_text() == done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["p.log"]
