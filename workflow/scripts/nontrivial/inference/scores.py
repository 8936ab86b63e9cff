"""What each test unit gets under one metric: the input of intervals and tests."""

from dataclasses import dataclass

import numpy as np

ROUNDING = 1e-12  # relative; sums and means of scores are off by less


@dataclass(frozen=True)
class Scores:
    """The scores of N test units in S trained networks, under one metric and for one class.

    The value of the metric is the mean over units. Units are the same in all networks.

    Attributes:
        metric: name.
        unit: ``sample``, ``subject``, ``slice`` or ``pooled``. Samples and subjects are
            independent; the others have no inference.
        value: under the intervention, float64 (S, N). NaN in a seed without predictions.
        baseline: of the unchanged network, float64 (S, N).
        class_name: the class; None for all classes.
        chance: the metric's value by chance, where the drop is put in relation to it.
        empty: subjects left out, because they lack the class.
        false_positive_ml: what is falsely predicted in them, (S,). NaN in a seed without
            predictions, and where the volume of a pixel is not known.
    """

    metric: str
    unit: str
    value: np.ndarray
    baseline: np.ndarray
    class_name: str | None = None
    chance: float | None = None
    empty: int | None = None
    false_positive_ml: np.ndarray | None = None

    @property
    def is_right_or_wrong(self) -> bool:
        """Whether each unit is one sample, right (1) or wrong (0)."""
        return self.metric == "accuracy" and self.unit == "sample"

    @property
    def is_primary(self) -> bool:
        """Whether a verdict is passed on the metric."""
        return self.metric in ("accuracy", "dice") and self.class_name is None

    @property
    def seeds(self) -> int:
        """Number of trained networks."""
        return len(self.value)

    @property
    def units(self) -> int:
        """Number of test units."""
        return self.value.shape[1]

    @property
    def drop(self) -> np.ndarray:
        """Baseline - value, (S, N)."""
        return self.baseline - self.value

    @property
    def rounding(self) -> float:
        """The largest difference that equal means of scores, or of drops, can have."""
        largest = max(np.abs(one).max(initial=0.0) for one in (self.value, self.baseline))
        return ROUNDING * float(largest)

    def of_seed(self, index: int) -> "Scores":
        """Return the scores of one of the networks."""
        chosen = slice(index, index + 1)
        volume = self.false_positive_ml
        return Scores(
            self.metric,
            self.unit,
            self.value[chosen],
            self.baseline[chosen],
            self.class_name,
            self.chance,
            self.empty,
            None if volume is None else volume[chosen],
        )


def mean_by_group(values: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """Return the means over the columns of each group; every group must have one.

    Args:
        values: (S, N).
        group: group number of each column, (N,).
        groups: number of groups.

    Returns:
        float64 (S, groups).
    """
    sizes = np.bincount(group, minlength=groups)
    sums = [np.bincount(group, weights=row, minlength=groups) for row in values]
    return np.stack(sums) / sizes
