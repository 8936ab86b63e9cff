"""One job per GPU: a slot is a lock, which the kernel takes away whatever way the job ends.

Imported without torch, before the program that computes starts.
"""

import errno
import fcntl
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from nontrivial.errors import UserError

# Lines of `nvidia-smi -L`: "GPU 0: <model> (UUID: GPU-...)", and below a divided one
# "  MIG <profile> Device 0: (UUID: MIG-...)".
_LISTED = re.compile(r"^\s*(GPU|MIG) .*\(UUID: ([^)]+)\)")
_SECONDS_BETWEEN_LOOKS = 0.5


def installed() -> list[list[str]]:
    """Return the GPUs that the driver shows, each as the UUIDs that a job may have of it.

    That is its own, or those of its parts where it is divided. Empty where there is no driver.
    """
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return _uuids(listed.stdout) if listed.returncode == 0 else []


def _uuids(listing: str) -> list[list[str]]:
    devices: list[list[str]] = []
    for kind, uuid in (
        found.groups() for found in map(_LISTED.match, listing.splitlines()) if found
    ):
        if kind == "GPU":
            devices.append([uuid])
        elif devices:
            devices[-1].append(uuid)
    return [parts or [gpu] for gpu, *parts in devices]


def visible(environment: Mapping[str, str], gpus: Sequence[Sequence[str]]) -> list[str]:
    """Return the devices that a job may use.

    Args:
        environment: where CUDA_VISIBLE_DEVICES restricts them, by name or by number. Numbers
            count as nvidia-smi does.
        gpus: those that are there, each as one or more names; numbers beyond stay numbers.

    Returns:
        Names for CUDA_VISIBLE_DEVICES; none if the job has to do without a GPU.
    """
    if "CUDA_VISIBLE_DEVICES" not in environment:
        return [name for gpu in gpus for name in gpu]
    names: list[str] = []
    for name in map(str.strip, environment["CUDA_VISIBLE_DEVICES"].split(",")):
        if not re.fullmatch(r"\d+|(GPU|MIG)-[\w./-]+", name):
            break  # CUDA ignores what follows -1, an empty name or SLURM's NoDevFiles
        names += gpus[int(name)] if name.isdigit() and int(name) < len(gpus) else [name]
    return list(dict.fromkeys(names))


def folder(environment: Mapping[str, str]) -> Path:
    """Return where the locks of this machine are.

    A SLURM job has locks of its own: its GPUs are already kept from other jobs, and may have
    the numbers that others have.
    """
    shared = Path(tempfile.gettempdir()) / "nontrivial-gpus"
    job = environment.get("SLURM_JOB_ID")
    return shared / f"slurm-{job}" if job else shared


def take(devices: Sequence[str], locks: Path, waiting: Callable[[], None]) -> tuple[str, int]:
    """Wait for a device that no other job has, and lock it.

    Args:
        devices: the names of the devices to choose from, one or more.
        locks: the folder of the locks; made, for all users of the machine, where it is missing.
        waiting: called once if all devices are taken.

    Returns:
        The device, and the open file whose lock is the slot: it lasts as long as a process has
        the file open.

    Raises:
        UserError: the locks cannot be written.
    """
    try:
        for path in (locks.parent, locks):
            with suppress(FileExistsError):
                path.mkdir()
                path.chmod(0o1777)
        files = [_open(locks / re.sub(r"[^\w-]", "_", device)) for device in devices]
    except OSError as error:
        raise UserError(
            f"no lock for a GPU below {locks}: {error.strerror}: {error.filename} (check its"
            " permissions, or set TMPDIR to a folder of this machine that can be written)"
        ) from error
    told = False
    while True:
        for device, file in zip(devices, files, strict=True):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            for other in set(files) - {file}:
                os.close(other)
            with suppress(PermissionError):  # another user's; its owner's jobs do it
                os.utime(file)  # who tidies up old files leaves it alone
            return device, file
        if not told:
            waiting()
            told = True
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _open(path: Path) -> int:
    """Open a lock of any user: reading is enough to lock it."""
    flags = os.O_RDONLY | os.O_NOFOLLOW
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        pass
    try:
        file = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644)
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise
        return os.open(path, flags)  # another job has just made it
    os.fchmod(file, 0o644)
    return file
