import io
import logging
import sys

import pytest

from nontrivial.training import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Replace the clock by one that advances ten seconds at every call."""
    now = iter(range(0, 100_000, 10))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(now)))


@pytest.mark.usefixtures("clock")
def test_a_log_gets_plain_lines_now_and_then(caplog):
    caplog.set_level(logging.INFO, logger="nontrivial")
    with progress.Progress(2, 6, 16) as shown:
        for _ in range(6):
            shown.step()
        shown.epoch(1, 0.5, "accuracy", 0.25, 8.0)
    assert caplog.messages == [
        "epoch 1/2, step 3/6, 2 samples/s, 1:30 left",
        "epoch 1/2, step 6/6, 2 samples/s, 1:00 left",
        "epoch 1/2: loss 0.5000, val accuracy 0.2500, 8 samples/s, 1:10 left",
    ]


@pytest.mark.usefixtures("clock")
def test_a_resumed_training_counts_the_remaining_steps(caplog):
    caplog.set_level(logging.INFO, logger="nontrivial")
    with progress.Progress(2, 6, 16, done=6) as shown:
        shown.epoch(1, 0.5, "accuracy", 0.25, 8.0)  # its steps were done before the interruption
        for _ in range(3):
            shown.step()
    assert caplog.messages == [
        "epoch 1/2: loss 0.5000, val accuracy 0.2500, 8 samples/s",
        "epoch 2/2, step 3/6, 1 samples/s, 0:40 left",
    ]


def test_a_terminal_gets_a_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.Progress(1, 4, 16) as shown:
        for _ in range(4):
            shown.step()
        shown.epoch(1, 0.5, "dice", 0.25, 8.0)
    assert "4/4" in terminal.getvalue()
    assert "val dice 0.2500" in terminal.getvalue()
