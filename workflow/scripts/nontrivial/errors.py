"""What ends a program early: a mistake that a person can mend, or the wish that it end."""

import signal


class UserError(Exception):
    """Something in the data, the configuration or the machine that a person can put right.

    The message is one line that says what is wrong, in which file or key, and what to do.
    Programs print it without a traceback and exit with a non-zero status.
    """


class Interrupted(Exception):  # noqa: N818  (nothing went wrong)
    """Someone asked the program to end, by a signal; what it has done so far is kept.

    Programs end with the exit status that shells give to the signal.

    Attributes:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        """Take the number of the signal."""
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number
