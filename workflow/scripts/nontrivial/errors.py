"""Exceptions that end a program early with one line instead of a traceback."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """An error in the data, the configuration or the environment that the user can fix.

    The message is one line: what is wrong, in which file or key, and what to do. Programs print it
    without a traceback and exit with status 1.
    """


class Interrupted(Exception):  # noqa: N818  (not an error)
    """A signal asked the program to exit; its work so far is saved.

    Programs exit with the status that shells give to the signal.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        """Store the number of the signal."""
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.number = number


@contextmanager
def located(where: object) -> Iterator[None]:
    """Put a place, such as a file or folder, before the message of a user error in the block.

    Raises:
        UserError: the block raised one.
    """
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
