"""Files that appear under their final name only when they are complete."""

import subprocess
import sys

from nontrivial.execution.atomic import remove_abandoned

WRITE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from nontrivial.execution.atomic import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def die_writing(path):
    done = subprocess.run(
        [sys.executable, "-c", WRITE_AND_DIE, path],
        env={"PYTHONPATH": "workflow/scripts"},
        check=False,
    )
    assert done.returncode < 0
    assert not path.exists()


def test_partial_files_of_killed_processes_are_removed_and_nothing_else(tmp_path):
    for name in ("targets/layer-layer1.0.conv1.parquet", "no-suffix", "checkpoint.safetensors"):
        die_writing(tmp_path / name)
    others = [tmp_path / name for name in (".lock", "my.part.parquet", "targets/.hidden.json")]
    for path in others:
        path.write_text("mine")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / ".lock").touch()
    die_writing(tmp_path / "inner" / "deeper" / "file.json")
    assert len(list(tmp_path.rglob(".*.part*"))) == 4
    remove_abandoned(tmp_path, spared="checkpoint", elsewhere=".lock")
    checkpoint, inner = sorted(tmp_path.rglob(".*.part*"))
    assert checkpoint.name.startswith(".checkpoint.safetensors.")
    assert inner.parent == tmp_path / "inner" / "deeper"
    assert all(path.exists() for path in others)
