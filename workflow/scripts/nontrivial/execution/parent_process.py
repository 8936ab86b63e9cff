"""What happens to a process when the one that started it is killed."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>; outlives exec


def end_with_parent() -> None:
    """Have this process, and the program that it becomes, end with the one that started it."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it has ended just now
        signal.raise_signal(signal.SIGTERM)
