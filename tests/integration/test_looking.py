"""Commands that only look change nothing, take no lock and say nothing of GPUs."""

import os
import re

import pytest
from conftest import CONFIG

# Snakemake's own notes: a log of each command, and what it has seen of the files.
OF_SNAKEMAKE = re.compile(r"\.snakemake/(log|iocache)/|.*__pycache__/")
NAMED_BY_CONTENT = re.compile(r"results/(specs|kernels)/[^/]+|\.snakemake/nontrivial/[^/]+\.json")
COMMANDS = {
    "--lint": None,
    "--list-rules": "plot_layers",
    "--list-target-rules": "figures",
    "--summary": "params changed",
    "--summary --cores 2": "params changed",
    "--rulegraph": "digraph",
    "--report page.html": None,
}


@pytest.fixture
def stale(finished):
    """A finished run in which all but the networks is stale, and which nobody has locked yet."""
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


def test_commands_that_only_look(stale):
    before = contents(stale)
    for command, said in COMMANDS.items():
        done = stale.snakemake(*command.split())
        text = done.stdout + done.stderr
        assert "Traceback" not in text
        assert "GPU" not in text, command
        if said:
            assert done.returncode == 0, text
            assert said in text, command
        after = contents(stale)
        after.pop("page.html", None)
        assert after == before, command


def test_a_dry_run_adds_only_files_that_are_named_by_their_content(stale):
    before = contents(stale)
    done = stale.snakemake("-n", "--quiet")
    assert done.returncode == 0, done.stderr
    assert "GPU" not in done.stdout + done.stderr
    after = contents(stale)
    assert {path: after.get(path) for path in before} == before
    assert all(NAMED_BY_CONTENT.fullmatch(path) for path in set(after) - set(before))
