"""One run at a time in a results folder.

Snakemake's own lock outlives a Snakemake that was killed, and covers only the runs of one working
folder. This one belongs to the results, and the kernel releases it however a run ends.
"""

import contextlib
import errno
import fcntl
import os
import socket
import time
from pathlib import Path

from nontrivial.errors import UserError

NAME = ".lock"  # a folder that holds one is a results folder of its own
_NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def acquire(results: Path) -> bool:
    """Lock a results folder until this process exits.

    Args:
        results: the folder, made where it is missing.

    Returns:
        Whether the file system supports locks; without them nothing prevents a second run.

    Raises:
        UserError: another run has the lock, the folder cannot be written, or it holds more than
            results.
    """
    if Path.cwd().is_relative_to(results.resolve()):
        raise UserError(
            f"results_dir: {results} contains the working folder. Set it to a folder for results"
            " only"
        )
    try:
        results.mkdir(parents=True, exist_ok=True)
        # Python does not pass its file descriptors on, so a job that outlives this process holds
        # no lock.
        file = os.open(results / NAME, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(
            f"results_dir: {results} cannot be written: {error.strerror}. Check the path, its"
            " permissions and whether its file system is mounted read-only"
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.read(file, 1000).decode(errors="replace").strip()
        os.close(file)
        raise UserError(
            f"results_dir: another run uses {results} ({owner or 'unknown'}). Wait until it"
            " finishes, cancel it, or give this run another results_dir"
        ) from error
    except OSError as error:
        os.close(file)
        if error.errno in _NO_LOCKS_HERE:
            return False
        raise
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    with contextlib.suppress(OSError):  # on a full disk the owner stays unknown to other runs
        os.ftruncate(file, 0)
        os.write(file, f"process {os.getpid()} on {socket.gethostname()}, since {now}\n".encode())
    return True
