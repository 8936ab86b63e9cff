"""A disk that is full in one stage or another: a clear error, nothing half-written, no harm."""

import re
import shutil
import threading
import time

import pyarrow.parquet as pq
import pytest
from small_disk import mounted
from whole_files import damaged

from nontrivial.formats.canonical import file_digest

pytestmark = pytest.mark.slow
ZERO = "digits/seed0/zero"
# What is removed, what is asked for, and the bytes that are free meanwhile.
STAGES = {
    "prepare": (["data/digits"], "results/data/digits/dataset.json", 1 << 20),
    "prepare, its tables": (["data/t1"], "results/data/t1/dataset.json", 312 << 10),
    "train": (["networks/t1-pspnet"], "results/networks/t1-pspnet/seed0/model.json", 100 << 20),
    "predict": ([f"{ZERO}/predictions"], "predictions", 16 << 10),
    "examples": (
        ["t1/seed0/zero/examples.parquet"],
        "results/t1/seed0/zero/examples.parquet",
        4 << 10,
    ),
    "evaluate": (
        [f"{ZERO}/targets/shortcut-2.parquet"],
        f"results/{ZERO}/targets/shortcut-2.parquet",
        0,
    ),
    "aggregate": (["summary.parquet", "across_seeds.parquet"], "results/summary.parquet", 20 << 10),
    "tables": (["tables/paper.csv", "tables/paper.md"], "results/tables/paper.csv", 0),
    "figures": (["figures/layers-digits.svg"], "results/figures/layers-digits.svg", 8 << 10),
}


@pytest.fixture(scope="module")
def disk(finished_once, tmp_path_factory):
    with mounted(finished_once, tmp_path_factory.mktemp("disk") / "workflow") as disk:
        yield disk


def remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def contents(results):
    """Return what must be there again: digests of files, rows where a file also holds seconds."""
    found = {}
    for path in sorted(results.rglob("*")):
        name = str(path.relative_to(results))
        if not path.is_file() or ".kept" in name or path.suffix == ".log" or name == ".lock":
            continue
        if path.name == "training.parquet":
            found[name] = pq.read_table(path, columns=["epoch", "loss", "val", "test"]).to_pylist()
        elif path.parent.name == "predictions" and path.suffix == ".parquet":
            found[name] = pq.read_table(path).to_pydict()
        else:
            found[name] = file_digest(path)
    return found


def refused(done, results):
    """Check that a run ended with one clear line about the disk and left nothing half-written."""
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "Traceback" not in said, said
    lines = re.findall(r"^error: .*$", said, re.MULTILINE)
    assert lines, said
    for line in lines:
        assert re.search("No space left on device|MiB are free", line), line
        assert str(results.name) in line
    assert damaged(results) == []
    assert [path for path in results.rglob(".*") if ".part" in path.name] == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_is_told_in_a_line_and_with_room_all_is_as_before(disk, stage):
    removed, wanted, room = STAGES[stage]
    before = contents(disk.results)
    for name in removed:
        remove(disk.results / name)
    disk.fill(room)
    done = disk.workflow.snakemake("--cores", "2", "--", wanted)
    disk.empty()
    refused(done, disk.results)
    disk.workflow.run("--", wanted)
    assert contents(disk.results) == before


def test_a_disk_that_fills_up_during_a_training_costs_its_result_and_no_more(disk):
    before = contents(disk.results)
    folder = disk.results / "networks/digits-resnet18"
    remove(folder)
    log = disk.results / "logs/train/digits-resnet18-seed0.log"
    remove(log)
    began = threading.Event()

    def fill_when_it_trains():
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (
            log.exists() and "batches of" in log.read_text()
        ):
            time.sleep(0.01)
        disk.fill(1 << 20)
        began.set()

    filler = threading.Thread(target=fill_when_it_trains)
    filler.start()
    often = "checkpoint_minutes=0.001"
    wanted = "results/networks/digits-resnet18/seed0/model.json"
    done = disk.workflow.snakemake("--cores", "2", "--config", often, "--", wanted)
    filler.join()
    assert began.is_set()
    assert "no checkpoint: No space left on device" in done.stderr
    disk.empty()
    refused(done, disk.results)
    disk.workflow.run(wanted)
    assert contents(disk.results) == before
