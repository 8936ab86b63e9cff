"""Give each job a GPU of its own: a slot is a lock that the kernel releases however the job ends.

Imports no torch, because it runs before the program that computes.
"""

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
    """List the GPUs of this host, each as the UUIDs of the devices that jobs can use.

    A GPU is one device, or several where MIG divides it. The list is empty without a driver.
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
        environment: CUDA_VISIBLE_DEVICES in it restricts the devices, by UUID or by the number
            that nvidia-smi gives.
        gpus: the GPUs of this host as :func:`installed` lists them; other numbers are kept.

    Returns:
        Values for CUDA_VISIBLE_DEVICES; empty if the job runs on the CPU.
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
    """Return the folder of this host's locks.

    A SLURM job has its own: SLURM already keeps its GPUs from other jobs, and may number them like
    theirs.
    """
    shared = Path(tempfile.gettempdir()) / "nontrivial-gpus"
    job = environment.get("SLURM_JOB_ID")
    return shared / f"slurm-{job}" if job else shared


def acquire(devices: Sequence[str], locks: Path, waiting: Callable[[], None]) -> tuple[str, int]:
    """Wait for a device that no other job uses, and lock it.

    Args:
        devices: the devices to choose from, one or more.
        locks: the folder of the locks; made, for all users of the host, where it is missing.
        waiting: called once if all devices are in use.

    Returns:
        The device, and the open file that holds its lock for as long as a process has it open.

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
            f"{error.filename}: cannot lock a GPU: {error.strerror}. Check the permissions, or set"
            " TMPDIR to a writable folder of this host"
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
            with suppress(PermissionError):  # the file of another user
                os.utime(file)  # so that no clean-up of old temporary files removes it
            return device, file
        if not told:
            waiting()
            told = True
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _open(path: Path) -> int:
    # Read-only, which is enough for a lock: other users cannot open it for writing, and where
    # fs.protected_regular is set they cannot even name O_CREAT.
    with suppress(FileNotFoundError):
        return os.open(path, os.O_RDONLY)
    file = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    os.fchmod(file, 0o644)  # whatever the umask
    return file
