"""Times of results after the clock went back."""

import os
import time

import pytest

from nontrivial.execution.result_times import leave_the_future, mark_stale

HOUR = 3600


@pytest.fixture
def results(tmp_path):
    """Results of three moments, the newest in an hour; one has a kept copy."""
    folder = tmp_path / "results"
    (folder / "networks/.kept").mkdir(parents=True)
    now = time.time()
    for name, ahead in (("data.json", -HOUR), ("networks/model.json", 0), ("summary", HOUR)):
        path = folder / name
        path.touch()
        os.utime(path, (now + ahead, now + ahead))
    os.link(folder / "networks/model.json", folder / "networks/.kept/model.json")
    return folder


def times(folder):
    names = ("data.json", "networks/model.json", "networks/.kept/model.json", "summary")
    return [(folder / name).stat().st_mtime_ns for name in names]


def test_times_move_back_together(results):
    before = times(results)
    moved = leave_the_future(results)
    assert moved == pytest.approx(HOUR, abs=10)
    after = times(results)
    assert max(after) <= time.time_ns()
    assert {old - new for old, new in zip(before, after, strict=True)} == {before[-1] - after[-1]}
    assert leave_the_future(results) == 0
    assert times(results) == after


def test_an_empty_folder_has_no_future(tmp_path):
    assert leave_the_future(tmp_path) == 0


def test_what_is_marked_looks_older_than_all_else(results):
    mark_stale([str(results / "summary"), str(results / "missing")])
    assert (results / "summary").stat().st_mtime == 0
    assert (results / "data.json").stat().st_mtime > 0


def test_a_run_further_down_keeps_its_times(results):
    other = results / "other"
    other.mkdir()
    for name in (".lock", "summary"):
        (other / name).touch()
    tomorrow = time.time() + 24 * HOUR
    os.utime(other / "summary", (tomorrow, tomorrow))
    assert leave_the_future(results) == pytest.approx(HOUR, abs=10)
    assert (other / "summary").stat().st_mtime == pytest.approx(tomorrow)
    assert leave_the_future(other) == pytest.approx(24 * HOUR, abs=10)


def test_a_clock_a_little_ahead_and_the_lock_are_no_future(tmp_path):
    for name, ahead in (("summary", 0.5), (".lock", HOUR)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() + ahead,) * 2)
    assert leave_the_future(tmp_path) == 0


def test_no_time_comes_before_that_of_what_is_marked(results):
    in_2099 = 4_070_908_800
    os.utime(results / "summary", (in_2099, in_2099))
    leave_the_future(results)
    mark_stale([str(results / "summary")])
    assert (results / "summary").stat().st_mtime < (results / "data.json").stat().st_mtime


def test_when_a_file_was_read_is_not_forgotten(results):
    before = (results / "summary").stat().st_atime
    leave_the_future(results)
    mark_stale([str(results / "summary")])
    assert (results / "summary").stat().st_atime == before


def test_files_of_other_users_are_left_to_them(results, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "utime", refuse)
    leave_the_future(results)
    mark_stale([str(results / "summary")])
