"""The device that a program computes on, its precision and its memory, and what it was."""

import os
import platform
import resource
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from nontrivial.errors import UserError

PRECISIONS = ("fp32", "bf16")
# torch's names of what multiplies bf16 numbers: on x86, and on ARM.
_BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
_LIBRARIES = ("torch", "torchvision", "segmentation-models-pytorch", "numpy")


def pick() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
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
    """Let fp32 be fp32: torch's own choice for convolutions on a GPU is TF32."""
    switches = (torch.backends.cudnn, torch.backends.cuda.matmul)
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
    """Turn running out of memory, on a GPU or the CPU, into a line that says what to do.

    Raises:
        UserError: the block ran out of memory.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(_too_large("GPU", batch_size)) from error
    except MemoryError as error:
        raise UserError(_too_large("machine", batch_size)) from error
    except RuntimeError as error:
        # torch has no type of its own for the CPU's allocator.
        if "can't allocate memory" not in str(error):
            raise
        raise UserError(_too_large("machine", batch_size)) from error


def describe(device: torch.device) -> str:
    """Return the name of the GPU or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _processor()


def has_bf16_instructions(device: torch.device) -> bool | None:
    """Return whether a device computes in bf16 itself; without, torch emulates it, slowly.

    None where torch cannot tell.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):  # not in every release
        return _names_bf16(torch.cpu.get_capabilities())
    return None


def peak_memory(device: torch.device) -> int:
    """Return the most bytes that this process has held: of a GPU's memory, or of the machine's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    # Not ru_maxrss, which starts from the peak of the process that started this one.
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries whose arithmetic a result rests on.

    A library that is not installed as a package (only one network may need it) is left out.
    """
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _too_large(what: str, batch_size: int) -> str:
    return f"the {what} ran out of memory with batch_size {batch_size}; lower batch_size"


def _names_bf16(capabilities: Mapping[str, bool | int | str]) -> bool | None:
    known = [capabilities[name] for name in _BF16_INSTRUCTIONS if name in capabilities]
    return any(known) if known else None  # another architecture


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name} ({os.cpu_count()} cores)"
