"""Being asked to end: noticed at once, obeyed where the work can be kept."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from nontrivial.errors import Interrupted
from nontrivial.execution.command_line import log

# SIGTERM from a cluster or a service manager, SIGINT from Ctrl-C, SIGHUP from a closed terminal.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Interruption:
    """Whether a signal has come."""

    def __init__(self) -> None:
        """Know of none."""
        self._number: int | None = None

    def notice(self, number: int, _frame: object) -> None:
        """Remember the first signal; later ones ask for the same."""
        if self._number is None:
            self._number = number
            log.info("%s: stopping", signal.Signals(number).name)

    def check(self) -> None:
        """Do nothing, unless a signal has come.

        Raises:
            Interrupted: one has.
        """
        if self._number is not None:
            raise Interrupted(self._number)


@contextmanager
def noticed() -> Iterator[Interruption]:
    """Let the signals be noticed, instead of ending the process, until the block is left.

    What the process was told to ignore (SIGHUP under nohup, say) stays ignored.
    """
    interruption = Interruption()
    before = {
        number: signal.signal(number, interruption.notice)
        for number in SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
