"""The benchmark of data larger than memory trains on the stated data in bounded memory."""

import importlib.util
import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from nontrivial.data.prepared import open_checked
from nontrivial.errors import UserError
from nontrivial.formats.dataset import read_description
from nontrivial.training.recipe import read_recipe

PROGRAM = Path(__file__).parents[3] / "benchmarks" / "larger_than_memory.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("larger_than_memory_benchmark", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_data_are_prepared_and_of_the_requested_size(benchmark, tmp_path):
    nbytes = 3000 * (3 * 64 * 64 + 8)
    assert benchmark.write_data(tmp_path, nbytes + 1) == 3000
    description = read_description(tmp_path / "dataset.json")
    images, labels = open_checked(tmp_path, "train", description)
    assert images.nbytes + labels.nbytes == nbytes
    assert set(labels.tolist()) == set(range(10))
    assert len(np.unique(images[:, 0, 0, :8], axis=0)) == 3000  # no two alike
    assert images.mean() == pytest.approx(description.mean[0], abs=0.1)
    assert images.std() == pytest.approx(description.std[0], abs=0.1)


def test_the_training_program_accepts_the_settings(benchmark):
    recipe = read_recipe(benchmark.settings()["recipe"])
    assert recipe.epochs == 1
    assert recipe.batch_size == 256


@pytest.mark.slow
def test_memory_follows_the_window_and_not_the_data(tmp_path):
    command = [sys.executable, str(PROGRAM), "--folder", str(tmp_path)]
    command += ["--gib", "0.375", "--window", "32"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    larger, one_window = report["cases"]["larger"], report["cases"]["one_window"]
    assert larger["data_mib"] == 384
    assert (one_window["windows"], larger["windows"]) == (1, 13)
    # Two windows and the memory of training itself: less than half of the data.
    assert larger["peak_mib"] - larger["libraries_mib"] < 64 + 128
    assert larger["epoch_seconds"] > 0
    assert larger["samples"] * 12296 == pytest.approx(384 * 2**20, rel=1e-4)
    assert list(tmp_path.iterdir()) == []


def test_data_that_fit_into_a_window_are_refused(benchmark, tmp_path):
    arguments = benchmark.parser().parse_args(["--gib", "0.5", "--folder", str(tmp_path)])
    with pytest.raises(UserError, match=r"0\.5 GiB fit into one window"):
        benchmark.main(arguments)


LINES = {
    1: "12:memory:/job/1\n3:cpu:/\n0::/\n",
    2: "0::/user.slice/job\n",
}


@pytest.mark.parametrize(
    ("version", "folders", "parent"),
    [
        (1, ["memory/job/1"], "memory/job/1"),
        (1, ["memory"], "memory"),  # the path is relative to the host, outside the container
        (2, ["user.slice/job"], "user.slice"),
        (2, [], ""),
    ],
)
def test_groups_are_made_below_that_of_this_process(benchmark, tmp_path, version, folders, parent):
    root, own = tmp_path / "cgroup", tmp_path / "own"
    root.mkdir()
    for folder in folders:
        (root / folder).mkdir(parents=True)
    (root / "cgroup.controllers").touch()
    own.write_text(LINES[version])
    assert benchmark.parent_group(root, own) == (version, root / parent)


def test_missing_control_groups_are_reported(benchmark, tmp_path):
    with pytest.raises(UserError, match="no control groups for memory"):
        benchmark.parent_group(tmp_path, tmp_path / "absent")


def test_a_killed_training_is_reported(benchmark):
    with pytest.raises(UserError, match="memory is short; raise --limit"):
        benchmark.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])
    with pytest.raises(UserError, match="exit status 3"):
        benchmark.run([sys.executable, "-c", "raise SystemExit(3)"])


def test_a_group_limits_the_process_in_it(benchmark):
    hold = "held = bytearray(b'x') * (%d << 20); print(open('/proc/self/cgroup').read())"
    with ExitStack() as stack:
        try:
            group = stack.enter_context(benchmark.limited(256 << 20))
        except UserError as error:
            pytest.skip(str(error))
        printed = benchmark.run(group.run([sys.executable, "-c", hold % 100]))
        assert f"nontrivial-{os.getpid()}" in printed
        assert group.peak() is None or 100 << 20 < group.peak() < 256 << 20
        with pytest.raises(UserError, match="memory is short"):
            benchmark.run(group.run([sys.executable, "-c", hold % 300]))
    assert not group.folder.exists()
