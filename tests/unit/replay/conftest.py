"""Memory that nobody wrote holds large numbers in these tests."""

import ctypes

import pytest

_PERTURB = -6  # M_PERTURB of glibc's malloc.h
_BYTE = 0x80  # of freed memory; new memory gets 0x7f: 3.4e38 in float32 and bfloat16


@pytest.fixture(scope="package", autouse=True)
def _unwritten_memory_is_large():
    """Fill what malloc returns, as torch and oneDNN get it, so that no wrong read goes unseen."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        yield
        return
    mallopt(_PERTURB, _BYTE)
    yield
    mallopt(_PERTURB, 0)
