"""Reuse of a job's earlier result."""

import os

import pytest

from nontrivial.execution.reuse import FOLDER, reused


@pytest.fixture(params=["hard links", "copies"])
def outputs(request, tmp_path, monkeypatch):
    if request.param == "copies":

        def refuse(source, target):
            raise OSError("no hard links here")

        monkeypatch.setattr(os, "link", refuse)
    return [tmp_path / "result", tmp_path / "digest"]


def make(outputs, identity, text):
    """Act as a job; return whether it had to write its outputs."""
    with reused(outputs, identity) as is_done:
        if not is_done:
            for path in outputs:
                path.write_text(f"{text} {path.name}")
    return not is_done


def remove(outputs):
    """Remove the outputs, as Snakemake does before a job."""
    for path in outputs:
        path.unlink()


def test_a_removed_result_is_restored(outputs):
    assert make(outputs, "a", "first")
    remove(outputs)
    assert not make(outputs, "a", "second")
    assert [path.read_text() for path in outputs] == ["first result", "first digest"]
    assert not make(outputs, "a", "third")  # onto itself
    names = sorted(path.name for path in outputs[0].parent.iterdir())
    assert names == [FOLDER, "digest", "result"]


def test_another_identity_is_another_result(outputs):
    make(outputs, "a", "first")
    remove(outputs)
    assert make(outputs, "b", "second")
    assert outputs[0].read_text() == "second result"
    remove(outputs)
    assert make(outputs, "a", "third")  # only the last result is kept


def test_a_result_with_another_name_is_another_result(outputs):
    make(outputs, "a", "first")
    others = [path.with_name(f"other-{path.name}") for path in outputs]
    assert make(others, "a", "second")
    remove(outputs)
    assert not make(outputs, "a", "third")


@pytest.mark.parametrize("name", ["result", "digest", "result.json"])
@pytest.mark.parametrize("damage", ["removed", "empty", "one byte"])
def test_a_damaged_copy_is_not_reused(outputs, name, damage):
    make(outputs, "a", "first")
    remove(outputs)
    path = outputs[0].parent / FOLDER / name
    content = path.read_bytes()
    path.unlink()
    if damage == "empty":
        path.touch()
    elif damage == "one byte":
        path.write_bytes(content[:-3] + b"?" + content[-2:])
    assert make(outputs, "a", "second")
    assert outputs[0].read_text() == "second result"


def test_a_job_that_fails_keeps_the_earlier_result_and_leaves_no_voucher(outputs):
    make(outputs, "a", "first")

    def fail():
        with reused(outputs, "b") as is_done:
            assert not is_done
            outputs[0].unlink()
            outputs[0].write_text("half")
            raise RuntimeError("failed")

    with pytest.raises(RuntimeError, match="failed"):
        fail()
    assert not outputs[1].exists()
    assert not make(outputs, "a", "second")
    assert outputs[0].read_text() == "first result"


def test_outputs_that_are_missing_at_the_end_are_an_error(outputs):
    make(outputs, "a", "first")

    def forget():
        with reused(outputs, "b"):
            outputs[0].unlink()
            outputs[0].write_text("second result")

    with pytest.raises(FileNotFoundError):
        forget()
    assert make(outputs, "b", "third")
    remove(outputs)
    assert not make(outputs, "b", "fourth")
