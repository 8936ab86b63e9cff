"""A results folder that cannot be written to: a clear error before any work, nothing lost."""

import pytest
from small_disk import mounted

from nontrivial.formats.canonical import file_digest

pytestmark = pytest.mark.slow
TOLD = "results_dir: results cannot be written: Read-only file system ("


@pytest.fixture
def disk(finished_once, tmp_path):
    with mounted(finished_once, tmp_path / "workflow") as disk:
        yield disk


def contents(disk):
    return {path: file_digest(path) for path in disk.results.rglob("*") if path.is_file()}


@pytest.mark.parametrize("removed", [None, "t1/seed0/zero/examples.parquet"])
def test_a_read_only_folder_is_told_before_any_work_and_loses_nothing(disk, removed):
    config = disk.workflow.config
    if removed is None:
        disk.workflow.config = {**config, "margin": 0.02}
    else:
        (disk.results / removed).unlink()
    before = contents(disk)
    disk.remount("ro")
    done = disk.workflow.snakemake("--cores", "2", *([f"results/{removed}"] if removed else []))
    disk.remount("rw")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert TOLD in said
    assert "Traceback" not in said
    assert contents(disk) == before
    disk.workflow.config = config
    if removed:
        disk.workflow.run(f"results/{removed}")
    assert disk.workflow.stale() == set()


def test_finished_results_may_be_read_only(disk):
    disk.remount("ro")
    disk.workflow.run()
    disk.remount("rw")
