"""Signals that interrupt a program where its work can be saved."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from nontrivial.errors import Interrupted
from nontrivial.execution.command_line import log

# SIGTERM: cluster or service manager; SIGINT: Ctrl-C; SIGHUP: closed terminal.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Interruption:
    """A signal that has arrived, if any."""

    def __init__(self) -> None:
        """Start without a signal."""
        self._number: int | None = None

    def notice(self, number: int, _frame: object) -> None:
        """Record the first signal; later ones change nothing."""
        if self._number is None:
            self._number = number
            log.info("%s received: stopping", signal.Signals(number).name)

    def check(self) -> None:
        """Raise if a signal has arrived.

        Raises:
            Interrupted: after a signal.
        """
        if self._number is not None:
            raise Interrupted(self._number)


@contextmanager
def noticed() -> Iterator[Interruption]:
    """Record signals inside the block instead of ending the process.

    Signals that the process ignores (SIGHUP under nohup, for example) stay ignored.
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
