"""Folders that the test processes of one run share."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import made_once


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """A function that returns the temporary folders of a worker."""
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")

    def of(number: int):
        folder = tmp_path / f"gw{number}"
        folder.mkdir()
        return SimpleNamespace(getbasetemp=lambda: folder)

    return of


def test_one_worker_makes_it_and_all_wait_for_it(worker):
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        folder.mkdir()
        (folder / "file").write_text("content")

    def read(factory) -> str:
        return (made_once(factory, "shared", make) / "file").read_text()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, [worker(number) for number in range(4)])) == ["content"] * 4
    assert len(made) == 1


def test_without_workers_it_is_in_the_runs_folder(worker, monkeypatch):
    monkeypatch.delenv("PYTEST_XDIST_WORKER")
    factory = worker(0)
    assert made_once(factory, "shared", Path.mkdir).parent == factory.getbasetemp()


def test_what_could_not_be_made_is_made_again_from_the_start(worker):
    def fail(folder: Path) -> None:
        folder.mkdir()
        raise ValueError("half made")

    with pytest.raises(ValueError, match="half made"):
        made_once(worker(0), "shared", fail)
    assert made_once(worker(1), "shared", Path.mkdir).is_dir()
