"""The device that a program computes on: choice, precision, memory, description."""

import os
import platform
import resource
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from nontrivial.errors import UserError

PRECISIONS = ("fp32", "bf16")
# torch's names of the instructions that multiply bf16 numbers, on x86 and on ARM.
_BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
_LIBRARIES = ("torch", "torchvision", "segmentation-models-pytorch", "timm", "monai", "numpy")


def pick() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def arithmetic(device: torch.device, precision: str) -> AbstractContextManager:
    """Return the context that forward passes run in.

    Args:
        device: where they run.
        precision: ``fp32``, or ``bf16`` for automatic mixed precision.

    Raises:
        UserError: the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise UserError(f"precision: {precision!r} is not one of {', '.join(PRECISIONS)}")
    if precision == "fp32":
        return _without_tf32() if device.type == "cuda" else nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Switch off TF32, torch's default for convolutions on a GPU."""
    switches: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = False
    try:
        yield
    finally:
        for switch, allowed in zip(switches, before, strict=True):
            switch.allow_tf32 = allowed


@contextmanager
def out_of_memory_explained(batch_size: int) -> Iterator[None]:
    """Turn a lack of memory, on a GPU or the host, into one line that says what to do.

    Raises:
        UserError: the block ran out of memory.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(_too_large("GPU", batch_size)) from error
    except MemoryError as error:
        raise UserError(_too_large("host", batch_size)) from error
    except RuntimeError as error:
        # torch has no exception type for its CPU allocator.
        if "can't allocate memory" not in str(error):
            raise
        raise UserError(_too_large("host", batch_size)) from error


def describe(device: torch.device) -> str:
    """Return the name of the GPU or the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _cpu()


def has_bf16_instructions(device: torch.device) -> bool | None:
    """Return whether a device has bf16 instructions; torch emulates them slowly otherwise.

    None if torch cannot tell.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):  # not in every release
        return _names_bf16(torch.cpu.get_capabilities())
    return None


def peak_memory(device: torch.device) -> int:
    """Return the peak memory of this process in bytes, on the GPU or on the host."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    # ru_maxrss would include the peak of the parent process.
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that compute.

    A library that is not installed as a package (only one network may need it) is left out.
    """
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def environment(device: torch.device) -> dict:
    """Return what may move the last bits of a result: device, threads, versions."""
    return {
        "device": describe(device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }


def _too_large(what: str, batch_size: int) -> str:
    return f"the {what} ran out of memory with batch_size {batch_size}; lower batch_size"


def _names_bf16(capabilities: Mapping[str, bool | int | str]) -> bool | None:
    known = [capabilities[name] for name in _BF16_INSTRUCTIONS if name in capabilities]
    return any(known) if known else None  # another architecture


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name} ({os.cpu_count()} cores)"
