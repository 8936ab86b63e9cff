from pathlib import Path

import numpy as np
import pytest
from nilearn import datasets

from nontrivial.data.prepared import open_split
from nontrivial.data.sources import digits, mni152
from nontrivial.data.volumes import intensity
from nontrivial.errors import UserError
from nontrivial.formats import samples
from nontrivial.formats.dataset import read_description

FRACTIONS = {"train": 0.6, "val": 0.1, "test": 0.3}
MNI = {
    "axis": "coronal",
    "spacing": 2.5,
    "size": [80, 64],
    "intensity": "percentile",
    "intensity_mask": None,
    "fractions": {"train": 0.7, "val": 0.1, "test": 0.2},
    "gap": 8,
}


def test_digits(tmp_path):
    digits.prepare({"fractions": FRACTIONS, "split_seed": 0}, tmp_path, tmp_path / "out")
    description = read_description(tmp_path / "out" / "dataset.json")
    assert sum(description.counts.values()) == 1797
    assert (description.channels, description.size, description.dtype) == (3, (32, 32), "uint8")
    rows = []
    for split in ("train", "val", "test"):
        images, labels = open_split(tmp_path / "out", split)
        assert images.shape == (len(labels), 3, 32, 32)
        assert set(labels) == set(range(10))
        assert images.max() == 255
        rows += samples.read(tmp_path / "out" / split / "samples.parquet")["source"].to_pylist()
    assert len(set(rows)) == 1797


def test_enlarging_keeps_the_range():
    assert np.all(digits.enlarged(np.full((8, 8), 16.0)) == 255)
    assert np.all(digits.enlarged(np.zeros((8, 8))) == 0)


def test_mni152_is_a_demonstration_with_gaps(tmp_path):
    mni152.prepare(MNI, tmp_path, tmp_path / "out")
    description = read_description(tmp_path / "out" / "dataset.json")
    assert description.demonstration
    places = {}
    for split in ("train", "val", "test"):
        images, masks = open_split(tmp_path / "out", split)
        table = samples.read(tmp_path / "out" / split / "samples.parquet")
        assert images.shape == (description.counts[split], 1, 80, 64)
        assert masks.shape == (description.counts[split], 80, 64)
        assert set(np.unique(masks)) == {0, 1, 2}
        assert set(table["subject"].to_pylist()) == {"mni152"}
        places[split] = table["slice"].to_numpy()
    for one, other in (("train", "val"), ("val", "test"), ("train", "test")):
        assert np.abs(places[one][:, None] - places[other]).min() > MNI["gap"]
    assert places["train"].min() < places["val"].min() < places["test"].max() < max(places["train"])


def test_mni152_white_matter_is_brighter_than_grey(tmp_path):
    volume = mni152.template()
    means = [volume.image[volume.label == label].mean() for label in range(3)]
    assert means == sorted(means)


@pytest.mark.parametrize("name", ["MNI152_FILE_PATH", "WM_MNI152_FILE_PATH"])
def test_a_damaged_template(tmp_path, monkeypatch, name):
    content = bytearray(Path(getattr(datasets, name)).read_bytes())
    content[-8] ^= 1  # in the checksum
    (tmp_path / "damaged.nii.gz").write_bytes(content)
    monkeypatch.setattr(datasets, name, tmp_path / "damaged.nii.gz")
    with pytest.raises(UserError, match=r"damaged.nii.gz: is damaged: its gzip checksum"):
        mni152.template()


def test_how_far_background_moves_the_white_matter_of_the_template():
    volume = mni152.template()
    clipped = {}
    for voxels in (0, 60):
        image, label = np.pad(volume.image, voxels), np.pad(volume.label, voxels)
        for mask in (None, "nonzero"):
            limit = image[intensity.normalize(image, "percentile", "v", mask) == 1].min()
            clipped[voxels, mask] = (image[label == 2] > limit).mean()
    assert clipped[0, None] == pytest.approx(0.127, abs=1e-3)
    assert clipped[60, None] == pytest.approx(0.525, abs=1e-3)
    assert clipped[0, "nonzero"] == clipped[60, "nonzero"] == pytest.approx(0.025, abs=1e-3)


def test_mni152_with_a_mask(tmp_path, caplog):
    mni152.prepare(MNI, tmp_path, tmp_path / "plain")
    assert caplog.text.count("intensity_mask: nonzero") == 1
    caplog.clear()
    mni152.prepare(MNI | {"intensity_mask": "nonzero"}, tmp_path, tmp_path / "masked")
    assert "intensity_mask" not in caplog.text
    clipped = {}
    for name in ("plain", "masked"):
        images, masks = open_split(tmp_path / name, "train")
        white = images[:, 0][np.asarray(masks) == 2]
        clipped[name] = (white == images.max()).mean()
    assert clipped["masked"] < clipped["plain"] / 2


def test_mni152_refuses_to_crop_the_brain(tmp_path):
    with pytest.raises(UserError, match="cropping to 64 x 64 would remove"):
        mni152.prepare(MNI | {"size": [64, 64]}, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_few_slices_for_slabs():
    with pytest.raises(UserError, match="too few"):
        mni152.split_slabs(0, 20, MNI["fractions"], gap=8)
