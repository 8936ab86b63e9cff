import json
import subprocess
import sys
from pathlib import Path

import pytest
import raw_examples as raw

import prepare_dataset as program
from nontrivial.errors import UserError
from nontrivial.formats import samples

SCRIPT = Path(program.__file__)


def run(tmp_path, settings):
    options = {
        "--name": "t1",
        "--settings": json.dumps(settings),
        "--data-dir": tmp_path,
        "--output": tmp_path / "out",
        "--log": tmp_path / "log.txt",
    }
    return subprocess.run(
        [sys.executable, SCRIPT, *(word for option in options.items() for word in option)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_from_the_command_line(tmp_path):
    raw.write_folders(tmp_path)
    done = run(tmp_path, raw.volume_settings())
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "dataset.json").is_file()
    assert "prepared" in (tmp_path / "log.txt").read_text()


def test_an_error_is_one_line_and_leaves_no_files(tmp_path):
    names = raw.write_folders(tmp_path)
    (tmp_path / "labels" / names[0]).unlink()
    done = run(tmp_path, raw.volume_settings())
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: data set t1: ")
    assert (tmp_path / "log.txt").read_text() == done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"source": "mnist"}, "datasets.t1.source: 'mnist' is not one of cifar10"),
        ({"colour": 1}, "datasets.t1.colour: is not a key of this source"),
        ({"axis": None}, "datasets.t1.axis: is missing"),
    ],
)
def test_invalid_settings(tmp_path, change, problem):
    settings = raw.volume_settings() | change
    if settings["axis"] is None:
        del settings["axis"]
    with pytest.raises(UserError, match=problem):
        program.prepare_dataset("t1", settings, tmp_path, tmp_path / "out")


def test_a_damaged_table_of_samples(tmp_path):
    path = tmp_path / "samples.parquet"
    samples.write(path, [samples.Sample(source="a", label=1)])
    assert samples.read(path).to_pylist() == [
        {
            "sample": 0,
            "subject": None,
            "source": "a",
            "slice": None,
            "label": 1,
            "pixel_ml": None,
        }
    ]
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match="delete it and run the workflow again"):
        samples.read(path)
