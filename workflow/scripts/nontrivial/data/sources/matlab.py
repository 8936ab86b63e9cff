"""Reading values from MATLAB v7.3 files, which are HDF5.

MATLAB stores arrays column by column, so HDF5 shows their axes reversed; cells and struct arrays
as arrays of object references; characters as uint16; empty arrays as their shape, with the
attribute ``MATLAB_empty``.
"""

import h5py
import numpy as np

EMPTY = "MATLAB_empty"


def value(file: h5py.File, item: h5py.Dataset) -> np.ndarray:
    """Return a numeric array in MATLAB's axis order, or a cell as an array of objects.

    Raises:
        ValueError: a reference leads nowhere or to something that is no array.
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
    """Say whether a data set is a cell or a field of a struct array."""
    return h5py.check_ref_dtype(item.dtype) is not None


def follow(file: h5py.File, reference: h5py.Reference) -> h5py.Dataset:
    """Return the array that a reference leads to.

    Raises:
        ValueError: it leads nowhere, or to a struct.
    """
    target = file[reference] if reference else None
    if not isinstance(target, h5py.Dataset):
        raise ValueError("a reference does not lead to an array")
    return target
