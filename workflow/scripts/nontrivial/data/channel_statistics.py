"""Compute mean and standard deviation per channel in one pass."""

import numpy as np

DIGITS = 9  # more than float32 holds; the last bits of float64 depend on the CPU


class ChannelStatistics:
    """Running mean and variance in float64.

    Source: T. F. Chan, G. H. Golub, R. J. LeVeque, Technical Report STAN-CS-79-773 (1979).

    Example:
        >>> statistics = ChannelStatistics(channels=1)
        >>> statistics.add(np.array([[[[0, 2]]], [[[4, 6]]]]))
        >>> statistics.result()
        ([3.0], [2.23606798])
    """

    def __init__(self, channels: int) -> None:
        """Start without images."""
        self._count = 0
        self._mean = np.zeros(channels)
        self._squares = np.zeros(channels)  # sum of squared distances from the mean

    def add(self, images: np.ndarray) -> None:
        """Add images (N, C, H, W)."""
        for image in images:  # one at a time, so that the float64 copy stays small
            values = image.reshape(len(image), -1).astype(np.float64)
            count = values.shape[1]
            mean = values.mean(axis=1)
            values -= mean[:, None]
            np.square(values, out=values)
            total = self._count + count
            distance = mean - self._mean
            self._squares += values.sum(axis=1) + distance**2 * (self._count * count / total)
            self._mean += distance * (count / total)
            self._count = total

    def result(self) -> tuple[list[float], list[float]]:
        """Return mean and population standard deviation per channel; 1 for a constant channel."""
        std = np.sqrt(self._squares / max(self._count, 1))
        std[std == 0] = 1.0  # (x - mean) / std is then 0 everywhere
        return [_rounded(x) for x in self._mean], [_rounded(x) for x in std]


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
