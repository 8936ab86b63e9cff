"""Map the values of a label volume to class numbers."""

from pathlib import Path

import numpy as np

from nontrivial.errors import UserError

OTHER = "other"
MOST_CLASSES = 256  # masks are stored as uint8


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
        if not 2 <= len(classes) <= MOST_CLASSES:
            raise UserError(f"classes: list 2 to {MOST_CLASSES} names, the background first")
        if mapping is None:
            mapping = {str(number): number for number in range(len(classes))}
        self._other = mapping.get(OTHER)
        self._classes: dict[int, int] = {}
        for key, number in mapping.items():
            if not 0 <= number < len(classes):
                raise UserError(
                    f"label_map: {key} is mapped to {number}, which is not a class of `classes`"
                )
            if key != OTHER:
                try:
                    value = int(key)
                except ValueError:
                    raise UserError(
                        f"label_map: {key!r} is neither an integer nor {OTHER!r}"
                    ) from None
                if self._classes.setdefault(value, number) != number:
                    raise UserError(f"label_map: {value} is mapped to two classes")
        never = set(range(len(classes))) - set(mapping.values())
        if never:
            raise UserError(
                f"label_map: no value is mapped to class {classes[min(never)]}; map one, or remove"
                " the class"
            )

    def apply(self, label: np.ndarray, path: Path) -> np.ndarray:
        """Return the class numbers (uint8) of an integer label volume.

        Raises:
            UserError: a value is not in the map; the message names the file and the values.
        """
        values = np.unique(label)
        unknown = [int(value) for value in values if int(value) not in self._classes]
        if unknown and self._other is None:
            named = ", ".join(str(value) for value in unknown[:10])
            raise UserError(f"{path}: label value(s) {named} are not in label_map; add them to it")
        table = np.array(
            [self._classes.get(int(value), self._other or 0) for value in values], dtype=np.uint8
        )
        return table[np.searchsorted(values, label)]
