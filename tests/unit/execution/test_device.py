from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from nontrivial.errors import UserError
from nontrivial.execution import device


def test_a_gpu_is_used_if_there_is_one():
    assert device.pick().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert device.describe(device.pick())


def test_versions_name_the_installed_numerical_libraries(monkeypatch):
    found = device.versions()
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    monkeypatch.setattr(device, "_LIBRARIES", ("numpy", "no-such-library"))
    assert list(device.versions()) == ["python", "numpy"]


def test_fp32_is_fp32_and_bf16_is_mixed():
    weight = torch.ones(2, 2)
    with device.arithmetic(torch.device("cpu"), "fp32"):
        assert (weight @ weight).dtype == torch.float32
    with device.arithmetic(torch.device("cpu"), "bf16"):
        assert (weight @ weight).dtype == torch.bfloat16
    with pytest.raises(UserError, match="precision: 'fp16' is not one of fp32, bf16"):
        device.arithmetic(torch.device("cpu"), "fp16")


@pytest.mark.parametrize(
    ("capabilities", "known"),
    [
        ({"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False}, True),
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": True}, True),
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": False}, False),
        ({"architecture": "arm64", "bf16": True, "sve_max_length": 0}, True),
        ({"architecture": "arm64", "bf16": False, "sve_bf16": True}, True),
        ({"architecture": "arm64", "bf16": False, "sve_bf16": False}, False),
        ({"architecture": "unknown"}, None),
    ],
)
def test_cpus_with_bf16_instructions(capabilities, known, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert device.has_bf16_instructions(torch.device("cpu")) is known


def test_bf16_of_this_cpu_agrees_with_the_system():
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        pytest.skip("not Linux")
    flags = {word for line in info.splitlines() for word in line.partition(":")[2].split()}
    if not flags & {"avx2", "asimd"}:
        pytest.skip("neither x86 nor ARM, or without flags")
    expected = bool(flags & {"avx512_bf16", "amx_bf16", "bf16", "svebf16"})
    assert device.has_bf16_instructions(torch.device("cpu")) is expected


def test_bf16_of_other_devices(monkeypatch):
    assert device.has_bf16_instructions(torch.device("meta")) is None
    asked = []
    monkeypatch.setattr(torch.cuda, "device", lambda which: nullcontext(asked.append(which)))
    for supported in (True, False):
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation, s=supported: s
        )
        assert device.has_bf16_instructions(torch.device("cuda", 1)) is supported
    assert asked == [torch.device("cuda", 1)] * 2


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "GPU"),
        (MemoryError(), "host"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "host"),
    ],
)
def test_out_of_memory_is_explained(error, what):
    with (
        pytest.raises(UserError, match=f"the {what} ran out of memory with batch_size 250; lower"),
        device.out_of_memory_explained(250),
    ):
        raise error


def test_another_error_is_unchanged():
    with pytest.raises(RuntimeError, match="shapes"), device.out_of_memory_explained(1):
        raise RuntimeError("shapes do not fit")
