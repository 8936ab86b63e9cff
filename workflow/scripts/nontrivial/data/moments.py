"""Mean and standard deviation per channel, in one pass over chunks."""

import numpy as np

DIGITS = 9  # kept; more than float32 holds, and the last bits of float64 depend on the processor


class Moments:
    """Running mean and variance (Chan, Golub and LeVeque 1979) in float64."""

    def __init__(self, channels: int) -> None:
        """Start with no image."""
        self._count = 0
        self._mean = np.zeros(channels)
        self._squares = np.zeros(channels)  # sum of squared distances from the mean

    def add(self, images: np.ndarray) -> None:
        """Take in images (N, C, H, W)."""
        for image in images:  # image by image: the float64 copy stays small
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
        """Return (mean, population standard deviation) per channel; 1 where nothing varies."""
        std = np.sqrt(self._squares / max(self._count, 1))
        std[std == 0] = 1.0  # the images are then all zero after (x - mean) / std
        return [_rounded(x) for x in self._mean], [_rounded(x) for x in std]


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
