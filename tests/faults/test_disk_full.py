"""A full disk at each stage: a clear error, no partial files, the same results with space again."""

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
# Which results are removed, the one that is then asked for, and the bytes that are free meanwhile.
# From the last stage to the first, so that each finds the files that it reads.
STAGES = {
    "figures": (["figures/layers-digits.*"], "figures/layers-digits.svg", 8 << 10),
    "tables": (["tables/paper.*"], "tables/paper.csv", 0),
    "aggregate": (
        ["summary.parquet", "across_seeds.parquet", "margins.parquet"],
        "summary.parquet",
        20 << 10,
    ),
    "evaluate": (["digits/**/shortcut-2.parquet"], "digits/**/shortcut-2.parquet", 0),
    "examples": (["t1/**/examples.parquet"], "t1/**/examples.parquet", 4 << 10),
    "predict": (["digits/**/predictions"], "digits/**/predictions/baseline.json", 4 << 10),
    "train": (["networks/t1-pspnet"], "networks/t1-pspnet/seed0/model.json", 100 << 20),
    "prepare, its tables": (["data/t1"], "data/t1/dataset.json", 312 << 10),
    "prepare": (["data/digits"], "data/digits/dataset.json", 1 << 20),
}


def contents(results):
    """Return what must be there again: digests of files, rows where a file also holds seconds."""
    found = {}
    for path in sorted(results.rglob("*")):
        name = str(path.relative_to(results))
        other = ".kept" in name or name.startswith("benchmarks/")
        if not path.is_file() or other or path.suffix == ".log" or name == ".lock":
            continue
        if path.name == "training.parquet":
            found[name] = pq.read_table(path, columns=["epoch", "loss", "val", "test"]).to_pylist()
        elif path.parent.name == "predictions" and path.suffix == ".parquet":
            found[name] = pq.read_table(path).to_pydict()
        else:
            found[name] = file_digest(path)
    return found


def refused(done, results, stage):
    """Check that a run ended with one clear line about the disk and left no partial files."""
    printed = done.stdout + done.stderr
    assert done.returncode != 0, stage
    assert "Traceback" not in printed, printed
    lines = re.findall(r"^error: .*$", printed, re.MULTILINE)
    assert lines, printed
    for line in lines:
        assert re.search("No space left on device|MiB are free", line), line
        assert str(results.name) in line
    assert damaged(results) == [], stage
    assert [path for path in results.rglob(".*") if ".part" in path.name] == [], stage


def fill_during_training(disk, training):
    """Retrain a network on a disk that fills up while it trains."""
    shutil.rmtree(disk.results / "networks" / training)
    log = disk.results / f"logs/train/{training}-seed0.log"
    log.unlink()

    def fill_when_it_trains():
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (
            log.exists() and "batch size" in log.read_text()
        ):
            time.sleep(0.01)
        disk.fill(1 << 20)

    filler = threading.Thread(target=fill_when_it_trains)
    filler.start()
    often = "checkpoint_minutes=0.001"
    wanted = f"results/networks/{training}/seed0/model.json"
    done = disk.workflow.snakemake("--cores", "2", wanted, "--config", often)
    filler.join()
    assert "no checkpoint: No space left on device" in done.stderr
    return done


def test_full_disks_are_named_and_with_space_the_results_are_the_same(finished_once, tmp_path):
    with mounted(finished_once, tmp_path / "workflow") as disk:
        before = contents(disk.results)
        for stage, (patterns, wanted, space) in STAGES.items():
            (target,) = disk.results.glob(wanted)
            for pattern in patterns:
                for path in list(disk.results.glob(pattern)):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            disk.fill(space)
            name = str(target.relative_to(disk.workflow.folder))
            done = disk.workflow.snakemake("--cores", "2", name)
            disk.empty()
            refused(done, disk.results, stage)
        disk.workflow.run("data")
        done = fill_during_training(disk, "digits-resnet18")
        disk.empty()
        refused(done, disk.results, "during a training")
        disk.workflow.run()
        assert contents(disk.results) == before
