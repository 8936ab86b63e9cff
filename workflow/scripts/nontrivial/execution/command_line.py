"""What every command-line program of the workflow shares: arguments, log, exit status."""

import argparse
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from nontrivial.errors import Interrupted, UserError

log = logging.getLogger("nontrivial")


def settings_argument(text: str) -> dict:
    """Read a rule's settings, one JSON object, from the command line.

    Raises:
        argparse.ArgumentTypeError: the text is no JSON object.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("not a JSON object")
    return value


class _LogFile(logging.FileHandler):
    """A log that goes without a line that the disk has no room for: standard error has it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        """Do nothing."""


def run(parser: argparse.ArgumentParser, function: Callable[[argparse.Namespace], None]) -> None:
    """Parse the command line, run the function, and end the process.

    Adds ``--log``: messages go to standard error and, as plain lines, to that file. A
    :class:`UserError` and the errors of a full or read-only disk become one line and exit
    status 1; one that was asked to end by a signal has the exit status of that signal;
    anything else is a defect and keeps its traceback, in the log too.
    """
    parser.add_argument("--log", type=Path, help="also write messages to this file")
    arguments = parser.parse_args()
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if arguments.log:
        try:
            arguments.log.parent.mkdir(parents=True, exist_ok=True)
            handlers.append(_LogFile(arguments.log, mode="w", encoding="utf-8"))
        except OSError as error:
            print(f"error: {explain(error)}", file=sys.stderr)
            sys.exit(1)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=handlers)
    try:
        function(arguments)
    except UserError as error:
        log.error("error: %s", error)
        sys.exit(1)
    except Interrupted as error:
        log.error("%s", error)
        sys.exit(128 + error.number)
    except OSError as error:
        log.error("error: %s", explain(error))
        log.debug("", exc_info=True)
        sys.exit(1)
    except Exception:
        log.exception("error: unexpected failure; please report it with the lines below")
        sys.exit(2)


def explain(error: OSError) -> str:
    """Return in one line what is wrong with a file, which, and where to look."""
    where = f": {error.filename}" if error.filename else ""
    reason = error.strerror or str(error) or type(error).__name__
    return f"{reason}{where} (check the path, its permissions and the free space)"
