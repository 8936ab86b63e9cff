import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load

from nontrivial.errors import UserError
from nontrivial.formats import tensor_file


def written(tensors, metadata=None):
    file = io.BytesIO()
    tensor_file.write(file, tensors, metadata or {})
    return file.getvalue()


@st.composite
def tensors(draw):
    dtype = draw(st.sampled_from(sorted(tensor_file._TYPES, key=str)))
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    torch.manual_seed(draw(st.integers(0, 99)))
    tensor = (100 * torch.randn(shape)).to(dtype)
    return tensor.transpose(0, -1) if tensor.ndim and draw(st.booleans()) else tensor


@given(st.dictionaries(st.text(max_size=5).filter(lambda name: name != "__metadata__"), tensors()))
def test_the_library_reads_what_was_written(given_):
    found = load(written(given_))
    assert found.keys() == given_.keys()
    for name, tensor in given_.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_equal_tensors_equal_bytes_in_any_order():
    one, two = torch.rand(3, 4), torch.arange(5)
    first = written({"a": one, "b": two}, {"k": "1", "l": "2"})
    assert first == written({"b": two, "a": one.clone()}, {"l": "2", "k": "1"})
    assert first != written({"b": two, "a": one + 1}, {"l": "2", "k": "1"})


def test_two_names_for_one_memory():
    weight = torch.rand(3)
    found = load(written({"a": weight, "b": weight}))
    assert torch.equal(found["a"], found["b"])


def test_an_unknown_type_is_named():
    with pytest.raises(UserError, match=r"odd: tensors of torch\.complex128 cannot be saved"):
        written({"odd": torch.zeros(2, dtype=torch.complex128)})
