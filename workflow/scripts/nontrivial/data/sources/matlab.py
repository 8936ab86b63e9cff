"""Read values from MATLAB v7.3 files, which are HDF5.

MATLAB stores arrays in column-major order, so HDF5 shows their axes reversed. It stores cells and
struct arrays as arrays of object references, characters as uint16, and an empty array as its shape
with the attribute ``MATLAB_empty``.

HDF5 compares the checksums of compressed arrays (MATLAB's default) and of arrays with the filter
Fletcher32 when it reads them. Other arrays have no checksum, so damage to them goes unnoticed.
"""

import h5py
import numpy as np

EMPTY = "MATLAB_empty"


def value(file: h5py.File, item: h5py.Dataset) -> np.ndarray:
    """Return a numeric array in MATLAB's axis order, or a cell as an array of objects.

    Raises:
        ValueError: a reference does not point to an array.
    """
    if item.attrs.get(EMPTY):
        return np.empty((0, 0))
    if not is_references(item):
        return item[()].T
    references = item[()]
    cell = np.empty(references.shape, dtype=object)
    for place in np.ndindex(references.shape):
        cell[place] = value(file, follow(file, references[place]))
    return cell.T


def is_references(item: h5py.Dataset) -> bool:
    """Return whether a dataset is a cell or a field of a struct array."""
    return h5py.check_ref_dtype(item.dtype) is not None


def follow(file: h5py.File, reference: h5py.Reference) -> h5py.Dataset:
    """Return the array that a reference points to.

    Raises:
        ValueError: it points to nothing, or to a struct.
    """
    target = file[reference] if reference else None
    if not isinstance(target, h5py.Dataset):
        raise ValueError("a reference does not point to an array")
    return target
