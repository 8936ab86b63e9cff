"""Terminate this process when the one that started it is killed."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>; survives exec


def end_with_parent() -> None:
    """Make the kernel send SIGTERM to this process, or what it becomes, when its parent exits."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it has exited before the call
        signal.raise_signal(signal.SIGTERM)
