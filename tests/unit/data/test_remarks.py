from dataclasses import replace

import numpy as np

from nontrivial.data.volumes.intensity import Background
from nontrivial.data.volumes.reading import Volume
from nontrivial.data.volumes.remarks import Remarks


def volume(filled: int = 0, oriented: bool = True) -> Volume:
    voxels = np.zeros((2, 2, 2), np.float32)
    return Volume(voxels, voxels.astype(np.uint8), (1.0, 1.0, 1.0), filled, oriented)


def test_nothing_to_say():
    remarks = Remarks()
    remarks.add("a", volume(), None)
    assert remarks.warnings() == remarks.notes() == []


def test_each_fact_once_with_counts():
    remarks = Remarks()
    remarks.add("a", volume(filled=3), None)
    remarks.add("b", volume(oriented=False), Background(0.8, clipped=0.05))
    remarks.add("c", volume(filled=5, oriented=False), Background(0.9, clipped=0.1))
    unoriented, background = remarks.warnings()
    assert "2 of 3 volume(s) do not state an orientation (first: b)" in unoriented
    assert (
        "In 2 of 3 volume(s), more than half of the voxels are 0. In c, 90% are 0, so" in background
    )
    (note,) = remarks.notes()
    assert "replaced 8 NaN or infinite voxel(s) in 2 of 3 volume(s) (most in c: 5)" in note


def test_converted_units_are_said():
    remarks = Remarks()
    for name, unit in (("a", None), ("b", "metres"), ("c", "metres"), ("d", "microns")):
        remarks.add(name, replace(volume(), converted=unit), None)
    assert remarks.notes() == [
        "Lengths in the headers of 2 of 4 volume(s) were converted from metres to mm (first: b).",
        "Lengths in the headers of 1 of 4 volume(s) were converted from microns to mm (first: d).",
    ]
