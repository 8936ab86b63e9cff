"""A results folder that cannot be written: refused before any job starts, nothing lost."""

import pytest
from small_disk import mounted

from nontrivial.formats.canonical import file_digest

pytestmark = pytest.mark.slow
SAID = "results_dir: results cannot be written: Read-only file system. "


def contents(disk):
    return {path: file_digest(path) for path in disk.results.rglob("*") if path.is_file()}


def test_a_read_only_folder_is_named_and_loses_nothing_and_may_be_finished(finished_once, tmp_path):
    with mounted(finished_once, tmp_path / "workflow") as disk:
        disk.remount("ro")
        disk.workflow.run()
        before = contents(disk)
        disk.workflow.config = {**disk.workflow.config, "margin": 0.02}
        done = disk.workflow.snakemake("--cores", "2")
        printed = done.stdout + done.stderr
        assert done.returncode != 0
        assert SAID in printed
        assert "Traceback" not in printed
        assert contents(disk) == before
        disk.remount("rw")
