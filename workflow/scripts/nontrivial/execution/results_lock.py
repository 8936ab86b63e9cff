"""One workflow at a time in a results folder.

Snakemake's own lock outlives a Snakemake that was killed, and knows only the runs of one working
folder. This one belongs to the results, and the kernel takes it away whatever way a run ends.
"""

import contextlib
import errno
import fcntl
import os
import socket
import time
from pathlib import Path

from nontrivial.errors import UserError

NAME = ".lock"  # a folder that holds one has runs of its own, wherever it lies
_NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def take(results: Path) -> bool:
    """Lock a results folder until this process ends.

    Args:
        results: the folder, made where it is missing.

    Returns:
        Whether the file system has locks; without them nothing keeps a second run out.

    Raises:
        UserError: another run has the lock, the folder cannot be written, or it holds more than
            results.
    """
    path = results / NAME
    if Path.cwd().is_relative_to(results.resolve()):
        raise UserError(
            f"results_dir: {results} holds the working folder; name a folder for results alone"
        )
    try:
        results.mkdir(parents=True, exist_ok=True)
        # Python's descriptors are closed in jobs, so that a job left behind holds no lock.
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(
            f"results_dir: {results} cannot be written: {error.strerror} (check the path, its"
            " permissions and whether its file system is mounted read-only)"
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(file, 1000).decode(errors="replace").strip()
        os.close(file)
        raise UserError(
            f"results_dir: another run works in {results} ({holder or 'unknown'}): wait until it"
            " ends, stop it, or give this run another results_dir"
        ) from error
    except OSError as error:
        os.close(file)
        if error.errno in _NO_LOCKS_HERE:
            return False
        raise
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    with contextlib.suppress(OSError):  # on a full disk the others are not told who has it
        os.ftruncate(file, 0)
        os.write(file, f"process {os.getpid()} on {socket.gethostname()}, since {now}\n".encode())
    return True
