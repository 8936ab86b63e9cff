import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from nontrivial.errors import UserError
from nontrivial.execution.atomic import replacing
from nontrivial.formats import tensor_file

SCRIPTS = Path(__file__).parents[3] / "workflow" / "scripts"
TYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
]


@st.composite
def tensors(draw):
    dtype = draw(st.sampled_from(TYPES))
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    torch.manual_seed(draw(st.integers(0, 99)))
    tensor = (100 * torch.randn(shape)).to(dtype)
    return tensor.transpose(0, -1) if tensor.ndim and draw(st.booleans()) else tensor


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(st.text(max_size=5).filter(lambda name: name != "__metadata__"), tensors()))
def test_what_was_written_is_read(tmp_path, given_):
    path = tmp_path / "tensors"
    tensor_file.write(path, given_, {"number": 3})
    read, metadata = tensor_file.read(path)
    assert metadata == {"number": 3}
    for found in (read, load_file(path)):
        assert found.keys() == given_.keys()
        for name, tensor in given_.items():
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor)


WRITE = """
import sys, torch
from pathlib import Path
from nontrivial.formats import tensor_file
tensors = {f"t{n}": torch.full((n, 3), float(n)) for n in range(20)}
metadata = {f"key{n}": {"values": [n, str(n)]} for n in range(20)}
if sys.argv[2] == "reversed":
    tensors, metadata = (dict(reversed(list(x.items()))) for x in (tensors, metadata))
tensor_file.write(Path(sys.argv[1]), tensors, metadata)
"""


def test_equal_content_gives_equal_bytes_in_every_process(tmp_path):
    contents = set()
    for number, order in enumerate(["as is", "reversed", "as is", "reversed"]):
        path = tmp_path / str(number)
        environment = {**os.environ, "PYTHONPATH": str(SCRIPTS), "PYTHONHASHSEED": str(number)}
        subprocess.run([sys.executable, "-c", WRITE, path, order], check=True, env=environment)
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_another_value_gives_other_bytes(tmp_path):
    contents = set()
    for value, text in [(1.0, "a"), (2.0, "a"), (1.0, "b")]:
        tensor_file.write(tmp_path / "file", {"a": torch.tensor(value)}, {"text": text})
        contents.add((tmp_path / "file").read_bytes())
    assert len(contents) == 3


def test_one_prefix_is_read_alone(tmp_path):
    tensor_file.write(tmp_path / "file", {"1/a": torch.ones(1), "10/a": torch.zeros(1)}, {})
    found, _ = tensor_file.read(tmp_path / "file", "1/")
    assert list(found) == ["1/a"]


def test_two_names_for_one_memory(tmp_path):
    weight = torch.rand(3)
    tensor_file.write(tmp_path / "file", {"a": weight, "b": weight, "c": weight[:2]}, {})
    found, _ = tensor_file.read(tmp_path / "file")
    assert torch.equal(found["a"], weight)
    assert torch.equal(found["b"], weight)
    assert torch.equal(found["c"], weight[:2])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(2, dtype=torch.complex128), r"odd: tensors of torch\.complex128 cannot be"),
        (torch.zeros(2).to_sparse(), "odd: sparse tensors cannot be saved"),
        ({"steps": 1}, "odd: dict cannot be saved"),
    ],
)
def test_what_cannot_be_saved_is_named(tmp_path, value, message):
    with pytest.raises(UserError, match=message):
        tensor_file.write(tmp_path / "file", {"odd": value}, {})
    assert list(tmp_path.iterdir()) == []


def test_all_metadata_are_in_one_key(tmp_path):
    tensor_file.write(tmp_path / "file", {"a": torch.zeros(1)}, {"b": 1, "a": [None]})
    with safe_open(tmp_path / "file", framework="pt") as file:
        assert file.metadata() == {"nontrivial": '{"a":[null],"b":1}'}


def test_an_error_of_the_system_names_the_final_file(tmp_path):
    with (
        pytest.raises(OSError, match="No such file or directory") as caught,
        replacing(tmp_path / "file") as temporary,
    ):
        tensor_file.write(temporary.parent / "missing" / "file", {"a": torch.zeros(1)}, {})
    assert caught.value.filename == str(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_other_users_may_read_what_was_written(tmp_path):
    with replacing(tmp_path / "file") as temporary:
        tensor_file.write(temporary, {"a": torch.zeros(1)}, {})
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask


KILLED = """
import sys, torch
from pathlib import Path
from nontrivial.formats import tensor_file
while True:
    tensor_file.write(Path(sys.argv[1]), {"a": torch.zeros(3_000_000)}, {})
    print("written", flush=True)
"""


def test_what_a_killed_process_left_can_be_removed(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    for _ in range(20):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, tmp_path / "file"],
            stdout=subprocess.PIPE,
            env=environment,
        )
        process.stdout.readline()
        process.kill()
        process.wait()
        process.stdout.close()
        if len(list(tmp_path.iterdir())) > 1:
            break
    else:
        pytest.skip("it was never killed while it wrote")
    tensor_file.remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert tensor_file.read(tmp_path / "file")[0]["a"].shape == (3_000_000,)
