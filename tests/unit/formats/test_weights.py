import pickle

import pytest
import torch
from safetensors import safe_open
from torch import nn

from nontrivial.errors import UserError
from nontrivial.formats import weights


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.second = nn.Conv2d(2, 2, 3)
        self.second.weight = self.first.weight


METADATA = {"kernels": "abc", "network": "tied", "training": "t"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "model.safetensors"


def test_a_state_reads_back_bit_by_bit(path):
    model, other = Tied(), Tied()
    with torch.no_grad():
        model.first.weight[0] = -0.0
    weights.save(model, path, METADATA)
    assert weights.load(path, other) == METADATA
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])
    assert torch.signbit(other.first.weight[0]).all()
    assert other.first.weight is other.second.weight


def test_equal_states_give_equal_bytes(path):
    model = Tied().to(memory_format=torch.channels_last)
    contents = set()
    for number in range(8):
        metadata = dict(sorted(METADATA.items(), reverse=number % 2 == 1))
        weights.save(model, path, metadata)
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_the_library_reads_the_file(path):
    weights.save(Tied(), path, METADATA)
    with safe_open(path, framework="pt") as file:
        assert set(file.keys()) == set(Tied().state_dict())


def test_a_pickle_is_refused_and_not_run(path, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    path.parent.mkdir()
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match="not a complete safetensors file"):
        weights.load(path, Tied())
    torch.save(Tied().state_dict(), path)
    with pytest.raises(UserError, match="not a complete safetensors file"):
        weights.load(path, Tied())
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("kept", [0, 4, 60, -1])
def test_a_file_cut_short_is_refused(path, kept):
    weights.save(Tied(), path, METADATA)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match="not a complete safetensors file") as caught:
        weights.load(path, Tied())
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(path):
    with pytest.raises(UserError, match="cannot be read"):
        weights.load(path, Tied())


def wider():
    model = Tied()
    model.norm = nn.BatchNorm2d(3)
    return model


def longer():
    model = Tied()
    model.third = nn.Conv2d(2, 2, 1)
    return model


@pytest.mark.parametrize(
    ("saved", "loaded", "message"),
    [
        (longer, Tied, r"third\.\w+ is not in the network"),
        (Tied, longer, r"third\.\w+ is missing from the file"),
        (wider, Tied, r"norm\.\w+ has shape \(3,\), the network's has \(2,\)"),
        (lambda: Tied().double(), Tied, r"first\.\w+ has dtype torch.float64"),
    ],
)
def test_weights_of_another_network_are_refused(path, saved, loaded, message):
    weights.save(saved(), path, METADATA)
    with pytest.raises(UserError, match=message):
        weights.load(path, loaded())
