import os
import signal
import subprocess
import sys

import pytest

from nontrivial.errors import Interrupted
from nontrivial.execution.interruption import SIGNALS, noticed


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_interrupts_at_the_next_check(number):
    before = signal.getsignal(number)
    with noticed() as interruption:
        interruption.check()
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted, match=f"interrupted by {number.name}") as caught:
            interruption.check()
    assert caught.value.number == number
    assert signal.getsignal(number) is before


def test_further_signals_change_nothing():
    with noticed() as interruption:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted, match="SIGTERM"):
            interruption.check()


def test_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with noticed() as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
            interruption.check()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_are_restored_after_an_error():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="inside"), noticed():
        raise ValueError("inside")
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_interrupted_program_has_the_status_of_the_signal(tmp_path):
    text = (
        "from nontrivial.execution import command_line\n"
        "from nontrivial.errors import Interrupted\n"
        "def stop():\n    raise Interrupted(15)\n"
        "command_line.run(stop)\n"
    )
    scripts = os.path.join(os.path.dirname(__file__), *[".."] * 3, "workflow", "scripts")
    done = subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.path.abspath(scripts)},
        check=False,
    )
    assert done.returncode == 143
    assert done.stderr == "interrupted by SIGTERM\n"
