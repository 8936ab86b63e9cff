"""Map the values of a label volume to class numbers."""

from pathlib import Path

import numpy as np

from nontrivial.data.excerpt import excerpt
from nontrivial.data.volumes.label_names import OTHER, class_numbers
from nontrivial.errors import UserError


class LabelMap:
    """Merges, selects or drops label values.

    Example:
        >>> labels = LabelMap({"17": 1, "53": 1, "other": 0}, ["background", "hippocampus"])
        >>> labels.apply(np.array([0, 17, 53, 2]), Path("labels.nii.gz"))
        array([0, 1, 1, 0], dtype=uint8)
    """

    def __init__(self, mapping: dict[str, int] | None, classes: list[str]) -> None:
        """Check a mapping.

        Args:
            mapping: class number by label value; ``other`` stands for every value not listed.
                None if the values are the class numbers.
            classes: names by class number.

        Raises:
            UserError: the mapping is invalid, or a class cannot occur.
        """
        self._classes = class_numbers(mapping, classes)
        self._other = (mapping or {}).get(OTHER)

    def apply(self, label: np.ndarray, path: Path) -> np.ndarray:
        """Return the class numbers (uint8) of an integer label volume.

        Raises:
            UserError: a value is not in the map; the message names the file and the values.
        """
        values = np.unique(label)
        unknown = [int(value) for value in values if int(value) not in self._classes]
        if unknown and self._other is None:
            raise UserError(
                f"{path}: label value(s) {excerpt(unknown, 10)} are not in label_map; add them to"
                " it, or relabel the volume"
            )
        table = np.array(
            [self._classes.get(int(value), self._other or 0) for value in values], dtype=np.uint8
        )
        return table[np.searchsorted(values, label)]
