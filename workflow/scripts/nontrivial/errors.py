"""The one exception that stands for a mistake a person can mend."""


class UserError(Exception):
    """Something in the data, the configuration or the machine that a person can put right.

    The message is one line that says what is wrong, in which file or key, and what to do.
    Programs print it without a traceback and exit with a non-zero status.
    """
