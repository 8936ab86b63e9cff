"""Commands that only read change nothing, take no lock and print nothing about GPUs."""

import os
import re

import pytest
from conftest import CONFIG

# Snakemake's own files: a log of each command, and a cache of the files' states.
OF_SNAKEMAKE = re.compile(r"\.snakemake/(log|iocache)/|.*__pycache__/")
NAMED_BY_CONTENT = re.compile(r"results/(specs|kernels)/[^/]+|\.snakemake/nontrivial/[^/]+\.json")
COMMANDS = {  # and a part of what each prints
    "--lint": "your workflow is in a good condition",
    "--list-rules": "plot_layers",
    "--list-target-rules": "figures",
    "--summary": "params changed",
    "--summary --cores 2": "params changed",
    "--rulegraph": "digraph",
    "--report page.html": "Report created",
}


@pytest.fixture
def stale(finished):
    """Return a finished run in which all but the networks is stale, and without a lock file."""
    finished.config = {**CONFIG, "margin": 0.02, "batch_by": "target"}
    for path in finished.path(".snakemake/nontrivial").iterdir():
        path.unlink()
    finished.path("results/.lock").unlink()
    return finished


def contents(workflow):
    found = {}
    for folder, _, names in os.walk(workflow.folder):
        for name in names:
            path = os.path.join(folder, name)
            short = os.path.relpath(path, workflow.folder)
            if not OF_SNAKEMAKE.match(short):
                status = os.stat(path)
                found[short] = (status.st_size, status.st_mtime_ns, status.st_ino)
    return found


def test_commands_that_only_read(stale):
    before = contents(stale)
    for command, expected in COMMANDS.items():
        done = stale.snakemake(*command.split())
        text = done.stdout + done.stderr
        assert done.returncode == 0, f"{command}: {text}"
        assert "Traceback" not in text
        assert expected in text, command
        assert "GPU" not in text, command
        after = contents(stale)
        if "--report" in command:
            assert after.pop("page.html")[0] > 0
            stale.path("page.html").unlink()
        assert after == before, command


def test_a_dry_run_adds_only_files_that_are_named_by_their_content(stale):
    before = contents(stale)
    done = stale.snakemake("-n", "--quiet")
    assert done.returncode == 0, done.stderr
    assert "GPU" not in done.stdout + done.stderr
    after = contents(stale)
    assert {path: after.get(path) for path in before} == before
    assert all(NAMED_BY_CONTENT.fullmatch(path) for path in set(after) - set(before))
