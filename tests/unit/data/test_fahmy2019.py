import h5py
import nibabel as nib
import numpy as np
import pytest
import raw_examples as raw
from hypothesis import given, settings
from hypothesis import strategies as st

from nontrivial.data.prepared import open_split
from nontrivial.data.sources import fahmy2019
from nontrivial.errors import UserError
from nontrivial.formats import samples
from nontrivial.formats.dataset import SPLITS, read_description

FILE = "T1Dataset210.mat"
SETTINGS = {
    "file": FILE,
    "frame": None,
    "axis": "axial",
    "spacing": None,
    "size": [24, 20],
    "intensity": "zscore",
    "keep_empty": True,
    "intensity_mask": None,
    "fill": None,
    "fractions": raw.FRACTIONS,
    "split_seed": 0,
}


def prepare(tmp_path, **changes):
    fahmy2019.prepare(SETTINGS | changes, tmp_path, tmp_path / "out")
    return tmp_path / "out"


def ring() -> np.ndarray:
    """Return the mask of the example's contours, computed from their radii."""
    rows, columns = np.mgrid[:24, :20]
    distance = np.hypot(rows - 12, columns - 8)
    return (distance < 5.98) & (distance > 2.99)


@pytest.mark.parametrize("cells", [False, True])
def test_slices_and_masks_equal_the_images_and_rings(tmp_path, cells):
    raw.write_matlab(tmp_path / FILE, patients=4, cells=cells)
    out = prepare(tmp_path)
    description = read_description(out / "dataset.json")
    assert description.classes == ["background", "myocardium"]
    assert description.counts == {"train": 12, "val": 6, "test": 6}
    images, masks = open_split(out, "test")
    table = samples.read(out / "test" / "samples.parquet").to_pylist()
    assert {row["slice"] for row in table} == {0, 1}
    for row in table:
        patient = int(row["subject"].removeprefix("patient-")) - 1
        time = int(row["source"].removesuffix(".nii").rpartition("-")[2])
        volume = np.random.default_rng(patient).normal(500, 50, (24, 20, 2, 3))[..., time]
        expected = (volume - volume.mean()) / volume.std()
        assert np.allclose(images[row["sample"], 0], expected[:, :, row["slice"]], atol=1e-4)
        assert np.mean(masks[row["sample"]] == ring()) > 0.98  # a polygon is not a circle


def test_a_patient_is_in_one_split(tmp_path):
    raw.write_matlab(tmp_path / FILE, patients=5, cells=False)
    out = prepare(tmp_path)
    subjects = [
        set(samples.read(out / s / "samples.parquet")["subject"].to_pylist()) for s in SPLITS
    ]
    assert sum(len(p) for p in subjects) == len(set.union(*subjects)) == 5


def test_volumes_are_nifti_of_one_inversion_time(tmp_path):
    raw.write_matlab(tmp_path / FILE, patients=4, cells=False)
    out = prepare(tmp_path, frame=2)
    names = sorted(p.name for p in (out / "volumes" / "images").iterdir())
    assert names == [f"patient-{n:03d}-time-02.nii" for n in range(1, 5)]
    assert nib.load(out / "volumes" / "labels" / names[0]).shape == (20, 24, 2)
    with pytest.raises(UserError, match="frame: 3 does not exist; patient 1 has 3"):
        prepare(tmp_path, frame=3)


def test_a_square_contour_is_exact():
    square = np.array([[3, 4], [7, 4], [7, 9], [3, 9]]) + 0.5  # between pixels, counted from 1
    mask = fahmy2019.myocardium(np.empty((0, 2)), square, (12, 10))
    expected = np.zeros((12, 10), bool)
    expected[4:9, 3:7] = True
    assert np.array_equal(mask, expected)


def test_contours_at_the_border_and_without_points():
    everything = np.array([[-5, -5], [50, -5], [50, 50], [-5, 50]], float)
    assert fahmy2019.myocardium(np.full((60, 2), np.nan), everything, (6, 5)).all()
    assert not fahmy2019.myocardium(everything, everything, (6, 5)).any()
    assert not fahmy2019.myocardium(everything, np.full((60, 2), np.nan), (6, 5)).any()
    outside = everything + 1000
    assert not fahmy2019.myocardium(everything, outside, (6, 5)).any()


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match=rf"{FILE}: no such file; download it"):
        prepare(tmp_path)


def test_a_folder_instead_of_the_file(tmp_path):
    (tmp_path / FILE).mkdir()
    with pytest.raises(UserError, match=rf"{FILE}: not a readable MATLAB"):
        prepare(tmp_path)


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 0.99))
def test_a_truncated_file(tmp_path_factory, part):
    folder = tmp_path_factory.mktemp("truncated")
    raw.write_matlab(folder / FILE, patients=3, cells=False)
    content = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(content[: int(len(content) * part)])
    with pytest.raises(UserError, match=r"not a readable MATLAB v7\.3") as caught:
        prepare(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "form", [{"compression": "gzip", "compression_opts": 0}, {"fletcher32": True}]
)
def test_a_flipped_bit_in_an_array_with_a_checksum(tmp_path, form):
    raw.write_matlab(tmp_path / FILE, patients=3, cells=False)
    marked = np.arange(24 * 20 * 2 * 3, dtype=float).reshape(3, 2, 20, 24)
    with h5py.File(tmp_path / FILE, "r+") as file:
        array = file.create_dataset("marked", data=marked, chunks=marked.shape, **form)
        file["Dataset"]["Img"][0, 1] = array.ref
    list(fahmy2019.read_patients(tmp_path / FILE))
    content = bytearray((tmp_path / FILE).read_bytes())
    content[content.index(marked.tobytes()) + 1000] ^= 1
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(UserError, match=rf"{FILE}: not a readable MATLAB .* download it again"):
        list(fahmy2019.read_patients(tmp_path / FILE))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda file: file.move("Dataset", "Data"), "there is no Dataset"),
        (lambda file: file["Dataset"].pop("EpiContours"), "there is no Dataset.EpiContours"),
        (lambda file: _replace(file, "EndoContours2", np.zeros((3, 2, 3, 60))), "expected"),
        (lambda file: _replace(file, "EndoContours2", np.zeros((3, 1, 2, 60))), "expected"),
        (lambda file: _replace(file, "Img0", np.zeros((2,) * 5)), "expected numbers"),
        (lambda file: _shorten(file), "different numbers of patients"),
    ],
)
def test_an_unexpected_structure(tmp_path, change, problem):
    raw.write_matlab(tmp_path / FILE, patients=4, cells=False)
    with h5py.File(tmp_path / FILE, "r+") as file:
        change(file)
    with pytest.raises(UserError, match=f"unexpected structure: .*{problem}"):
        prepare(tmp_path)


def _replace(file, name, values):
    field = file["Dataset"][name.rstrip("0123456789")]
    number = int(name[-1])
    field[0, number] = file.create_dataset(f"other-{name}", data=values).ref


def _shorten(file):
    references = file["Dataset"]["Img"][:, :3]
    del file["Dataset"]["Img"]
    file["Dataset"].create_dataset("Img", data=references, dtype=h5py.ref_dtype)
