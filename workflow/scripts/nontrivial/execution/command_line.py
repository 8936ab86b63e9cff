"""Run a workflow program: command line from a function's signature, log file, exit status."""

import argparse
import inspect
import json
import logging
import sys
import typing
from collections.abc import Callable
from pathlib import Path

from nontrivial.errors import Interrupted, UserError

log = logging.getLogger("nontrivial")


def json_object(text: str) -> dict:
    """Parse a rule's settings: one JSON object.

    Raises:
        argparse.ArgumentTypeError: the text is not a JSON object.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("not a JSON object")
    return value


def parser(function: Callable[..., object]) -> argparse.ArgumentParser:
    """Build the command line of a function: one option per parameter, of the same name.

    ``checkpoint_minutes: float = 10`` becomes ``--checkpoint-minutes``, optional. A ``dict`` is
    read as a JSON object, a ``list`` takes one or more values. The help text is the function's
    docstring.
    """
    built = argparse.ArgumentParser(
        description=inspect.getdoc(function), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    hints = typing.get_type_hints(function)
    for name, parameter in inspect.signature(function).parameters.items():
        required = parameter.default is inspect.Parameter.empty
        options: dict = {"required": True} if required else {"default": parameter.default}
        kind = hints[name]
        if typing.get_origin(kind) is list:
            options["nargs"] = "+"
            (kind,) = typing.get_args(kind)
        elif type(None) in typing.get_args(kind):  # T | None
            kind = next(part for part in typing.get_args(kind) if part is not type(None))
        kind = json_object if kind is dict else kind
        built.add_argument(f"--{name.replace('_', '-')}", type=kind, **options)
    built.add_argument("--log", type=Path, help="also write messages to this file")
    return built


class _LogFile(logging.FileHandler):
    """A log file that loses lines when the disk is full; standard error still shows them."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        """Do nothing."""


def run(function: Callable[..., object]) -> None:
    """Call a function with the options of the command line, then exit.

    Messages go to standard error and to the file named by ``--log``. The exit status is 0 on
    success; 1 for a :class:`UserError` or a full or read-only disk, reported in one line;
    128 + n after signal n; and 2, with a traceback, for a defect of the program.
    """
    arguments = vars(parser(function).parse_args())
    log_file = arguments.pop("log")
    call(lambda: function(**arguments), log_file)


def call(function: Callable[[], object], log_file: Path | None = None) -> None:
    """Call a function, then exit; messages and exit status are those of :func:`run`."""
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if log_file:
        try:
            log_file.parent.mkdir(parents=True, exist_ok=True)
            handlers.append(_LogFile(log_file, mode="w", encoding="utf-8"))
        except OSError as error:
            print(f"error: {explain(error)}", file=sys.stderr)
            sys.exit(1)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=handlers)
    try:
        function()
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
    """Describe an operating-system error in one line: the reason, the file and what to check."""
    where = f": {error.filename}" if error.filename else ""
    reason = error.strerror or str(error) or type(error).__name__
    return f"{reason}{where} (check the path, its permissions and the free space)"
