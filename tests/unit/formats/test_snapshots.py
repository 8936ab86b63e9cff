import pytest
import torch

from nontrivial.errors import UserError
from nontrivial.formats import tensor_file
from nontrivial.formats.snapshots import DIGESTS, read_snapshot, write_snapshots


def state_of(epoch):
    return {"weight": torch.full((2, 3), float(epoch)), "steps": torch.tensor(epoch)}


@pytest.fixture
def path(tmp_path):
    """Return a file with the states after epochs 1 and 12."""
    path = tmp_path / "snapshots.safetensors"
    write_snapshots(path, {1: state_of(1), 12: state_of(12)}, {"network": "own"})
    return path


@pytest.mark.parametrize("epoch", [1, 12])
def test_a_state_reads_back_as_written(path, epoch):
    found = read_snapshot(path, epoch)
    assert found.keys() == state_of(epoch).keys()
    assert all(torch.equal(found[name], value) for name, value in state_of(epoch).items())


def test_equal_states_give_equal_bytes(path, tmp_path):
    again = tmp_path / "again.safetensors"
    write_snapshots(again, {1: state_of(1), 12: state_of(12)}, {"network": "own"})
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("epoch", [0, 2])
def test_an_epoch_that_is_not_stored_is_refused_with_those_that_are(path, epoch):
    with pytest.raises(UserError, match=rf"no snapshot of epoch {epoch} \(stored: 1, 12\)"):
        read_snapshot(path, epoch)


def test_a_file_without_snapshots(tmp_path):
    write_snapshots(tmp_path / "none.safetensors", {}, {})
    with pytest.raises(UserError, match=r"no snapshot of epoch 1 \(stored: none\)"):
        read_snapshot(tmp_path / "none.safetensors", 1)


def test_changed_weights_are_refused(path):
    tensors, metadata = tensor_file.read(path)
    tensors["12/weight"][0, 0] = 0
    tensor_file.write(path, tensors, metadata)
    with pytest.raises(UserError, match=r"snapshots\.safetensors: damaged, a digest"):
        read_snapshot(path, 12)
    assert read_snapshot(path, 1)  # the digest of each epoch is its own


def test_a_state_that_lacks_a_tensor_is_refused(path):
    tensors, metadata = tensor_file.read(path)
    del tensors["1/steps"]
    assert set(metadata[DIGESTS]) == {"1", "12"}
    tensor_file.write(path, tensors, metadata)
    with pytest.raises(UserError, match="damaged, a digest"):
        read_snapshot(path, 1)
