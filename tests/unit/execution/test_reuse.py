"""The last result of a job, kept aside."""

import os

import pytest

from nontrivial.execution.reuse import keep, kept, recall


@pytest.fixture(params=["hard links", "copies"])
def results(request, tmp_path, monkeypatch):
    if request.param == "copies":

        def refuse(source, target):
            raise OSError("no hard links here")

        monkeypatch.setattr(os, "link", refuse)
    paths = [tmp_path / "result", tmp_path / "digest"]
    for path in paths:
        path.write_text(f"first {path.name}")
    return paths


def test_a_removed_result_comes_back(results):
    keep(results)
    for path in results:
        path.unlink()
    recall(results)
    assert [path.read_text() for path in results] == ["first result", "first digest"]
    recall(results)  # again, onto themselves
    assert [path.read_text() for path in results] == ["first result", "first digest"]
    assert sorted(p.name for p in results[0].parent.iterdir()) == [".kept", "digest", "result"]


def test_a_result_written_anew_leaves_the_kept_one_alone_until_it_is_kept(results):
    keep(results)
    for path in results:
        path.unlink()
        path.write_text("second")
    assert kept(results[0]).read_text() == "first result"
    keep(results)
    assert kept(results[0]).read_text() == "second"


def test_a_keep_that_breaks_off_leaves_no_voucher_for_another_result(results):
    keep(results)
    results[1].unlink()
    with pytest.raises(FileNotFoundError):
        keep(results)
    assert not kept(results[1]).exists()
